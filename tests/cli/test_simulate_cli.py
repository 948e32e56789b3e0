"""``cryosphere simulate`` as a user types it."""

from __future__ import annotations

import gemmi
import mrcfile
import numpy as np
import pytest
import starfile
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.simulation.truth import read_truth

IMAGES = "--particles 8 --box 40 --pixel-size 3 --snr 0.1 --seed 3 --quiet".split()
CLOSED, OPEN = "adk/closed.cif", "adk/open.cif"


def _run(*arguments, images=IMAGES, code=0):
    result = CliRunner().invoke(main, ["simulate", *map(str, arguments), *images])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def _check_set(folder, n_states, n_residues, n_particles=8):
    tables = starfile.read(folder / "particles.star")
    assert list(tables["particles"].rlnImageName) == [f"{i + 1:06d}@particles.mrcs" for i in range(n_particles)]
    assert mrcfile.read(folder / "particles.mrcs").shape == (n_particles, 40, 40)
    assert np.load(folder / "truth" / "coordinates.npy").shape == (n_states, n_residues, 3)
    state = np.load(folder / "truth" / "state.npy")
    assert state.shape == (n_particles,)
    assert state.max() < n_states
    assert (folder / "truth" / "info.json").is_file()
    return tables


def _multi_model(path):
    """Three models of the first 60 residues, the second and third moved as a whole."""
    structure = gemmi.read_structure(str(shipped_path(CLOSED)))
    chain = structure[0]["A"]
    while len(chain) > 60:
        del chain[-1]
    for number in (2, 3):
        model = structure[0].clone()
        model.num = number
        for residue in model[0]:
            for atom in residue:
                atom.pos = gemmi.Position(atom.pos.x + 5 * number, atom.pos.y, atom.pos.z)
        structure.add_model(model)
    structure.write_pdb(str(path))
    return path


def test_path(tmp_path):
    result = _run(
        "path", shipped_path(CLOSED), shipped_path(OPEN), "--align", "none", "--states", 5, "-o", tmp_path / "set",
        "--voltage", 300, "--voltage", 200, "--phase-shift", 90, "--clean", "--volumes", 2,
    )  # fmt: skip
    optics = _check_set(tmp_path / "set", 5, 214)["optics"]
    assert list(optics.rlnVoltage) == [300, 200]
    assert "8.09 Å" in result.output
    particles = starfile.read(tmp_path / "set" / "particles.star")["particles"]
    assert set(particles.rlnPhaseShift) == {90.0}
    assert (tmp_path / "set" / "truth" / "clean.mrcs").is_file()
    assert len(list((tmp_path / "set" / "truth" / "volumes").iterdir())) == 2


