"""Statistics of ensembles of conformations, without superposition."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


class FluctuationMeter:
    """Mean and mean squared deviation of every residue's position, one batch of conformations at a time.

    Parameters
    ----------
    reference : array of shape (residue, 3)
        Å; any structure near the ensemble, from which deviations are counted so that the sums stay accurate.
    """

    def __init__(self, reference: Float[np.ndarray, "residue 3"]) -> None:
        self.reference = np.asarray(reference, dtype=np.float64)
        self.count = 0
        self._sum = np.zeros_like(self.reference)
        self._sum_of_squares = np.zeros(len(self.reference))

    def add(self, positions: Float[np.ndarray, "batch residue 3"]) -> None:
        """Take in conformations (Å)."""
        offset = positions - self.reference
        self.count += len(offset)
        self._sum += offset.sum(0)
        self._sum_of_squares += np.einsum("bri,bri->r", offset, offset)

    @property
    def mean(self) -> Float[np.ndarray, "residue 3"]:
        """Mean structure, Å."""
        return self.reference + self._sum / self.count

    @property
    def rmsf(self) -> Float[np.ndarray, " residue"]:
        """Root mean squared distance of every residue from its mean position, Å, without superposition."""
        mean_offset = self._sum / self.count
        return np.sqrt((self._sum_of_squares / self.count - (mean_offset**2).sum(1)).clip(min=0.0))


def hard_segments(segment_weights: Float[np.ndarray, "residue segment"]) -> Int[np.ndarray, " residue"]:
    """Segment with the largest weight of every residue; -1 for residues outside every region."""
    return np.where(segment_weights.sum(1) > 0, segment_weights.argmax(1), -1)


def spread_rows(n_rows: int, count: int) -> Int[np.ndarray, " row"]:
    """At most ``count`` rows out of ``n_rows``, evenly spread, first and last included."""
    return np.unique(np.linspace(0, n_rows - 1, min(count, n_rows)).round().astype(int))


def pairwise_rmsd(
    first: Float[np.ndarray, "model residue 3"], second: Float[np.ndarray, "other residue 3"]
) -> Float[np.ndarray, "model other"]:
    """RMSD (Å) of every structure of one set from every one of another, without superposition."""
    centre = second.mean(0, dtype=np.float64)
    a = (first - centre).reshape(len(first), -1)
    b = (second - centre).reshape(len(second), -1)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(squared.clip(min=0.0) / first.shape[1])
