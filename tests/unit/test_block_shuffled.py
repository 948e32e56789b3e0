"""An order of rows that is random and can be read in long pieces."""

import numpy as np
import pytest

from cryosphere.particles.selection import block_shuffled


@pytest.mark.parametrize("n_rows", [0, 1, 7, 100, 101])
@pytest.mark.parametrize("block", [1, 8, 200])
def test_every_row_comes_once_and_a_seed_repeats(n_rows, block):
    rows = 3 * np.arange(n_rows) + 5
    before = rows.copy()
    order = block_shuffled(rows, block, np.random.default_rng(1), together=4)
    np.testing.assert_array_equal(np.sort(order), rows)
    np.testing.assert_array_equal(order, block_shuffled(rows, block, np.random.default_rng(1), together=4))
    np.testing.assert_array_equal(rows, before)


def test_rows_that_are_read_together_are_whole_runs_of_neighbours():
    order = block_shuffled(np.arange(64 * 10), 10, np.random.default_rng(0), together=8)
    for part in order.reshape(-1, 80):
        runs, counts = np.unique(part // 10, return_counts=True)
        assert len(runs) == 8 and (counts == 10).all()
        assert np.ptp(runs) > 8  # from all over the file
        assert (np.diff(part) == 1).mean() < 0.1  # and mixed


def test_no_row_is_favoured():
    places = np.zeros(60)
    for seed in range(2000):
        places[block_shuffled(np.arange(60), 5, np.random.default_rng(seed), together=3)] += np.arange(60)
    mean, error = places / 2000, np.sqrt((60**2 - 1) / 12 / 2000)
    assert np.abs(mean - 29.5).max() < 4.5 * error
