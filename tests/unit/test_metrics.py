"""Scores against closed forms, brute force, and other people's implementations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import wasserstein_distance

from cryosphere.evaluation import metrics
from cryosphere.evaluation.bodies import body_agreement, merge_segments
from cryosphere.inference.ensemble import pairwise_rmsd


@pytest.fixture
def random():
    return np.random.default_rng(3)


def test_rmsd_is_not_superposed():
    structure = np.arange(30.0).reshape(1, 10, 3)
    assert metrics.per_image_rmsd(structure + np.array([3.0, 0.0, 4.0]), structure) == pytest.approx([5.0])


def test_pairwise_rmsd_equals_brute_force(random):
    first, second = random.normal(100, 5, (4, 7, 3)), random.normal(100, 5, (6, 7, 3))
    expected = [[np.sqrt(((a - b) ** 2).sum() / 7) for b in second] for a in first]
    assert pairwise_rmsd(first, second) == pytest.approx(np.array(expected), abs=1e-9)


def test_pairwise_rmsd_of_float32_far_from_the_origin_is_zero_for_equal_structures(random):
    models = (random.normal(0, 20, (5, 50, 3)) + 500).astype(np.float32)
    assert np.diagonal(pairwise_rmsd(models, models)).max() < 1e-4


def test_accuracy_and_coverage_swap_roles():
    pairwise = np.array([[1.0, 5.0, 9.0], [2.0, 6.0, 7.0]])
    assert metrics.ensemble_accuracy(pairwise) == pytest.approx(1.5)
    assert metrics.ensemble_coverage(pairwise) == pytest.approx((1 + 5 + 7) / 3)


def test_local_flexibility():
    assert metrics.local_flexibility(np.array([1.0, 2.0]), np.array([2.0, 0.0])) == pytest.approx(1.5)


def test_largest_area_at_128_is_that_of_cryobench():
    assert metrics.fsc_area(np.ones(64), 128) == pytest.approx(0.4922, abs=5e-5)


def _reference_curve(first, second):
    """FSC with the full transform and one mask per shell, as METHOD section 4 words it."""
    size = len(first)
    a, b = np.fft.fftshift(np.fft.fftn(first)), np.fft.fftshift(np.fft.fftn(second))
    axis = np.arange(size) - size // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    curve = [1.0]
    for i in range(1, size // 2):
        shell = (radius >= i - 1) & (radius < i)
        norm = np.sqrt((np.abs(a[shell]) ** 2).sum() * (np.abs(b[shell]) ** 2).sum())
        curve.append((a[shell] * b[shell].conj()).sum().real / norm)
    return np.array(curve)


@pytest.mark.parametrize("size", [12, 13])
def test_curve_equals_the_definition_on_full_transforms(random, size):
    first = random.normal(size=(size,) * 3)
    second = first + random.normal(size=(size,) * 3)
    curve = metrics.fourier_shell_correlation(metrics.fourier_volume(first), metrics.fourier_volume(second))
    assert curve == pytest.approx(_reference_curve(first, second), abs=1e-5)


def test_curve_of_a_scaled_volume_is_one_and_of_its_negative_counts_by_its_size(random):
    spectrum = metrics.fourier_volume(random.normal(size=(16, 16, 16)))
    assert metrics.fourier_shell_correlation(spectrum, 3 * spectrum) == pytest.approx(np.ones(8))
    curve = metrics.fourier_shell_correlation(spectrum, -spectrum)
    assert curve[0] == 1
    assert curve[1:] == pytest.approx(-np.ones(7))
    assert metrics.fsc_area(curve, 16) == pytest.approx(7 / 16)


def test_curve_of_an_empty_volume_is_zero(random):
    spectrum = metrics.fourier_volume(random.normal(size=(8, 8, 8)))
    assert metrics.fourier_shell_correlation(spectrum, 0 * spectrum) == pytest.approx([1, 0, 0, 0])


def test_changed_bonds_counts_bonded_neighbours_only():
    nominal = np.column_stack([3.8 * np.arange(5), np.zeros(5), np.zeros(5)])
    bonded = np.array([True, True, False, True])
    moved = np.stack([nominal, nominal, nominal])
    moved[1, 1, 0] += 0.5  # both bonds of residue 1 change by 0.5 Å
    moved[2, 3:, 0] += 9.0  # only the distance across the gap changes
    assert metrics.changed_bonds(moved, nominal, bonded) == pytest.approx([0, 2 / 3, 0])


def test_clashes_are_pairs_under_4_angstrom_that_are_no_neighbours():
    line = np.column_stack([3.8 * np.arange(5), np.zeros(5), np.zeros(5)])
    folded = line.copy()
    folded[4] = line[0] + [0, 3.9, 0]
    bonded = np.ones(4, dtype=bool)
    assert metrics.clashes_per_1000(np.stack([line, folded]), bonded) == pytest.approx([0, 200])
    bonded[1] = False
    assert metrics.clashes_per_1000(line[None], bonded) == pytest.approx([200])


def test_divergence_of_equal_populations_is_nearly_zero_and_of_an_empty_state_finite():
    true = np.array([0.25, 0.75])
    assert metrics.population_divergence(true, true, 10**6) == pytest.approx(0, abs=1e-5)
    lost = metrics.population_divergence(true, np.array([0.0, 1.0]), 99)
    assert lost == pytest.approx(0.25 * np.log(0.25 / 0.005) + 0.75 * np.log(0.75 / 0.995))


def test_earth_movers_distance_on_a_line_is_that_of_scipy(random):
    places = np.sort(random.uniform(0, 30, 9))
    true, predicted = random.dirichlet(np.ones(9)), random.dirichlet(np.ones(9))
    distance = np.abs(places[:, None] - places)
    expected = wasserstein_distance(places, places, predicted, true)
    assert metrics.earth_movers_distance(true, predicted, distance) == pytest.approx(expected)


@pytest.fixture
def hinged(random):
    """Nominal 60 residues; residues from 30 on turn by up to 40° about a hinge; labels of six segments of ten."""
    nominal = random.normal(0, 10, (60, 3)) + np.repeat([[0, 0, 0], [30, 0, 0]], 30, axis=0)
    angles = np.linspace(-40, 40, 20)
    states = np.repeat(nominal[None], len(angles), axis=0)
    for state, angle in zip(states, angles, strict=True):
        state[30:] = Rotation.from_euler("z", angle, degrees=True).apply(state[30:])
    return nominal, states, np.repeat(np.arange(6), 10)


def test_segments_of_one_body_are_merged(hinged, random):
    nominal, states, labels = hinged
    noisy = states + random.normal(0, 0.3, states.shape)
    found = merge_segments(labels, nominal, noisy)
    assert found.tolist() == [0] * 30 + [1] * 30
    assert body_agreement(found, [list(range(30)), list(range(30, 60))]) == 1


def test_residues_without_segment_are_a_body_that_rests(hinged):
    nominal, states, labels = hinged
    fixed = np.where(labels < 3, -1, labels)
    assert merge_segments(fixed, nominal, states).tolist() == [0] * 30 + [1] * 30


def test_an_ensemble_at_rest_is_one_body(hinged):
    nominal, _, labels = hinged
    found = merge_segments(labels, nominal, np.repeat(nominal[None], 3, axis=0))
    assert set(found) == {0}
    assert body_agreement(found, [list(range(30)), list(range(30, 60))]) == pytest.approx(0)


def test_agreement_leaves_out_residues_of_no_body():
    found = np.array([0, 0, 5, 1, 1])
    assert body_agreement(found, [[0, 1], [3, 4]]) == 1
    assert body_agreement(found, [[0, 1], [2, 3, 4]]) < 1
