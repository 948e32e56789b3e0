"""RELION STAR files: values against a plain parser and RELION's own formulas, conventions of 3.0 and 3.1."""

import numpy as np
import pytest
import starfile
import torch

from cryosphere.errors import InputError
from cryosphere.io.star import OpticsGroup, image_name, read_particles, write_particles


def plain_columns(path, block):
    """Columns of one loop by splitting lines, nothing more."""
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line.strip() == f"data_{block}":
            break
    names, rows = [], []
    for line in lines:
        if line.startswith("data_"):
            break
        if line.startswith("_"):
            names.append(line.split()[0][1:])
        elif names and line.strip() and not line.startswith("#"):
            rows.append(line.split())
    return {name: list(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}


def relion_matrix(rot, tilt, psi):
    """Euler_angles2matrix of RELION's euler.cpp, angles in degrees."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.deg2rad([rot, tilt, psi])), np.sin(np.deg2rad([rot, tilt, psi]))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


@pytest.mark.parametrize("name", ["adk_open_64_1p5_ctf", "adk_closed_64_1p5_noctf"])
def test_relion_file_values(test_data, name):
    path = test_data / "relion_adk" / f"{name}.star"
    table, plain = read_particles(path), plain_columns(path, "particles")
    numbers = {key: np.array(cells, dtype=float) for key, cells in plain.items() if "Name" not in key}
    assert (table.n_particles, table.box_size, table.pixel_size) == (32, 64, 1.5)
    assert table.optics_group_names == ("og1", "og2")
    angles = zip(numbers["rlnAngleRot"], numbers["rlnAngleTilt"], numbers["rlnAnglePsi"], strict=True)
    np.testing.assert_allclose(table.rotmat, [relion_matrix(*row) for row in angles], atol=1e-12)
    np.testing.assert_allclose(table.shift[:, 0], numbers["rlnOriginXAngst"])
    np.testing.assert_allclose(table.shift[:, 1], numbers["rlnOriginYAngst"])
    np.testing.assert_allclose(table.defocus_u, numbers["rlnDefocusU"])
    np.testing.assert_allclose(table.defocus_v, numbers["rlnDefocusV"])
    np.testing.assert_allclose(np.rad2deg(table.defocus_angle), numbers["rlnDefocusAngle"])
    np.testing.assert_allclose(np.rad2deg(table.phase_shift), numbers["rlnPhaseShift"])
    np.testing.assert_array_equal(table.image_index, np.arange(32))
    first = numbers["rlnOpticsGroup"] == 1
    np.testing.assert_array_equal(table.voltage_kv, np.where(first, 300, 200))
    np.testing.assert_array_equal(table.spherical_aberration_mm, np.where(first, 2.7, 1.4))
    np.testing.assert_array_equal(table.amplitude_contrast, np.where(first, 0.1, 0.07))


def test_phase_plate_is_per_particle(test_data):
    table = read_particles(test_data / "relion_adk" / "adk_open_64_1p5_ctf.star")
    np.testing.assert_allclose(table.phase_shift, np.where(table.voltage_kv == 200, np.pi / 2, 0.0))


def test_block_order_does_not_matter(test_data):
    first, second = (
        read_particles(test_data / "star" / name, datadir=test_data / "stacks")
        for name in ("relion31.star", "relion31.v2.star")
    )
    np.testing.assert_array_equal(first.rotmat, second.rotmat)
    np.testing.assert_array_equal(first.shift, second.shift)
    assert first.pixel_size == second.pixel_size == 2.806
    assert first.stack_paths == second.stack_paths == (test_data / "stacks" / "relion31.mrcs",)


def test_header_pixel_size_against_table_is_noted_and_table_wins(test_data):
    table = read_particles(test_data / "star" / "relion31.star", datadir=test_data / "stacks")
    assert table.pixel_size == 2.806
    (note,) = [note for note in table.notes if "pixel size" in note]
    assert "1 Å" in note and "2.806 Å" in note and "relion31.star wins" in note


def test_header_without_pixel_size_says_nothing(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs", pixel_size=0.0)
    assert read_particles(write_star(tmp_path / "p.star", star_blocks)).notes == ()


def test_relion30_and_31_agree(test_data, tmp_path, make_stack):
    make_stack(tmp_path / "sample.mrcs", n_images=2000, box_size=4)
    old, new = (
        read_particles(test_data / "star" / f"sample_particles_relion{version}.star", datadir=tmp_path)
        for version in ("30", "31")
    )
    # The 3.1 file has its 14th particle twice, in place of the 15th of the 3.0 file.
    rows = np.delete(np.arange(17), 14)
    np.testing.assert_allclose(old.rotmat[rows], new.rotmat[rows], atol=1e-12)
    for name in (
        "defocus_u defocus_v defocus_angle phase_shift b_factor scale voltage_kv spherical_aberration_mm "
        "amplitude_contrast image_index"
    ).split():
        np.testing.assert_allclose(getattr(old, name)[rows], getattr(new, name)[rows], err_msg=name)
    assert set(new.voltage_kv) == {200.0, 300.0} and len(old.optics_group_names) == 2
    # 3.0 has pixels where 3.1 has Å, and the two files have the same numbers there.
    assert old.pixel_size == pytest.approx(5e4 / 37369.207031, abs=1e-6) and new.pixel_size == 1.4
    np.testing.assert_allclose(old.shift[rows], new.shift[rows] * old.pixel_size)


def test_flat_file_with_pixel_origins(test_data, tmp_path, make_stack):
    path = test_data / "star" / "FinalRefinement-OriginalParticles-PfCRT.star"
    plain = plain_columns(path, "images")
    make_stack(tmp_path / "FinalRefinement-OriginalParticles-PfCRT.mrcs", n_images=len(plain["rlnVoltage"]))
    table = read_particles(path, datadir=tmp_path)
    assert table.pixel_size == pytest.approx(1.035)
    pixels = np.array([plain["rlnOriginX"], plain["rlnOriginY"]], dtype=float).T
    np.testing.assert_allclose(table.shift, pixels * 1.035)
    assert len(table.optics_group_names) == 1
    assert (table.amplitude_contrast == 0.1).all()
    assert any("rlnAmplitudeContrast" in note and "0.1 is assumed" in note for note in table.notes)


def test_flat_file_groups_by_microscope(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    particles = star_blocks["particles"]
    del particles["rlnOpticsGroup"]
    particles |= {
        "rlnVoltage": [300, 200, 300, 200],
        "rlnSphericalAberration": [2.7, 2.7, 2.7, 1.4],
        "rlnAmplitudeContrast": [0.1] * 4,
        "rlnMagnification": [1e5] * 4,
        "rlnDetectorPixelSize": [15] * 4,
    }
    table = read_particles(write_star(tmp_path / "p.star", {"": particles}))
    np.testing.assert_array_equal(table.optics_group, [0, 1, 0, 2])
    np.testing.assert_array_equal(table.spherical_aberration_mm, [2.7, 2.7, 2.7, 1.4])
    assert table.pixel_size == pytest.approx(1.5)


def test_absent_phase_shift_is_zero(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    table = read_particles(write_star(tmp_path / "p.star", star_blocks))
    np.testing.assert_array_equal(table.phase_shift, np.zeros(4))
    np.testing.assert_array_equal(table.b_factor, np.zeros(4))
    np.testing.assert_array_equal(table.scale, np.ones(4))
    ctf = table.ctf_parameters(np.array([1, 2]))
    assert torch.isfinite(ctf.phase_shift).all() and ctf.voltage_kv.tolist() == [300.0, 300.0]


def test_optics_groups_in_any_order_and_unused_ones_ignored(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["optics"] = {
        "rlnOpticsGroup": [7, 5, 2],
        "rlnVoltage": [300, 100, 200],
        "rlnSphericalAberration": [2.7, 0.5, 1.4],
        "rlnAmplitudeContrast": [0.1, 0.2, 0.07],
        "rlnImagePixelSize": [1.5, 9.0, 1.5],
        "rlnImageSize": [8, 99, 8],
    }
    star_blocks["particles"]["rlnOpticsGroup"] = [7, 2, 2, 7]
    table = read_particles(write_star(tmp_path / "p.star", star_blocks))
    np.testing.assert_array_equal(table.voltage_kv, [300, 200, 200, 300])
    np.testing.assert_array_equal(table.amplitude_contrast, [0.1, 0.07, 0.07, 0.1])
    assert table.optics_group_names == ("opticsGroup2", "opticsGroup7")


def test_optics_without_a_loop(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    optics = star_blocks.pop("optics")
    star_blocks["particles"]["rlnOpticsGroup"] = [1] * 4
    path = write_star(tmp_path / "p.star", star_blocks)
    simple = "\n".join(f"_{name} {cells[0]}" for name, cells in optics.items())
    path.write_text(f"data_optics\n\n{simple}\n\n{path.read_text()}")
    assert read_particles(path).voltage_kv.tolist() == [200.0] * 4


def test_numbers_written_as_text_or_integers(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["particles"]["rlnDefocusU"] = ['"10000"', "11000", "1.2e4", "13000.0"]
    star_blocks["particles"]["rlnAngleRot"] = [0, 10, -20, 170]
    table = read_particles(write_star(tmp_path / "p.star", star_blocks))
    np.testing.assert_array_equal(table.defocus_u, [10000, 11000, 12000, 13000])


def test_stacks_beside_the_star_come_before_datadir(tmp_path, make_stack, write_star, star_blocks):
    blocks = star_blocks
    blocks["particles"]["rlnImageName"] = ["2@a/x.mrcs", "1@b.mrcs", "1@a/x.mrcs", "1@deep/c.mrcs"]
    path = write_star(tmp_path / "job" / "p.star", blocks)
    data = tmp_path / "data"
    for place in (tmp_path / "job" / "a" / "x.mrcs", data / "a" / "x.mrcs", data / "b.mrcs", data / "c.mrcs"):
        make_stack(place)
    table = read_particles(path, datadir=data)
    assert table.stack_paths == (tmp_path / "job" / "a" / "x.mrcs", data / "b.mrcs", data / "c.mrcs")
    np.testing.assert_array_equal(table.stack_index, [0, 1, 0, 2])
    np.testing.assert_array_equal(table.image_index, [1, 0, 0, 0])


def particle_fields(n_particles=5):
    generator = np.random.default_rng(1)
    return {
        "image_names": [image_name(index, "stack.mrcs") for index in range(n_particles)],
        "angles_deg": generator.uniform(-180, 180, (n_particles, 3)),
        "shift": generator.normal(size=(n_particles, 2)),
        "defocus_u": generator.uniform(1e4, 2e4, n_particles),
        "defocus_v": generator.uniform(1e4, 2e4, n_particles),
        "defocus_angle_deg": generator.uniform(0, 180, n_particles),
        "phase_shift_deg": generator.uniform(0, 90, n_particles),
        "optics_groups": [OpticsGroup("one", 300.0, 2.7, 0.1), OpticsGroup("two", 200.0, 1.4, 0.07)],
        "optics_group": np.arange(n_particles) % 2,
        "box_size": 8,
        "pixel_size": 1.5,
        "extra": {
            "rlnRandomSubset": np.arange(n_particles) % 2 + 1,
            "rlnCtfBfactor": np.full(n_particles, 7.0),
        },
    }


def test_written_file_is_read_by_starfile_and_by_us(tmp_path, make_stack):
    fields = particle_fields()
    make_stack(tmp_path / "stack.mrcs", n_images=5)
    write_particles(tmp_path / "p.star", **fields)
    blocks = starfile.read(tmp_path / "p.star")
    assert list(blocks) == ["optics", "particles"]
    particles = blocks["particles"]
    np.testing.assert_allclose(particles["rlnAngleTilt"], fields["angles_deg"][:, 1], atol=1e-6)
    assert particles["rlnImageName"].tolist()[4] == "000005@stack.mrcs"
    assert particles["rlnRandomSubset"].tolist() == [1, 2, 1, 2, 1]
    assert blocks["optics"]["rlnOpticsGroup"].tolist() == [1, 2]
    table = read_particles(tmp_path / "p.star")
    expected = [relion_matrix(*angles) for angles in fields["angles_deg"]]
    np.testing.assert_allclose(table.rotmat, expected, atol=1e-7)
    np.testing.assert_allclose(table.shift, fields["shift"], atol=1e-6)
    np.testing.assert_allclose(np.rad2deg(table.phase_shift), fields["phase_shift_deg"], atol=1e-6)
    np.testing.assert_array_equal(table.voltage_kv, [300, 200, 300, 200, 300])
    np.testing.assert_array_equal(table.b_factor, np.full(5, 7.0))


def test_equal_tables_are_equal_files(tmp_path):
    for name in ("a.star", "b.star"):
        write_particles(tmp_path / name, **particle_fields())
    assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()


def test_existing_file_is_kept(tmp_path):
    (tmp_path / "p.star").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        write_particles(tmp_path / "p.star", **particle_fields())
    assert (tmp_path / "p.star").read_text() == "mine"
    write_particles(tmp_path / "p.star", **particle_fields(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["p.star"]


def test_failed_write_leaves_nothing(tmp_path):
    class Unprintable:
        def __str__(self):
            raise ValueError("no text")

    fields = particle_fields() | {"extra": {"rlnClassNumber": [1, 2, 3, 4, Unprintable()]}}
    with pytest.raises(ValueError, match="no text"):
        write_particles(tmp_path / "p.star", **fields)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("column", ["rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"])
def test_images_the_ctf_no_longer_acts_on_are_refused(tmp_path, make_stack, write_star, star_blocks, column):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["optics"][column] = [0] * len(star_blocks["optics"]["rlnVoltage"])
    assert read_particles(write_star(tmp_path / "p.star", star_blocks)).n_particles == 4
    star_blocks["optics"][column] = [1] * len(star_blocks["optics"]["rlnVoltage"])
    with pytest.raises(InputError, match=f"{column} is set"):
        read_particles(write_star(tmp_path / "q.star", star_blocks))


def test_columns_that_are_left_out_are_named(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["particles"] |= {"rlnBeamTiltX": [0.0] * 4, "rlnIsFlip": [0] * 4, "rlnMagMat00": [1.0] * 4}
    star_blocks["optics"]["rlnMtfFileName"] = ["mtf.star"] * 2
    assert read_particles(write_star(tmp_path / "p.star", star_blocks)).notes == ()
    star_blocks["particles"] |= {"rlnBeamTiltX": [0.0, 0.2, 0.0, 0.0], "rlnIsFlip": [0, 1, 0, 0]}
    star_blocks["particles"] |= {"rlnCtfImage": ["ctf.mrc"] * 4, "rlnOddZernike": ["[0,0.5]"] * 4}
    star_blocks["optics"]["rlnMtfFileName"] = ["mtf.star", "other.star"]
    (note,) = read_particles(write_star(tmp_path / "q.star", star_blocks)).notes
    for column in ("rlnBeamTiltX", "rlnOddZernike", "rlnIsFlip", "rlnCtfImage", "rlnMtfFileName"):
        assert column in note
    assert "q.star: not modelled and left out" in note and "rlnMagMat" not in note


def test_prepared_images_of_groups_that_no_particle_uses_do_not_matter(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["optics"]["rlnCtfDataAreCtfPremultiplied"] = [0, 1]
    star_blocks["particles"]["rlnOpticsGroup"] = [1] * 4
    assert read_particles(write_star(tmp_path / "p.star", star_blocks)).optics_group_names == ("low",)


def test_half_sets_are_kept(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["particles"]["rlnRandomSubset"] = [1, 2, 2, 1]
    assert read_particles(write_star(tmp_path / "p.star", star_blocks)).half_set.tolist() == [1, 2, 2, 1]
