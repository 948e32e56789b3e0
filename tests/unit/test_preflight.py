"""Planted faults are named; the clean set has none; what the table says is what is in the files."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import starfile
from click.testing import CliRunner
from matplotlib.image import imread
from scipy.spatial.transform import Rotation

from cryosphere.cli import main
from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError, InputError
from cryosphere.pipelines.checked_training import train
from cryosphere.preflight import check as checking
from cryosphere.preflight.check import check, quick_check
from cryosphere.preflight.facts import view_coverage
from cryosphere.simulation.acquisition import SimulatedOptics, SimulationSettings
from cryosphere.simulation.particles import simulate
from cryosphere.simulation.paths import read_path
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.training.train import load_inputs

PIXEL_SIZE, BOX_SIZE = 2.5, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """160 images of adenylate kinase between closed and open; the nominal structure is the closed end."""
    out = tmp_path_factory.mktemp("preflight") / "set"
    conformations = read_path(shipped_path("adk/closed.cif"), shipped_path("adk/open.cif"), 6, align="none")
    settings = SimulationSettings(
        n_particles=160,
        box_size=BOX_SIZE,
        pixel_size=PIXEL_SIZE,
        snr=0.5,
        seed=3,
        forward="residues",
        shift_range=5.0,
        defocus_range=(6000.0, 15000.0),
        astigmatism=2500.0,
        optics_groups=(SimulatedOptics(voltage_kv=200.0),),
    )
    simulate(conformations, settings, out)
    return out


def star(folder: Path, tmp_path: Path, change) -> dict:
    """A configuration with the particle table changed, in a file of its own, by starfile alone."""
    blocks = starfile.read(folder / "particles.star")
    change(blocks["optics"], blocks["particles"])
    starfile.write(blocks, tmp_path / "changed.star")
    return configuration(tmp_path / "changed.star", folder / "nominal.cif", datadir=str(folder))


def moved(folder: Path, tmp_path: Path, move) -> dict:
    """A configuration with every atom of the structure moved, by gemmi alone."""
    structure = gemmi.read_structure(str(folder / "nominal.cif"))
    for site in structure[0].all():
        site.atom.pos = gemmi.Position(*move(np.array(site.atom.pos.tolist())))
    structure.make_mmcif_document().write_file(str(tmp_path / "moved.cif"))
    return configuration(folder / "particles.star", tmp_path / "moved.cif")


def configuration(particles: Path, structure: Path, **more) -> dict:
    return {"particles": {"file": str(particles), **more}, "structure": {"file": str(structure), "origin": "center"}}


def scaled(columns, factor):
    def change(optics, particles):
        for column in columns:
            table = optics if column in optics else particles
            table[column] = table[column] * factor

    return change


def exchanged(first, second):
    def change(optics, particles):
        particles[first], particles[second] = particles[second].copy(), particles[first].copy()

    return change


def inverted(optics, particles):
    names = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    matrices = Rotation.from_euler("ZYZ", particles[names].to_numpy(), degrees=True).inv()
    particles[names] = matrices.as_euler("ZYZ", degrees=True)


def shuffled(optics, particles):
    particles["rlnImageName"] = np.random.default_rng(5).permutation(particles["rlnImageName"].to_numpy())


SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst")
STAR_FAULTS = {
    "inverted angles": (inverted, "rlnAngleRot = -psi"),
    "shifts negated": (scaled(SHIFTS, -1.0), "Negate rlnOriginXAngst"),
    "shifts pixels": (scaled(SHIFTS, 1 / PIXEL_SIZE), r"Multiply rlnOriginXAngst .* by the pixel size \(2.5 Å\)"),
    "shifts angstrom": (scaled(SHIFTS, PIXEL_SIZE), "Divide rlnOriginXAngst"),
    "shifts swapped": (exchanged(*SHIFTS), "Exchange rlnOriginXAngst"),
    "U and V": (exchanged("rlnDefocusU", "rlnDefocusV"), "Exchange rlnDefocusU and rlnDefocusV"),
    "pixel size": (scaled(["rlnImagePixelSize"], 1.05), r"pixel size is about 2\.(49|50)"),
    "voltage": (scaled(["rlnVoltage"], 1.5), "Set rlnVoltage to 200"),
    "no match": (shuffled, "Rows and images do not belong together"),
}


@pytest.mark.parametrize("fault", STAR_FAULTS)
def test_a_fault_of_the_particle_table_is_named_alone_with_its_remedy(folder, tmp_path, fault):
    change, words = STAR_FAULTS[fault]
    report = check(star(folder, tmp_path, change))
    assert [verdict.code for verdict in report.verdicts] == [fault]
    (verdict,) = report.verdicts
    assert re.search(words, str(verdict)), str(verdict)


def test_the_clean_set_has_no_fault(folder):
    report = check(configuration(folder / "particles.star", folder / "nominal.cif"))
    assert report.is_fine and report.diagnosis.faults == () and report.diagnosis.undecided == ()
    assert report.lines()[-1] == "No fault found."
    assert any(note.startswith("Contrast: the images agree") for note in report.notes)


def test_dark_protein_is_named_and_inverting_cures_it(folder):
    values = configuration(folder / "particles.star", folder / "nominal.cif", invert=True)
    report = check(values)
    assert [verdict.code for verdict in report.verdicts] == ["sign"]
    assert report.verdicts[0].fatal and report.verdicts[0].remedy == "set particles.invert: false."


def test_a_mirrored_structure_is_named(folder, tmp_path):
    report = check(moved(folder, tmp_path, lambda position: position * [1, 1, -1]))
    assert [verdict.code for verdict in report.verdicts] == ["hand"]
    assert "Negate rlnAngleTilt" in report.verdicts[0].remedy


def test_negating_the_tilt_cures_a_mirrored_structure(folder, tmp_path):
    values = star(folder, tmp_path, scaled(["rlnAngleTilt"], -1.0))
    values["structure"] = moved(folder, tmp_path, lambda position: position * [1, 1, -1])["structure"]
    assert check(values).is_fine


def test_a_structure_off_centre_is_found_with_its_vector(folder, tmp_path):
    vector = np.array([9.0, -10.0, math.sqrt(44)])
    report = check(moved(folder, tmp_path, lambda position: position + vector))
    assert [verdict.code for verdict in report.verdicts] == ["off centre"]
    offset = np.array(report.as_dict()["comparison"]["offset"])
    assert np.linalg.norm(offset + vector) < 2.5  # the images' mean conformation lies a little elsewhere
    assert f"{offset[0]:+.1f}" in report.verdicts[0].sentence


def test_a_wrong_origin_is_named_as_such(folder, tmp_path):
    half = BOX_SIZE // 2 * PIXEL_SIZE
    values = moved(folder, tmp_path, lambda position: position + half)
    report = check(values)
    assert report.verdicts[0].code == "off centre" and report.verdicts[0].remedy == "Set structure.origin: corner."
    values["structure"]["origin"] = "corner"
    assert check(values).is_fine


def test_two_faults_at_once_are_both_named(folder, tmp_path):
    values = star(folder, tmp_path, scaled(SHIFTS, -1.0))
    values["structure"] = moved(folder, tmp_path, lambda position: position * [1, 1, -1] + [8, 0, 6])["structure"]
    assert {verdict.code for verdict in check(values).verdicts} == {"hand", "shifts negated", "off centre"}


def test_pure_noise_is_undecided_not_wrong(folder, tmp_path):
    noise = np.random.default_rng(1).normal(size=(160, BOX_SIZE, BOX_SIZE)).astype(np.float32)
    (tmp_path / "particles.star").write_text((folder / "particles.star").read_text())
    with mrcfile.new(tmp_path / "particles.mrcs") as mrc:
        mrc.set_data(noise)
        mrc.set_image_stack()
        mrc.voxel_size = PIXEL_SIZE
    report = check(configuration(tmp_path / "particles.star", folder / "nominal.cif"))
    assert report.is_fine and report.diagnosis.undecided == ("match",)
    assert "as far as these images can tell" in report.lines()[-1]
    assert any("do not tell whether protein is bright" in note for note in report.notes)


def test_unusable_images_are_a_fault_of_their_own(folder, tmp_path):
    (tmp_path / "particles.star").write_text((folder / "particles.star").read_text())
    with mrcfile.new(tmp_path / "particles.mrcs") as mrc:
        mrc.set_data(np.zeros((160, BOX_SIZE, BOX_SIZE), np.float32))
        mrc.set_image_stack()
        mrc.voxel_size = PIXEL_SIZE
    report = check(configuration(tmp_path / "particles.star", folder / "nominal.cif"))
    assert [verdict.code for verdict in report.verdicts] == ["images"] and report.diagnosis is None
    assert report.as_dict()["fine"] is False


def test_images_that_are_not_finite_are_left_out_and_told(folder, tmp_path):
    (tmp_path / "particles.star").write_text((folder / "particles.star").read_text())
    (tmp_path / "particles.mrcs").write_bytes((folder / "particles.mrcs").read_bytes())
    with mrcfile.open(tmp_path / "particles.mrcs", mode="r+") as mrc:
        mrc.data[[7, 30]] = np.nan
    report = check(configuration(tmp_path / "particles.star", folder / "nominal.cif"))
    assert report.is_fine and report.diagnosis.n_images == 158
    assert any(
        note.startswith("2 of 160 sampled images are constant or not finite (the first is row 7, from 0)")
        for note in report.notes
    )


def test_facts_are_those_of_the_files(folder):
    blocks = starfile.read(folder / "particles.star")
    particles = blocks["particles"]
    facts = check(configuration(folder / "particles.star", folder / "nominal.cif")).as_dict()["facts"]
    assert facts["particles"]["n_particles"] == len(particles) == 160
    assert facts["optics groups"]["voltage_kv"] == [200.0]
    length = np.hypot(particles["rlnOriginXAngst"], particles["rlnOriginYAngst"])
    assert facts["shifts"]["rms"] == pytest.approx(np.sqrt((length**2).mean()), rel=1e-5)
    assert facts["shifts"]["max"] == pytest.approx(length.max(), rel=1e-5)
    difference = (particles["rlnDefocusU"] - particles["rlnDefocusV"]).abs()
    assert facts["defocus"]["astigmatism_median"] == pytest.approx(difference.median(), rel=1e-5)
    assert facts["resolution limits"]["nyquist"] == 2 * PIXEL_SIZE
    with mrcfile.open(folder / "particles.mrcs") as mrc:
        std = np.median(mrc.data[:].std((1, 2)))
    assert facts["sampled images"]["std"][1] == pytest.approx(std, rel=1e-4)


def test_view_coverage_tells_even_from_preferred_views():
    even = Rotation.random(5000, random_state=1).as_matrix()
    seen, evenness, _ = view_coverage(even)
    assert seen == 1.0 and evenness > 0.9
    tops = Rotation.from_euler("ZYZ", np.random.default_rng(0).normal(size=(5000, 3)) * [3, 0.1, 3]).as_matrix()
    seen, evenness, _ = view_coverage(tops.transpose(0, 2, 1))
    assert seen < 0.1 and evenness < 0.1


def test_the_picture_shows_particles_and_structure_and_is_not_overwritten(folder, tmp_path):
    values = configuration(folder / "particles.star", folder / "nominal.cif")
    path = tmp_path / "check.png"
    assert check(values, path).picture == path
    picture = imread(path)
    assert picture.shape[1] > picture.shape[0] > 200 and picture[..., :3].std() > 0.1
    with pytest.raises(InputError, match=r"check\.png exists and is kept; pass --overwrite"):
        check(values, path)
    assert "Picture" in check(values, path, overwrite=True).lines()[-1]


def test_the_command_prints_and_exits_by_what_it_found(folder, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configuration(folder / "particles.star", folder / "nominal.cif")))
    fine = CliRunner().invoke(main, ["check", str(config), "-o", str(tmp_path / "check.png")])
    assert fine.exit_code == 0 and "hand mirrored" in fine.output and (tmp_path / "check.png").exists()
    wrong = CliRunner().invoke(main, ["check", str(config), "--no-picture", "--json", "--set", "particles.invert=true"])
    found = json.loads(wrong.output)
    assert wrong.exit_code == 1 and found["faults"][0]["code"] == "sign" and found["picture"] is None


def test_training_refuses_what_is_certainly_pointless_and_warns_of_the_rest(folder, tmp_path):
    values = parse_config(star(folder, tmp_path, inverted), tmp_path)
    with pytest.raises(ConfigError, match=r"inverse rotations.*--no-check trains all the same"):
        train(values, tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "other").mkdir()
    values = parse_config(star(folder, tmp_path / "other", scaled(["rlnVoltage"], 1.5)), tmp_path)
    said = []
    quick_check(values, *load_inputs(values), said.append)
    assert [
        sentence for sentence in said if sentence.startswith("WARNING: The CTFs are those of 200 kV, not of 300 kV")
    ]


def test_more_images_are_compared_only_where_few_leave_something_open(folder, monkeypatch):
    values = configuration(folder / "particles.star", folder / "nominal.cif")
    monkeypatch.setattr(checking, "_FEW", 120)
    assert check(values).diagnosis.n_images == 120
    monkeypatch.setattr(checking, "_FEW", 3)
    assert check(values).diagnosis.n_images == 160
