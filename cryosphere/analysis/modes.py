"""Principal components of conformations, in Å: a space in which near means alike, whatever the latent does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# Components that are looked for.
_MOST_MODES = 6
# A component with a smaller share of the variance is left out.
_LEAST_SHARE = 0.02
_POWER_STEPS = 6


@dataclass(frozen=True)
class Modes:
    """Orthogonal directions of motion by falling variance.

    A step of 1 along a mode moves the residues by 1 Å in the root mean square. Every axis has its
    largest entry positive.
    """

    mean: Float[np.ndarray, " coordinate"]
    axes: Float[np.ndarray, "mode coordinate"]
    variances: Float[np.ndarray, " mode"]
    total_variance: float

    @property
    def n_modes(self) -> int:
        """Number of modes, at least 1."""
        return len(self.variances)

    @property
    def explained(self) -> Float[np.ndarray, " mode"]:
        """Share of the whole variance along each mode; 0 if nothing moves."""
        return self.variances / self.total_variance if self.total_variance > 0 else np.zeros_like(self.variances)

    def coordinates(
        self, positions: Float[np.ndarray, "conformation residue 3"]
    ) -> Float[np.ndarray, "conformation mode"]:
        """Conformations along the modes, Å (root mean square over the residues)."""
        flat = positions.reshape(len(positions), -1) - self.mean
        return flat @ self.axes.T / np.sqrt(positions.shape[1])


def fit_modes(
    positions: Float[np.ndarray, "conformation residue 3"], weights: Float[np.ndarray, " conformation"]
) -> Modes:
    """Find the principal components of weighted conformations, without superposition.

    Parameters
    ----------
    positions : array of shape (conformation, residue, 3)
        Å.
    weights : array of shape (conformation,)
        Sum 1.
    """
    from sklearn.utils.extmath import randomized_svd

    flat = positions.reshape(len(positions), -1).astype(np.float64)
    mean = weights @ flat
    scaled = np.sqrt(weights / positions.shape[1])[:, None] * (flat - mean)
    total = float((scaled**2).sum())
    count = min(_MOST_MODES, *scaled.shape)
    _, singular, axes = randomized_svd(scaled, count, n_iter=_POWER_STEPS, random_state=0)
    variances = singular**2
    count = max(1, int((variances >= _LEAST_SHARE * total).sum()))
    axes, variances = axes[:count], variances[:count]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    return Modes(mean, axes * np.where(largest < 0, -1, 1), variances, total)
