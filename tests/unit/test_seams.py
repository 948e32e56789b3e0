"""Bonds against the chemical component dictionary (biotite), seams closed on proteins, DNA, disulfides and glycans."""

import itertools
from dataclasses import replace

import biotite.structure as bs
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryosphere.io.structures import read_structure
from cryosphere.structure.bonds import covalent_bonds, link_bonds, ring_pairs
from cryosphere.structure.ligands import find_hosts
from cryosphere.structure.seams import SeamCloser
from tests.structure_factory import chain_structure


@pytest.fixture(scope="module")
def adenylate_kinase(reference_structures):
    return read_structure(reference_structures / "4ake.pdb")


@pytest.fixture(scope="module")
def antibody(reference_structures):
    return read_structure(reference_structures / "1igy.pdb")


@pytest.fixture(scope="module")
def with_dna(reference_structures):
    """One protein chain and the DNA of a complex."""
    whole = read_structure(reference_structures / "pdb7pbl.pdb", ligands="none")
    nucleic = whole.chain_ids[whole.kinds == "nucleic"]
    return _rows(whole, np.isin(whole.chain_ids, [*np.unique(nucleic), whole.chain_ids[0]]))


@pytest.fixture(scope="module")
def reference_structures():
    from tests.reference_files import reference_file

    return reference_file("README.md").parent / "structures"


def _rows(structure, kept):
    rows = np.flatnonzero(kept)
    columns = {name: getattr(structure, name)[rows] for name in
               ("chain_ids", "residue_numbers", "insertion_codes", "residue_names", "kinds", "residue_positions",
                "amplitudes", "sigmas")}  # fmt: skip
    bonded = np.zeros(len(rows) - 1, dtype=bool)
    follows = np.diff(rows) == 1
    bonded[follows] = structure.bonded[rows[:-1][follows]]
    chosen = np.flatnonzero(kept[structure.atoms.residue_index])
    index = np.searchsorted(rows, structure.atoms.residue_index[chosen])
    atoms = {name: getattr(structure.atoms, name)[chosen] for name in ("positions", "elements", "names", "b_factors")}
    atoms = replace(structure.atoms, **atoms, residue_index=index)
    return replace(structure, **columns, bonded=bonded, atoms=atoms, source_rows=None)


def _hinged(structure, degrees, width=6.0):
    """Atoms when the residues beyond a plane through the middle turn about an axis in it, those near it by a share."""
    centre = structure.residue_positions.mean(0)
    along = (structure.residue_positions - centre)[find_hosts(structure), 0]
    share = 1 / (1 + np.exp(-4 * along / width))
    rotmat = Rotation.from_rotvec(np.radians(degrees) * share[:, None] * np.array([0, 0, 1])).as_matrix()
    owner = structure.atoms.residue_index
    return np.einsum("aij,aj->ai", rotmat[owner], structure.atoms.positions - centre) + centre


def _biotite(structure):
    """The atoms as an array of biotite, with the bonds of the chemical component dictionary."""
    atoms, owner = structure.atoms, structure.atoms.residue_index
    array = bs.AtomArray(atoms.n_atoms)
    array.coord = atoms.positions.astype(np.float32)
    array.chain_id, array.res_id = structure.chain_ids[owner], owner
    array.res_name, array.atom_name, array.element = structure.residue_names[owner], atoms.names, atoms.elements
    array.bonds = bs.connect_via_residue_names(array)
    return array


def _keys(pairs, n_atoms):
    pairs = np.sort(pairs, axis=1)
    return set((pairs[:, 0] * n_atoms + pairs[:, 1]).tolist())


@pytest.mark.parametrize("name", ["adenylate_kinase", "antibody", "with_dna"])
def test_bonds_are_those_of_the_dictionary(name, request):
    structure = request.getfixturevalue(name)
    n_atoms = structure.atoms.n_atoms
    ours = covalent_bonds(structure)
    inside = ours[~link_bonds(structure, ours)]
    theirs = _biotite(structure).bonds.as_array()[:, :2].astype(int)
    theirs = theirs[np.diff(structure.atoms.residue_index[theirs], axis=1)[:, 0] == 0]
    assert _keys(inside, n_atoms) == _keys(theirs, n_atoms)


