"""From gemmi's atoms to our records: which residues and ligands are kept, where their Gaussians sit."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import gemmi
import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from cryosphere.io.ligands import LigandChoice, is_kept, ligand_groups
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
# Atoms of other residues may be bonded to a ligand within this distance (Å).
BONDED_REACH = 2.2
# Residues or ligand names listed in one note.
MAX_LISTED = 5


@dataclass(frozen=True)
class KeptResidue:
    """What becomes one Gaussian: a polymer residue, or a group of atoms of a ligand.

    Chain, gemmi record, heavy atoms of one conformer, the atom at which it sits; ``electrons`` are a ligand group's,
    those of polymer residues follow from their names.
    """

    chain_id: str
    residue: gemmi.Residue
    kind: str
    atoms: list[gemmi.Atom]
    anchor: gemmi.Atom
    electrons: float | None = None

    @property
    def signature(self) -> tuple:
        """What must agree between models of one ensemble."""
        seqid = self.residue.seqid
        names = tuple(atom.name for atom in self.atoms)
        return self.chain_id, seqid.num, seqid.icode.strip(), self.residue.name, names


@dataclass
class LeftOut:
    """Counts of what a model has besides the residues kept, one sentence each in :meth:`notes`."""

    waters: int = 0
    ligands: Counter = field(default_factory=Counter)
    hydrogens: int = 0
    without_anchor: list[str] = field(default_factory=list)
    alternatives: int = 0
    kept_ligands: Counter = field(default_factory=Counter)
    ligand_gaussians: int = 0

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
        if self.kept_ligands:
            notes.append(
                f"{source}: {_count(self.kept_ligands.total(), 'ligand residue')} ({_listed(list(self.kept_ligands))}) "
                f"became {_count(self.ligand_gaussians, 'Gaussian')}, moving with what they touch "
                "(structure.ligands: none leaves them out)."
            )
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


@dataclass(frozen=True)
class _Ligand:
    """A ligand that is kept, before it is divided."""

    chain_id: str
    residue: gemmi.Residue
    heavy: list[gemmi.Atom]
    hydrogens: list[gemmi.Atom]


def collect_residues(
    model: gemmi.Model, ligands: LigandChoice = "none", partitions: dict | None = None
) -> tuple[list[KeptResidue], LeftOut]:
    """Pick the polymer residues of a model in file order, then its ligands; one conformer each, heavy atoms only.

    The model's structure must have been through ``setup_entities``. ``partitions`` remembers how ligands were divided
    (:func:`cryosphere.io.ligands.ligand_groups`).
    """
    residues, found, left_out = [], [], LeftOut()
    for chain in model:
        for alternatives in _same_place(chain):
            residue = max(alternatives, key=_mean_occupancy)
            if residue.entity_type == gemmi.EntityType.Water or residue.name in WATER_NAMES:
                left_out.waters += 1
            elif residue.entity_type != gemmi.EntityType.Polymer:
                _collect_ligand(chain.name, residue, len(alternatives) > 1, ligands, found, left_out)
            else:
                _collect_polymer_residue(chain.name, residue, len(alternatives) > 1, ligands, residues, found, left_out)
    return residues + _divide_ligands(residues, found, {} if partitions is None else partitions, left_out), left_out


def _collect_polymer_residue(
    chain_name: str,
    residue: gemmi.Residue,
    several: bool,
    ligands: LigandChoice,
    residues: list[KeptResidue],
    found: list[_Ligand],
    left_out: LeftOut,
) -> None:
    """Append one residue to ``residues``, or what is not kept of it to ``left_out``.

    Modified residues without an anchor (chromophores, caps) are ligands in the chain.
    """
    chain_id = chain_name.strip()
    conformer, altlocs = _conformer(residue)
    heavy = [atom for atom in conformer if not atom.is_hydrogen()]
    kind = _kind(residue.name, heavy)
    anchor = _find(heavy, ANCHOR_NAMES[kind]) if kind else None
    is_standard = gemmi.find_tabulated_residue(residue.name).is_standard()
    if kind is None or (anchor is None and not is_standard and is_kept(residue, heavy, ligands)):
        _collect_ligand(chain_name, residue, several, ligands, found, left_out)
        return
    left_out.alternatives += bool(several or altlocs)
    left_out.hydrogens += len(conformer) - len(heavy)
    if anchor is None:
        left_out.without_anchor.append(f"{chain_id}/{residue.seqid} {residue.name}")
    else:
        residues.append(KeptResidue(chain_id, residue, kind, heavy, anchor))


def _collect_ligand(
    chain_name: str,
    residue: gemmi.Residue,
    several: bool,
    ligands: LigandChoice,
    found: list[_Ligand],
    left_out: LeftOut,
) -> None:
    """Append one ligand to ``found`` if it is kept, else to ``left_out``."""
    conformer, altlocs = _conformer(residue)
    heavy = [atom for atom in conformer if not atom.is_hydrogen()]
    if not is_kept(residue, heavy, ligands):
        left_out.ligands[residue.name] += 1
        return
    hydrogens = [atom for atom in conformer if atom.is_hydrogen()]
    left_out.alternatives += bool(several or altlocs)
    left_out.hydrogens += len(hydrogens)
    left_out.kept_ligands[residue.name] += 1
    found.append(_Ligand(chain_name.strip(), residue, heavy, hydrogens))


def _divide_ligands(
    residues: list[KeptResidue], found: list[_Ligand], partitions: dict, left_out: LeftOut
) -> list[KeptResidue]:
    """Groups of all ligands; bonds to other residues count when their hydrogens are estimated."""
    if not found:
        return []
    everything = [(atom, -1) for residue in residues for atom in residue.atoms]
    everything += [(atom, number) for number, ligand in enumerate(found) for atom in ligand.heavy]
    owners = np.array([owner for _, owner in everything])
    tree = cKDTree(np.nan_to_num([atom.pos.tolist() for atom, _ in everything]))
    groups = []
    for number, ligand in enumerate(found):
        near = tree.query_ball_point(np.nan_to_num([atom.pos.tolist() for atom in ligand.heavy]), BONDED_REACH)
        rows = sorted({row for one in near for row in one if owners[row] != number})
        outside = [everything[row][0] for row in rows]
        for group in ligand_groups(ligand.residue, ligand.heavy, ligand.hydrogens, outside, partitions):
            atoms = [ligand.heavy[row] for row in group.rows]
            anchor = ligand.heavy[group.anchor]
            groups.append(KeptResidue(ligand.chain_id, ligand.residue, "ligand", atoms, anchor, group.electrons))
    left_out.ligand_gaussians = len(groups)
    return groups


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


def build_structure(source: str, residues: list[KeptResidue], sigma: float, notes: list[str]) -> Structure:
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
        amplitudes=np.array([_electrons(residue) for residue in residues]),
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


def _electrons(residue: KeptResidue) -> float:
    """Electrons of a residue or ligand group."""
    if residue.electrons is not None:
        return residue.electrons
    return residue_electrons(residue.residue.name, residue.kind, (atom.element for atom in residue.atoms))


def anchor_positions(residues: list[KeptResidue]) -> Float[np.ndarray, "residue 3"]:
    """Positions of the Cα or C1′ atoms, and the middle atoms of ligand groups, Å."""
    return np.array([residue.anchor.pos.tolist() for residue in residues]).reshape(-1, 3)


def atom_positions(residues: list[KeptResidue]) -> Float[np.ndarray, "atom 3"]:
    """Positions of the heavy atoms, Å."""
    return np.array([atom.pos.tolist() for residue in residues for atom in residue.atoms]).reshape(-1, 3)


def _bonded(residues: list[KeptResidue], anchors: Float[np.ndarray, "residue 3"]) -> Bool[np.ndarray, " bond"]:
    """Whether residues i and i + 1 are neighbours in a chain.

    Both must be of one chain and polymer and have their anchors close together. Then consecutive numbers decide or,
    for numbering schemes that jump (Kabat, chymotrypsin), an explicit bond between the residues.
    """
    bonded = np.zeros(max(len(residues) - 1, 0), dtype=bool)
    distances = np.linalg.norm(np.diff(anchors, axis=0), axis=1)
    for row, (left, right) in enumerate(itertools.pairwise(residues)):
        if left.chain_id != right.chain_id or left.kind != right.kind or left.kind == "ligand":
            continue
        if distances[row] >= NEIGHBOUR_DISTANCE[left.kind]:
            continue
        consecutive = abs(right.residue.seqid.num - left.residue.seqid.num) <= 1
        bonded[row] = consecutive or _linked(left, right)
    return bonded


def _linked(left: KeptResidue, right: KeptResidue) -> bool:
    """Whether the file has the atoms of a bond from ``left`` to ``right`` at bonding distance."""
    tail, head = LINK_NAMES[left.kind]
    tail_atom, head_atom = _find(left.atoms, tail), _find(right.atoms, head)
    return bool(tail_atom and head_atom) and tail_atom.pos.dist(head_atom.pos) < LINK_DISTANCE


def gap_notes(structure: Structure) -> list[str]:
    """A sentence that lists where chains are interrupted, if anywhere."""
    same_chain = structure.chain_ids[1:] == structure.chain_ids[:-1]
    same_kind = (structure.kinds[1:] == structure.kinds[:-1]) & (structure.kinds[1:] != "ligand")
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
