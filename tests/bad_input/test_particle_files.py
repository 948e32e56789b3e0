"""Particle files that cannot be used: one sentence naming file, row or column, what was found and what to do."""

import mrcfile
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.mrc import read_header, read_images, read_volume
from cryosphere.io.star import read_particles


def message(path, **options):
    """The error of reading ``path``: one sentence that names the file."""
    with pytest.raises(InputError) as caught:
        read_particles(path, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


@pytest.fixture
def complain(tmp_path, make_stack, write_star, star_blocks):
    """Change a valid file by a function of its blocks, and return the error of reading it."""
    make_stack(tmp_path / "stack.mrcs")

    def run(change):
        change(star_blocks["optics"], star_blocks["particles"])
        text = message(write_star(tmp_path / "p.star", star_blocks))
        assert str(tmp_path / "p.star") in text
        return text

    return run


def test_the_unchanged_file_is_good(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    assert read_particles(write_star(tmp_path / "p.star", star_blocks)).n_particles == 4


def test_real_file_without_poses(test_data):
    text = message(test_data / "star" / "empiar_10076_7.star", datadir=test_data / "stacks")
    assert "no poses" in text and "rlnAngleRot, rlnAngleTilt, rlnAnglePsi" in text and "refinement" in text


def test_real_file_with_incomplete_ctf(test_data):
    text = message(test_data / "star" / "sample_incomplete_ctf_params.star")
    assert "not all CTF parameters" in text and "rlnVoltage" in text and "rlnSphericalAberration" not in text


@pytest.mark.parametrize(
    ("block", "column", "what"),
    [
        ("particles", "rlnAngleTilt", "poses"),
        ("particles", "rlnOriginYAngst", "shifts"),
        ("particles", "rlnDefocusV", "CTF"),
        ("particles", "rlnOpticsGroup", "optics group"),
        ("optics", "rlnVoltage", "CTF"),
        ("optics", "rlnSphericalAberration", "CTF"),
        ("optics", "rlnImagePixelSize", "pixel size"),
    ],
)
def test_missing_column(complain, block, column, what):
    text = complain(lambda optics, particles: {"optics": optics, "particles": particles}[block].pop(column))
    assert column in text and what in text and f"data_{block}" in text


@pytest.mark.parametrize("cell", ["nan", "inf", "<NA>", "abc", "None"])
@pytest.mark.parametrize("column", ["rlnDefocusU", "rlnAngleRot", "rlnOriginXAngst"])
def test_cell_that_is_no_number(complain, column, cell):
    def change(_, particles):
        particles[column][2] = cell

    text = complain(change)
    assert "row 3 of data_particles" in text and column in text and "finite number" in text


def test_optics_cell_that_is_no_number(complain):
    text = complain(lambda optics, _: optics.update(rlnAmplitudeContrast=[0.1, "nan"]))
    assert "row 2 of data_optics" in text and "rlnAmplitudeContrast" in text


def test_row_with_too_few_cells(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    path = write_star(tmp_path / "p.star", star_blocks)
    path.write_text(path.read_text().rstrip().rsplit(" ", 1)[0] + "\n")
    assert "row 4 of data_particles: rlnDefocusAngle is missing" in message(path)


def test_row_with_too_many_cells(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    path = write_star(tmp_path / "p.star", star_blocks)
    path.write_text(path.read_text().rstrip() + " 17\n")
    assert "cannot be parsed as STAR" in message(path) and str(path) in message(path)


def test_no_particles(complain):
    def change(_, particles):
        for cells in particles.values():
            cells.clear()

    assert "no particles" in complain(change)


@pytest.mark.parametrize("content", ["", "\n\n", "just text\n", "data_\n"])
def test_file_without_a_table(tmp_path, content):
    (tmp_path / "p.star").write_text(content)
    text = message(tmp_path / "p.star")
    assert str(tmp_path / "p.star") in text and "STAR" in text


def test_binary_file(tmp_path, make_stack):
    make_stack(tmp_path / "p.star")
    assert "STAR" in message(tmp_path / "p.star")


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in message(tmp_path / "absent.star")
    assert "not a file" in message(tmp_path)


def test_micrograph_star(tmp_path, write_star):
    blocks = {
        "optics": {"rlnOpticsGroup": [1], "rlnVoltage": [300]},
        "micrographs": {"rlnMicrographName": ["m.mrc"], "rlnOpticsGroup": [1]},
    }
    text = message(write_star(tmp_path / "p.star", blocks))
    assert "micrograph STAR file" in text and "rlnMicrographName" in text and "particles.star" in text


def test_movie_star(tmp_path, write_star):
    text = message(write_star(tmp_path / "p.star", {"movies": {"rlnMicrographMovieName": ["m.tif", "n.tif"]}}))
    assert "movie STAR file" in text


def test_tomogram_stars(tmp_path, write_star, complain):
    text = message(write_star(tmp_path / "t.star", {"global": {"rlnTomoName": ["TS_1", "TS_2"]}}))
    assert "tomogram STAR file" in text and "rlnTomoName in data_global" in text
    text = complain(lambda _, particles: particles.update(rlnTomoName=["TS_1"] * 4))
    assert "tomogram STAR file" in text and "data_particles" in text


def test_model_star(tmp_path, write_star):
    text = message(write_star(tmp_path / "p.star", {"model_general": {"rlnReferenceDimensionality": [3]}}))
    assert "no table with the column rlnImageName (found data_model_general)" in text


def test_table_with_a_group_of_another_box_than_its_stack(complain):
    text = complain(lambda optics, _: optics.update(rlnImageSize=[8, 10]))
    assert "stack.mrcs has a box of 8 pixels" in text and "says 10" in text


@pytest.mark.parametrize("cell", ["0.1,0.2", "[0.1,x]", "[nan]", "none"])
def test_zernike_terms_that_are_no_list_of_numbers(complain, cell):
    text = complain(lambda optics, _: optics.update(rlnOddZernike=["[0,0.1]", cell]))
    assert "row 2 of data_optics: rlnOddZernike" in text and "brackets" in text


@pytest.mark.parametrize("corner", [0.0, 5.0, -1.0])
def test_magnification_far_from_the_identity(complain, corner):
    text = complain(lambda optics, _: optics.update(rlnMagMat00=[1.0, corner]))
    assert "row 2 of data_optics: rlnMagMat00 to rlnMagMat11" in text and "near the identity" in text


def test_beam_tilt_that_is_no_number(complain):
    text = complain(lambda optics, _: optics.update(rlnBeamTiltY=[0.1, "nan"]))
    assert "row 2 of data_optics: rlnBeamTiltY" in text


def test_images_that_are_volumes(complain):
    text = complain(lambda optics, _: optics.update(rlnImageDimensionality=[3, 3]))
    assert "rlnImageDimensionality is 3" in text and "volumes" in text


def test_ctf_corrected_images(complain):
    text = complain(lambda optics, _: optics.update(rlnCtfDataAreCtfCorrected=[1, 1]))
    assert "rlnCtfDataAreCtfCorrected is set" in text


def test_two_loops_in_a_block(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    path = write_star(tmp_path / "p.star", star_blocks)
    path.write_text(path.read_text() + "loop_\n_rlnOther\n1\n")
    assert "data_particles has a second loop_" in message(path)


def test_unknown_optics_group(complain):
    def change(_, particles):
        particles["rlnOpticsGroup"][3] = 9

    text = complain(change)
    assert "row 4 of data_particles: rlnOpticsGroup is '9'" in text and "data_optics" in text


@pytest.mark.parametrize(
    ("column", "values"),
    [("rlnVoltage", [300000, 300]), ("rlnImagePixelSize", [-1.5, -1.5]), ("rlnAmplitudeContrast", [7, 0.1])],
)
def test_impossible_optics(complain, column, values):
    assert "optics group low" in complain(lambda optics, _: optics.update({column: values}))


def test_zero_magnification(tmp_path, write_star, star_blocks):
    particles = star_blocks["particles"]
    del particles["rlnOpticsGroup"]
    particles |= {"rlnVoltage": [300] * 4, "rlnSphericalAberration": [2.7] * 4}
    particles |= {"rlnMagnification": [1e4, 1e4, 0, 1e4], "rlnDetectorPixelSize": [1.5] * 4}
    text = message(write_star(tmp_path / "p.star", {"images": particles}))
    assert "row 3 of data_images: rlnMagnification" in text
    del particles["rlnMagnification"]
    assert "rlnMagnification" in message(write_star(tmp_path / "p.star", {"images": particles}))


@pytest.mark.parametrize("name", ["stack.mrcs", "0@stack.mrcs", "x@stack.mrcs", "1.5@stack.mrcs", "3@"])
def test_image_name_of_no_image(complain, name):
    def change(_, particles):
        particles["rlnImageName"][1] = name

    text = complain(change)
    assert "row 2 of data_particles: rlnImageName" in text and "NUMBER@STACK.mrcs" in text


def test_missing_stacks(tmp_path, make_stack, write_star, star_blocks):
    star_blocks["particles"]["rlnImageName"] = [
        "1@stack.mrcs",
        "1@sub/one.mrcs",
        "1@sub/two.mrcs",
        "2@stack.mrcs",
    ]
    make_stack(tmp_path / "stack.mrcs")
    path = write_star(tmp_path / "p.star", star_blocks)
    text = message(path)
    assert "2 of 3 image stacks are missing, the first is sub/one.mrcs" in text
    assert str(tmp_path / "sub" / "one.mrcs") in text and "pass --datadir" in text
    data = tmp_path / "data"
    assert f"{data} (--datadir) does not exist" in message(path, datadir=data)
    data.mkdir()
    text = message(path, datadir=data)
    for place in (tmp_path / "sub" / "one.mrcs", data / "sub" / "one.mrcs", data / "one.mrcs"):
        assert str(place) in text
    assert "correct --datadir" in text


def test_image_beyond_the_stack(complain):
    def change(_, particles):
        particles["rlnImageName"][2] = "000009@stack.mrcs"

    text = complain(change)
    assert "row 3: image 9 of" in text and "has 4 images" in text


def test_stack_of_another_box_than_the_table(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs", box_size=9)
    text = message(write_star(tmp_path / "p.star", star_blocks))
    assert "stack.mrcs has a box of 9 pixels" in text and "says 8" in text


def test_stacks_of_several_boxes(tmp_path, make_stack, write_star, star_blocks):
    del star_blocks["optics"]["rlnImageSize"]
    star_blocks["particles"]["rlnImageName"][1] = "1@odd.mrcs"
    make_stack(tmp_path / "stack.mrcs")
    make_stack(tmp_path / "odd.mrcs", box_size=9)
    text = message(write_star(tmp_path / "p.star", star_blocks))
    assert "stack.mrcs: 8 pixels" in text and "odd.mrcs: 9 pixels" in text


def test_images_that_are_not_square(tmp_path, write_star, star_blocks):
    with mrcfile.new(tmp_path / "stack.mrcs") as mrc:
        mrc.set_data(np.zeros((4, 8, 6), np.float32))
    text = message(write_star(tmp_path / "p.star", star_blocks))
    assert "stack.mrcs has images of 6 x 8 pixels, expected square ones" in text


def test_truncated_stack(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    data = (tmp_path / "stack.mrcs").read_bytes()
    (tmp_path / "stack.mrcs").write_bytes(data[:-100])
    text = message(write_star(tmp_path / "p.star", star_blocks))
    assert "stack.mrcs is truncated" in text
    assert f"({len(data)} bytes)" in text and f"has {len(data) - 100} bytes" in text


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000, bytes(5000)], ids=["empty", "short", "text", "zeros"])
def test_stack_that_is_no_mrc_file(tmp_path, write_star, star_blocks, content):
    (tmp_path / "stack.mrcs").write_bytes(content)
    text = message(write_star(tmp_path / "p.star", star_blocks))
    assert str(tmp_path / "stack.mrcs") in text and "MRC" in text


def test_complex_stack(tmp_path, write_star, star_blocks):
    with mrcfile.new(tmp_path / "stack.mrcs") as mrc:
        mrc.set_data(np.zeros((4, 8, 8), np.complex64))
    assert "has MRC mode 4, expected one of 0 (int8)" in message(write_star(tmp_path / "p.star", star_blocks))


def test_direct_reading_checks_too(tmp_path, make_stack):
    make_stack(tmp_path / "a.mrcs")
    make_stack(tmp_path / "b.mrcs", box_size=6)
    paths = [tmp_path / "a.mrcs", tmp_path / "b.mrcs"]
    with pytest.raises(InputError, match="has 4 images, image 5 is asked for"):
        read_images(paths, np.zeros(1, int), np.array([4]))
    with pytest.raises(InputError, match="6 x 6 pixels, the other stacks 8 x 8"):
        read_images(paths, np.array([0, 1]), np.zeros(2, int))
    with pytest.raises(InputError, match="does not exist"):
        read_images([tmp_path / "absent.mrcs"], np.zeros(1, int), np.zeros(1, int))
    with pytest.raises(InputError, match="does not exist"):
        read_header(tmp_path)


def test_map_without_cubic_voxels(tmp_path):
    for name, voxel_size in (("a.mrc", (1.0, 1.0, 2.0)), ("b.mrc", 0.0)):
        with mrcfile.new(tmp_path / name) as mrc:
            mrc.set_data(np.zeros((4, 4, 4), np.float32))
            mrc.voxel_size = voxel_size
        with pytest.raises(InputError, match="expected cubes of a known size"):
            read_volume(tmp_path / name)


def test_map_with_impossible_axes(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(np.zeros((4, 4, 4), np.float32))
        mrc.voxel_size = 1.0
        mrc.header.mapc = 2
    with pytest.raises(InputError, match=r"axis order \(2, 2, 3\)"):
        read_volume(tmp_path / "a.mrc")
