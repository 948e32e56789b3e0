"""Motions that users name, such as ``angle(s2)`` or ``distance("A:1-120", "A:150-214")``, measured in degrees and Å."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis.bodies import POINTS_FOR_ROTATION, RigidMotions, Screw, fit_bodies
from cryosphere.errors import ConfigError, InputError
from cryosphere.records import Structure
from cryosphere.simulation.matching import select_residues

# What is measured, of how many parts, in which unit, and what it is.
KINDS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "angle": ((1, 2, 3), "deg", "rotation about the main axis"),
    "screw": ((1, 2), "Å", "translation along the axis of rotation"),
    "shift": ((1, 2), "Å", "of the centre from its nominal place"),
    "distance": ((2,), "Å", "between the centres of two parts"),
    "dihedral": ((4,), "deg", "of the centres of four parts, about the line between the middle two"),
}
_EXAMPLES = (
    'angle(s2), angle("A:1-29", "A:60-120"), screw(s2), shift(s2), distance(s1, "B:12"), dihedral(s1, s2, s3, s4)'
)


@dataclass(frozen=True)
class MotionName:
    """A motion as it is written: what is measured, and the parts it is measured of (``s2`` or residues)."""

    kind: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> MotionName:
        """Read such a name.

        Raises
        ------
        InputError
            It is none; the message says what can be written.
        """
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            node = None
        parts = []
        match node:
            case ast.Call(func=ast.Name(id=kind), args=arguments, keywords=[]) if kind in KINDS:
                for argument in arguments:
                    match argument:
                        case ast.Name(id=part) | ast.Constant(value=str(part)) if part.strip():
                            parts.append(part.replace(" ", ""))
                if len(parts) == len(arguments) and len(parts) in KINDS[kind][0]:
                    return cls(kind, tuple(parts))
        raise InputError(f"{text!r} is no motion; write for example {_EXAMPLES}.")

    def __str__(self) -> str:
        parts = (part if _segment_number(part) else f'"{part}"' for part in self.parts)
        return f"{self.kind}({','.join(parts)})"

    @property
    def unit(self) -> str:
        """``deg`` or ``Å``."""
        return KINDS[self.kind][1]


@dataclass(frozen=True)
class Motion:
    """A motion that can be measured of conformations; ``bodies`` are its parts' numbers in a :class:`Motions`.

    ``screw`` describes the ensemble where the motion is one about an axis; ``middle`` is the angle (deg) that values
    of angles are kept within 180° of.
    """

    name: MotionName
    bodies: tuple[int, ...]
    screw: Screw | None = None
    middle: float = 0.0

    @property
    def is_relative(self) -> bool:
        """Whether it is the motion of one part seen from another."""
        return self.name.kind in ("screw", "shift") or (self.name.kind == "angle" and len(self.bodies) < 3)

    def values(self, bodies: Sequence[RigidMotions], centres: Float[np.ndarray, "body 3"]) -> np.ndarray:
        """Value in every conformation, degrees or Å."""
        if self.is_relative:
            moved = self.relative(bodies)
            if self.name.kind == "shift":
                return np.linalg.norm(moved.apply(centres[self.bodies[0]]) - centres[self.bodies[0]], axis=-1)
            if self.name.kind == "screw":
                return self.screw.translations(moved)
            return np.degrees(self.screw.angles(moved))
        points = [bodies[body].apply(centres[body]) for body in self.bodies]
        if self.name.kind == "distance":
            return np.linalg.norm(points[1] - points[0], axis=-1)
        if self.name.kind == "angle":
            one, other = points[0] - points[1], points[2] - points[1]
            sine = np.linalg.norm(np.cross(one, other), axis=-1)
            return np.degrees(np.arctan2(sine, (one * other).sum(-1)))
        turn = dihedral_angles(*points)
        return self.middle + np.remainder(turn - self.middle + 180, 360) - 180

    def relative(self, bodies: Sequence[RigidMotions]) -> RigidMotions:
        """Motion of the first part, seen from the second where there is one."""
        moved = bodies[self.bodies[0]]
        return moved.seen_from(bodies[self.bodies[1]]) if len(self.bodies) == 2 else moved

    def description(self, part_names: Sequence[str]) -> str:
        """What it is, for people."""
        words = KINDS[self.name.kind][2]
        if self.name.kind == "angle" and len(self.bodies) == 3:
            words = "at the centre of the second part, between those of the others"
        parts = ", ".join(self.name.parts)
        if not self.is_relative:
            return f"{words}: {parts}"
        seen_from = part_names[self.bodies[1]] if len(self.bodies) == 2 else "the map"
        return f"{words}: {self.name.parts[0]} from {seen_from}"

    @property
    def is_circular(self) -> bool:
        """Whether it is an angle that goes on at its other end: a rotation about an axis, or a dihedral."""
        return self.name.kind == "dihedral" or (self.name.kind == "angle" and self.is_relative)

    def fitted(
        self,
        bodies: Sequence[RigidMotions],
        centres: Float[np.ndarray, "body 3"],
        weights: Float[np.ndarray, " conformation"],
    ) -> Motion:
        """This motion with what the ensemble decides: its axis, or the angle that values are counted about."""
        if self.is_relative and self.name.kind != "shift":
            screw = Screw.fit(self.relative(bodies), weights, centres[self.bodies[0]])
            return replace(self, screw=screw, middle=float(np.degrees(screw.angles(screw.mean_motions)[0])))
        if self.name.kind == "dihedral":
            turns = np.radians(dihedral_angles(*(bodies[body].apply(centres[body]) for body in self.bodies)))
            middle = np.arctan2(weights @ np.sin(turns), weights @ np.cos(turns))
            return replace(self, middle=float(np.degrees(middle)))
        return self


def dihedral_angles(*points: Float[np.ndarray, "conformation 3"]) -> Float[np.ndarray, " conformation"]:
    """Dihedral angle (deg) of four points, IUPAC sign."""
    first, axis, last = points[1] - points[0], points[2] - points[1], points[3] - points[2]
    left, right = np.cross(first, axis), np.cross(axis, last)
    sine = (np.cross(left, right) * axis).sum(-1) / np.linalg.norm(axis, axis=-1)
    return np.degrees(np.arctan2(sine, (left * right).sum(-1)))


def _segment_number(part: str) -> int | None:
    """Number (from 1) of the segment that a part is, if it is one."""
    return int(part[1:]) if re.fullmatch(r"s[1-9]\d*", part) else None


class Motions:
    """Motions of one structure, measured together: every part, the segments among them, is superposed once.

    Parameters
    ----------
    names : sequence of MotionName
    structure : Structure
    labels : int array of shape (residue,)
        Segment (from 0) of every residue, -1 for none.
    reference : int, optional
        Segment (from 0) that motions of a single part are seen from; without one, the map's frame.

    Raises
    ------
    InputError
        A part does not exist, is too small for an angle, or is the one that it is seen from.
    """

    def __init__(
        self,
        names: Sequence[MotionName],
        structure: Structure,
        labels: Int[np.ndarray, " residue"],
        reference: int | None = None,
    ) -> None:
        self._structure, self._labels, self._reference = structure, labels, reference
        self.nominal = structure.residue_positions.astype(np.float64)
        present = np.unique(labels[labels >= 0]).tolist()
        self.part_names = [f"s{segment + 1}" for segment in present]
        self.rows = [np.flatnonzero(labels == segment) for segment in present]
        self.motions = [self._resolve(name) for name in names]
        self.centres = np.array([self.nominal[rows].mean(0) for rows in self.rows]).reshape(-1, 3)

    def _resolve(self, name: MotionName) -> Motion:
        bodies = [self._body(part, name) for part in name.parts]
        turns = name.kind == "screw" or (name.kind == "angle" and len(bodies) < 3)
        if len(bodies) == 1 and self._reference is not None:
            reference = self._body(f"s{self._reference + 1}", name)
            bodies += [reference] if reference != bodies[0] else []
        small = [part for part in bodies if turns and len(self.rows[part]) < POINTS_FOR_ROTATION]
        if small:
            raise InputError(
                f"{name}: {self.part_names[small[0]]} has {len(self.rows[small[0]])} residues, and no orientation; "
                f"an angle needs parts of {POINTS_FOR_ROTATION} or more."
            )
        if len(set(bodies)) < len(bodies):
            raise InputError(f"{name}: the same part stands in it twice; give different ones.")
        return Motion(name, tuple(bodies))

    def _body(self, part: str, name: MotionName) -> int:
        if part in self.part_names:
            return self.part_names.index(part)
        segments = f"s1 to s{int(self._labels.max(initial=-1)) + 1}"
        if _segment_number(part):
            raise InputError(f"{name}: there is no segment {part}; the run has {segments}.")
        try:
            rows = np.flatnonzero(select_residues(self._structure, part))
        except ConfigError as error:
            raise InputError(f"{name}: {error} Segments are written {segments}.") from None
        self.part_names.append(part)
        self.rows.append(rows)
        return len(self.rows) - 1

    def bodies(self, positions: Float[np.ndarray, "conformation residue 3"]) -> list[RigidMotions]:
        """Rigid motion of every part in conformations (Å, model frame)."""
        return fit_bodies(positions, self.nominal, self.rows)

    def fit(self, bodies: Sequence[RigidMotions], weights: Float[np.ndarray, " conformation"]) -> None:
        """Let a weighted ensemble decide on the axes."""
        self.motions = [motion.fitted(bodies, self.centres, weights) for motion in self.motions]

    def measure(self, bodies: Sequence[RigidMotions]) -> Float[np.ndarray, "conformation motion"]:
        """Values of all motions, degrees or Å; :meth:`fit` comes first."""
        values = [motion.values(bodies, self.centres) for motion in self.motions]
        return np.stack(values, axis=1) if values else np.zeros((len(bodies[0].rotmat), 0))
