"""Paths keep distances, are even, and end where they should; hinges turn rigidly."""

from __future__ import annotations

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from cryosphere.errors import ConfigError, InputError
from cryosphere.io.structures import read_structure
from cryosphere.simulation.frames import rmsd, superposition
from cryosphere.simulation.hinges import Hinge, axis_through_residues, hinge_conformations
from cryosphere.simulation.matching import select_residues, take_residues
from cryosphere.simulation.paths import conformation_path, path_geometry, superpose_structure, trace_path
from cryosphere.simulation.shipped_data import shipped_path
from tests.reference_files import reference_file

CORE = "A:1-29,A:68-117,A:161-214"


@pytest.fixture(scope="module")
def ends():
    return read_structure(shipped_path("adk/closed.cif")), read_structure(shipped_path("adk/open.cif"))


@pytest.fixture(scope="module")
def path(ends):
    return conformation_path(*ends, n_states=21)


def test_shipped_structures_are_the_entries(ends):
    """Same atoms, CORE superposed by an independent program, nothing but protein."""
    for structure, entry in zip(ends, ("1ake", "4ake"), strict=True):
        source = gemmi.read_structure(str(reference_file("structures", f"{entry}.pdb")))[0]["A"]
        atoms = [(r.seqid.num, r.name, a.name, a.element.name, a.b_iso) for r in source for a in r]
        rows = structure.atoms.residue_index
        found = list(
            zip(
                structure.residue_numbers[rows].tolist(),
                structure.residue_names[rows].tolist(),
                structure.atoms.names.tolist(),
                structure.atoms.elements.tolist(),
                structure.atoms.b_factors.round(2).tolist(),
                strict=True,
            )
        )
        assert found == [(*key, round(b, 2)) for *key, b in atoms]
        positions = np.array([a.pos.tolist() for r in source for a in r])
        np.testing.assert_allclose(pdist(positions[::7]), pdist(structure.atoms.positions[::7]), atol=3e-3)
    closed, opened = (s.residue_positions[select_residues(s, CORE)] for s in ends)
    as_gemmi = [[gemmi.Position(*p) for p in points] for points in (closed, opened)]
    best = gemmi.superpose_positions(*as_gemmi)
    assert rmsd(closed, opened) == pytest.approx(best.rmsd, abs=1e-3)
    assert best.rmsd == pytest.approx(1.55, abs=0.01)
    np.testing.assert_allclose(np.mean([s.residue_positions.mean(0) for s in ends], axis=0), 0, atol=1e-3)


def test_path_keeps_bonds_where_a_straight_line_does_not(ends, path):
    closed, opened = (s.residue_positions for s in ends)
    fraction = np.linspace(0, 1, 21)[:, None]
    bonds = np.linalg.norm(np.diff(path.residue_positions, axis=1), axis=-1)
    limits = np.sort(bonds[[0, -1]], axis=0)
    assert (bonds >= limits[0] - 1e-3).all()
    assert (bonds <= limits[1] + 1e-3).all()
    straight = closed + fraction[..., None] * (opened - closed)
    straight_bonds = np.linalg.norm(np.diff(straight, axis=1), axis=-1)
    assert (limits[0] - straight_bonds).max() > 0.5
    regular = np.abs(bonds[[0, -1]] - 3.8).max(0) < 0.1
    assert regular.sum() > 190
    assert np.abs(bonds[:, regular] - 3.8).max() < 0.101
    # the one cis proline keeps its short distance
    assert bonds[:, 85].max() < 3.1


def test_path_is_even_without_clashes_and_ends_exactly(ends, path):
    geometry = path_geometry(path.residue_positions, path.structure.bonded)
    assert geometry.largest_step <= 1.01 * geometry.smallest_step
    assert geometry.end_to_end == pytest.approx(8.09, abs=0.01)
    for state in path.residue_positions:
        distances = squareform(pdist(state))
        assert distances[np.triu_indices(214, 3)].min() > 3.5
    np.testing.assert_array_equal(path.residue_positions[0], ends[0].residue_positions)
    np.testing.assert_array_equal(path.residue_positions[-1], ends[1].residue_positions)
    np.testing.assert_allclose(path.atom_positions[0], ends[0].atoms.positions, atol=1e-9)
    np.testing.assert_allclose(path.atom_positions[-1], ends[1].atoms.positions, atol=1e-9)


def test_atoms_follow_their_residues(path):
    """Cα atoms are the residue positions, and side chains stay about their Cα."""
    atoms = path.structure.atoms
    ca = atoms.names == "CA"
    np.testing.assert_allclose(path.atom_positions[:, ca], path.residue_positions, atol=1e-9)
    beta = np.flatnonzero(atoms.names == "CB")
    alpha = path.residue_positions[:, atoms.residue_index[beta]]
    length = np.linalg.norm(path.atom_positions[:, beta] - alpha, axis=-1)
    assert np.abs(length - 1.53).max() < 0.15


def test_one_body_turning_beside_another_stays_rigid(ends):
    """Two chains, one swung by 90°: a straight line would squeeze it by cos 45°, the path keeps its inner distances."""
    body = ends[0].residue_positions
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    apart = np.array([28.0, 0, 0])
    other, swung = body - apart, body + apart
    first = np.concatenate([other, swung])
    second = np.concatenate([other, swung @ turn.T])
    states = trace_path(first, second, np.arange(427) != 213, 9)
    reference = pdist(body)
    for state in states:
        for half in (state[:214], state[214:]):
            assert np.sqrt(np.mean((pdist(half) - reference) ** 2)) < 0.1
    np.testing.assert_allclose(states[:, :214].mean(1), np.broadcast_to(first[:214].mean(0), (9, 3)), atol=0.5)
    straight = 0.5 * (first + second)
    assert np.sqrt(np.mean((pdist(straight[214:]) - reference) ** 2)) > 4.0
    steps = rmsd(states[1:], states[:-1])
    assert steps.max() < 1.02 * steps.min()


