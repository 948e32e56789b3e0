"""``analyze``, ``export`` and ``evaluate`` as users call them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.simulation.truth import write_truth
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("results") / "run", shared=True)


def _call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_coordinates(run, tmp_path):
    output = tmp_path / "coordinates.npy"
    result = _call("export", run.folder, "coordinates", "-o", output)
    assert result.exit_code == 0
    assert result.stdout == f"{output}\n"
    assert "coordinates: 100%" in result.stderr
    assert (np.load(output) == run.conformations()).all()
    assert _call("export", run.folder, "coordinates", "-o", output, "--particles", "4,2", "--overwrite").exit_code == 0
    assert np.load(output) == pytest.approx(run.conformations(particles=np.array([4, 2])))


def test_physical_coordinates_differ(run, tmp_path):
    _call("export", run.folder, "coordinates", "-o", tmp_path / "a.npy", "--particles", "0-3", "--quiet")
    _call("export", run.folder, "coordinates", "-o", tmp_path / "b.npy", "--particles", "0-3", "--physical")
    assert np.abs(np.load(tmp_path / "a.npy") - np.load(tmp_path / "b.npy")).max() > 1e-3


@pytest.mark.parametrize(
    "choice",
    [("--particles", "0,5-7"), ("--latent", "-0.5,1"), ("--traversal", "1", "--points", "3"), ("--kmeans", "4")],
)
def test_ensembles_and_volumes_of_every_choice(run, tmp_path, choice):
    ensemble = _call("export", run.folder, "ensemble", *choice, "-o", tmp_path / "models.cif", "--quiet")
    volumes = _call("export", run.folder, "volumes", *choice, "-o", tmp_path / "maps", "--quiet")
    assert (ensemble.exit_code, volumes.exit_code) == (0, 0)
    assert ensemble.stderr == volumes.stderr == ""
    count = {"--particles": 4, "--latent": 1, "--traversal": 3, "--kmeans": 4}[choice[0]]
    assert len(volumes.stdout.splitlines()) == count + 1
    text = (tmp_path / "models.cif").read_text()
    last = [line for line in text.splitlines() if line.startswith("ATOM")][-1]
    assert last.split()[-1] == str(count)
    assert ("_cryosphere_model.population" in text) is True


def test_trajectory_prints_its_topology_too(run, tmp_path):
    result = _call("export", run.folder, "ensemble", "--kmeans", "2", "--atoms", "ca", "-o", tmp_path / "film.dcd")
    assert result.stdout.split() == [str(tmp_path / "film.dcd"), str(tmp_path / "film.cif")]


@pytest.mark.parametrize("choice", [(), ("--particles", "0", "--kmeans", "2"), ("--traversal", "0")])
def test_one_way_of_choosing_is_needed(run, tmp_path, choice):
    result = _call("export", run.folder, "ensemble", *choice, "-o", tmp_path / "models.cif")
    assert result.exit_code == 2
    assert not (tmp_path / "models.cif").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ensemble", "--particles", "999", "-o", "x.cif"), "row 999 does not exist"),
        (("ensemble", "--latent", "1", "-o", "x.cif"), "expected 2 finite numbers"),
        (("ensemble", "--kmeans", "2", "-o", "x.docx"), ".docx"),
        (("coordinates", "-o", "x.csv"), ".npy"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_1(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = _call("export", run.folder, *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_named(tmp_path):
    for arguments in (("analyze", tmp_path), ("export", tmp_path, "coordinates", "-o", tmp_path / "x.npy")):
        result = _call(*arguments)
        assert result.exit_code == 1
        assert "not a run folder" in result.stderr


def test_analyze_prints_what_was_found_and_where(tmp_path):
    run = make_run(tmp_path / "run")
    result = _call("analyze", run.folder, "--points", "3", "--clustering", "kmeans", "--states", "2", "--quiet")
    assert result.exit_code == 0
    assert "PC1" in result.stdout
    assert str(run.folder / "analysis" / "rmsf.png") in result.stdout
    again = _call("analyze", run.folder, "--quiet")
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr


def test_evaluate_prints_a_table_or_json(tmp_path):
    run = make_run(tmp_path / "run")
    write_truth(tmp_path / "truth", run.conformations(), np.arange(60), {"snr": 1.0, "moved": "all"})
    table = _call("evaluate", run.folder, tmp_path / "truth", "--volumes", "2", "--quiet")
    assert table.exit_code == 0
    assert "RMSD per image, mean (Å)" in table.stdout
    refused = _call("evaluate", run.folder, tmp_path / "truth")
    assert refused.exit_code == 1
    arguments = ("--volumes", "2", "--json", "--overwrite", "--quiet")
    scores = _call("evaluate", run.folder, tmp_path / "truth", *arguments)
    assert json.loads(scores.stdout)["rmsd"]["mean"] < 1e-3


@pytest.mark.parametrize("command", [("analyze",), ("evaluate",), ("export", "run")])
def test_help_has_an_example(command):
    result = _call(*command, "--help")
    assert result.exit_code == 0
    assert f"cryosphere {command[0]} run1" in result.stdout


@pytest.mark.parametrize("kind", ["coordinates", "ensemble", "volumes", "particles"])
def test_help_of_exports_has_an_example(run, kind):
    assert f"export run1 {kind}" in _call("export", run.folder, kind, "--help").stdout


def test_particles_as_a_file_with_a_summary(tmp_path):
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N))
    run = attach(run, run.table.source)
    output = tmp_path / "open.star"
    chosen = run.posterior.mean[:, 0] > 0
    result = _call("export", run.folder, "particles", "--select", "z1 > 0", "--columns", "-o", output, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{chosen.sum()} of 60 particles of the run, {100 * chosen.mean():.1f} %"
    assert lines[-1] == str(output)
    assert "_cryosphereLatent1Std #" in output.read_text()
    arguments = ("--share", "0.5", "--by", "-std(z1)", "--not", "--json", "--overwrite", "-o", output)
    summary = json.loads(_call("export", run.folder, "particles", *arguments).stdout)
    assert (summary["n_chosen"], summary["n_particles"], summary["files"]) == (30, 60, [str(output)])
    largest = np.sort(run.posterior.std[:, 0])[30:]
    assert np.sort(run.posterior.std[:, 0][_exported(output, run)]) == pytest.approx(largest)
    moved = run.table.source.rename(tmp_path / "moved.star")
    arguments = ("--polygon", tmp_path / "p.csv", "--axes", "z1,z2", "--input", moved, "-o", tmp_path / "q.star")
    (tmp_path / "p.csv").write_text("0,-9\n9,-9\n9,9\n0,9\n")
    assert _call("export", run.folder, "particles", *arguments).exit_code == 0
    assert (_exported(tmp_path / "q.star", run, moved) == np.flatnonzero(chosen)).all()


def _exported(path, run, source=None):
    """Rows of the input file that a file of particles has."""
    lines = [line for line in (source or run.table.source).read_text().splitlines() if "@" in line]
    return np.array([lines.index(line) for line in path.read_text().splitlines() if "@" in line])
