"""How much every particle belongs to every state of an export."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from cryosphere.errors import InputError
from cryosphere.export.selection import Selection, particle_rows
from cryosphere.runs.run import Run

# Particles whose posteriors are looked at together, and draws from each where there are no shared nodes.
_BATCH, _DRAWS = 4096, 64


@dataclass(frozen=True)
class StateWeights:
    """Weights of the posterior's particles (``run.posterior.index``) in states.

    ``names`` say what the states are; ``latent`` is where each one's model is.
    """

    weights: Float[np.ndarray, "state particle"]
    names: tuple[str, ...]
    latent: Float[np.ndarray, "state latent"]


def weigh_particles(run: Run, particles: Int[np.ndarray, " n"]) -> StateWeights:
    """One state of some particles, given by input row (from 0): weight 1 each, whatever the number of mentions.

    Its model is that of the particle whose posterior mean is nearest to their mean.

    Raises
    ------
    InputError
        A row is not one of the run's.
    """
    rows = np.unique(particle_rows(run, particles))
    weights = np.zeros((1, len(run.posterior.index)))
    weights[0, rows] = 1
    means = run.posterior.mean[rows].astype(np.float64)
    nearest = ((means - means.mean(0)) ** 2).sum(1).argmin()
    return StateWeights(weights, (f"{len(rows)} particles",), means[nearest][None])


def weigh_nearest(run: Run, selection: Selection) -> StateWeights:
    """One state for every conformation of a selection: the share of a particle's posterior that is nearest to it.

    Every latent belongs to the nearest of the conformations' latents, so that a particle's weights have the sum 1. They
    come from the grid of latents where all images were compared with the same ones, else from 64 draws.

    Raises
    ------
    InputError
        Two conformations have the same latent.
    """
    points = np.asarray(selection.latent, dtype=np.float64)
    distinct, first = np.unique(points, axis=0, return_index=True)
    if len(distinct) < len(points):
        again = int(np.setdiff1d(np.arange(len(points)), first)[0])
        raise InputError(
            f"{selection.names[again]}: has the same latent as another one, so that no particle is nearer to it; ask "
            "for fewer conformations."
        )
    posterior, tree = run.posterior, cKDTree(points)
    weights = np.empty((len(points), len(posterior.index)))
    belongs = np.eye(len(points))[tree.query(run.grid.latent)[1]] if posterior.is_shared else None
    for start in range(0, len(posterior.index), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(posterior.index)))
        if posterior.is_shared:
            weights[:, rows] = (run.grid.weights(posterior.log_likelihood[rows]) @ belongs).T
            continue
        nearest = tree.query(run.sample_posterior(rows, _DRAWS, seed=start))[1]
        weights[:, rows] = (nearest[None] == np.arange(len(points))[:, None, None]).mean(2)
    return StateWeights(weights, selection.names, points)
