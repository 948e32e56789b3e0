"""States of a run in numbers: populations, the conformation that stands for each, motions within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis.ensemble import Ensemble, ParticleValues
from cryosphere.analysis.states import Division, Populations, populations
from cryosphere.model.latents import prior_nodes

# Latents that stand for a normal prior.
_PRIOR_NODES = 1024


@dataclass(frozen=True)
class States:
    """States of an ensemble, in order along the first mode.

    Attributes
    ----------
    division : Division
    populations : Populations
    membership : int array of shape (particle,)
        Most probable state (from 0) of every particle.
    probability : array of shape (particle, state)
        Posterior probability of every state.
    latent : array of shape (state, latent)
        Of each state's medoid: the conformation with the least mean squared distance from all of the state.
    particles : int array of shape (state,)
        Row of the posterior of the particle that is nearest to the medoid.
    motion_mean, motion_spread : arrays of shape (state, motion)
        Mean and standard deviation over the conformations of the state, degrees or Å.
    """

    division: Division
    populations: Populations
    membership: Int[np.ndarray, " particle"]
    probability: Float[np.ndarray, "particle state"]
    latent: Float[np.ndarray, "state latent"]
    particles: Int[np.ndarray, " state"]
    motion_mean: Float[np.ndarray, "state motion"]
    motion_spread: Float[np.ndarray, "state motion"]

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.division.n_states


def summarise_states(ensemble: Ensemble, division: Division, particles: ParticleValues) -> States:
    """Describe the states of a division of an ensemble's conformations."""
    membership = particles.membership.argmax(1)
    within = ensemble.sample.weights[:, None] * division.memberships(ensemble.coordinates)
    latents, rows, means, spreads = [], [], [], []
    for state in range(division.n_states):
        weights = within[:, state] / within[:, state].sum()
        place = weights @ ensemble.coordinates  # nearest to the mean is the least mean squared distance
        offset = np.where(weights > 0, ((ensemble.coordinates - place) ** 2).sum(1), np.inf)
        medoid = int(offset.argmin())
        distance = ((particles.mode - ensemble.coordinates[medoid]) ** 2).sum(1)
        inside = membership == state
        rows.append(int(np.where(inside, distance, np.inf).argmin() if inside.any() else distance.argmin()))
        latents.append(ensemble.sample.latent[medoid])
        means.append(weights @ ensemble.values)
        spreads.append(np.sqrt(weights @ (ensemble.values - means[-1]) ** 2))
    return States(
        division,
        populations(particles.membership, _prior(ensemble, division)),
        membership,
        particles.membership,
        np.stack(latents),
        np.array(rows),
        np.stack(means),
        np.stack(spreads),
    )


def _prior(ensemble: Ensemble, division: Division) -> Float[np.ndarray, " state"]:
    """Prior probability of every state, by which the posteriors were formed: that of equally likely latents."""
    if ensemble.run.posterior.is_shared:
        return division.memberships(ensemble.coordinates).mean(0)
    nodes = prior_nodes(_PRIOR_NODES, ensemble.run.latent_dim).numpy()
    found = division.memberships(ensemble.coordinates_at(nodes)).mean(0)
    return found.clip(min=1 / _PRIOR_NODES)
