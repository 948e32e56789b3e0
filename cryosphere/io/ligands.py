"""Ligands, sugars and ions: which are kept, and how they become Gaussians of about ten atoms each."""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

import gemmi
import numpy as np
from jaxtyping import Bool, Float

from cryosphere.io.hydrogens import bonds_between, count_hydrogens

LigandChoice = Literal["auto", "all", "none"]

# What crystallisation, purification and cryo-protection leave behind, and ions that bind weakly.
BUFFER_NAMES = frozenset(
    "1PE 2PE 7PE 12P 15P ACT ACY AZI BCT BME BO3 BR CIT CL CO3 DIO DMS DTT DTU DTV EDO EOH EPE ETX F FLC FMT GOL HED "
    "IMD IOD IPA K LI MES MLI MOH MPD MPO MRD NA NH4 NHE NO3 OXL P6G PDO PE3 PE4 PE8 PEG PG0 PG4 PG5 PG6 PGE PGO PO4 "
    "CS RB SCN SO3 SO4 SUL TAR TCE TLA TRS UNX XPE ARS CAC CO2 CYN NH3 OXY PER PEU".split()
)
# Sugars that gemmi's table does not know as such; with the others they stay in one piece.
_SUGAR_NAMES = frozenset("A2G BDP BGC BM3 FUL GCU GLA GLC GUP IDR IDS NDG NGA NGC SGN SIA SLB UAP XYP XYS".split())
_SUGAR_KINDS = (gemmi.ResidueKind.PYR, gemmi.ResidueKind.KET)
# Smaller molecules than this (heavy atoms) have fewer electrons than glycine.
_LEAST_ATOMS = 4
# Ligands up to this many heavy atoms are one Gaussian; larger ones are divided into groups of at most this many.
_WHOLE_ATOMS, _GROUP_ATOMS = 12, 10
# Atomic masses in a file and in the dictionary agree this well (Da) if no atom is missing.
_MASS_TOLERANCE = 0.5
_HYDROGEN_MASS = gemmi.Element("H").weight


class LigandGroup(NamedTuple):
    """Some atoms of a ligand that share a Gaussian, as rows of the ligand's heavy atoms; the middle one; electrons."""

    rows: list[int]
    anchor: int
    electrons: float


def is_kept(residue: gemmi.Residue, heavy: list[gemmi.Atom], choice: LigandChoice) -> bool:
    """Whether a ligand becomes Gaussians.

    ``auto`` keeps metal ions (but the alkali metals, which bind weakly) and molecules of at least 4 heavy atoms that
    are no usual part of buffers; ``all`` keeps whatever has a heavy atom.
    """
    if choice == "none" or not heavy:
        return False
    if choice == "all":
        return True
    if residue.name in BUFFER_NAMES:
        return False
    return len(heavy) >= _LEAST_ATOMS or any(atom.element.is_metal for atom in heavy)


def ligand_groups(
    residue: gemmi.Residue,
    heavy: list[gemmi.Atom],
    hydrogens: list[gemmi.Atom],
    outside: list[gemmi.Atom],
    partitions: dict[tuple, list[list[int]]],
) -> list[LigandGroup]:
    """Divide a ligand into groups, with their electrons.

    Parameters
    ----------
    residue : gemmi.Residue
    heavy, hydrogens : lists of gemmi.Atom
        Of one conformer.
    outside : list of gemmi.Atom
        Heavy atoms of other residues that may be bonded to it.
    partitions : dict
        Of ligands seen before; equal ligands are divided alike, in all models of a file and whatever their order.
    """
    order = sorted(range(len(heavy)), key=lambda row: (heavy[row].name, row))
    atoms = [heavy[row] for row in order]
    key = (residue.name, *(atom.name for atom in atoms))
    if key not in partitions:
        partitions[key] = _partition(residue, atoms)
    electrons = np.array([float(atom.element.atomic_number) for atom in atoms])
    electrons += _hydrogen_electrons(residue, atoms, hydrogens, outside)
    groups = []
    for members in partitions[key]:
        rows = [order[member] for member in members]
        groups.append(LigandGroup(sorted(rows), rows[0], float(electrons[members].sum())))
    return groups


