"""How the segments of a run move, each seen from the reference segment: ranges, screw axis, hinge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis.bodies import POINTS_FOR_ROTATION, RigidMotions, Screw
from cryosphere.analysis.ensemble import RANGE_PERCENTILES, Ensemble
from cryosphere.analysis.sample import weighted_percentiles
from cryosphere.records import Structure

# An axis is not stated of motions that turn by less, degrees.
_LEAST_ANGLE = 1.0
# Places where the chain crosses into another segment that are named, nearest to the axis first.
_MOST_HINGES = 4


@dataclass(frozen=True)
class Hinge:
    """A place where a chain passes from the segment to another one: rows of the two residues, and how far (Å) the
    middle between them is from the axis."""

    rows: tuple[int, int]
    distance: float


@dataclass(frozen=True)
class SegmentMotion:
    """How one segment moves as a whole over the ensemble, seen from the reference segment (the reference itself: from
    the map).

    Ranges are between the 5th and the 95th percentile: of the rotation about the main axis, of the translation along
    it, and of the centre along its main direction; NaN where the segment has too few residues (3, and 1).
    ``rotation_axis`` and ``hinge_point``, the point on the axis nearest to where the chain crosses over (Å, model
    frame), are NaN where it turns by less than a degree.
    """

    n_residues: int
    angle_range_deg: float
    rotation_axis: Float[np.ndarray, " 3"]
    screw_range: float
    translation_range: float
    translation_direction: Float[np.ndarray, " 3"]
    hinge_point: Float[np.ndarray, " 3"]
    hinges: tuple[Hinge, ...]


def segment_motions(ensemble: Ensemble, n_segments: int) -> list[SegmentMotion]:
    """Describe the motion of every segment of a run (0 … ``n_segments`` - 1)."""
    labels, structure = ensemble.labels, ensemble.run.structure
    parts = dict(zip(ensemble.motions.part_names, ensemble.bodies, strict=True))
    motions = {segment: parts[f"s{segment + 1}"] for segment in np.unique(labels[labels >= 0]).tolist()}
    found = []
    for segment in range(n_segments):
        if segment not in motions:
            found.append(_nothing(0))
            continue
        motion, others = motions[segment], labels != segment
        if ensemble.reference is not None and segment != ensemble.reference:
            motion = motion.seen_from(motions[ensemble.reference])
            if _crossings(structure, labels, segment, labels == ensemble.reference):
                others = labels == ensemble.reference
        found.append(_describe(motion, ensemble.sample.weights, structure, labels, segment, others & (labels >= 0)))
    return found


def _nothing(n_residues: int) -> SegmentMotion:
    unknown = np.full(3, np.nan)
    return SegmentMotion(n_residues, np.nan, unknown, np.nan, np.nan, unknown, unknown, ())


def _describe(
    motion: RigidMotions,
    weights: Float[np.ndarray, " conformation"],
    structure: Structure,
    labels: Int[np.ndarray, " residue"],
    segment: int,
    others: np.ndarray,
) -> SegmentMotion:
    rows = np.flatnonzero(labels == segment)
    centre = structure.residue_positions[rows].astype(np.float64).mean(0)
    shift, direction = main_range(motion.apply(centre), weights)
    angle = screw = np.nan
    axis = point = np.full(3, np.nan)
    hinges: tuple[Hinge, ...] = ()
    if len(rows) >= POINTS_FOR_ROTATION:
        fitted = Screw.fit(motion, weights, centre)
        angle = float(np.ptp(weighted_percentiles(np.degrees(fitted.angles(motion)), weights, RANGE_PERCENTILES)))
        screw = float(np.ptp(weighted_percentiles(fitted.translations(motion), weights, RANGE_PERCENTILES)))
        if angle >= _LEAST_ANGLE:
            axis = fitted.axis
            hinges, near = _hinges(fitted, structure, labels, segment, others)
            point = fitted.point + axis * ((near - fitted.point) @ axis)
    return SegmentMotion(len(rows), angle, axis, screw, shift, direction, point, hinges)


def main_range(
    vectors: Float[np.ndarray, "conformation 3"], weights: Float[np.ndarray, " conformation"]
) -> tuple[float, Float[np.ndarray, " 3"]]:
    """Width between the 5th and the 95th percentile along the direction of largest variance, and that direction.

    The direction's largest entry is positive.
    """
    offset = vectors - weights @ vectors
    direction = np.linalg.eigh(np.einsum("g,gi,gj->ij", weights, offset, offset))[1][:, -1]
    direction = direction * np.where(direction[np.abs(direction).argmax()] < 0, -1, 1)
    return float(np.ptp(weighted_percentiles(offset @ direction, weights, RANGE_PERCENTILES))), direction


def _crossings(structure: Structure, labels: np.ndarray, segment: int, others: np.ndarray) -> list[tuple[int, int]]:
    """Rows of bonded residues of which one is in the segment and one among others."""
    inside = labels == segment
    crosses = structure.bonded & ((inside[:-1] & others[1:]) | (others[:-1] & inside[1:]))
    return [(int(row), int(row) + 1) for row in np.flatnonzero(crosses)]


def _hinges(
    screw: Screw, structure: Structure, labels: np.ndarray, segment: int, others: np.ndarray
) -> tuple[tuple[Hinge, ...], Float[np.ndarray, " 3"]]:
    """Crossings by their distance from the axis, and the place that the axis' point shall be near to: the nearest
    crossing, or the middle of the segment where its chain does not cross."""
    positions = structure.residue_positions.astype(np.float64)
    crossings = _crossings(structure, labels, segment, others)
    if not crossings:
        return (), positions[labels == segment].mean(0)
    middles = np.array([positions[list(rows)].mean(0) for rows in crossings])
    distance = np.linalg.norm(np.cross(middles - screw.point, screw.axis), axis=1)
    order = np.argsort(distance, kind="stable")[:_MOST_HINGES]
    return tuple(Hinge(crossings[i], float(distance[i])) for i in order), middles[order[0]]
