"""Arrows from where residues are in one conformation to where they are in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.viewer.tube import across

# Arrows at most, so that they can be told apart; shorter ones (Å) are left out.
MOST_ARROWS, LEAST_MOTION = 120, 1.0
_SIDES = 8
# Width of the head in radii of the shaft; its length in these, and at most this share of the arrow.
_HEAD_WIDTH, _HEAD_LENGTH, _HEAD_SHARE = 3.0, 8.0, 0.5


@dataclass(frozen=True)
class Arrows:
    """Arrows of some residues: where they start and how they point, Å."""

    rows: Int[np.ndarray, " arrow"]
    starts: Float[np.ndarray, "arrow 3"]
    vectors: Float[np.ndarray, "arrow 3"]

    @property
    def lengths(self) -> Float[np.ndarray, " arrow"]:
        """How far each residue moves, Å."""
        return np.linalg.norm(self.vectors, axis=1)

    def surface(self, radius: float) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
        """Vertices and triangles of the arrows as shafts of a radius (Å) with cones on them."""
        lengths = self.lengths[:, None]
        along = self.vectors.astype(np.float64) / np.maximum(lengths, 1e-12)
        first, second = across(along)
        head = np.minimum(_HEAD_LENGTH * radius, _HEAD_SHARE * lengths)
        # Rings from the start to the tip: (how far along, radius).
        profile = (
            (0 * head, 0.0),
            (0 * head, 1.0),
            (lengths - head, 1.0),
            (lengths - head, _HEAD_WIDTH),
            (lengths, 0.0),
        )
        turn = 2 * np.pi * np.arange(_SIDES) / _SIDES
        rings = []
        for far, wide in profile:
            circle = np.cos(turn)[:, None] * first[:, None] + np.sin(turn)[:, None] * second[:, None]
            rings.append((self.starts + far * along)[:, None] + wide * radius * circle)
        vertices = np.stack(rings, axis=1).reshape(-1, 3).astype(np.float32)
        n_rings = len(profile)
        ring = np.arange(n_rings - 1)[:, None] * _SIDES
        side = np.arange(_SIDES)
        after = np.roll(side, -1)
        here, beside, above, next_to = ring + side, ring + after, ring + _SIDES + side, ring + _SIDES + after
        one = np.stack([np.stack([here, beside, next_to], -1), np.stack([here, next_to, above], -1)], 2).reshape(-1, 3)
        faces = one + (np.arange(len(self.rows)) * n_rings * _SIDES)[:, None, None]
        return vertices, faces.reshape(-1, 3)


def motion_arrows(
    start: Float[np.ndarray, "residue 3"],
    end: Float[np.ndarray, "residue 3"],
    most: int = MOST_ARROWS,
    least: float = LEAST_MOTION,
) -> Arrows:
    """Arrows of evenly spread residues that move.

    Parameters
    ----------
    start, end : arrays of shape (residue, 3)
        Å, in one frame.
    most : int
        Arrows at most, of all residues.
    least : float
        Residues that move less (Å) have none.
    """
    rows = np.arange(0, len(start), -(-len(start) // most))
    vectors = (end - start)[rows]
    moves = np.linalg.norm(vectors, axis=1) >= least
    return Arrows(rows[moves], start[rows[moves]], vectors[moves])
