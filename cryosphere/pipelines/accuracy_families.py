"""Molecules of the accuracy benchmark and how they move."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryosphere.errors import InputError
from cryosphere.io.structures import read_structure
from cryosphere.records import Structure
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.hinges import Hinge, hinge_conformations
from cryosphere.simulation.matching import match_residues
from cryosphere.simulation.paths import read_path
from cryosphere.simulation.shipped_data import shipped_path

# Hinges of PDB 1IGY, in the frame of its file. The first Fab (chain A, heavy chain B to the hinge) turns about Cα of
# B:236 and an axis across the plane of Fab and Fc; the second about that axis brought over by superposing the first
# Fab on it (RMSD 0.53 Å) and Cα of D:236. On its full turn the first Fab sweeps a cone about an axis that is 15° off
# the line from the hinge to its centre, so chosen among the directions at that angle that the Fab keeps farthest
# from the rest (4 residues at most come nearer than 4 Å); half a turn moves residues by 20.9 Å (RMSD).
_FIRST_FAB, _FIRST_POINT = "A,B:2-236", (5.653, -3.746, 39.385)
_SECOND_FAB, _SECOND_POINT = "C,D:2-236", (0.558, -7.220, 45.808)
_FIRST_AXIS, _SECOND_AXIS, _TURN_AXIS = (0.0, -0.794, 0.608), (-0.220, -0.853, -0.473), (0.029, -0.563, -0.826)
_FRAME_TOLERANCE_A = 0.1


@dataclass(frozen=True)
class Inputs:
    """Structures that do not come with the package, where the user has them.

    Attributes
    ----------
    igg : Path, optional
        PDB 1IGY, an intact antibody.
    atpase : pair of Path, optional
        Two conformations of the P-type ATPase P54708.
    """

    igg: Path | None = None
    atpase: tuple[Path, Path] | None = None


def check_inputs(inputs: Inputs) -> None:
    """Read the structures that are given.

    Raises
    ------
    InputError
        One cannot be read, or is not the one that the cells are made for.
    """
    if inputs.igg is not None:
        _read_igg(inputs)
    if inputs.atpase is not None:
        match_residues(*(read_structure(path, ligands="none") for path in inputs.atpase))


@dataclass(frozen=True, kw_only=True)
class Family:
    """States of one molecule, the input that they need, and the pixel size (Å) for each size of the benchmark."""

    make: Callable[[Inputs], Conformations]
    needs: str | None = None
    pixel_size: Mapping[str, float]


def _adk(n_states: int) -> Conformations:
    return read_path(shipped_path("adk/closed.cif"), shipped_path("adk/open.cif"), n_states, align="none")


def _adk_closed(inputs: Inputs) -> Conformations:
    """One state."""
    states = _adk(2)
    return replace(
        states,
        residue_positions=states.residue_positions[:1],
        atom_positions=states.atom_positions[:1],
        description="adenylate kinase, closed; nothing moves",
        notes=(),
    )


def _read_igg(inputs: Inputs) -> Structure:
    """PDB 1IGY, refused if the hinges' points are not where they are in its file."""
    structure = read_structure(inputs.igg, ligands="none")
    for chain, point in (("B", _FIRST_POINT), ("D", _SECOND_POINT)):
        row = np.flatnonzero((structure.chain_ids == chain) & (structure.residue_numbers == 236))
        found = structure.residue_positions[row]
        if len(found) != 1 or np.abs(found[0] - point).max() > _FRAME_TOLERANCE_A:
            raise InputError(
                f"{inputs.igg} does not have residue {chain}:236 where PDB 1IGY has it ({point[0]}, {point[1]}, "
                f"{point[2]} Å): give the file of PDB entry 1IGY, not moved."
            )
    return structure


def _fab(inputs: Inputs, low_deg: float, high_deg: float, n_states: int, axis=_FIRST_AXIS) -> Conformations:
    """The first Fab turned by evenly spaced angles."""
    angles = (math.radians(low_deg), math.radians(high_deg))
    hinge = Hinge(_FIRST_FAB, angles, np.array(axis), np.array(_FIRST_POINT))
    return hinge_conformations(_read_igg(inputs), [hinge], n_states)


def _fab_far(inputs: Inputs) -> Conformations:
    """Turned by -30° to 30°, and before these states one at 60° (13.9 Å from the nearest), for the nominal."""
    states, far = _fab(inputs, -30, 30, 121), _fab(inputs, 30, 60, 2)
    return replace(
        states,
        residue_positions=np.concatenate([far.residue_positions[1:], states.residue_positions]),
        atom_positions=np.concatenate([far.atom_positions[1:], states.atom_positions]),
        description=f"{states.description}; the nominal at 60°",
    )


def two_fabs(inputs: Inputs, n_angles: int = 30) -> Conformations:
    """Both Fabs turned independently by -20° to 20°, all pairs of evenly spaced angles."""
    structure = _read_igg(inputs)
    angles = (math.radians(-20), math.radians(20))
    parts = [(_FIRST_FAB, _FIRST_AXIS, _FIRST_POINT), (_SECOND_FAB, _SECOND_AXIS, _SECOND_POINT)]
    hinges = [Hinge(moving, angles, np.array(axis), np.array(point)) for moving, axis, point in parts]
    first, second = (hinge_conformations(structure, [hinge], n_angles) for hinge in hinges)

    def pairs(one: np.ndarray, other: np.ndarray, base: np.ndarray) -> np.ndarray:
        return (one[:, None] + (other - base)).reshape(-1, *base.shape)

    return Conformations(
        structure,
        pairs(first.residue_positions, second.residue_positions, structure.residue_positions),
        pairs(first.atom_positions, second.atom_positions, structure.atoms.positions),
        f"hinges of {structure.source}: {_FIRST_FAB} and {_SECOND_FAB} turn from -20° to 20°, each by itself",
        hinge_conformations(structure, hinges, 2).bodies,
    )


# What the options --igg and --atpase take.
NEEDED = {
    "igg": "PDB 1IGY",
    "atpase": "two conformations of the P-type ATPase P54708, such as 7X23_A.pdb and 8IJL_A.pdb of the package "
    "bioemu-benchmarks 0.0.2",
}
_IGG_PIXELS = {"small": 3.5, "full": 1.75}
FAMILIES = {
    "adk": Family(make=lambda inputs: _adk(61), pixel_size={"small": 1.5, "full": 0.75}),
    "adk-static": Family(make=_adk_closed, pixel_size={"small": 1.5, "full": 0.75}),
    "adk-mixture": Family(make=lambda inputs: _adk(2), pixel_size={"small": 1.5, "full": 0.75}),
    "atpase": Family(
        make=lambda inputs: read_path(*inputs.atpase, 61, ligands="none"),
        needs="atpase",
        pixel_size={"small": 3.0, "full": 1.5},
    ),
    "fab": Family(make=lambda inputs: _fab(inputs, -30, 30, 121), needs="igg", pixel_size=_IGG_PIXELS),
    "fab-turn": Family(
        make=lambda inputs: _fab(inputs, 0, 356.4, 100, _TURN_AXIS),
        needs="igg",
        pixel_size={"small": 3.5, "full": 3.0},
    ),
    "fab-far": Family(make=_fab_far, needs="igg", pixel_size=_IGG_PIXELS),
    "two-fabs": Family(make=two_fabs, needs="igg", pixel_size=_IGG_PIXELS),
}
