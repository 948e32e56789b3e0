"""Segment motions → one rigid motion per residue → deformed residues."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.motions import blended_motions, segment_centres, sequential_motions
from cryosphere.records import SegmentMotions


def residue_motions(
    motions: SegmentMotions,
    segment_weights: Float[Tensor, "residue segment"],
    nominal_positions: Float[Tensor, "residue 3"],
    kind: Literal["blended", "sequential"],
) -> tuple[Float[Tensor, "batch residue 4"], Float[Tensor, "batch residue 3"]]:
    """Rigid motion of every residue: quaternion and translation with ``x → R x + translation`` (Å).

    ``blended`` turns segments about their own centres and blends dual quaternions; ``sequential`` is the paper's
    motion about the origin.
    """
    if kind == "sequential":
        return sequential_motions(motions, segment_weights)
    return blended_motions(motions, segment_weights, segment_centres(nominal_positions, segment_weights))
