"""Free energies, basins and paths against densities that are known."""

import numpy as np
import pytest

from cryosphere.analysis.landscape import (
    conformations_on_path,
    easiest_path,
    find_basins,
    free_energy,
    kt_in_kj_per_mol,
)
from cryosphere.errors import InputError


def _landscape(values, weights, names=None, n_blocks=50):
    names = names or tuple(f"angle(s{i + 2})" for i in range(values.shape[1]))
    blocks = np.random.default_rng(0).multinomial(10_000, weights / weights.sum(), size=n_blocks) / (10_000 * n_blocks)
    resamples = np.random.default_rng(1).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=200)
    return free_energy(names, ("deg",) * len(names), values, blocks, resamples)


def test_energy_of_a_normal_distribution_is_a_parabola():
    values = np.linspace(-60, 60, 4001)[:, None]
    found = _landscape(values, np.exp(-0.5 * (values[:, 0] / 15) ** 2))
    (centres,) = found.centres
    inside = np.abs(centres) < 30
    assert found.energy[inside] == pytest.approx(0.5 * (centres[inside] / 15) ** 2, abs=0.06)
    assert len(found.minima) == 1
    assert found.populations == pytest.approx([1.0], abs=1e-6)


def test_error_is_that_of_counting():
    """Bins with n of N particles are known to 1/√n; the smoothing averages 2 √π · 1.5 bins."""
    generator = np.random.default_rng(2)
    draws = generator.normal(0, 10, 20_000)
    blocks = np.zeros((50, len(draws)))
    blocks[np.arange(len(draws)) % 50, np.arange(len(draws))] = 1 / len(draws)
    resamples = generator.multinomial(50, np.full(50, 0.02), size=400)
    found = free_energy(("angle(s2)",), ("deg",), draws[:, None], blocks, resamples)
    (centres,) = found.centres
    width = centres[1] - centres[0]
    expected = len(draws) * width * np.exp(-0.5 * (centres / 10) ** 2) / (10 * np.sqrt(2 * np.pi))
    inside = np.abs(centres) < 15
    counting = 1 / np.sqrt(expected[inside] * 2 * np.sqrt(np.pi) * 1.5)
    assert found.error[inside].mean() == pytest.approx(counting.mean(), rel=0.15)


def _two_wells():
    x, y = np.meshgrid(np.linspace(-10, 10, 161), np.linspace(-6, 8, 121), indexing="ij")
    # wells at (-6, 0) and (6, 0) joined by an arc through (0, 5), a barrier between
    angle = np.arctan2(y + 1, x)
    arc = np.where(y > -1, np.exp(-0.5 * ((np.hypot(x, y + 1) - 6) / 0.8) ** 2), 0) * (0.05 + 0 * angle)
    density = 0.65 * np.exp(-0.5 * ((x + 6) ** 2 + y**2) / 0.8) + 0.35 * np.exp(-0.5 * ((x - 6) ** 2 + y**2) / 0.8)
    return np.stack([x.ravel(), y.ravel()], axis=1), (density + arc).ravel()


def test_wells_are_found_with_their_populations_and_the_path_goes_round_the_barrier():
    values, weights = _two_wells()
    found = _landscape(values, weights)
    assert len(found.minima) == 2
    assert found.minima[0] == pytest.approx([-6, 0], abs=0.6)
    assert found.minima[1] == pytest.approx([6, 0], abs=0.6)
    assert found.populations[0] > found.populations[1] > 0.3
    path = easiest_path(found, found.minima[0], found.minima[1])
    assert path[0] == pytest.approx(found.minima[0])
    assert path[-1] == pytest.approx(found.minima[1])
    middle = path[np.abs(path[:, 0]).argmin()]
    assert middle[1] == pytest.approx(5, abs=1)
    rows = conformations_on_path(path, values, weights, 12)
    assert len(rows) == 12
    on_arc = values[rows][2:-2]
    assert np.hypot(on_arc[:, 0], on_arc[:, 1] + 1) == pytest.approx(6 * np.ones(8), abs=1)


def test_path_to_where_no_particle_is_is_refused():
    values, weights = _two_wells()
    found = _landscape(values, weights)
    for place in ([0.0, -5.0], [50.0, 0.0]):
        with pytest.raises(InputError, match="there are no particles at"):
            easiest_path(found, found.minima[0], np.array(place))
    assert found.nearest(np.array([6.3, 0.2])) == pytest.approx([6.3, 0.2], abs=0.3)


def test_wells_that_nothing_joins_have_no_path():
    values = np.r_[np.linspace(-10, -8, 50), np.linspace(8, 10, 50)][:, None]
    found = _landscape(values, np.ones(100))
    assert len(found.minima) == 2
    with pytest.raises(InputError, match="nothing leads from one place to the other"):
        easiest_path(found, found.minima[0], found.minima[1])


def test_basins_shallower_than_one_kt_belong_to_their_neighbour():
    energy = np.array([3.0, 0.0, 2.0, 1.5, 4.0, 0.5, 3.0, np.nan])
    basins, minima = find_basins(energy)
    assert basins.tolist() == [1, 1, 1, 1, 1, 2, 2, 0]
    assert minima == [(1,), (5,)]
    basins, minima = find_basins(energy, least_depth=0.1)
    assert minima == [(1,), (5,), (3,)]
    assert basins[3] == 3


def test_kt_is_that_of_textbooks():
    assert kt_in_kj_per_mol(298.15) == pytest.approx(2.479, abs=1e-3)
