"""Motions by name: how they are read, and their values against mdtraj and constructed motions."""

import mdtraj
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryosphere.analysis.motions import MotionName, Motions
from cryosphere.errors import InputError
from cryosphere.io.structures import read_structure
from tests.run_factory import write_protein


@pytest.fixture(scope="module")
def structure(tmp_path_factory):
    path = tmp_path_factory.mktemp("motions") / "protein.cif"
    write_protein(path)
    return read_structure(path)


@pytest.fixture(scope="module")
def labels(structure):
    return np.where(structure.chain_ids == "A", 0, 1)


def _values(names, structure, labels, states, reference=None):
    motions = Motions([MotionName.parse(name) for name in names], structure, labels, reference)
    bodies = motions.bodies(states)
    motions.fit(bodies, np.full(len(states), 1 / len(states)))
    return motions.measure(bodies).T


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("angle(s2)", "angle(s2)"),
        (" angle( s2 , 's1' ) ", "angle(s2,s1)"),
        ('distance("A:1-5, B:2", s1)', 'distance("A:1-5,B:2",s1)'),
        ("distance(A,B)", 'distance("A","B")'),
        ("dihedral(s1,s2,'A:1','B:3')", 'dihedral(s1,s2,"A:1","B:3")'),
    ],
)
def test_names_are_written_in_one_way(text, canonical):
    name = MotionName.parse(text)
    assert str(name) == canonical
    assert MotionName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "angle",
        "angle()",
        "angle(s1,s2,s3,s4)",
        "turn(s1)",
        "angle(s1",
        "angle(1)",
        "angle(s1 + s2)",
        "distance(s1)",
        "__import__('os').system('x')",
        "angle(x=s1)",
        "angle('')",
        "(" * 300,
    ],
)
def test_what_is_no_motion_is_refused_with_examples(text):
    with pytest.raises(InputError, match=r"is no motion; write for example angle\(s2\)"):
        MotionName.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("angle(s7)", "no segment s7; the run has s1 to s2"),
        ('distance("C:1", s1)', "has the chains A, B"),
        ('distance("A:99", s1)', "residue 99"),
        ('angle("A:1-2")', "2 residues, and no orientation"),
        ("angle(s1, s1)", "twice"),
        ('distance("A:1-x", s1)', "Cannot read 'A:1-x'"),
    ],
)
def test_parts_that_cannot_be_measured_are_refused(structure, labels, text, words):
    with pytest.raises(InputError, match=words):
        _values([text], structure, labels, structure.residue_positions[None])


def test_distances_angles_and_dihedrals_of_residues_are_those_of_mdtraj(structure, labels):
    generator = np.random.default_rng(3)
    states = structure.residue_positions + generator.normal(0, 4, (50, structure.n_residues, 3))
    rows = [0, 9, 17, 30]
    parts = ", ".join(f'"{structure.label(row).replace("/", ":")}"' for row in rows)
    three = ", ".join(parts.split(", ")[:3])
    two = ", ".join(parts.split(", ")[:2])
    names = [f"distance({two})", f"angle({three})", f"dihedral({parts})"]
    distance, angle, dihedral = _values(names, structure, labels, states)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(structure.n_residues):
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("ALA", chain))
    trajectory = mdtraj.Trajectory(states / 10, topology)
    assert distance == pytest.approx(10 * mdtraj.compute_distances(trajectory, [rows[:2]])[:, 0], rel=1e-4)
    assert angle == pytest.approx(np.degrees(mdtraj.compute_angles(trajectory, [rows[:3]])[:, 0]), abs=0.02)
    turns = np.degrees(mdtraj.compute_dihedrals(trajectory, [rows])[:, 0])
    assert np.remainder(dihedral - turns + 180, 360) - 180 == pytest.approx(0 * turns, abs=0.05)


def test_dihedrals_do_not_jump_where_the_ensemble_is(structure, labels):
    points = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]])
    states = np.zeros((21, structure.n_residues, 3))
    turns = np.linspace(170, 190, 21)
    states[:, [0, 1, 2]] = points
    turned = Rotation.from_rotvec(np.radians(turns)[:, None] * [0, 0, 1])
    states[:, 3] = turned.apply([1, 0, 0]) + np.array([0, 0, 1])
    (found,) = _values(['dihedral("A:1","A:2","A:3","A:4")'], structure, labels, states)
    assert np.diff(found) == pytest.approx(np.full(20, 1.0), abs=1e-6)


@pytest.mark.parametrize("reference", [None, 0])
def test_segment_motions_are_those_put_in(structure, labels, reference):
    """Chain B turns about z through its centre and slides 3 Å along it; seen from chain A, which may move too."""
    nominal = structure.residue_positions
    angles = np.linspace(-25, 35, 31)
    second = labels == 1
    centre = nominal[second].mean(0)
    states = np.repeat(nominal[None], 31, axis=0)
    for state, angle in zip(states, angles, strict=True):
        turn = Rotation.from_euler("z", angle, degrees=True)
        state[second] = turn.apply(nominal[second] - centre) + centre + [0, 0, 3 * angle / 35]
    if reference == 0:
        whole = Rotation.random(31, rng=2).as_matrix()
        states = np.einsum("gij,grj->gri", whole, states)
    angle, screw, shift = _values(["angle(s2)", "screw(s2)", "shift(s2)"], structure, labels, states, reference)
    assert angle == pytest.approx(angles, abs=1e-4)
    assert screw == pytest.approx(3 * angles / 35, abs=1e-4)
    assert shift == pytest.approx(np.abs(3 * angles / 35), abs=1e-4)
    (named,) = _values(['angle("B", "A")'], structure, labels, states)
    assert named == pytest.approx(angles, abs=1e-4)
