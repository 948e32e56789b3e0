"""The order in which images are trained on."""

import numpy as np
import pytest

from cryosphere.config_files import parse_config
from cryosphere.training import order as module
from cryosphere.training.order import TrainingOrder
from cryosphere.training.train import load_inputs
from tests.particle_sets import configuration, write_particle_set

N = 70
ROWS = np.arange(5, N)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = write_particle_set(tmp_path_factory.mktemp("data") / "set", N)
    return load_inputs(parse_config(configuration(folder), folder))[0]


def make_small_files_large(monkeypatch, table, run=4, together=16):
    pixels = table.box_size**2
    monkeypatch.setattr(module, "_CACHED_BYTES", 1000)
    monkeypatch.setattr(module, "_RUN_BYTES", 4 * pixels * run)
    monkeypatch.setattr(module, "_TOGETHER_VALUES", pixels * together)


@pytest.mark.parametrize("is_large", [False, True])
def test_every_pass_has_all_rows_and_any_place_is_the_same_from_anywhere(table, monkeypatch, is_large):
    if is_large:
        make_small_files_large(monkeypatch, table)
    count = len(ROWS)
    whole = TrainingOrder(table, ROWS, seed=2).take(0, 3 * count)
    for start in (0, count, 2 * count):
        assert sorted(whole[start : start + count]) == ROWS.tolist()
    assert whole[:count].tolist() != whole[count : 2 * count].tolist()
    order = TrainingOrder(table, ROWS, seed=2)
    for place, taken in ((120, 39), (0, 3), (5, 4), (60, 100), (2 * count, 1)):
        assert order.take(place, taken).tolist() == whole[place : place + taken].tolist()
    assert TrainingOrder(table, ROWS, seed=3).take(0, count).tolist() != whole[:count].tolist()


def test_rows_of_a_large_set_come_in_runs_of_neighbours_in_their_files(table, monkeypatch):
    make_small_files_large(monkeypatch, table)
    mixed = np.random.default_rng(0).permutation(ROWS)
    order = TrainingOrder(table, mixed, seed=0)
    assert (order.run, order.n_together) == (4, 16)
    together = np.sort(table.image_index[order.take(0, 16)])
    assert (np.diff(together) == 1).sum() >= 12  # four runs of four


def test_rows_of_a_small_set_come_in_any_order(table):
    order = TrainingOrder(table, ROWS, seed=0)
    assert (order.run, order.n_together) == (1, 1)
    assert (np.diff(np.sort(order.take(0, 16))) == 1).sum() < 12
