"""The ensemble of a run as weighted conformations, and averages over the posterior of every particle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.inference.ensemble import spread_rows
from cryosphere.progress import Bar
from cryosphere.runs.run import Run, cubature_points

# Interleaved lots of particles, which are drawn anew to say how sure a number is.
N_BLOCKS = 50
# Particles whose posteriors make up the ensemble, and those drawn from where each has latents of its own.
_MOST_PARTICLES, _MOST_DRAWS = 100_000, 10_000
_BATCH = 1024


@dataclass(frozen=True)
class EnsembleSample:
    """Conformations that stand for the whole ensemble.

    Attributes
    ----------
    latent : array of shape (conformation, latent)
    block_weights : array of shape (block, conformation)
        Share of all particles that each lot of particles puts on each conformation; the sum is 1.
    """

    latent: Float[np.ndarray, "conformation latent"]
    block_weights: Float[np.ndarray, "block conformation"]

    @property
    def weights(self) -> Float[np.ndarray, " conformation"]:
        """Share of all particles on each conformation."""
        return self.block_weights.sum(0)

    def bootstrap(self, count: int = 200, seed: int = 0) -> Int[np.ndarray, "resample block"]:
        """How often each lot of particles is in resamples of all lots, with replacement."""
        n_blocks = len(self.block_weights)
        return np.random.default_rng(seed).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=count)


def sample_ensemble(run: Run, seed: int = 0) -> EnsembleSample:
    """Average the posteriors of the particles, or of 100,000 evenly spread ones where there are more.

    With posteriors over shared nodes the conformations are those of ``run.grid``; where each particle has a Gaussian
    posterior they are one draw from each, of at most 10,000 particles.
    """
    posterior = run.posterior
    n_particles = len(posterior.index)
    if not posterior.is_shared:
        rows = spread_rows(n_particles, _MOST_DRAWS)
        latent = run.sample_posterior(rows, 1, seed)[:, 0]
        block = np.arange(len(rows)) % N_BLOCKS
        weights = np.zeros((min(N_BLOCKS, len(rows)), len(rows)))
        weights[block, np.arange(len(rows))] = 1 / len(rows)
        return EnsembleSample(latent, weights)
    rows = spread_rows(n_particles, _MOST_PARTICLES)
    n_blocks = min(N_BLOCKS, len(rows))
    weights = np.zeros((n_blocks, len(run.grid.latent)))
    size = n_blocks * max(1, _BATCH // n_blocks)
    for start in range(0, len(rows), size):
        found = run.grid.weights(posterior.log_likelihood[rows[start : start + size]])
        whole = len(found) // n_blocks * n_blocks
        weights += found[:whole].reshape(-1, n_blocks, found.shape[1]).sum(0)
        weights[: len(found) - whole] += found[whole:]
    return EnsembleSample(run.grid.latent.astype(np.float64), weights / weights.sum())


def posterior_averages(
    run: Run,
    values_of: Callable[[Float[np.ndarray, "conformation latent"]], Float[np.ndarray, "conformation value"]],
    rows: Int[np.ndarray, " particle"] | None = None,
    show_progress: bool = False,
) -> Iterator[tuple[Int[np.ndarray, " batch"], Float[np.ndarray, "batch value"]]]:
    """E[values | image] of particles, as :meth:`Run.expected_coordinates` forms expectations, batch by batch: (rows of
    the posterior, averages).

    Parameters
    ----------
    run : Run
    values_of : callable
        Numbers that conformations at latents have.
    rows : int array, optional
        Rows of the posterior; all by default.
    show_progress : bool
        Show a progress bar on stderr.
    """
    posterior = run.posterior
    rows = np.arange(len(posterior.index)) if rows is None else rows
    shared = values_of(run.grid.latent) if posterior.is_shared else None
    size = _BATCH if posterior.is_shared else max(1, _BATCH // (2 * run.latent_dim))
    with Bar(total=len(rows), desc="particles", unit="particle", disable=not show_progress) as bar:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            if shared is not None:
                yield batch, run.grid.weights(posterior.log_likelihood[batch]) @ shared
            else:
                points = cubature_points(posterior.mean[batch], posterior.covariance[batch])
                values = values_of(points.reshape(-1, run.latent_dim))
                yield batch, values.reshape(len(batch), -1, values.shape[1]).mean(1)
            bar.update(len(batch))


def weighted_percentiles(
    values: Float[np.ndarray, " conformation"], weights: Float[np.ndarray, " conformation"], percentages
) -> Float[np.ndarray, " percentage"]:
    """Percentiles of weighted values: where the cumulated weight, counted to the middle of each, reaches them."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    middle = (cumulated - 0.5 * weights[order]) / cumulated[-1]
    return np.interp(np.asarray(percentages) / 100, middle, values[order])
