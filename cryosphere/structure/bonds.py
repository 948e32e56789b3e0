"""Covalent bonds of a structure, from its atoms' names and distances."""

from __future__ import annotations

from functools import lru_cache

import gemmi
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.spatial import cKDTree

from cryosphere.io.polymers import LINK_NAMES
from cryosphere.records import Structure

# Atoms of one residue are bonded within the sum of their covalent radii and this (Å).
_TOLERANCE = 0.4
# Å; disulfide bonds are 2.05 Å long.
_DISULFIDE_REACH = 2.5
# Å; bonds of ligands with residues and each other are 1.4 to 1.8 Å long.
_LIGAND_REACH = (1.2, 1.9)
# Å; links of the chain that are longer are gaps.
_LONGEST_LINK = 2.5
# No bond is longer (Å).
_LONGEST_BOND = 3.0


def covalent_bonds(structure: Structure) -> Int[np.ndarray, "bond 2"]:
    """Bonded pairs of heavy atoms, each once, the first the lower row.

    Inside a residue, atoms within their covalent radii + 0.4 Å; between residues, the chain's links (C-N, O3′-P)
    where the structure has no gap, disulfides, and covalent bonds of ligands. Coordination of metals is none.
    """
    inside = _bonds_inside(structure)
    links = [_chain_links(structure), _disulfides(structure), _ligand_bonds(structure)]
    return np.unique(np.sort(np.concatenate([inside, *links]), axis=1), axis=0)


def link_bonds(structure: Structure, bonds: Int[np.ndarray, "bond 2"]) -> Bool[np.ndarray, " bond"]:
    """Which bonds are between residues (rows of the structure)."""
    first, second = structure.atoms.residue_index[bonds].T
    return first != second


def adjacency(bonds: Int[np.ndarray, "bond 2"], n_atoms: int) -> sparse.csr_array:
    """Symmetric matrix with 1 for bonded atoms."""
    ones = np.ones(len(bonds), dtype=np.int32)
    upper = sparse.coo_array((ones, (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms)).tocsr()
    return (upper + upper.T).tocsr()


def ring_pairs(structure: Structure, bonds: Int[np.ndarray, "bond 2"]) -> Int[np.ndarray, "pair 2"]:
    """Pairs of atoms of one system of rings inside a residue; those of phenylalanine, of a base, of a sugar."""
    inside = bonds[~link_bonds(structure, bonds)]
    owner = structure.atoms.residue_index
    starts = np.searchsorted(owner, np.arange(structure.n_residues))
    counts = np.bincount(owner, minlength=structure.n_residues)
    order = np.argsort(owner[inside[:, 0]], kind="stable")
    inside = inside[order]
    edges = np.searchsorted(owner[inside[:, 0]], np.arange(structure.n_residues + 1))
    pairs = []
    for row in range(structure.n_residues):
        local = inside[edges[row] : edges[row + 1]] - starts[row]
        found = _ring_pairs_of(int(counts[row]), tuple(map(tuple, local.tolist())))
        if len(found):
            pairs.append(found + starts[row])
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)


@lru_cache(maxsize=1024)
def _ring_pairs_of(n_atoms: int, bonds: tuple[tuple[int, int], ...]) -> Int[np.ndarray, "pair 2"]:
    """Pairs in the parts that stay connected when every bond without which the graph falls apart is cut."""
    kept = [bond for bond in bonds if _connected(n_atoms, [other for other in bonds if other != bond], *bond)]
    if not kept:
        return np.zeros((0, 2), dtype=np.int64)
    labels = _components(n_atoms, kept)
    same = (labels[:, None] == labels[None]) & np.triu(np.ones((n_atoms, n_atoms), dtype=bool), 1)
    return np.argwhere(same)


def _components(n_atoms: int, bonds: list[tuple[int, int]]) -> Int[np.ndarray, " atom"]:
    graph = adjacency(np.array(bonds, dtype=np.int64).reshape(-1, 2), n_atoms)
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def _connected(n_atoms: int, bonds: list[tuple[int, int]], first: int, second: int) -> bool:
    labels = _components(n_atoms, bonds)
    return bool(labels[first] == labels[second])


