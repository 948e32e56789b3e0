"""Conformations by rigid turns of parts of a structure about axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from cryosphere.errors import ConfigError
from cryosphere.records import Structure
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.matching import select_residues
from cryosphere.structure.ligands import find_hosts


@dataclass(frozen=True)
class Hinge:
    """A part that turns rigidly.

    Attributes
    ----------
    moving : str
        Residues that turn, as ``matching.select_residues`` reads them.
    angles : tuple of float
        Smallest and largest angle in radians, right-handed about the axis; 0 is the structure as read.
    axis : array of shape (3,)
        Direction of the axis.
    point : array of shape (3,)
        A point on the axis, Å, in the frame of the structure.
    """

    moving: str
    angles: tuple[float, float]
    axis: Float[np.ndarray, " 3"]
    point: Float[np.ndarray, " 3"]


def read_hinges(
    path: Path,
    moving: Sequence[str],
    angles: Sequence[tuple[float, float]],
    axis_residues: Sequence[tuple[str, str]] = (),
    axes: Sequence[tuple[float, float, float]] = (),
    points: Sequence[tuple[float, float, float]] = (),
    n_states: int = 61,
    seed: int = 0,
) -> Conformations:
    """Read a structure and turn parts of it; ``moving``, ``angles`` (radians) and an axis for each hinge.

    The axes are all through residues (``axis_residues``), or all given by direction and point (``axes``,
    ``points``).
    """
    from cryosphere.io.structures import read_structure

    structure = read_structure(path)
    if bool(axis_residues) == bool(axes):
        raise ConfigError("A hinge needs one axis: two residues (--axis-residues) or a direction (--axis) and --point.")
    if axis_residues:
        lines = [axis_through_residues(structure, *pair) for pair in axis_residues]
    elif len(axes) != len(points):
        raise ConfigError(f"There are {len(axes)} axis directions and {len(points)} points: each axis needs a point.")
    else:
        lines = [(np.array(axis), np.array(point)) for axis, point in zip(axes, points, strict=True)]
    if not len(moving) == len(angles) == len(lines):
        raise ConfigError(
            f"There are {len(moving)} moving parts, {len(angles)} angle ranges and {len(lines)} axes: each "
            "hinge needs "
            "one of each."
        )
    hinges = [Hinge(part, turn, *line) for part, turn, line in zip(moving, angles, lines, strict=True)]
    return hinge_conformations(structure, hinges, n_states, seed)


def axis_through_residues(
    structure: Structure, first: str, second: str
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Give the (direction, point) of the line through two residues' Cα (C1′), each named like ``A:121``."""
    points = []
    for name in (first, second):
        rows = np.flatnonzero(select_residues(structure, name))
        if len(rows) != 1:
            raise ConfigError(
                f"The axis residue '{name}' means {len(rows)} residues of {structure.source}: name one, like A:121."
            )
        points.append(structure.residue_positions[rows[0]])
    direction = points[1] - points[0]
    if np.linalg.norm(direction) == 0:
        raise ConfigError(f"The axis residues '{first}' and '{second}' are at one point: name two residues apart.")
    return direction, points[0]


def _check(hinge: Hinge, structure: Structure, moving: Bool[np.ndarray, " residue"]) -> None:
    if np.linalg.norm(hinge.axis) == 0:
        raise ConfigError("The hinge axis has length 0: give a direction such as 0 0 1.")
    if moving.all():
        raise ConfigError(
            f"The residues '{hinge.moving}' are all of {structure.source}: a hinge needs residues that stay."
        )
    if hinge.angles[0] >= hinge.angles[1]:
        low, high = np.degrees(hinge.angles)
        raise ConfigError(f"The hinge angles run from {low:g}° to {high:g}°: give the smaller one first.")


def hinge_angles(hinges: list[Hinge], n_states: int, seed: int) -> Float[np.ndarray, "state hinge"]:
    """Angles of every state in radians: evenly spaced for one hinge, uniform random draws for several."""
    if len(hinges) == 1:
        return np.linspace(*hinges[0].angles, n_states)[:, None]
    low, high = np.array([hinge.angles for hinge in hinges]).T
    return np.random.default_rng(seed).uniform(low, high, (n_states, len(hinges)))


def hinge_conformations(structure: Structure, hinges: list[Hinge], n_states: int = 61, seed: int = 0) -> Conformations:
    """Turn parts of a structure rigidly.

    Parameters
    ----------
    structure : Structure
        As read.
    hinges : list of Hinge
        Applied one after the other, each about its axis in the frame of the structure as read.
    n_states : int
        Number of states; one hinge runs through its angles evenly, several are drawn independently and
        uniformly.
    seed : int
        Of those draws.

    Returns
    -------
    Conformations
        ``bodies`` are the residues that each combination of hinges moves; ligands move with what they touch.

    Raises
    ------
    ConfigError
        If a hinge moves no residue or all, or its residues, axis or angles make no sense.
    """
    if n_states < 2:
        raise ConfigError(f"--states is {n_states}: at least 2 are needed.")
    moving = np.array([select_residues(structure, hinge.moving) for hinge in hinges])
    moving |= moving[:, find_hosts(structure)]
    for hinge, rows in zip(hinges, moving, strict=True):
        _check(hinge, structure, rows)
    angles = hinge_angles(hinges, n_states, seed)
    residues = np.repeat(structure.residue_positions[None], n_states, axis=0)
    atoms = np.repeat(structure.atoms.positions[None], n_states, axis=0)
    for column, (hinge, rows) in enumerate(zip(hinges, moving, strict=True)):
        axis = hinge.axis / np.linalg.norm(hinge.axis)
        rotmat = Rotation.from_rotvec(angles[:, column, None] * axis).as_matrix()
        residues[:, rows] = _turn(residues[:, rows], rotmat, hinge.point)
        atom_rows = rows[structure.atoms.residue_index]
        atoms[:, atom_rows] = _turn(atoms[:, atom_rows], rotmat, hinge.point)
    signatures = np.unique(moving.T, axis=0)
    bodies = tuple(np.flatnonzero((moving.T == signature).all(1)) for signature in signatures)
    parts = "; ".join(
        f"{hinge.moving} turns from {np.degrees(hinge.angles[0]):g}° to {np.degrees(hinge.angles[1]):g}°"
        for hinge in hinges
    )
    return Conformations(structure, residues, atoms, f"hinge of {structure.source}: {parts}", bodies)


def _turn(points, rotmat, centre):
    return np.einsum("sij,saj->sai", rotmat, points - centre) + centre