def test_bonds_between_residues_are_those_of_chain_disulfides_and_glycans(antibody):
    bonds = covalent_bonds(antibody)
    links = bonds[link_bonds(antibody, bonds)]
    names, owner = antibody.atoms.names, antibody.atoms.residue_index
    kinds = [frozenset(pair) for pair in names[links].tolist()]
    labels = {frozenset(antibody.label(row) for row in owner[pair]) for pair, kind in zip(links, kinds, strict=True)
              if kind == frozenset(("SG",))}  # fmt: skip
    # SSBOND records of 1IGY, by hand.
    pairs = ["A/23 A/88", "A/134 A/194", "A/214 B/235", "B/22 B/92", "B/142 B/208", "B/237 D/237", "B/240 D/240"]
    pairs += ["B/242 D/242", "B/274 B/340", "B/390 B/456", "C/23 C/88", "C/134 C/194", "C/214 D/235", "D/22 D/92"]
    pairs += ["D/142 D/208", "D/274 D/340", "D/390 D/456"]
    assert labels == {frozenset(pair.split()) for pair in pairs}
    assert kinds.count(frozenset(("C", "N"))) == antibody.bonded.sum()
    sugars = {frozenset(antibody.label(row) for row in owner[pair]) for pair in links if owner[pair].max() >= 1294}
    assert {frozenset(("B/314", "E/1")), frozenset(("D/314", "F/1")), frozenset(("E/1", "E/2"))} <= sugars
    assert len(sugars) == 18


@pytest.mark.parametrize(("name", "sizes"), [
    ("antibody", {"TRP": {9}, "PHE": {6}, "TYR": {6}, "HIS": {5}, "PRO": {5}, "LEU": set(), "CYS": set()}),
    ("with_dna", {"DA": {5, 9}, "DT": {5, 6}}),
])  # fmt: skip
def test_rings_are_those_of_side_chains_sugars_and_bases(name, sizes, request):
    structure = request.getfixturevalue(name)
    pairs = ring_pairs(structure, covalent_bonds(structure))
    owner = structure.atoms.residue_index
    for residue, expected in sizes.items():
        row = np.flatnonzero(structure.residue_names == residue)[1]
        own = pairs[owner[pairs[:, 0]] == row]
        partners = [len(np.unique(own[(own == atom).any(1)])) for atom in np.unique(own)]
        assert set(partners) == expected, residue


def _bond_lengths(positions, pairs):
    return bs.distance(positions[pairs[:, 0]], positions[pairs[:, 1]])


@pytest.mark.parametrize(("name", "degrees", "most_turn"), [
    ("adenylate_kinase", 12, 8.0), ("with_dna", 10, 10.0), ("antibody", 5, 8.0),
])  # fmt: skip
def test_seams_are_closed(name, degrees, most_turn, request):
    """Bars: bonds within 0.1 Å (0.05 rms) of the nominal's, sane angles, no new clash; measured with biotite."""
    structure = request.getfixturevalue(name)
    nominal, decoded = structure.atoms.positions, _hinged(structure, degrees)
    closer = SeamCloser(structure)
    closed, seams = closer.close(decoded)
    array = _biotite(structure)
    pairs = covalent_bonds(structure)
    change = np.abs(_bond_lengths(closed, pairs) - _bond_lengths(nominal, pairs))
    assert np.abs(_bond_lengths(decoded, pairs) - _bond_lengths(nominal, pairs)).max() > 0.4
    assert change.max() < 0.1
    assert np.sqrt((change**2).mean()) < 0.05
    assert seams.bond_change == pytest.approx(change[link_bonds(structure, pairs)].max(), abs=1e-4)
    ends = (closer.angles[:, 0], closer.angles[:, 1], closer.angles[:, 2])
    turn = np.degrees([bs.angle(*(positions[end] for end in ends)) for positions in (closed, nominal)])
    turn = np.abs(turn[0] - turn[1])
    assert turn.max() < most_turn
    assert seams.angle_change <= turn.max() + 1e-2
    assert _new_clashes(structure, closed) == seams.n_clashes == 0
    assert seams.n_open > 10
    assert _peptide_turns(structure, closed) < 15
    assert _chirality(array, nominal) == _chirality(array, closed)


