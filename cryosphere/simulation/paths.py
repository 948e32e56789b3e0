"""Conformations along a path between two structures of one molecule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryosphere.errors import ConfigError
from cryosphere.io.ligands import LigandChoice
from cryosphere.records import Structure
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.frames import rmsd, superposition, trace_frames
from cryosphere.simulation.matching import atoms_of_residues, match_residues, select_residues, take_residues
from cryosphere.simulation.trace_interpolation import TraceInterpolation

_SPACING_ROUNDS = 3


@dataclass(frozen=True)
class PathGeometry:
    """What a path does to the Cα (C1′) trace, for reports and tests (Å)."""

    largest_bond_deviation: float
    closest_approach: float
    smallest_step: float
    largest_step: float
    end_to_end: float


def read_path(
    first: Path, second: Path, n_states: int = 50, align: str = "all", ligands: LigandChoice = "auto"
) -> Conformations:
    """Read two conformations, superpose the second on the first, and make the path between them.

    Parameters
    ----------
    first, second : Path
        PDB or mmCIF files.
    n_states : int
        As :func:`conformation_path`.
    align : str
        ``"all"`` (shared residues), ``"none"`` (frames as in the files), or residues of the first structure.
    ligands : str
        As :func:`cryosphere.io.structures.read_structure`.
    """
    from cryosphere.io.structures import read_structure

    start, end = (read_structure(path, ligands=ligands) for path in (first, second))
    if align == "none":
        return conformation_path(start, end, n_states)
    end, note = superpose_structure(end, start, None if align == "all" else align)
    states = conformation_path(start, end, n_states)
    return replace(states, notes=(note, *states.notes))


def superpose_structure(moving: Structure, fixed: Structure, selection: str | None = None) -> tuple[Structure, str]:
    """Superpose a structure on another by the residues that they share.

    Parameters
    ----------
    moving, fixed : Structure
        Two conformations.
    selection : str, optional
        Residues of ``fixed`` to superpose on (``matching.select_residues``); all shared ones by default.

    Returns
    -------
    structure : Structure
        ``moving`` in the frame of ``fixed``.
    note : str
        What was done, with the RMSD.
    """
    rows_fixed, rows_moving, _ = match_residues(fixed, moving)
    if selection is not None:
        kept = select_residues(fixed, selection)[rows_fixed]
        if kept.sum() < 3:
            raise ConfigError(
                f"The residues to superpose on, '{selection}', are {kept.sum()} of those that both "
                "structures have: "
                "name at least three."
            )
        rows_fixed, rows_moving = rows_fixed[kept], rows_moving[kept]
    target = fixed.residue_positions[rows_fixed]
    rotmat, translation = superposition(moving.residue_positions[rows_moving], target)

    def move(points):
        return points @ rotmat.T + translation

    moved = replace(
        moving,
        residue_positions=move(moving.residue_positions),
        atoms=replace(moving.atoms, positions=move(moving.atoms.positions)),
    )
    left = float(rmsd(moved.residue_positions[rows_moving], target))
    return (
        moved,
        f"{moving.source} was superposed on {fixed.source} by {len(rows_fixed)} residues (RMSD {left:.2f} Å).",
    )


def conformation_path(first: Structure, second: Structure, n_states: int = 50) -> Conformations:
    """Make a path between two conformations that keeps Cα–Cα distances.

    Parameters
    ----------
    first, second : Structure
        Two conformations of one molecule in one frame; residues are matched by chain, number and name.
    n_states : int
        Number of states, both ends included, evenly spaced in RMSD.

    Returns
    -------
    Conformations
        The first and last state are the two structures, over the residues that they share. Consecutive Cα–Cα
        (C1′) distances are interpolated between those of the ends. Atoms keep their place in their residue's
        local frame, interpolated between the ends; atoms that only the first structure has keep their place
        in the frame.
    """
    if n_states < 2:
        raise ConfigError(f"--states is {n_states}: at least 2 are needed.")
    rows_first, rows_second, notes = match_residues(first, second)
    shared = take_residues(first, rows_first, atoms_of_residues(first, rows_first))
    other = take_residues(second, rows_second, atoms_of_residues(second, rows_second))
    shared = replace(shared, bonded=shared.bonded & other.bonded)
    residues = trace_path(shared.residue_positions, other.residue_positions, shared.bonded, n_states)
    atoms, n_single = _carry_atoms(shared, other, residues)
    if n_single:
        notes = (
            *notes,
            f"{n_single} atoms of {first.source} are not in {second.source}; they keep their local place.",
        )
    moved = float(rmsd(residues[0], residues[-1]))
    description = f"path of {n_states} states from {first.source} to {second.source}, {moved:.2f} Å apart"
    return Conformations(shared, residues, atoms, description, notes=notes)


def trace_path(
    first: Float[np.ndarray, "residue 3"],
    second: Float[np.ndarray, "residue 3"],
    bonded: Bool[np.ndarray, " bond"],
    n_states: int,
) -> Float[np.ndarray, "state residue 3"]:
    """Interpolate a Cα trace in ``n_states`` states evenly spaced in RMSD; the ends are exact."""
    interpolation = TraceInterpolation(first, second, bonded)
    fine = np.linspace(0, 1, max(101, 2 * n_states))
    fractions = _even_fractions(fine, np.stack([interpolation.guess(f) for f in fine]), n_states)
    for _ in range(_SPACING_ROUNDS):
        inner = [interpolation.refine(interpolation.guess(f), f) for f in fractions[1:-1]]
        states = np.stack([first, *inner, second])
        steps = rmsd(states[1:], states[:-1])
        if steps.max() <= 1.005 * steps.min():
            break
        fractions = _even_fractions(fractions, states, n_states)
    return states


def _even_fractions(fractions, states, n_states) -> Float[np.ndarray, " state"]:
    """Fractions at which the arc length along given states is evenly divided."""
    length = np.concatenate([[0], np.cumsum(rmsd(states[1:], states[:-1]))])
    if length[-1] == 0:
        return np.linspace(0, 1, n_states)
    even = np.interp(np.linspace(0, length[-1], n_states), length, fractions)
    even[0], even[-1] = 0.0, 1.0
    return even


def path_geometry(states: Float[np.ndarray, "state residue 3"], bonded: Bool[np.ndarray, " bond"]) -> PathGeometry:
    """Measure a path: bond deviation from the straight interpolation of the ends', clashes, evenness."""
    bonds = np.linalg.norm(np.diff(states, axis=1), axis=-1)[:, bonded]
    low, high = np.minimum(bonds[0], bonds[-1]), np.maximum(bonds[0], bonds[-1])
    deviation = np.maximum(low - bonds, bonds - high).max(initial=0.0)
    closest = np.inf
    for state in states:
        pairs = cKDTree(state).query_pairs(8.0, output_type="ndarray")
        pairs = pairs[pairs[:, 1] - pairs[:, 0] > 2]
        distances = np.linalg.norm(state[pairs[:, 0]] - state[pairs[:, 1]], axis=1)
        closest = min(closest, distances.min(initial=np.inf))
    steps = rmsd(states[1:], states[:-1])
    return PathGeometry(
        float(deviation),
        float(closest),
        float(steps.min()),
        float(steps.max()),
        float(rmsd(states[0], states[-1])),
    )


