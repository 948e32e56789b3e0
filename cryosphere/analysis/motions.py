"""How residues and segments move over the ensemble: RMSF, and rigid motions in degrees and Å."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from cryosphere.inference.ensemble import FluctuationMeter
from cryosphere.physics.rotations import rotmat_to_rotvec
from cryosphere.simulation.frames import nearest_rotmat, superposition

# Share of the ensemble that a stated range covers.
RANGE_PERCENTILES = (5.0, 95.0)
# Fewer points than this do not fix a rotation.
_POINTS_FOR_ROTATION = 3


@dataclass(frozen=True)
class SegmentMotion:
    """How one segment moves as a whole over the ensemble, in the frame of the consensus map.

    ``angle_range_deg`` and ``translation_range`` are between the 5th and the 95th percentile along the main axis of
    rotation and the main direction of its centre; NaN where the segment has too few residues (3, and 1).
    """

    n_residues: int
    angle_range_deg: float
    rotation_axis: Float[np.ndarray, " 3"]
    translation_range: float
    translation_direction: Float[np.ndarray, " 3"]


class SegmentTracker:
    """Rigid motion of every segment in conformations that come batch by batch.

    Parameters
    ----------
    nominal_positions : array of shape (residue, 3)
        Å.
    labels : int array of shape (residue,)
        Segment of every residue; -1 for none.
    n_segments : int
    """

    def __init__(
        self, nominal_positions: Float[np.ndarray, "residue 3"], labels: Int[np.ndarray, " residue"], n_segments: int
    ) -> None:
        self.nominal = np.asarray(nominal_positions, dtype=np.float64)
        self.rows = [np.flatnonzero(labels == segment) for segment in range(n_segments)]
        self._rotmats: list[list[np.ndarray]] = [[] for _ in self.rows]
        self._centres: list[list[np.ndarray]] = [[] for _ in self.rows]

    def add(self, positions: Float[np.ndarray, "batch residue 3"]) -> None:
        """Take in conformations (Å)."""
        for segment, rows in enumerate(self.rows):
            if len(rows):
                self._centres[segment].append(positions[:, rows].mean(1, dtype=np.float64))
            if len(rows) >= _POINTS_FOR_ROTATION:
                moved = np.asarray(positions[:, rows], dtype=np.float64)
                rotmat, _ = superposition(np.broadcast_to(self.nominal[rows], moved.shape), moved)
                self._rotmats[segment].append(rotmat)

    def motions(self) -> list[SegmentMotion]:
        """Summary of every segment over the conformations taken in."""
        return [self._summary(segment) for segment in range(len(self.rows))]

    def _summary(self, segment: int) -> SegmentMotion:
        angle, axis = np.nan, np.full(3, np.nan)
        shift, direction = np.nan, np.full(3, np.nan)
        if self._rotmats[segment]:
            angle, axis = main_range(rotvecs_about_mean(np.concatenate(self._rotmats[segment])))
        if self._centres[segment]:
            shift, direction = main_range(np.concatenate(self._centres[segment]))
        return SegmentMotion(len(self.rows[segment]), float(np.degrees(angle)), axis, shift, direction)


def rotvecs_about_mean(rotmats: Float[np.ndarray, "batch 3 3"]) -> Float[np.ndarray, "batch 3"]:
    """Rotation vectors (radians) that lead from the mean orientation to each of the given ones."""
    mean = nearest_rotmat(rotmats.mean(0))
    return rotmat_to_rotvec(torch.from_numpy(rotmats @ mean.T)).numpy()


def main_range(vectors: Float[np.ndarray, "batch 3"]) -> tuple[float, Float[np.ndarray, " 3"]]:
    """Width between the 5th and the 95th percentile along the direction of largest variance, and that direction.

    The direction's largest entry is positive.
    """
    offset = vectors - vectors.mean(0)
    direction = np.linalg.eigh(offset.T @ offset)[1][:, -1]
    direction = direction * np.sign(direction[np.abs(direction).argmax()])
    low, high = np.percentile(offset @ direction, RANGE_PERCENTILES)
    return float(high - low), direction


def measure_motions(
    batches: Iterable[tuple[Int[np.ndarray, " batch"], Float[np.ndarray, "batch residue 3"]]],
    nominal_positions: Float[np.ndarray, "residue 3"],
    labels: Int[np.ndarray, " residue"],
    n_segments: int,
    track_every: int = 1,
) -> tuple[FluctuationMeter, list[SegmentMotion]]:
    """Pass once over an ensemble, holding one batch at a time.

    Parameters
    ----------
    batches : iterable of (rows, positions)
        As ``Run.expected_coordinates`` gives them.
    nominal_positions : array of shape (residue, 3)
        Å.
    labels : int array of shape (residue,)
        Segment of every residue, -1 for none.
    n_segments : int
    track_every : int
        Segments are superposed in every so many-th conformation; the RMSF takes all.

    Returns
    -------
    FluctuationMeter, list of SegmentMotion
    """
    meter = FluctuationMeter(nominal_positions)
    tracker = SegmentTracker(nominal_positions, labels, n_segments)
    seen = 0
    for _, positions in batches:
        meter.add(positions)
        tracker.add(positions[-seen % track_every :: track_every])
        seen += len(positions)
    return meter, tracker.motions()
