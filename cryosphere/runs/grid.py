"""Posteriors on a dense set of latents, from log-likelihoods at fewer nodes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from cryosphere.model.latents import prior_nodes

# Log-likelihoods are smooth enough to be interpolated between nodes up to this dimension.
MOST_GRID_DIMENSIONS = 2
# Grid points for each node, in one and two dimensions.
_DENSITY = {1: 4, 2: 8}
# Nats by which a point may be likelier than each of the nodes around it, as the peak of a posterior a fifth as wide as
# they are apart is; basis functions overshoot beyond the outermost nodes where likelihoods differ by hundreds.
_MOST_RISE = 3.0
# Nats below the likeliest point that are as good as any less; exp gives numbers there that are quick to reckon with.
_NOTHING = -60.0


class PosteriorGrid:
    """Latents and the posterior weights that log-likelihoods at nodes give them.

    Between nodes that spread evenly over a standard normal prior the log-likelihood is interpolated with cubic radial
    basis functions (in one dimension: the natural cubic spline), up to little above its values at the nodes around; the
    points are several times as many, each of the same prior mass. Without interpolation the nodes themselves, equally
    likely, are the points.

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

    @cached_property
    def _nearest(self) -> Int[np.ndarray, "point neighbour"]:
        return cKDTree(self.nodes).query(self.latent, k=self.nodes.shape[1] + 1)[1]

    @cached_property
    def _tensors(self) -> tuple[Float[torch.Tensor, "point node"], Int[torch.Tensor, "neighbour point"]]:
        """The operator in float32 and the nearest nodes, as they are needed for particles in columns."""
        operator = np.ascontiguousarray(self._operator.T, dtype=np.float32)
        return torch.from_numpy(operator), torch.from_numpy(np.ascontiguousarray(self._nearest.T))

    def log_weights(self, log_likelihood: Float[np.ndarray, "particle node"]) -> Float[np.ndarray, "particle point"]:
        """Log-likelihood plus log prior mass of every point; its log-sum-exp is the log-evidence, too small for
        posteriors much narrower than the nodes are apart."""
        values = log_likelihood.astype(np.float64)
        if self.dense:
            ceiling = np.max([values[:, nearest] for nearest in self._nearest.T], axis=0) + _MOST_RISE
            values = np.minimum(values @ self._operator, ceiling)
        return values - np.log(len(self.latent))

    def weights(self, log_likelihood: Float[np.ndarray, "particle node"]) -> Float[np.ndarray, "particle point"]:
        """Posterior probability of every point, float32; rows sum to 1."""
        # Particles are columns here, so that nodes are taken in rows; float32 is off by less than 1e-3 nats.
        values = torch.from_numpy(np.ascontiguousarray((log_likelihood - log_likelihood.max(1, keepdims=True)).T))
        values = values.to(torch.float32)
        if self.dense:
            operator, (first, *others) = self._tensors
            ceiling = values[first]
            for nearest in others:
                torch.maximum(ceiling, values[nearest], out=ceiling)
            values = torch.minimum(operator @ values, ceiling.add_(_MOST_RISE))
        values = values.sub_(values.amax(0)).clamp_(min=_NOTHING).exp_()
        return values.div_(values.sum(0)).numpy().T
