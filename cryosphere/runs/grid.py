"""Posteriors on a dense set of latents, from log-likelihoods at fewer nodes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.interpolate import RBFInterpolator

from cryosphere.model.latents import prior_nodes

# Log-likelihoods are smooth enough to be interpolated between nodes up to this dimension.
MOST_GRID_DIMENSIONS = 2
# Grid points for each node, in one and two dimensions.
_DENSITY = {1: 4, 2: 8}


class PosteriorGrid:
    """Latents and the posterior weights that log-likelihoods at nodes give them.

    Between nodes that spread evenly over a standard normal prior the log-likelihood is interpolated with cubic radial
    basis functions (in one dimension: the natural cubic spline); the points are several times as many, each of the same
    prior mass. Without interpolation the nodes themselves, equally likely, are the points.

    Parameters
    ----------
    nodes : array of shape (node, latent)
    dense : bool
        Whether to interpolate; not done between fewer nodes than dimensions + 1.
    """

    def __init__(self, nodes: Float[np.ndarray, "node latent"], dense: bool) -> None:
        n_nodes, latent_dim = nodes.shape
        self.nodes, self.dense = nodes.astype(np.float64), dense and n_nodes > latent_dim
        self.latent = prior_nodes(_DENSITY[latent_dim] * n_nodes, latent_dim).numpy() if self.dense else nodes

    @cached_property
    def _operator(self) -> Float[np.ndarray, "node point"]:
        unit = np.eye(len(self.nodes))
        return RBFInterpolator(self.nodes, unit, kernel="cubic", degree=1)(self.latent.astype(np.float64)).T

    def log_weights(self, log_likelihood: Float[np.ndarray, "particle node"]) -> Float[np.ndarray, "particle point"]:
        """Log-likelihood plus log prior mass of every point; its log-sum-exp is the log-evidence."""
        values = log_likelihood.astype(np.float64)
        if self.dense:
            values = values @ self._operator
        return values - np.log(len(self.latent))

    def weights(self, log_likelihood: Float[np.ndarray, "particle node"]) -> Float[np.ndarray, "particle point"]:
        """Posterior probability of every point; rows sum to 1."""
        values = self.log_weights(log_likelihood)
        values = np.exp(values - values.max(1, keepdims=True))
        return values / values.sum(1, keepdims=True)