def _bonds_inside(structure: Structure) -> Int[np.ndarray, "bond 2"]:
    atoms = structure.atoms
    radii = _radii(structure)
    pairs = cKDTree(atoms.positions).query_pairs(_LONGEST_BOND, output_type="ndarray")
    pairs = pairs[atoms.residue_index[pairs[:, 0]] == atoms.residue_index[pairs[:, 1]]]
    length = np.linalg.norm(atoms.positions[pairs[:, 0]] - atoms.positions[pairs[:, 1]], axis=1)
    return pairs[length < radii[pairs].sum(1) + _TOLERANCE]


def _radii(structure: Structure) -> Float[np.ndarray, " atom"]:
    """Covalent radii (Å); metals have none, so that they are bonded to nothing."""
    elements = {name: gemmi.Element(str(name)) for name in np.unique(structure.atoms.elements)}
    radii = {name: -np.inf if element.is_metal else element.covalent_r for name, element in elements.items()}
    return np.array([radii[name] for name in structure.atoms.elements])


def _chain_links(structure: Structure) -> Int[np.ndarray, "bond 2"]:
    """C-N and O3′-P of neighbours, where both have these atoms."""
    pairs = []
    for kind, (tails, heads) in LINK_NAMES.items():
        tail, head = _atom_of_residue(structure, tails), _atom_of_residue(structure, heads)
        rows = np.flatnonzero(structure.bonded & (structure.kinds[:-1] == kind) & (structure.kinds[1:] == kind))
        pairs.append(np.stack([tail[rows], head[rows + 1]], axis=1))
    links = np.concatenate(pairs)
    links = links[(links >= 0).all(1)]
    positions = structure.atoms.positions
    return links[np.linalg.norm(positions[links[:, 0]] - positions[links[:, 1]], axis=1) < _LONGEST_LINK]


def _atom_of_residue(structure: Structure, names: tuple[str, ...]) -> Int[np.ndarray, " residue"]:
    """Row of the atom with one of the names in every residue, -1 where there is none."""
    found = np.full(structure.n_residues, -1)
    rows = np.flatnonzero(np.isin(structure.atoms.names, names))
    found[structure.atoms.residue_index[rows]] = rows
    return found


def _disulfides(structure: Structure) -> Int[np.ndarray, "bond 2"]:
    """Pairs of SG atoms of which each is the nearest of the other."""
    atoms = structure.atoms
    is_cysteine = (structure.residue_names == "CYS") & (structure.kinds == "protein")
    rows = np.flatnonzero((atoms.names == "SG") & is_cysteine[atoms.residue_index])
    if len(rows) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    distance, nearest = cKDTree(atoms.positions[rows]).query(atoms.positions[rows], k=2)
    partner = nearest[:, 1]
    mutual = (partner[partner] == np.arange(len(rows))) & (distance[:, 1] < _DISULFIDE_REACH)
    return np.stack([rows[mutual], rows[partner[mutual]]], axis=1)


def _ligand_bonds(structure: Structure) -> Int[np.ndarray, "bond 2"]:
    """Bonds of ligands with other residues, the shortest of every pair of residues; those of their parts all."""
    atoms, n_polymer = structure.atoms, structure.n_polymer_residues
    if n_polymer == structure.n_residues:
        return np.zeros((0, 2), dtype=np.int64)
    usable = np.isfinite(_radii(structure))
    pairs = cKDTree(atoms.positions).query_pairs(_LIGAND_REACH[1], output_type="ndarray")
    owners = atoms.residue_index[pairs]
    length = np.linalg.norm(atoms.positions[pairs[:, 0]] - atoms.positions[pairs[:, 1]], axis=1)
    chosen = (owners[:, 0] != owners[:, 1]) & (owners.max(1) >= n_polymer) & usable[pairs].all(1)
    chosen &= length > _LIGAND_REACH[0]
    pairs, owners, length = pairs[chosen], np.sort(owners[chosen], axis=1), length[chosen]
    order = np.lexsort((length, owners[:, 1], owners[:, 0]))
    pairs, owners = pairs[order], owners[order]
    first = np.concatenate([[True], (np.diff(owners, axis=0) != 0).any(1)]) if len(pairs) else np.zeros(0, dtype=bool)
    return pairs[first | _same_molecule(structure, owners)]


def _same_molecule(structure: Structure, owners: Int[np.ndarray, "pair 2"]) -> Bool[np.ndarray, " pair"]:
    """Whether two rows are parts of one residue of the file."""
    columns = (structure.chain_ids, structure.residue_numbers, structure.insertion_codes, structure.residue_names)
    return np.all([column[owners[:, 0]] == column[owners[:, 1]] for column in columns], axis=0)
