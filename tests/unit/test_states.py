"""States and populations against ensembles made of known ones."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cryosphere.analysis.states import divide, populations
from cryosphere.errors import InputError

SEED = 11


def _flat(points):
    return points, np.full(len(points), 1 / len(points))


def _blobs(counts, places, width=0.4):
    generator = np.random.default_rng(SEED)
    parts = [generator.normal(place, width, (n, len(place))) for n, place in zip(counts, places, strict=True)]
    return _flat(np.concatenate(parts)), np.repeat(np.arange(len(counts)), counts)


PLACES = [(0.0, 0.0), (5.0, 1.0), (2.0, 6.0)]


@pytest.mark.parametrize("clustering", ["density", "gmm", "kmeans", "hierarchical"])
def test_separate_states_are_found_in_order_along_the_first_mode(clustering):
    (points, weights), truth = _blobs([900, 500, 300], PLACES)
    n_states = None if clustering in ("density", "gmm") else 3
    found = divide(points, weights, clustering, n_states)
    assert found.n_states == 3
    order = np.argsort(np.argsort([0.0, 5.0, 2.0]))
    assert (found.states_of(points) == order[truth]).mean() > 0.995
    assert found.memberships(points).sum(1).tolist() == [1] * len(points)


def _ring():
    angles = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    return 8 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _square():
    return np.random.default_rng(SEED).uniform(-8, 8, (4000, 2))


def _curve():
    steps = np.linspace(0, 1, 384)
    return np.stack([10 * steps, 3 * np.sin(9 * steps), np.cos(4 * steps)], axis=1)


@pytest.mark.parametrize("points", [_ring, _square, _curve])
def test_continuous_motions_are_one_state(points):
    assert divide(*_flat(points())).n_states == 1


def test_two_states_with_a_thin_bridge_are_two_and_more_are_cut_where_asked():
    steps = np.linspace(0, 1, 384)
    weights = 0.7 * np.exp(-0.5 * (steps / 0.05) ** 2) + 0.3 * np.exp(-0.5 * ((steps - 1) / 0.05) ** 2) + 1e-3
    points = 10 * steps[:, None]
    found = divide(points, weights)
    assert found.n_states == 2
    share = weights / weights.sum() @ found.memberships(points)
    assert share == pytest.approx([0.7, 0.3], abs=0.02)
    assert divide(points, weights, n_states=1).n_states == 1
    with pytest.raises(InputError, match="3 states are impossible by density, which has 2"):
        divide(points, weights, n_states=3)
    assert divide(points, weights, "kmeans", 4).n_states == 4


def test_a_few_strange_conformations_are_no_state():
    (points, weights), _ = _blobs([2000, 8], [(0.0, 0.0), (40.0, 0.0)])
    assert divide(points, weights).n_states == 1


def test_components_without_conformations_are_said():
    with pytest.raises(InputError, match="9 states are impossible by gmm: only"):
        divide(*_blobs([900, 900], [(0.0, 0.0), (9.0, 0.0)], width=1e-4)[0], "gmm", 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kmeans", None), "kmeans cannot tell the number of states"),
        (("hierarchical", None), "hierarchical cannot tell"),
        (("density", 0), "0 states asked for"),
        (("kmeans", 5), "5 states are impossible: the ensemble has 3 different conformations"),
    ],
)
def test_impossible_numbers_of_states_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        divide(*_flat(np.array([[0.0], [1.0], [3.0]])), *arguments)


def test_an_ensemble_that_does_not_move_is_one_state():
    assert divide(*_flat(np.zeros((50, 1)))).n_states == 1


def _noisy_memberships(share, signal, n_particles, generator, prior):
    """Posterior probabilities, under some prior, of states that unit noise about ``signal`` apart tells."""
    state = generator.choice(len(share), n_particles, p=share)
    data = signal * state + generator.normal(size=n_particles)
    likelihood = np.exp(-0.5 * (data[:, None] - signal * np.arange(len(share))) ** 2)
    posterior = likelihood * prior
    return posterior / posterior.sum(1, keepdims=True), np.bincount(state, minlength=len(share)) / n_particles


def test_populations_of_states_that_images_hardly_tell_apart_are_right_and_their_intervals_honest():
    """68 % intervals hold the truth in 68 % of data sets, with memberships formed under wrong populations."""
    generator = np.random.default_rng(5)
    truth = np.array([0.6, 0.25, 0.15])
    inside, found = [], []
    for _ in range(40):
        memberships, _ = _noisy_memberships(truth, 1.5, 1000, generator, np.array([0.4, 0.3, 0.3]))
        result = populations(memberships, np.array([0.4, 0.3, 0.3]))
        found.append(result.share)
        inside.append((result.low <= truth) & (truth <= result.high))
    assert np.mean(found, axis=0) == pytest.approx(truth, abs=0.01)
    assert 0.58 < np.mean(inside) < 0.78


def test_flat_likelihoods_are_climbed_to_the_top():
    """Against a direct maximisation, for two states 0.2 of the noise apart."""
    generator = np.random.default_rng(7)
    memberships, _ = _noisy_memberships(np.array([0.8, 0.2]), 0.2, 10_000, generator, np.array([0.5, 0.5]))
    share = populations(memberships, np.array([0.5, 0.5])).share[1]
    best = minimize_scalar(
        lambda p: -np.log(memberships @ np.array([1 - p, p])).sum(), bounds=(0, 1), options={"xatol": 1e-7}
    )
    assert share == pytest.approx(best.x, abs=1e-3)


def test_states_with_few_particles_have_intervals_too():
    memberships = np.repeat(np.eye(2), [998, 2], axis=0)
    result = populations(memberships, np.array([0.5, 0.5]))
    assert result.share == pytest.approx([0.998, 0.002])
    assert 0 <= result.low[1] < 0.002 < result.high[1] < 0.006
    for count in (1, 2, 3):
        few = populations(np.eye(2)[np.zeros(count, dtype=int)], np.array([0.5, 0.5]))
        assert np.isfinite([few.low, few.high]).all()


def test_populations_of_certain_memberships_are_counts_with_binomial_errors():
    memberships = np.repeat(np.eye(2), [300, 700], axis=0)
    result = populations(memberships, np.array([0.5, 0.5]))
    assert result.share == pytest.approx([0.3, 0.7])
    assert (result.high - result.low) / 2 == pytest.approx(np.sqrt(0.21 / 1000) * np.ones(2), rel=0.2)
