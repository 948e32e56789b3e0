"""Calibration and populations against closed forms: Gaussian posteriors, lines, shares."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from cryosphere.evaluation.calibration import (
    interval_coverage,
    intervals,
    main_motion,
    sampled_scores,
    state_shares,
)
from cryosphere.runs.run import Run
from cryosphere.simulation.truth import Truth

N_RESIDUES = 5


@pytest.mark.parametrize("n_samples", [19, 39])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_of_right_posteriors_hold_their_share(n_samples, share):
    """However few the samples: the truth is one more draw of the same distribution."""
    rng = np.random.default_rng(0)
    n = 20_000
    mean, std = rng.normal(size=n), rng.uniform(0.5, 3, n)
    draws = mean[:, None] + std[:, None] * rng.standard_normal((n, n_samples + 1))
    coverage = interval_coverage(draws[:, 1:], draws[:, 0], share)
    assert coverage == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / n))


@pytest.mark.parametrize(("factor", "shift"), [(0.5, 0.0), (2.0, 0.0), (1.0, 1.0)])
def test_wrong_posteriors_hold_what_the_normal_distribution_says(factor, shift):
    rng = np.random.default_rng(1)
    n = 4000
    true = rng.standard_normal(n)
    samples = shift + factor * rng.standard_normal((n, 400))
    for share in (0.5, 0.9):
        half = factor * norm.ppf(0.5 + share / 2)
        expected = norm.cdf(shift + half) - norm.cdf(shift - half)
        assert interval_coverage(samples, true, share) == pytest.approx(expected, abs=0.03)


def test_intervals_are_quantiles_and_ties_are_inside():
    samples = np.array([[3.0, 1, 2, 4, 5, 6, 7, 8, 9], [2.0] * 9])
    low, high = intervals(samples, 0.5)
    assert low.tolist() == [2.5, 2.0]
    assert high.tolist() == [7.5, 2.0]
    assert interval_coverage(samples, np.array([7.6, 2.0]), 0.5) == 0.5


def test_main_motion_is_the_line_that_states_lie_on():
    rng = np.random.default_rng(2)
    direction = rng.normal(size=(N_RESIDUES, 3))
    direction /= np.linalg.norm(direction)
    place = np.array([-2.0, 0.5, 4.0])
    population = np.array([0.5, 0.3, 0.2])
    base = rng.normal(size=(N_RESIDUES, 3))
    states = base + place[:, None, None] * direction
    motion = main_motion(states, population)
    assert abs((motion.direction * direction).sum()) == pytest.approx(1)
    centred = (place - population @ place) / np.sqrt(N_RESIDUES)
    assert motion.std == pytest.approx(np.sqrt(population @ centred**2))
    assert motion.share_of_variance == pytest.approx(1)
    found = motion.project(states)
    assert found * np.sign(found[2]) == pytest.approx(centred)


def test_main_motion_is_the_larger_of_two():
    states = np.zeros((4, 2, 3))
    states[:2, 0, 0] = 3, -3
    states[2:, 1, 1] = 1, -1
    motion = main_motion(states, np.full(4, 0.25))
    assert np.abs(motion.direction[0, 0]) == pytest.approx(1)
    assert motion.share_of_variance == pytest.approx(9 / 10)


def test_states_that_nobody_is_in_do_not_count_and_a_static_truth_has_no_motion():
    states = np.zeros((3, N_RESIDUES, 3))
    states[2] += 5.0
    assert main_motion(states, np.array([0.4, 0.6, 0.0])) is None
    assert main_motion(states[:1] + 1.0, np.ones(1)) is None


def test_state_shares():
    nearest = np.array([[0, 0, 1, 0], [1, 1, 1, 0]])
    assert state_shares(nearest, 3).tolist() == [0.5, 0.5, 0.0]


class _LineRun(Run):
    """A run whose latent moves all residues along x, with posteriors as given; its folder is never read."""

    def __init__(self, mean: np.ndarray, std: float, scale: float = 1.0) -> None:
        self.std, self.scale, self.decoded = std, scale, 0
        self.posterior = SimpleNamespace(index=np.arange(len(mean)), mean=mean[:, None])

    def sample_posterior(self, rows, n_samples, seed=0):
        rng = np.random.default_rng(seed)
        drawn = self.posterior.mean[rows][:, None] + self.std * rng.standard_normal((len(rows), n_samples, 1))
        return np.round(drawn, 2) if self.std > 0 else drawn

    def decode(self, latent):
        self.decoded += len(latent)
        positions = np.zeros((len(latent), N_RESIDUES, 3), dtype=np.float32)
        positions[:, :, 0] = self.scale * np.asarray(latent)
        return positions


def _line_truth(place, state):
    coordinates = np.zeros((len(place), N_RESIDUES, 3), dtype=np.float32)
    coordinates[:, :, 0] = np.asarray(place)[:, None]
    return Truth(coordinates, np.asarray(state), {}, {})


def test_a_run_with_right_posteriors_is_calibrated_and_one_that_moves_half_as_far_is_not():
    rng = np.random.default_rng(3)
    place = rng.standard_normal(1000)
    truth = _line_truth(place, np.arange(1000))
    mean = place + 0.5 * rng.standard_normal(1000)
    run = _LineRun(mean * 0.8, np.sqrt(0.2))  # the posterior of a standard normal seen with noise 0.5
    scores, error = sampled_scores(run, truth, n_particles=1000)
    assert error is None
    assert scores["share_inside_50"] == pytest.approx(0.5, abs=0.05)
    assert scores["share_inside_90"] == pytest.approx(0.9, abs=0.03)
    assert scores["width_90"] == pytest.approx(2 * 1.645 * np.sqrt(0.2), rel=0.05)
    assert scores["std_true"] == pytest.approx(place.std(), rel=1e-4)
    assert (scores["n_particles"], scores["n_samples"]) == (1000, 100)
    # Rounded latents occur often and are decoded once.
    assert run.decoded < 2000
    narrow, _ = sampled_scores(_LineRun(mean * 0.8, np.sqrt(0.2), 0.5), truth, n_particles=500)
    assert narrow["share_inside_90"] < 0.75
    assert narrow["n_particles"] == 500


def test_populations_of_few_states_come_from_all_samples():
    state = np.repeat([0, 1], [70, 30])
    truth = _line_truth([0.0, 4.0], state)
    # Certain of the right state but for ten images of the first, which are certain of the second.
    mean = np.where((state == 0) & (np.arange(100) >= 10), 0.2, 3.5)
    scores, error = sampled_scores(_LineRun(mean, 0.0), truth)
    assert error == pytest.approx(10.0)
    assert scores is not None
    # Undecided images count for both states by what their samples say.
    undecided = np.where(np.arange(100) < 40, 2.0, np.where(state == 0, 0.0, 4.0))
    _, error = sampled_scores(_LineRun(undecided, 0.5), truth)
    assert error == pytest.approx(20.0, abs=1.5)


def test_a_static_truth_has_populations_but_no_calibration():
    run, truth = _LineRun(np.zeros(20), 0.1), _line_truth([0.0], np.zeros(20, dtype=int))
    assert sampled_scores(run, truth) == (None, 0.0)
    many = _line_truth([0.0] * 5, np.arange(20) % 5)
    assert sampled_scores(run, many) == (None, None)
