"""What a ligand moves with."""

from __future__ import annotations

import gemmi
import numpy as np
from jaxtyping import Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cryosphere.records import Structure

# Å; covalent bonds between residues (1.4 to 1.8 Å) are shorter, metal coordination (2.0 Å and more) is not.
_COVALENT_REACH = 1.9
# Å; contacts reach so far, and their weight falls off as exp(-½ (d / scale)²).
_CONTACT_REACH, _CONTACT_SCALE = 6.0, 3.5
# Å; the neighbourhood over which a residue's contacts count, so that the larger side of a cleft wins.
_NEIGHBOURHOOD = 8.0


def find_hosts(structure: Structure) -> Int[np.ndarray, " residue"]:
    """Row of the polymer residue with which every residue moves: itself, or what a ligand touches.

    All atoms of a ligand have one host, so that ligands stay rigid. Ligands bonded to each other (glycans) share the
    residue that they are bonded to; others go with the residue in the middle of most of their contacts.
    """
    n_polymer = structure.n_polymer_residues
    hosts = np.arange(structure.n_residues)
    if n_polymer == structure.n_residues:
        return hosts
    molecules = _molecules(structure)
    atoms = structure.atoms
    is_polymer = atoms.residue_index < n_polymer
    owners, tree = atoms.residue_index[is_polymer], cKDTree(atoms.positions[is_polymer])
    covalent = np.array([not gemmi.Element(str(element)).is_metal for element in atoms.elements])
    molecule_of_atom = np.concatenate([np.full(n_polymer, -1), molecules])[atoms.residue_index]
    for molecule in range(molecules.max() + 1):
        rows = np.flatnonzero(molecule_of_atom == molecule)
        host = _host(structure, tree, owners, atoms.positions[rows], covalent[rows])
        hosts[n_polymer + np.flatnonzero(molecules == molecule)] = host
    return hosts


def _molecules(structure: Structure) -> Int[np.ndarray, " ligand"]:
    """Number of the molecule that every ligand row belongs to: parts of one residue, and what is bonded to it."""
    n_polymer = structure.n_polymer_residues
    columns = (structure.chain_ids, structure.residue_numbers, structure.insertion_codes, structure.residue_names)
    names = list(zip(*(column[n_polymer:].tolist() for column in columns), strict=True))
    place = {name: row for row, name in enumerate(dict.fromkeys(names))}
    residue = np.array([place[name] for name in names])
    atoms = structure.atoms
    metal = np.array([gemmi.Element(str(element)).is_metal for element in atoms.elements])
    rows = np.flatnonzero((atoms.residue_index >= n_polymer) & ~metal)
    pairs = cKDTree(atoms.positions[rows]).query_pairs(_COVALENT_REACH, output_type="ndarray")
    first, second = (residue[atoms.residue_index[rows[end]] - n_polymer] for end in pairs.T)
    graph = sparse.coo_array((np.ones(len(first)), (first, second)), shape=(len(place), len(place)))
    return connected_components(graph, directed=False)[1][residue]


def _host(structure: Structure, tree: cKDTree, owners: np.ndarray, positions: np.ndarray, covalent: np.ndarray) -> int:
    """Polymer row that a molecule goes with."""
    distance, nearest = tree.query(positions)
    bonded = np.where(covalent, distance, np.inf)
    if bonded.min() < _COVALENT_REACH or distance.min() > _CONTACT_REACH:
        chosen = bonded if bonded.min() < _COVALENT_REACH else distance
        return int(owners[nearest[chosen.argmin()]])
    contacts = tree.sparse_distance_matrix(cKDTree(positions), _CONTACT_REACH, output_type="coo_matrix")
    touched, index = np.unique(owners[contacts.row], return_inverse=True)
    score = np.bincount(index, np.exp(-0.5 * (contacts.data / _CONTACT_SCALE) ** 2))
    points = structure.residue_positions[touched]
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return int(touched[(np.exp(-0.5 * (apart / _NEIGHBOURHOOD) ** 2) @ score).argmax()])