def test_path_superposes_and_says_so(tmp_path):
    result = _run("path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 3, "-o", tmp_path / "set")
    assert "open.cif was superposed on closed.cif by 214 residues" in result.output


def test_trajectory_of_models_keeps_frames_unless_asked(tmp_path):
    models = _multi_model(tmp_path / "models.pdb")
    _run("trajectory", models, "-o", tmp_path / "kept")
    _check_set(tmp_path / "kept", 3, 60)
    coordinates = np.load(tmp_path / "kept" / "truth" / "coordinates.npy")
    np.testing.assert_allclose((coordinates[2] - coordinates[0])[:, 0], 15.0, atol=1e-2)
    result = _run("trajectory", models, "--align", "-o", tmp_path / "aligned")
    coordinates = np.load(tmp_path / "aligned" / "truth" / "coordinates.npy")
    np.testing.assert_allclose(coordinates[2], coordinates[0], atol=1e-2)
    assert "superposed on the first" in result.output


@pytest.mark.parametrize("suffix", [".dcd", ".xtc"])
def test_trajectory_with_topology_is_superposed(tmp_path, suffix):
    models = _multi_model(tmp_path / "models.pdb")
    _run("trajectory", models, "-o", tmp_path / "models")
    from cryosphere.io.structures import read_models
    from cryosphere.io.trajectories import write_trajectory

    structure, _, atoms = read_models(models)
    write_trajectory(tmp_path / f"md{suffix}", structure, atoms, topology_path=tmp_path / "md.pdb")
    arguments = ["trajectory", tmp_path / f"md{suffix}", "--topology", tmp_path / "md.pdb"]
    result = _run(*arguments, "-o", tmp_path / "aligned")
    assert "superposed on the first" in result.output
    coordinates = np.load(tmp_path / "aligned" / "truth" / "coordinates.npy")
    np.testing.assert_allclose(coordinates[2], coordinates[0], atol=0.05)
    _run(*arguments, "--no-align", "--stride", 2, "-o", tmp_path / "kept")
    coordinates = np.load(tmp_path / "kept" / "truth" / "coordinates.npy")
    assert len(coordinates) == 2
    np.testing.assert_allclose((coordinates[1] - coordinates[0])[:, 0], 15.0, atol=0.05)


def test_hinge(tmp_path):
    weights = tmp_path / "weights.txt"
    weights.write_text("0 0 1")
    _run(
        "hinge", shipped_path(OPEN), "--moving", "A:122-159", "--axis-residues", "A:121", "A:125", "--angles", -20, 20,
        "--states", 3, "--populations", weights, "--forward", "residues", "-o", tmp_path / "set",
    )  # fmt: skip
    _check_set(tmp_path / "set", 3, 214)
    assert set(np.load(tmp_path / "set" / "truth" / "state.npy")) == {2}


def test_axis_by_direction_and_point(tmp_path):
    arguments = ["--axis", 0, 0, 1, "--point", 0, 0, 0, "--angles", 0, 20, "--states", 2]
    _run("hinge", shipped_path(OPEN), "--moving", "A:122-159", *arguments, "-o", tmp_path / "set")
    coordinates = np.load(tmp_path / "set" / "truth" / "coordinates.npy")
    np.testing.assert_allclose(coordinates[0, :, 2], coordinates[1, :, 2], atol=1e-4)


def test_noise_contrast_and_pose_errors(tmp_path):
    arguments = ["path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 2, "--forward", "residues"]
    _run(*arguments, "-o", tmp_path / "plain")
    _run(
        *arguments, "--noise", "coloured", "--noise-ratio", 4, "--contrast-spread", 0.3, "--rotation-error", 2,
        "--shift-error", 1, "-o", tmp_path / "set",
    )  # fmt: skip
    plain, written = (_check_set(tmp_path / name, 2, 214)["particles"] for name in ("plain", "set"))
    truth = read_truth(tmp_path / "set" / "truth")
    origins = ["rlnOriginXAngst", "rlnOriginYAngst"]
    np.testing.assert_allclose(plain[origins].to_numpy(float), truth.shift, atol=1e-5)
    assert 0.3 < (written[origins].to_numpy(float) - truth.shift).std() < 3
    assert truth.rotmat.shape == (8, 3, 3)
    assert 0.05 < truth.contrast.std() < 1
    assert truth.info["noise_spectrum"][0] > 2 * truth.info["noise_spectrum"][-1]
    assert truth.info["rotation_error_deg"] == 2.0


def test_existing_folder_is_kept_unless_asked(tmp_path):
    arguments = ["path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 2, "-o", tmp_path / "set"]
    _run(*arguments)
    result = _run(*arguments, code=1)
    assert "exists and is kept; pass --overwrite" in result.output
    _run(*arguments, "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trajectory", shipped_path(CLOSED)], "has one model only"),
        (["trajectory", "md.xtc"], "--topology"),
        (["path", shipped_path(CLOSED), "absent.cif"], "absent.cif does not exist"),
        (["path", shipped_path(CLOSED), shipped_path(OPEN), "--align", "Z:1-5"], "chain 'Z'"),
        (["path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 1], "at least 2"),
        (["path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 2, "--b-factor", "warm"], "B factor is 'warm'"),
        (
            ["path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 2, "--noise-ratio", 5],
            "noise ratio is 5.0: expected",
        ),
        (
            ["path", shipped_path(CLOSED), shipped_path(OPEN), "--states", 2, "--contrast-spread", -1],
            "contrast spread is -1.0",
        ),
        (["hinge", shipped_path(OPEN), "--moving", "A:1-9", "--angles", 0, 9], "needs one axis"),
        (
            ["hinge", shipped_path(OPEN), "--moving", "A:1-9", "--angles", 0, 9, "--axis", 0, 0, 1],
            "1 axis directions and 0 points",
        ),
        (
            ["hinge", shipped_path(OPEN), "--moving", "A:1-9", "--angles", 0, 9, "--axis-residues", "A", "A:9"],
            "means 214 residues",
        ),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, arguments, message):
    result = _run(*arguments, "-o", tmp_path / "set", code=1)
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_help_shows_an_example():
    for name in ("trajectory", "path", "hinge"):
        result = CliRunner().invoke(main, ["simulate", name, "--help"])
        assert result.exit_code == 0
        assert f"cryosphere simulate {name}" in result.output