def test_unmatched_residues_and_atoms_are_left_out_and_said(ends):
    closed, opened = ends
    keep = np.flatnonzero((opened.residue_numbers != 60) & (opened.residue_numbers < 210))
    atom_rows = np.flatnonzero(np.isin(opened.atoms.residue_index, keep) & (opened.atoms.names != "CD1"))
    states = conformation_path(closed, take_residues(opened, keep, atom_rows), 3)
    assert states.structure.n_residues == len(keep)
    assert any("left out" in note and "closed.cif" in note for note in states.notes)
    assert any("keep their local place" in note for note in states.notes)
    gap = int(np.flatnonzero(states.structure.residue_numbers == 59)[0])
    assert not states.structure.bonded[gap]
    delta = states.structure.atoms.names == "CD1"
    assert delta.any()
    assert np.isfinite(states.atom_positions[:, delta]).all()


def test_single_chains_match_whatever_they_are_called(ends):
    closed, opened = ends
    renamed = replace(opened, chain_ids=np.full(opened.n_residues, "Q"))
    assert conformation_path(closed, renamed, 2).structure.n_residues == 214


def test_other_molecule_is_refused(ends):
    closed, opened = ends
    other = replace(opened, residue_numbers=opened.residue_numbers + 1000)
    with pytest.raises(InputError, match="share 0 residues"):
        conformation_path(closed, other)


def test_superposition_recovers_a_known_motion(ends):
    rng = np.random.default_rng(0)
    rotmat = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotmat *= np.sign(np.linalg.det(rotmat))
    points = ends[0].residue_positions
    found, translation = superposition(points @ rotmat.T + [1, 2, 3], points)
    np.testing.assert_allclose(found, rotmat.T, atol=1e-9)
    np.testing.assert_allclose(translation, -rotmat.T @ [1, 2, 3], atol=1e-9)
    shifted = ends[1].translated(np.array([30.0, 0, 0]))
    back, note = superpose_structure(shifted, ends[0], CORE)
    np.testing.assert_allclose(back.atoms.positions, ends[1].atoms.positions, atol=2e-3)
    assert "133 residues (RMSD 1.55" in note


def test_hinge_turns_rigidly_about_its_axis(ends):
    structure = ends[0]
    axis, point = axis_through_residues(structure, "A:121", "A:125")
    hinge = Hinge("A:122-159", (np.radians(-30), np.radians(30)), axis, point)
    states = hinge_conformations(structure, [hinge], 7)
    moving = select_residues(structure, "A:122-159")
    expected = [np.flatnonzero(~moving).tolist(), np.flatnonzero(moving).tolist()]
    assert [body.tolist() for body in states.bodies] == expected
    np.testing.assert_allclose(states.residue_positions[3], structure.residue_positions, atol=1e-9)
    fixed, turned = states.residue_positions[:, ~moving], states.residue_positions[:, moving]
    np.testing.assert_array_equal(fixed, np.broadcast_to(fixed[3], fixed.shape))
    for state in turned:
        np.testing.assert_allclose(pdist(state), pdist(turned[3]), atol=1e-9)
    # a right-handed turn by 20° from state to state, seen along the axis from the point
    unit = axis / np.linalg.norm(axis)
    a, b = (turned[s] - point - np.outer((turned[s] - point) @ unit, unit) for s in (2, 3))
    angles = np.degrees(np.arctan2(np.cross(a, b) @ unit, (a * b).sum(1)))
    far = np.linalg.norm(a, axis=1) > 2
    np.testing.assert_allclose(angles[far], 10.0, atol=1e-6)


def test_two_hinges_move_independently(ends):
    one = Hinge("A:122-159", (0.0, 0.5), np.array([0.0, 0, 1]), np.zeros(3))
    two = Hinge("A:30-59", (-0.5, 0.5), np.array([1.0, 0, 0]), np.zeros(3))
    states = hinge_conformations(ends[0], [one, two], 40, seed=3)
    assert len(states.bodies) == 3
    assert sorted(np.concatenate(states.bodies)) == list(range(214))
    again = hinge_conformations(ends[0], [one, two], 40, seed=3)
    np.testing.assert_array_equal(states.atom_positions, again.atom_positions)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("C:1-5", "chain 'C'.*has the chains A"),
        ("A:1-500", "residue 500.*runs from 1 to 214"),
        ("A:x", "Cannot read 'A:x'"),
    ],
)
def test_bad_selections_are_named(ends, selection, message):
    with pytest.raises(ConfigError, match=message):
        select_residues(ends[0], selection)


def test_hinges_that_make_no_sense_are_refused(ends):
    z, origin = np.array([0.0, 0, 1]), np.zeros(3)
    for hinge, message in [
        (Hinge("A", (0, 1), z, origin), "needs residues that stay"),
        (Hinge("A:1-9", (1, 0), z, origin), "smaller one first"),
        (Hinge("A:1-9", (0, 1), 0 * z, origin), "length 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            hinge_conformations(ends[0], [hinge])
