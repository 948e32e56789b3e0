"""The decoded conformation nearest to the expected one: a structure with sound geometry instead of an average."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from cryosphere.inference.ensemble import pairwise_rmsd, spread_rows
from cryosphere.runs.run import Run, cubature_points

# Levenberg-Marquardt steps; the distance falls at each or the step is not taken.
_STEPS = 6
_STEP_IN_LATENT = 1e-2
_FIRST_DAMPING, _LEAST_DAMPING = 1e-2, 1e-6
# Particles treated at once.
_BATCH = 64
# Other particles, evenly spread, whose latents are starting points too.
_POOL = 128


def nearest_conformations(
    run: Run, rows: Int[np.ndarray, " particle"] | None = None
) -> Iterator[
    tuple[Int[np.ndarray, " batch"], Float[np.ndarray, "batch latent"], Float[np.ndarray, "batch residue 3"]]
]:
    """Find, for particles, the latent whose decoded conformation has the least RMSD to E[x | image].

    E[x | image] is an average of rotated pieces, in which bonds shrink; this is a conformation of the model.
    Of the posterior mean, its cubature points and the means of 128 other particles the nearest is taken, and
    Levenberg-Marquardt steps from there minimise the squared distance over the latent. Nothing is random.

    Parameters
    ----------
    run : Run
        With its posterior.
    rows : int array, optional
        Rows of the posterior; all by default.

    Yields
    ------
    rows, latent, positions
        Rows of the posterior, latents, and float32 positions (Å, model frame).
    """
    posterior = run.posterior
    pool = posterior.mean[spread_rows(len(posterior.mean), _POOL)].astype(np.float64)
    pool_positions = run.decode(pool)
    for batch, expected in run.expected_coordinates(rows, batch_size=_BATCH):
        mean = posterior.mean[batch].astype(np.float64)
        spread = cubature_points(mean, posterior.covariance[batch])
        other = pool[pairwise_rmsd(expected, pool_positions).argmin(1)]
        candidates = np.concatenate([mean[:, None], spread, other[:, None]], axis=1)
        latent = _best_candidate(run, candidates, expected)
        latent = refine_latents(run, latent, expected)
        yield batch, latent, run.decode(latent)


def _best_candidate(
    run: Run, candidates: Float[np.ndarray, "batch candidate latent"], target: Float[np.ndarray, "batch residue 3"]
) -> Float[np.ndarray, "batch latent"]:
    n_batch, n_candidates, latent_dim = candidates.shape
    decoded = run.decode(candidates.reshape(-1, latent_dim)).reshape(n_batch, n_candidates, -1, 3)
    best = ((decoded - target[:, None]) ** 2).sum((2, 3)).argmin(1)
    return candidates[np.arange(n_batch), best]


def refine_latents(
    run: Run, latent: Float[np.ndarray, "batch latent"], target: Float[np.ndarray, "batch residue 3"]
) -> Float[np.ndarray, "batch latent"]:
    """Move latents so that their decoded conformations come nearer to target positions (Å, no superposition).

    Levenberg-Marquardt with forward differences (Nocedal & Wright, Numerical Optimization, chapter 10), every
    particle with its own damping.
    """
    latent = np.asarray(latent, dtype=np.float64)
    residual = _residual(run, latent, target)
    damping = np.full(len(latent), _FIRST_DAMPING)
    for _ in range(_STEPS):
        slope = _jacobian(run, latent, residual, target)
        curvature = np.einsum("bin,bjn->bij", slope, slope)
        scale = np.einsum("bii->b", curvature) / curvature.shape[1] + 1e-12
        damped = curvature + (damping * scale)[:, None, None] * np.eye(curvature.shape[1])
        step = -np.linalg.solve(damped, np.einsum("bin,bn->bi", slope, residual)[..., None])[..., 0]
        trial = _residual(run, latent + step, target)
        better = (trial**2).sum(1) < (residual**2).sum(1)
        latent = np.where(better[:, None], latent + step, latent)
        residual = np.where(better[:, None], trial, residual)
        damping = np.where(better, np.maximum(0.1 * damping, _LEAST_DAMPING), 10 * damping)
    return latent


def _residual(run, latent, target) -> Float[np.ndarray, "batch coordinate"]:
    return (run.decode(latent) - target.astype(np.float64)).reshape(len(latent), -1)


def _jacobian(run, latent, residual, target) -> Float[np.ndarray, "batch latent coordinate"]:
    steps = _STEP_IN_LATENT * np.eye(latent.shape[1])
    moved = [_residual(run, latent + step, target) for step in steps]
    return (np.stack(moved, axis=1) - residual[:, None]) / _STEP_IN_LATENT
