"""Optics groups of STAR files: aberrations with their units, in 3.1 optics tables and in flat 3.0 tables."""

import numpy as np
import pytest

from cryosphere.io.star import read_particles

ABERRATIONS = ("group_beam_tilt", "group_odd_zernike", "group_even_zernike", "group_magnification")


@pytest.fixture
def read(tmp_path, make_stack, write_star, star_blocks):
    """Read a valid file that was changed by cells of its optics table or of its particles."""
    make_stack(tmp_path / "stack.mrcs")

    def run(optics=None, particles=None, drop=()):
        star_blocks["optics"] |= optics or {}
        star_blocks["particles"] |= particles or {}
        for column in drop:
            star_blocks["particles"].pop(column)
        return read_particles(write_star(tmp_path / "p.star", star_blocks))

    return run


def test_aberrations_of_an_optics_table(read):
    table = read(
        {
            "rlnBeamTiltX": [0.1, -0.2],
            "rlnBeamTiltY": [0.0, 0.3],
            "rlnOddZernike": ["[0,0.5]", "[1e-3,-2,3,0,0,7]"],
            "rlnEvenZernike": ["[]", "[0.25]"],
            "rlnMagMat00": [1.01, 1.0],
            "rlnMagMat01": [0.002, 0.0],
            "rlnMagMat10": [-0.003, 0.0],
            "rlnMagMat11": [0.99, 1.0],
        }
    )
    np.testing.assert_allclose(table.group_beam_tilt, [[1e-4, 0.0], [-2e-4, 3e-4]])
    np.testing.assert_allclose(table.group_odd_zernike, [[0, 0.5, 0, 0, 0, 0], [1e-3, -2, 3, 0, 0, 7]])
    np.testing.assert_allclose(table.group_even_zernike, [[0.0], [0.25]])
    np.testing.assert_allclose(table.group_magnification, [[[1.01, 0.002], [-0.003, 0.99]], np.eye(2)])
    (note,) = table.notes
    for name in ("beam tilt", "odd Zernike terms", "even Zernike terms", "magnification"):
        assert name in note


def test_neutral_values_are_no_aberrations(read):
    zeros = ["[0,0,0]", "[0.0]"]
    neutral = {"rlnBeamTiltX": [0.0] * 2, "rlnOddZernike": zeros, "rlnEvenZernike": zeros}
    table = read(neutral | {"rlnMagMat00": [1, 1.0], "rlnMagMat01": [0.0] * 2})
    assert [getattr(table, name) for name in ABERRATIONS] == [None] * 4 and table.notes == ()


def test_aberrations_of_groups_that_no_particle_uses(read):
    table = read({"rlnBeamTiltX": [0.1, 0.0]}, {"rlnOpticsGroup": [2] * 4})
    assert table.group_beam_tilt is None and table.optics_group_names == ("high",)


def test_beam_tilt_per_particle_of_a_flat_table(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    particles = star_blocks["particles"]
    del particles["rlnOpticsGroup"]
    particles |= {"rlnVoltage": [300] * 4, "rlnSphericalAberration": [2.7] * 4, "rlnAmplitudeContrast": [0.1] * 4}
    particles |= {"rlnImagePixelSize": [1.5] * 4, "rlnBeamTiltX": [0.1, 0.2, 0.1, 0.2], "rlnBeamTiltY": [0.0] * 4}
    particles |= {"rlnOddZernike": ["[0,0,1]", "[0,0,1]", "[0,0,2]", "[0,0,1]"]}
    table = read_particles(write_star(tmp_path / "p.star", {"images": particles}))
    np.testing.assert_array_equal(table.optics_group, [0, 1, 2, 1])
    np.testing.assert_allclose(table.group_beam_tilt, [[1e-4, 0], [2e-4, 0], [1e-4, 0]])
    np.testing.assert_allclose(table.group_odd_zernike[:, 2], [1, 1, 2])
    assert table.pixel_size == 1.5


def test_particles_without_group_belong_to_the_only_one(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["optics"] = {name: cells[1:] for name, cells in star_blocks["optics"].items()}
    del star_blocks["particles"]["rlnOpticsGroup"]
    table = read_particles(write_star(tmp_path / "p.star", star_blocks))
    assert table.optics_group.tolist() == [0] * 4 and table.voltage_kv.tolist() == [300.0] * 4