def _matching_atoms(first: Structure, second: Structure) -> Int[np.ndarray, " atom"]:
    """Row in the second structure of every atom of the first, -1 where there is none."""
    where = {
        (int(residue), str(name)): row
        for row, (residue, name) in enumerate(zip(second.atoms.residue_index, second.atoms.names, strict=True))
    }
    keys = zip(first.atoms.residue_index, first.atoms.names, strict=True)
    return np.array([where.get((int(residue), str(name)), -1) for residue, name in keys])


def _carry_atoms(
    first: Structure, second: Structure, residues: Float[np.ndarray, "state residue 3"]
) -> tuple[Float[np.ndarray, "state atom 3"], int]:
    """Place atoms in every state by their residue's frame; count those that the second structure lacks."""
    frames = _residue_frames(first, second, residues)
    partner = _matching_atoms(first, second)
    owner = first.atoms.residue_index
    local_first = np.einsum("aji,aj->ai", frames[0, owner], first.atoms.positions - residues[0, owner])
    other = np.where((partner >= 0)[:, None], second.atoms.positions[partner], 0.0)
    local_second = np.einsum("aji,aj->ai", frames[-1, owner], other - residues[-1, owner])
    local_second = np.where((partner >= 0)[:, None], local_second, local_first)
    fraction = np.linspace(0, 1, len(residues))[:, None, None]
    local = (1 - fraction) * local_first + fraction * local_second
    return np.einsum("saij,saj->sai", frames[:, owner], local) + residues[:, owner], int((partner < 0).sum())


def _residue_frames(
    first: Structure, second: Structure, residues: Float[np.ndarray, "state residue 3"]
) -> Float[np.ndarray, "state residue 3 3"]:
    """Frames by the chain's trace; in too short a stretch a residue turns as its own atoms do."""
    frames, defined = trace_frames(residues, first.bonded)
    partner = _matching_atoms(first, second)
    fraction = np.linspace(0, 1, len(residues))[:, None]
    for residue in np.flatnonzero(~defined):
        rows = np.flatnonzero((first.atoms.residue_index == residue) & (partner >= 0))
        if len(rows) < 3:
            continue
        rotmat, _ = superposition(first.atoms.positions[rows], second.atoms.positions[partner[rows]])
        rotvec = Rotation.from_matrix(rotmat).as_rotvec()
        frames[:, residue] = Rotation.from_rotvec(fraction * rotvec).as_matrix()
    return frames
