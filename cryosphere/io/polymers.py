"""From gemmi's atoms to our records: which residues are polymer, where their Gaussians sit, what is left out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import gemmi
import numpy as np
from jaxtyping import Bool, Float

from cryosphere.io.residues import WATER_NAMES, residue_electrons
from cryosphere.records import Atoms, Structure

# Atom that carries a residue's Gaussian; ``C1*`` is the C1′ of PDB files from before 2007.
ANCHOR_NAMES = {"protein": ("CA",), "nucleic": ("C1'", "C1*")}
# Atoms that bond a residue to the next one and to the one before.
LINK_NAMES = {"protein": (("C",), ("N",)), "nucleic": (("O3'", "O3*"), ("P",))}
# Neighbours in a chain are nearer than this (Å): Cα–Cα is 3.8 Å (cis 2.9 Å), C1′–C1′ at most about 7 Å.
NEIGHBOUR_DISTANCE = {"protein": 5.0, "nucleic": 9.0}
# A peptide bond is 1.33 Å, O3′–P is 1.6 Å.
LINK_DISTANCE = 2.0
# Residues or ligand names listed in one note.
MAX_LISTED = 5


@dataclass(frozen=True)
class PolymerResidue:
    """One residue to be kept: its chain, gemmi record, the heavy atoms of one conformer, and the anchor."""

    chain_id: str
    residue: gemmi.Residue
    kind: str
    atoms: list[gemmi.Atom]
    anchor: gemmi.Atom

    @property
    def signature(self) -> tuple:
        """What must agree between models of one ensemble."""
        seqid = self.residue.seqid
        names = tuple(atom.name for atom in self.atoms)
        return self.chain_id, seqid.num, seqid.icode.strip(), self.residue.name, names


@dataclass
class LeftOut:
    """Counts of what a model has besides its polymer residues, one sentence each in :meth:`notes`."""

    waters: int = 0
    ligands: Counter = field(default_factory=Counter)
    hydrogens: int = 0
    without_anchor: list[str] = field(default_factory=list)
    alternatives: int = 0

    def describe(self) -> str:
        """Waters, ligands and hydrogens as a list in words, empty if there are none."""
        parts = [_count(self.waters, "water")] if self.waters else []
        if self.ligands:
            parts.append(f"{_count(self.ligands.total(), 'ligand residue')} ({_listed(list(self.ligands))})")
        if self.hydrogens:
            parts.append(_count(self.hydrogens, "hydrogen atom"))
        return " and ".join(parts)

    def notes(self, source: str) -> list[str]:
        """Sentences for the user."""
        notes = []
        if described := self.describe():
            notes.append(f"{source}: left out {described}.")
        if self.without_anchor:
            notes.append(
                f"{source}: left out {_count(len(self.without_anchor), 'residue')} without a Cα or C1′ atom "
                f"({_listed(self.without_anchor)})."
            )
        if self.alternatives:
            notes.append(
                f"{source}: of the alternative locations of {_count(self.alternatives, 'residue')} "
                "the one of highest occupancy is used."
            )
        return notes


def collect_residues(model: gemmi.Model) -> tuple[list[PolymerResidue], LeftOut]:
    """Pick the polymer residues of a model in file order, one conformer each, heavy atoms only.

    The model's structure must have been through ``setup_entities``.
    """
    residues, left_out = [], LeftOut()
    for chain in model:
        for alternatives in _same_place(chain):
            residue = max(alternatives, key=_mean_occupancy)
            if residue.entity_type == gemmi.EntityType.Water or residue.name in WATER_NAMES:
                left_out.waters += 1
            elif residue.entity_type != gemmi.EntityType.Polymer:
                left_out.ligands[residue.name] += 1
            else:
                _collect_polymer_residue(chain.name, residue, len(alternatives) > 1, residues, left_out)
    return residues, left_out


def _collect_polymer_residue(
    chain_name: str, residue: gemmi.Residue, several: bool, residues: list[PolymerResidue], left_out: LeftOut
) -> None:
    """Append one residue to ``residues``, or what is not kept of it to ``left_out``."""
    chain_id = chain_name.strip()
    conformer, altlocs = _conformer(residue)
    left_out.alternatives += bool(several or altlocs)
    heavy = [atom for atom in conformer if not atom.is_hydrogen()]
    left_out.hydrogens += len(conformer) - len(heavy)
    kind = _kind(residue.name, heavy)
    anchor = _find(heavy, ANCHOR_NAMES[kind]) if kind else None
    if kind is None:
        left_out.ligands[residue.name] += 1
    elif anchor is None:
        left_out.without_anchor.append(f"{chain_id}/{residue.seqid} {residue.name}")
    else:
        residues.append(PolymerResidue(chain_id, residue, kind, heavy, anchor))


def _same_place(chain: gemmi.Chain) -> Iterator[list[gemmi.Residue]]:
    """Group residues that share one place in the chain (point mutations modelled side by side)."""
    group: list[gemmi.Residue] = []
    for residue in chain:
        if group and (residue.seqid != group[0].seqid or residue.subchain != group[0].subchain):
            yield group
            group = []
        group.append(residue)
    if group:
        yield group


def _mean_occupancy(residue: gemmi.Residue) -> float:
    """Mean occupancy of a residue's atoms."""
    return sum(atom.occ for atom in residue) / max(len(residue), 1)