def _new_clashes(structure, positions):
    """Pairs nearer than 2.5 Å of residues that are not bonded, without those of the nominal structure."""
    owner = structure.atoms.residue_index
    bonds = covalent_bonds(structure)
    linked = {tuple(sorted(pair)) for pair in owner[bonds].tolist()}
    pairs = cKDTree(positions).query_pairs(2.5)
    nominal = structure.atoms.positions
    return sum(
        tuple(sorted((int(owner[i]), int(owner[j])))) not in linked
        and owner[i] != owner[j]
        and np.linalg.norm(nominal[i] - nominal[j]) > 2.55
        for i, j in pairs
    )


def _peptide_turns(structure, positions):
    """Largest change of ω, degrees."""
    names, owner = structure.atoms.names, structure.atoms.residue_index
    alpha = dict(zip(owner[names == "CA"].tolist(), np.flatnonzero(names == "CA").tolist(), strict=True))
    links = [pair for pair in covalent_bonds(structure).tolist() if names[pair].tolist() == ["C", "N"]]
    links = [(c, n) for c, n in links if owner[c] != owner[n]]
    quadruples = np.array([(alpha[owner[c]], c, n, alpha[owner[n]]) for c, n in links]).T
    after, before = (bs.dihedral(*(x[atoms] for atoms in quadruples)) for x in (positions, structure.atoms.positions))
    assert len(after) > 100
    return np.degrees(np.abs((after - before + np.pi) % (2 * np.pi) - np.pi)).max()


def _chirality(array, positions):
    """Handedness of every Cα, as signs."""
    signs = []
    starts = bs.get_residue_starts(array, add_exclusive_stop=True)
    for first, last in itertools.pairwise(starts):
        place = {name: positions[first + i] for i, name in enumerate(array.atom_name[first:last])}
        if {"N", "CA", "C", "CB"} <= set(place):
            n, c, b = (place[name] - place["CA"] for name in ("N", "C", "CB"))
            signs.append(bool(np.dot(n, np.cross(c, b)) > 0))
    assert len(signs) > 20
    return signs


def test_a_motion_of_the_whole_body_opens_nothing(antibody):
    turn = Rotation.from_rotvec([0.3, -0.9, 0.4]).as_matrix()
    moved = antibody.atoms.positions @ turn.T + [3.0, 20.0, -7.0]
    closed, seams = SeamCloser(antibody).close(moved)
    assert (closed == moved).all()
    assert (seams.n_open, seams.n_clashes_before, seams.n_clashes) == (0, 0, 0)
    assert (seams.bond_change, seams.anchor_shift) == (pytest.approx(0, abs=1e-6), 0)


def test_what_is_far_from_open_seams_stays_and_the_input_too(adenylate_kinase):
    decoded = _hinged(adenylate_kinase, 2.0, width=2.0)
    before = decoded.copy()
    closed, seams = SeamCloser(adenylate_kinase).close(decoded)
    assert (decoded == before).all()
    still = (closed == decoded).all(1)
    assert 0.02 < still.mean() < 0.98
    assert 0 < seams.anchor_shift < 0.2


def test_a_trace_has_no_seams():
    structure = chain_structure(3.8 * np.arange(12)[:, None] * np.array([1.0, 0, 0]))
    moved = structure.atoms.positions + np.where(np.arange(12) > 5, 4.0, 0.0)[:, None]
    closed, seams = SeamCloser(structure).close(moved)
    assert (closed == moved).all()
    assert (seams.n_open, seams.bond_change) == (0, 0)
