"""Placing structures: the frames of RELION's centred models, what auto says, and boxes that are too small."""

import numpy as np
import pytest

from cryosphere.errors import ConfigError
from cryosphere.io.structures import read_structure
from cryosphere.structure.placement import place


@pytest.fixture
def corner_structure(test_data):
    """AdK in its map's frame: box corner at 0, 64 voxels of 1.5 Å, box centre at 48 Å."""
    return read_structure(test_data / "relion_adk" / "adk_open_64_1p5_centred.pdb")


def test_corner_moves_the_box_centre_to_zero(corner_structure):
    placed = place(corner_structure, "corner", 64, 1.5)
    np.testing.assert_allclose(placed.residue_positions, corner_structure.residue_positions - 48.0)
    np.testing.assert_allclose(placed.atoms.positions, corner_structure.atoms.positions - 48.0)
    np.testing.assert_array_equal(placed.frame_shift, [48.0] * 3)
    np.testing.assert_allclose(placed.residue_positions + placed.frame_shift, corner_structure.residue_positions)
    assert placed.notes == ()


def test_odd_box_has_its_centre_at_the_middle_voxel(corner_structure):
    np.testing.assert_array_equal(place(corner_structure, "corner", 65, 1.5).frame_shift, [48.0] * 3)
    np.testing.assert_array_equal(place(corner_structure, "corner", 66, 1.5).frame_shift, [49.5] * 3)


def test_center_leaves_coordinates(corner_structure):
    placed = place(corner_structure, "center", 400, 1.5)
    np.testing.assert_array_equal(placed.residue_positions, corner_structure.residue_positions)
    np.testing.assert_array_equal(placed.frame_shift, np.zeros(3))


def test_auto_takes_the_better_one_and_says_so(corner_structure):
    placed = place(corner_structure, "auto", 64, 1.5)
    np.testing.assert_array_equal(placed.frame_shift, [48.0] * 3)
    centroid = np.average(placed.residue_positions, axis=0, weights=placed.amplitudes)
    (note,) = placed.notes
    assert "'corner'" in note and f"{np.linalg.norm(centroid):.1f} Å from the box centre" in note
    again = place(corner_structure.translated(np.full(3, -48.0)), "auto", 64, 1.5)
    np.testing.assert_allclose(again.residue_positions, placed.residue_positions)
    assert "'center'" in again.notes[0]


def test_centroid_is_weighted_by_amplitude(corner_structure):
    from dataclasses import replace

    positions = np.zeros_like(corner_structure.residue_positions)
    positions[0] = 40.0
    heavy_first = replace(
        corner_structure,
        residue_positions=positions,
        amplitudes=np.where(np.arange(corner_structure.n_residues) == 0, 1e6, 1.0),
    )
    assert "'corner'" in place(heavy_first, "auto", 64, 1.5).notes[0]
    assert "'center'" in place(replace(heavy_first, amplitudes=np.ones(214)), "auto", 64, 1.5).notes[0]


def test_structure_outside_the_box_is_said_with_numbers(corner_structure):
    placed = place(corner_structure, "corner", 64, 1.0)
    outside = (np.abs(placed.residue_positions) > 32.0).any(axis=1).sum()
    (note,) = placed.notes
    assert f"{outside} of 214 residues lie outside the box of 64 pixels x 1 Å = 64 Å" in note
    assert f"{np.linalg.norm(placed.residue_positions, axis=1).max():.1f} Å" in note


def test_structure_that_turns_out_of_the_box_is_said(corner_structure):
    centred = place(corner_structure, "corner", 64, 1.5)
    extent, reach = (
        np.abs(centred.residue_positions).max(),
        np.linalg.norm(centred.residue_positions, axis=1).max(),
    )
    box_size = 40
    (note,) = place(centred, "center", box_size, (extent + reach) / box_size).notes
    assert f"reaches {reach:.1f} Å" in note and "some orientations" in note


def test_input_is_unchanged_and_notes_are_kept(test_data):
    structure = read_structure(test_data / "structures" / "1igy.pdb")
    before = structure.residue_positions.copy()
    placed = place(structure, "corner", 128, 3.0)
    np.testing.assert_array_equal(structure.residue_positions, before)
    assert placed.notes[: len(structure.notes)] == structure.notes


def test_unknown_origin(corner_structure):
    with pytest.raises((ConfigError, TypeError)):
        place(corner_structure, "middle", 64, 1.5)


def test_box_centre_given_by_coordinates(corner_structure):
    placed = place(corner_structure, [48.0, 40.0, 50], 64, 1.5)
    np.testing.assert_allclose(placed.residue_positions, corner_structure.residue_positions - [48.0, 40.0, 50.0])
    np.testing.assert_array_equal(placed.frame_shift, [48.0, 40.0, 50.0])
    with pytest.raises(ConfigError, match="three numbers"):
        place(corner_structure, [48.0, 40.0], 64, 1.5)


def test_the_corner_is_that_of_the_files_not_of_the_cropped_grid(corner_structure):
    placed = place(corner_structure, "corner", 20, 4.7, np.array([48.0, 48.2]))
    np.testing.assert_array_equal(placed.frame_shift, [48.0] * 3)
    auto = place(corner_structure, "auto", 20, 4.7, np.array([48.0]))
    np.testing.assert_array_equal(auto.frame_shift, [48.0] * 3)
    with pytest.raises(ConfigError, match=r"centres at 48\.0, 60\.0 Å from the corner"):
        place(corner_structure, "corner", 20, 4.7, np.array([48.0, 60.0]))