def _conformer(residue: gemmi.Residue) -> tuple[list[gemmi.Atom], bool]:
    """Atoms of the alternative location with the highest mean occupancy (ties: the first), and whether any."""
    occupancies: dict[str, list[float]] = {}
    for atom in residue:
        if atom.has_altloc():
            occupancies.setdefault(atom.altloc, []).append(atom.occ)
    if not occupancies:
        return list(residue), False
    chosen = max(occupancies, key=lambda altloc: np.mean(occupancies[altloc]))
    atoms: dict[str, gemmi.Atom] = {}
    for atom in residue:
        if not atom.has_altloc() or atom.altloc == chosen:
            atoms.setdefault(atom.name, atom)
    return list(atoms.values()), len(occupancies) > 1


def _kind(name: str, atoms: list[gemmi.Atom]) -> str | None:
    """``"protein"`` or ``"nucleic"``, by name where gemmi knows it, else by the anchor atom."""
    info = gemmi.find_tabulated_residue(name)
    if info.is_amino_acid():
        return "protein"
    if info.is_nucleic_acid():
        return "nucleic"
    return next((kind for kind, names in ANCHOR_NAMES.items() if _find(atoms, names)), None)


def _find(atoms: list[gemmi.Atom], names: tuple[str, ...]) -> gemmi.Atom | None:
    """First atom that bears one of the names and is no metal (``CA`` is also calcium)."""
    return next((atom for atom in atoms if atom.name in names and not atom.element.is_metal), None)


def build_structure(source: str, residues: list[PolymerResidue], sigma: float, notes: list[str]) -> Structure:
    """Turn collected residues into a :class:`Structure` in the file's frame, every Gaussian ``sigma`` Å wide."""
    anchors = anchor_positions(residues)
    atoms = [atom for residue in residues for atom in residue.atoms]
    return Structure(
        source=source,
        chain_ids=np.array([residue.chain_id for residue in residues], dtype=str),
        residue_numbers=np.array([residue.residue.seqid.num for residue in residues], dtype=np.int64),
        insertion_codes=np.array([residue.residue.seqid.icode.strip() for residue in residues], dtype=str),
        residue_names=np.array([residue.residue.name for residue in residues], dtype=str),
        kinds=np.array([residue.kind for residue in residues], dtype=str),
        residue_positions=anchors,
        amplitudes=np.array(
            [
                residue_electrons(item.residue.name, item.kind, (atom.element for atom in item.atoms))
                for item in residues
            ]
        ),
        sigmas=np.full(len(residues), float(sigma)),
        bonded=_bonded(residues, anchors),
        atoms=Atoms(
            positions=atom_positions(residues),
            elements=np.array([atom.element.name for atom in atoms], dtype=str),
            names=np.array([atom.name for atom in atoms], dtype=str),
            b_factors=np.array([atom.b_iso for atom in atoms], dtype=np.float64),
            residue_index=np.repeat(np.arange(len(residues)), [len(residue.atoms) for residue in residues]),
        ),
        frame_shift=np.zeros(3),
        notes=tuple(notes),
    )


def anchor_positions(residues: list[PolymerResidue]) -> Float[np.ndarray, "residue 3"]:
    """Positions of the Cα or C1′ atoms, Å."""
    return np.array([residue.anchor.pos.tolist() for residue in residues]).reshape(-1, 3)


def atom_positions(residues: list[PolymerResidue]) -> Float[np.ndarray, "atom 3"]:
    """Positions of the heavy atoms, Å."""
    return np.array([atom.pos.tolist() for residue in residues for atom in residue.atoms]).reshape(-1, 3)


def _bonded(residues: list[PolymerResidue], anchors: Float[np.ndarray, "residue 3"]) -> Bool[np.ndarray, " bond"]:
    """Whether residues i and i + 1 are neighbours in a chain.

    Both must be of one chain and kind and have their anchors close together. Then consecutive numbers decide or,
    for numbering schemes that jump (Kabat, chymotrypsin), an explicit bond between the residues.
    """
    bonded = np.zeros(max(len(residues) - 1, 0), dtype=bool)
    distances = np.linalg.norm(np.diff(anchors, axis=0), axis=1)
    for row, (left, right) in enumerate(itertools.pairwise(residues)):
        if left.chain_id != right.chain_id or left.kind != right.kind:
            continue
        if distances[row] >= NEIGHBOUR_DISTANCE[left.kind]:
            continue
        consecutive = abs(right.residue.seqid.num - left.residue.seqid.num) <= 1
        bonded[row] = consecutive or _linked(left, right)
    return bonded


def _linked(left: PolymerResidue, right: PolymerResidue) -> bool:
    """Whether the file has the atoms of a bond from ``left`` to ``right`` at bonding distance."""
    tail, head = LINK_NAMES[left.kind]
    tail_atom, head_atom = _find(left.atoms, tail), _find(right.atoms, head)
    return bool(tail_atom and head_atom) and tail_atom.pos.dist(head_atom.pos) < LINK_DISTANCE


def gap_notes(structure: Structure) -> list[str]:
    """A sentence that lists where chains are interrupted, if anywhere."""
    same_chain = structure.chain_ids[1:] == structure.chain_ids[:-1]
    same_kind = structure.kinds[1:] == structure.kinds[:-1]
    rows = np.flatnonzero(same_chain & same_kind & ~structure.bonded)
    if not len(rows):
        return []
    places = [f"{structure.label(row)} and {structure.label(row + 1)}" for row in rows]
    return [f"{structure.source}: {_count(len(rows), 'chain break')}, between {_listed(places)}."]


def _listed(items: list[str]) -> str:
    """First few items of a list in words."""
    return ", ".join(items[:MAX_LISTED]) + (", …" if len(items) > MAX_LISTED else "")


def _count(number: int, thing: str) -> str:
    """Number and thing, as a word of one or several."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
