"""STAR files through RELION's own programs: converted ones read the same, and ours are read by them."""

import numpy as np
import pytest
import starfile

from cryosphere.io.star import read_particles
from cryosphere.io.star_rows import write_subset

from . import relion


@pytest.mark.parametrize("name", ["FinalRefinement-OriginalParticles-PfCRT", "sample_particles_relion30"])
def test_flat_files_read_like_relion_converts_them(test_data, tmp_path, make_stack, name):
    relion.require("relion_convert_star")
    source = test_data / "star" / f"{name}.star"
    for stack in ("sample.mrcs", "FinalRefinement-OriginalParticles-PfCRT.mrcs"):
        make_stack(tmp_path / stack, n_images=2000, box_size=4)
    relion.run("relion_convert_star", "--i", str(source), "--o", "converted.star", cwd=tmp_path)
    ours, theirs = (read_particles(path, datadir=tmp_path) for path in (source, tmp_path / "converted.star"))
    np.testing.assert_allclose(ours.rotmat, theirs.rotmat, atol=1e-7)
    # RELION writes six characters or so of a number.
    np.testing.assert_allclose(ours.shift, theirs.shift, atol=1e-5)
    np.testing.assert_allclose(ours.pixel_size, theirs.pixel_size, atol=1e-6)
    for column in (
        "image_index defocus_u defocus_v defocus_angle phase_shift voltage_kv spherical_aberration_mm "
        "amplitude_contrast optics_group"
    ).split():
        np.testing.assert_allclose(getattr(ours, column), getattr(theirs, column), atol=1e-6, err_msg=column)


@pytest.mark.parametrize("name", ["relion31", "relion31.v2"])
def test_files_read_like_relion_rewrites_them(test_data, tmp_path, name):
    relion.require("relion_star_handler")
    source = test_data / "star" / f"{name}.star"
    relion.run("relion_star_handler", "--i", str(source), "--o", "again.star", cwd=tmp_path)
    ours, theirs = (read_particles(path, datadir=test_data / "stacks") for path in (source, tmp_path / "again.star"))
    for column in "rotmat shift defocus_u defocus_v defocus_angle phase_shift b_factor scale voltage_kv".split():
        np.testing.assert_allclose(getattr(ours, column), getattr(theirs, column), atol=1e-6, err_msg=column)


@pytest.mark.parametrize("name", ["relion31", "relion31.v2", "sample_particles_relion31"])
def test_relion_reads_a_subset(test_data, tmp_path, name):
    relion.require("relion_star_handler")
    source = test_data / "star" / f"{name}.star"
    rows = np.array([4, 1, 2])
    write_subset(source, rows, tmp_path / "subset.star", {"rlnParticleFigureOfMerit": [0.25, -1.5, 3.0]})
    relion.run("relion_star_handler", "--i", "subset.star", "--o", "again.star", cwd=tmp_path)
    before, after = (starfile.read(path)["particles"] for path in (source, tmp_path / "again.star"))
    assert after["rlnImageName"].tolist() == before["rlnImageName"].iloc[rows].tolist()
    np.testing.assert_allclose(after["rlnDefocusU"], before["rlnDefocusU"].iloc[rows], atol=1e-5)
    assert after["rlnParticleFigureOfMerit"].tolist() == [0.25, -1.5, 3.0]
