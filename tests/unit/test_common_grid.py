"""The grid that images of several box and pixel sizes are brought to, and tables that have such images."""

import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.common_grid import common_grid
from cryosphere.io.stacks import check_stacks
from cryosphere.io.star import read_particles


def grid(*sizes):
    boxes, pixels = zip(*sizes, strict=True)
    return common_grid("p.star", [f"g{n}" for n in range(len(sizes))], np.array(boxes), np.array(pixels))


@pytest.mark.parametrize("sizes", [[(9, 1.5)], [(8, 1.06), (8, 1.0605)]])
def test_groups_of_one_size_stay_as_they_are(sizes):
    found = grid(*sizes)
    assert (found.box_size, found.pixel_size) == sizes[0]
    assert found.group_box_size is None and found.group_pixel_size is None and found.notes == ()


@pytest.mark.parametrize(
    ("sizes", "box", "pixel"),
    [
        ([(256, 1.06), (320, 0.848)], 256, 1.06),
        ([(320, 0.85), (256, 1.06)], 256, 1.06),
        ([(300, 0.83), (256, 1.06)], 234, 1.06),
        ([(256, 1.06), (400, 1.06)], 256, 1.06),
        ([(129, 2.0), (131, 2.0)], 128, 2.0),
        ([(128, 1.5), (128, 1.2), (96, 2.0)], 76, 2.0),
    ],
)
def test_coarsest_pixels_and_smallest_field_of_view(sizes, box, pixel):
    found = grid(*sizes)
    assert (found.box_size, found.pixel_size) == (box, pixel)
    boxes, pixels = np.array(sizes).T
    # Every group can be cropped to it, in Fourier and in real space, and two more pixels would not fit.
    assert found.pixel_size >= pixels.max() and box * pixel <= (boxes * pixels).min() * 1.001
    assert (box + 2) * pixel > (boxes * pixels).min()
    np.testing.assert_array_equal(found.group_box_size, boxes)
    np.testing.assert_array_equal(found.group_pixel_size, pixels)
    (note,) = found.notes
    assert f"g0: {sizes[0][0]} px of {sizes[0][1]:g} Å" in note


def test_many_groups_are_counted_in_the_note():
    (note,) = grid(*[(8, 1.0 + 0.1 * number) for number in range(7)]).notes
    assert "3 more" in note and "g3" in note and "g4" not in note


def test_table_of_two_sizes(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs", box_size=8, pixel_size=1.5)
    make_stack(tmp_path / "fine.mrcs", box_size=12, pixel_size=1.0)
    star_blocks["optics"] |= {"rlnImagePixelSize": [1.5, 1.0], "rlnImageSize": [8, 12]}
    star_blocks["particles"]["rlnImageName"] = ["1@stack.mrcs", "1@fine.mrcs", "2@fine.mrcs", "4@stack.mrcs"]
    for size_column in (True, False):
        if not size_column:
            del star_blocks["optics"]["rlnImageSize"]
        table = read_particles(write_star(tmp_path / "p.star", star_blocks))
        assert (table.box_size, table.pixel_size) == (8, 1.5)
        np.testing.assert_array_equal(table.group_box_size, [8, 12])
        np.testing.assert_array_equal(table.group_pixel_size, [1.5, 1.0])
        (note,) = table.notes
        assert "low: 8 px of 1.5 Å, high: 12 px of 1 Å" in note


def test_pixel_origins_are_of_the_group_they_belong_to(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs", box_size=8, pixel_size=1.5)
    make_stack(tmp_path / "fine.mrcs", box_size=12, pixel_size=1.0)
    particles = star_blocks["particles"]
    del particles["rlnOpticsGroup"], particles["rlnOriginXAngst"], particles["rlnOriginYAngst"]
    particles |= {
        "rlnImageName": ["1@stack.mrcs", "1@fine.mrcs", "2@fine.mrcs", "4@stack.mrcs"],
        "rlnOriginX": [1.0, 1.0, -2.0, 0.5],
        "rlnOriginY": [0.0, 3.0, 0.0, -1.0],
        "rlnVoltage": [300] * 4,
        "rlnSphericalAberration": [2.7] * 4,
        "rlnAmplitudeContrast": [0.1] * 4,
        "rlnMagnification": [1e4, 1.5e4, 1.5e4, 1e4],
        "rlnDetectorPixelSize": [1.5] * 4,
    }
    table = read_particles(write_star(tmp_path / "p.star", {"": particles}))
    np.testing.assert_allclose(table.shift, [[1.5, 0.0], [1.0, 3.0], [-2.0, 0.0], [0.75, -1.5]])
    np.testing.assert_array_equal(table.group_box_size, [8, 12])
    np.testing.assert_allclose(table.group_pixel_size, [1.5, 1.0])


def test_header_pixel_sizes_are_held_against_the_stack_s_own_group(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs", box_size=8, pixel_size=1.5)
    make_stack(tmp_path / "fine.mrcs", box_size=12, pixel_size=1.5)
    star_blocks["optics"] |= {"rlnImagePixelSize": [1.5, 1.0], "rlnImageSize": [8, 12]}
    star_blocks["particles"]["rlnImageName"] = ["1@stack.mrcs", "1@fine.mrcs", "2@fine.mrcs", "4@stack.mrcs"]
    notes = read_particles(write_star(tmp_path / "p.star", star_blocks)).notes
    assert ["fine.mrcs has a pixel size of 1.5" in note for note in notes] == [False, True]


def test_stacks_of_one_group_have_one_box(tmp_path, make_stack):
    make_stack(tmp_path / "a.mrcs", box_size=8)
    make_stack(tmp_path / "b.mrcs", box_size=10)
    paths = [tmp_path / "a.mrcs", tmp_path / "b.mrcs"]
    rows = {"image_index": np.zeros(2, int), "source": tmp_path / "p", "pixel_size": np.array([1.5])}
    with pytest.raises(InputError, match="stacks of several boxes"):
        check_stacks(paths, stack_index=np.array([0, 1]), group=np.zeros(2, int), **rows)
    one = check_stacks(paths[:1], stack_index=np.zeros(2, int), group=np.zeros(2, int), **rows, box_size=np.array([8]))
    assert one.box_size.tolist() == [8] and one.notes == ()