def _positions(atoms: list[gemmi.Atom]) -> Float[np.ndarray, "atom 3"]:
    return np.array([atom.pos.tolist() for atom in atoms]).reshape(-1, 3)


def _partition(residue: gemmi.Residue, atoms: list[gemmi.Atom]) -> list[list[int]]:
    """Groups of atoms (sorted by name), each with its middle atom first, in the order of their first atoms."""
    bonded = bonds_between([atom.element for atom in atoms], _positions(atoms))
    everything = list(range(len(atoms)))
    is_sugar = (
        residue.entity_type == gemmi.EntityType.Branched
        or gemmi.find_tabulated_residue(residue.name).kind in _SUGAR_KINDS
        or residue.name in _SUGAR_NAMES
    )
    n_groups = 1 if is_sugar or len(atoms) <= _WHOLE_ATOMS else -(-len(atoms) // _GROUP_ATOMS)
    groups = sorted(sorted(group) for group in _split(everything, bonded, n_groups))
    return [_middle_first(group, bonded) for group in groups]


def _split(rows: list[int], bonded: Bool[np.ndarray, "atom atom"], n_groups: int) -> list[list[int]]:
    """Cut off atoms from an end of the molecule, level by level of its bonds, until all parts are small."""
    if n_groups == 1:
        return [rows]
    end = _by_bonds(rows, rows[0], bonded)[-1]
    order = _by_bonds(rows, end, bonded)
    first = n_groups // 2
    count = round(len(rows) * first / n_groups)
    return [*_split(sorted(order[:count]), bonded, first), *_split(sorted(order[count:]), bonded, n_groups - first)]


def _by_bonds(rows: list[int], start: int, bonded: Bool[np.ndarray, "atom atom"]) -> list[int]:
    """Atoms by their distance in bonds from one of them; unconnected pieces follow."""
    waiting, left, order = deque([start]), set(rows) - {start}, []
    while waiting:
        atom = waiting.popleft()
        order.append(atom)
        near = sorted(other for other in left if bonded[atom, other])
        if not near and not waiting and left:
            near = [min(left)]
        waiting.extend(near)
        left.difference_update(near)
    return order


def _middle_first(group: list[int], bonded: Bool[np.ndarray, "atom atom"]) -> list[int]:
    """The atom from which the others are the fewest bonds away, then the others."""

    def reach(atom: int) -> int:
        depth, seen, edge = 0, {atom}, {atom}
        total = 0
        while edge:
            depth += 1
            edge = {other for here in edge for other in group if bonded[here, other]} - seen
            seen |= edge
            total += depth * len(edge)
        return total + len(group) * (len(group) - len(seen))

    middle = min(group, key=lambda atom: (reach(atom), atom))
    return [middle, *(atom for atom in group if atom != middle)]


def _hydrogen_electrons(
    residue: gemmi.Residue, atoms: list[gemmi.Atom], hydrogens: list[gemmi.Atom], outside: list[gemmi.Atom]
) -> Float[np.ndarray, " atom"]:
    """Electrons of the hydrogens on every heavy atom of the neutral molecule, which a lost proton leaves behind.

    As many as the dictionary has if no heavy atom is missing, else as estimated, or as in the file if that has more.
    """
    positions = _positions(atoms)
    elements = [atom.element for atom in (*atoms, *outside)]
    counts = count_hydrogens(elements, np.concatenate([positions, _positions(outside)]), len(atoms)).astype(float)
    info = gemmi.find_tabulated_residue(residue.name)
    mass = sum(atom.element.weight for atom in atoms)
    is_whole = info.found() and abs(info.weight - info.hydrogen_count * _HYDROGEN_MASS - mass) < _MASS_TOLERANCE
    if is_whole and counts.sum() > 0:
        counts *= info.hydrogen_count / counts.sum()
    if len(hydrogens) > counts.sum():
        apart = np.linalg.norm(_positions(hydrogens)[:, None] - positions[None], axis=-1)
        return np.bincount(apart.argmin(1), minlength=len(atoms)).astype(float)
    return counts
