"""Whether the posteriors of the images hold what they promise: intervals of the main motion, and populations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cryosphere.inference.ensemble import pairwise_rmsd, spread_rows
from cryosphere.runs.run import Run
from cryosphere.simulation.truth import Truth

# Particles, evenly spread, whose posteriors are sampled, and samples of each.
N_PARTICLES, N_SAMPLES = 2000, 100
# Populations are compared state by state if there are no more than these.
MOST_STATES_COUNTED = 4
# Å; truth whose main motion is smaller than this (standard deviation, as an RMSD) does not move.
_LEAST_MOTION_A = 1e-3
_DECODED_AT_ONCE = 1024


@dataclass(frozen=True)
class MainMotion:
    """First principal component of an ensemble, as a line through its mean.

    Attributes
    ----------
    mean : array of shape (residue, 3)
        Å.
    direction : array of shape (residue, 3)
        Of length 1 over all coordinates.
    std : float
        Standard deviation along the line, as an RMSD in Å.
    share_of_variance : float
        Of all coordinates' variance, that along the line.
    """

    mean: Float[np.ndarray, "residue 3"]
    direction: Float[np.ndarray, "residue 3"]
    std: float
    share_of_variance: float

    def project(self, positions: Float[np.ndarray, "conformation residue 3"]) -> Float[np.ndarray, " conformation"]:
        """Signed distance along the line from the mean, as an RMSD in Å."""
        offset = np.asarray(positions, dtype=np.float64) - self.mean
        return np.einsum("cri,ri->c", offset, self.direction) / np.sqrt(len(self.mean))


def main_motion(
    coordinates: Float[np.ndarray, "state residue 3"], population: Float[np.ndarray, " state"]
) -> MainMotion | None:
    """First principal component of states weighted by their populations (sum 1); None where nothing moves."""
    mean = np.einsum("s,sri->ri", population, coordinates.astype(np.float64))
    offset = (coordinates - mean).reshape(len(coordinates), -1) * np.sqrt(population)[:, None]
    values, vectors = np.linalg.eigh(offset @ offset.T)
    std = float(np.sqrt(max(values[-1], 0.0) / len(mean)))
    if std < _LEAST_MOTION_A:
        return None
    direction = (offset.T @ vectors[:, -1]).reshape(mean.shape)
    share = float(values[-1] / values.clip(min=0.0).sum())
    return MainMotion(mean, direction / np.linalg.norm(direction), std, share)


def intervals(
    samples: Float[np.ndarray, "particle sample"], share: float
) -> tuple[Float[np.ndarray, " particle"], Float[np.ndarray, " particle"]]:
    """Ends of the equal-tailed interval that holds a share of each row's distribution.

    Quantile p is sample number p (n + 1) of n in order, interpolated linearly (Hyndman & Fan, Am. Stat. 50, 361,
    1996, type 6), so that a further draw of the same distribution lies inside with the share as probability, however
    few the samples: exactly where the numbers are whole.
    """
    tail = (1 - share) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=1, method="weibull")
    return low, high


def interval_coverage(
    samples: Float[np.ndarray, "particle sample"], true: Float[np.ndarray, " particle"], share: float
) -> float:
    """Share of particles whose true value lies in the equal-tailed interval of their samples (ends included)."""
    low, high = intervals(samples, share)
    return float(((low <= true) & (true <= high)).mean())


def state_shares(nearest: Int[np.ndarray, "particle sample"], n_states: int) -> Float[np.ndarray, " state"]:
    """Population of every state: mean over particles of the share of their samples that are nearest to it."""
    return np.bincount(nearest.ravel(), minlength=n_states) / nearest.size


def sampled_scores(
    run: Run, truth: Truth, n_particles: int = N_PARTICLES, n_samples: int = N_SAMPLES, seed: int = 0
) -> tuple[dict[str, Any] | None, float | None]:
    """Score posterior samples of evenly spread particles, decoded.

    Parameters
    ----------
    run : Run
        With its posterior.
    truth : Truth
        Of this run's particles.
    n_particles, n_samples : int
        Particles, and samples of each.
    seed : int
        Of the samples.

    Returns
    -------
    calibration : dict or None
        ``share_inside_50`` and ``share_inside_90``: share of particles whose true place along the main motion (first
        principal component of the true states) lies in the equal-tailed 50 % and 90 % interval of their samples;
        ``width_50`` and ``width_90``, mean widths of these (Å, as an RMSD); ``std_true`` and ``share_of_variance`` of
        that motion; ``n_particles``, ``n_samples``. None where the truth does not move.
    largest_error_points : float or None
        Largest difference, in percentage points, of a state's predicted population (share of samples nearest to it)
        from its true one among the same particles. None for more than 4 states.
    """
    rows = spread_rows(len(run.posterior.index), n_particles)
    state = truth.state[run.posterior.index[rows]]
    population = np.bincount(state, minlength=len(truth.coordinates)) / len(state)
    motion = main_motion(truth.coordinates, population)
    few_states = len(truth.coordinates) <= MOST_STATES_COUNTED
    if motion is None and not few_states:
        return None, None
    latent = run.sample_posterior(rows, n_samples, seed)
    place, nearest = _decode_samples(run, latent, motion, truth.coordinates if few_states else None)
    error = None
    if nearest is not None:
        error = float(100 * np.abs(state_shares(nearest, len(population)) - population).max())
    if place is None:
        return None, error
    return _calibration(motion, place, motion.project(truth.coordinates)[state]), error


def _calibration(
    motion: MainMotion, place: Float[np.ndarray, "particle sample"], true: Float[np.ndarray, " particle"]
) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for percent in (50, 90):
        low, high = intervals(place, percent / 100)
        scores[f"share_inside_{percent}"] = interval_coverage(place, true, percent / 100)
        scores[f"width_{percent}"] = float((high - low).mean())
    return {
        **scores,
        "std_true": motion.std,
        "share_of_variance": motion.share_of_variance,
        "n_particles": place.shape[0],
        "n_samples": place.shape[1],
    }


def _decode_samples(
    run: Run,
    latent: Float[np.ndarray, "particle sample latent"],
    motion: MainMotion | None,
    states: Float[np.ndarray, "state residue 3"] | None,
) -> tuple[Float[np.ndarray, "particle sample"] | None, Int[np.ndarray, "particle sample"] | None]:
    """Place along the motion and nearest state of every sample; latents that occur often are decoded once."""
    shape = latent.shape[:2]
    different, inverse = np.unique(latent.reshape(-1, latent.shape[2]), axis=0, return_inverse=True)
    place, nearest = [], []
    for start in range(0, len(different), _DECODED_AT_ONCE):
        positions = run.decode(different[start : start + _DECODED_AT_ONCE])
        if motion is not None:
            place.append(motion.project(positions))
        if states is not None:
            nearest.append(pairwise_rmsd(positions, states).argmin(1))

    def of_samples(values: list[np.ndarray]) -> np.ndarray | None:
        return np.concatenate(values)[inverse].reshape(shape) if values else None

    return of_samples(place), of_samples(nearest)
