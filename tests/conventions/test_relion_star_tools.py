"""STAR files through RELION's own programs: converted ones read the same, and ours are read by them."""

import mrcfile
import numpy as np
import pytest
import starfile

from cryosphere.export.particles import export_particles
from cryosphere.io.star import read_particles
from cryosphere.io.star_rows import write_subset
from tests.particle_sets import write_particle_set
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text

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


@pytest.mark.parametrize("flat", [False, True], ids=["3.1", "3.0"])
def test_relion_reads_exported_particles_and_keeps_their_columns(tmp_path, flat):
    relion.require("relion_star_handler")
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N, flat, comments=False))  # RELION takes none between rows
    run = attach(run, run.table.source)
    export_particles(run, tmp_path / "open.star", select="z1 > 0", extra_columns=True)
    relion.run("relion_star_handler", "--i", "open.star", "--o", "again.star", cwd=tmp_path)
    ours, theirs = (starfile.read(tmp_path / name, always_dict=True) for name in ("open.star", "again.star"))
    ours, theirs = (blocks.get("particles", blocks.get("images", blocks.get(""))) for blocks in (ours, theirs))
    assert len(theirs) == (run.posterior.mean[:, 0] > 0).sum()
    assert theirs["rlnImageName"].tolist() == ours["rlnImageName"].tolist()
    np.testing.assert_allclose(theirs["rlnAngleRot"], ours["rlnAngleRot"], atol=1e-5)
    for name in ("cryosphereLatent1", "cryosphereLatent1Std", "cryosphereLatent2"):
        np.testing.assert_allclose(theirs[name].astype(float), ours[name], rtol=1e-5, atol=1e-6)


def test_relion_reconstructs_and_stacks_the_exported_particles(tmp_path):
    relion.require("relion_reconstruct")
    relion.require("relion_stack_create")
    folder = write_particle_set(tmp_path / "set", N)
    run = attach(make_run(tmp_path / "run", n_particles=N, shared=True), folder / "particles.star")
    export_particles(run, folder / "open.star", select="z1 > 0", extra_columns=True)
    rows = np.flatnonzero(run.posterior.mean[:, 0] > 0)
    relion.run("relion_stack_create", "--i", "open.star", "--o", "stack", cwd=folder)
    images = mrcfile.read(folder / "particles.mrcs")
    np.testing.assert_array_equal(mrcfile.read(folder / "stack.mrcs"), images[rows])
    blocks = starfile.read(folder / "particles.star")
    blocks["particles"] = blocks["particles"].iloc[rows]
    starfile.write(blocks, folder / "expected.star")
    for name in ("open", "expected"):
        relion.run("relion_reconstruct", "--i", f"{name}.star", "--o", f"{name}.mrc", "--ctf", cwd=folder)
    ours, expected = (mrcfile.read(folder / f"{name}.mrc") for name in ("open", "expected"))
    assert expected.std() > 0
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
