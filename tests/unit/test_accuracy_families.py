"""Molecules of the accuracy benchmark: they fit, move as said, and are the right ones."""

import gemmi
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.pipelines.accuracy_cells import SIZES, choose_cells
from cryosphere.pipelines.accuracy_families import FAMILIES, Inputs, check_inputs, two_fabs
from cryosphere.simulation.frames import rmsd
from cryosphere.simulation.particles import prepare_conformations
from tests.reference_files import reference_file


@pytest.fixture(scope="module")
def igg():
    return Inputs(igg=reference_file("structures/1igy.pdb"))


@pytest.mark.parametrize("family", ["adk-static", "adk-mixture", "fab", "fab-turn", "fab-far"])
def test_molecules_fit_into_their_boxes(family, igg):
    states = prepare_conformations(FAMILIES[family].make(igg))
    radius = np.linalg.norm(states.atom_positions, axis=-1).max()
    for size, pixel_size in FAMILIES[family].pixel_size.items():
        assert radius + 4 < 0.5 * SIZES[size].box_size * pixel_size


def test_the_full_turn_has_even_steps_and_keeps_its_distance(igg):
    states = FAMILIES["fab-turn"].make(igg)
    positions = states.residue_positions
    steps = rmsd(positions, np.roll(positions, 1, axis=0))
    assert steps.max() == pytest.approx(steps.min(), rel=1e-6)
    moving, rest = states.bodies[1], states.bodies[0]
    apart = np.linalg.norm(positions[::10, moving][:, :, None] - positions[::10, rest][:, None], axis=-1)
    assert ((apart < 4.0).any(2).sum(1) <= 5).all()


def test_the_far_nominal_is_poor(igg):
    states = FAMILIES["fab-far"].make(igg)
    weights = np.array(choose_cells("h-0.1")[0].simulation["populations"])
    assert len(weights) == states.n_states
    distance = rmsd(states.residue_positions[weights > 0], states.residue_positions[0])
    assert 10 < distance.min() < 15


def test_both_fabs_turn_independently(igg):
    states = two_fabs(igg, n_angles=3)
    grid = states.residue_positions.reshape(3, 3, -1, 3)
    rest, second, first = states.bodies
    assert [len(body) for body in states.bodies] == [434, 430, 430]
    for still in (grid[:, :, rest].reshape(9, -1, 3), grid[0][:, first], grid[:, 0][:, second]):
        np.testing.assert_allclose(still, np.broadcast_to(still[0], still.shape), atol=1e-9)
    assert rmsd(grid[0, 0, first], grid[2, 0, first]) > 10
    assert rmsd(grid[0, 0, second], grid[0, 2, second]) > 10
    # The middle of the grid is the structure as read, and atoms move with their residues.
    np.testing.assert_allclose(grid[1, 1], states.structure.residue_positions, atol=1e-9)
    alpha_carbons = states.structure.atoms.names == "CA"
    np.testing.assert_allclose(states.atom_positions[:, alpha_carbons], states.residue_positions, atol=1e-9)


def test_an_antibody_in_another_frame_is_refused(igg, tmp_path):
    structure = gemmi.read_structure(str(igg.igg))
    structure[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(5, 0, 0)))
    structure.write_pdb(str(tmp_path / "moved.pdb"))
    with pytest.raises(InputError, match=r"moved\.pdb does not have residue B:236"):
        check_inputs(Inputs(igg=tmp_path / "moved.pdb"))
    check_inputs(igg)
    with pytest.raises(InputError, match="absent"):
        check_inputs(Inputs(igg=tmp_path / "absent.pdb"))
