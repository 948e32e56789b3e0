"""``analyze``, ``export`` and ``evaluate`` as users call them."""

import json
import os
import re

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
    assert ("_ihm_multi_state_modeling.population_fraction" in text) is True


def test_trajectory_prints_its_topology_too(run, tmp_path):
    result = _call("export", run.folder, "ensemble", "--kmeans", "2", "--atoms", "ca", "-o", tmp_path / "film.dcd")
    assert result.stdout.split() == [str(tmp_path / "film.dcd"), str(tmp_path / "film.cif")]


def test_ensembles_and_volumes_along_a_path(run, tmp_path):
    path = tmp_path / "Pfad ü 1.csv"
    path.write_text("z2,z1\n0.5,0\n1,0.25\n-1,0.5\n")
    ensemble = _call("export", run.folder, "ensemble", "--path", path, "-o", tmp_path / "m ü.pdb", "--quiet")
    volumes = _call("export", run.folder, "volumes", "--path", path, "-o", tmp_path / "maps", "--quiet")
    assert (ensemble.exit_code, volumes.exit_code) == (0, 0)
    assert (tmp_path / "m ü.pdb").read_text().count("MODEL     ") == 3
    index = (tmp_path / "maps" / "index.csv").read_text().splitlines()
    assert index[2] == "volume_002.mrc,point 2,,,0.25,1"


def test_seams_are_told_and_rigid_leaves_them(run, tmp_path):
    closed = _call("export", run.folder, "ensemble", "--latent", "2,0.5", "-o", tmp_path / "a.cif", "--quiet")
    rigid = _call("export", run.folder, "ensemble", "--latent", "2,0.5", "-o", tmp_path / "b.cif", "--quiet", "--rigid")
    path, seams = closed.stdout.splitlines()
    assert path == str(tmp_path / "a.cif")
    assert re.match(r"Seams: \d+ bonds between residues closed in 1 model; none differs .* more than 0\.0\d\d Å", seams)
    assert rigid.stdout == f"{tmp_path / 'b.cif'}\n"
    assert (tmp_path / "a.cif").read_bytes() != (tmp_path / "b.cif").read_bytes()


def test_a_folder_per_state(run, tmp_path):
    result = _call("export", run.folder, "states", "--kmeans", "2", "-o", tmp_path / "out", "--quiet")
    assert result.exit_code == 0
    first, second, seams = result.stdout.splitlines()
    counts = [int(line.split(": ")[1].split()[0]) for line in (first, second)]
    assert first.startswith(f"{tmp_path / 'out' / 'state_01'}: ")
    assert sum(counts) == 60
    assert seams.startswith("Seams: ")
    members = tmp_path / "out" / "state_02" / "particles.txt"
    again = _call("export", run.folder, "coordinates", "--particles", members, "-o", tmp_path / "two.npy", "--quiet")
    assert again.exit_code == 0
    assert len(np.load(tmp_path / "two.npy")) == counts[1]


@pytest.mark.parametrize("colour", ["--color", "--colour"])
def test_a_scene_for_viewers(run, tmp_path, colour):
    folder = tmp_path / "scene ü"
    arguments = ("--traversal", "1", "--points", "3", colour, "rmsf", "-o", folder, "--quiet")
    result = _call("export", run.folder, "chimerax", *arguments)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:3] == [str(folder / name) for name in ("models.cif", "scene.cxc", "scene.pml")]
    assert "morph #1.1-3 " in (folder / "scene.cxc").read_text()
    assert _call("export", run.folder, "chimerax", *arguments).exit_code == 1
    assert _call("export", run.folder, "chimerax", *arguments, "--overwrite").exit_code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("command", ["ensemble", "states", "chimerax", "volumes"])
def test_a_write_protected_folder_is_named(run, tmp_path, command):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o500)
    name = "x.cif" if command == "ensemble" else "x"
    result = _call("export", run.folder, command, "--latent", "0,0", "-o", tmp_path / "locked" / name, "--quiet")
    assert result.exit_code == 1
    assert "locked" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["ensemble", "states", "chimerax", "volumes"])
def test_a_folder_that_cannot_be_made_is_named(run, tmp_path, command):
    (tmp_path / "note.txt").write_text("a file, no folder")
    output = tmp_path / "note.txt" / ("x.cif" if command == "ensemble" else "x")
    result = _call("export", run.folder, command, "--latent", "0,0", "-o", output, "--quiet")
    assert result.exit_code == 1
    assert "note.txt" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


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
        (("ensemble", "--path", "absent.csv", "-o", "x.cif"), "absent.csv: no such file"),
        (("ensemble", "--states", "-o", "x.cif"), "has no analysis; run `cryosphere analyze"),
        (("states", "--kmeans", "99", "-o", "x"), "k-means with 99 clusters"),
        (("chimerax", "--kmeans", "2", "--color", "plddt", "-o", "x"), "has no pLDDT"),
        (("chimerax", "--kmeans", "2", "--map", "absent.mrc", "-o", "x"), "absent.mrc"),
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


@pytest.mark.parametrize("kind", ["coordinates", "ensemble", "volumes", "states", "particles", "chimerax"])
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


def test_particles_given_by_row(tmp_path):
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N))
    run = attach(run, run.table.source)
    (tmp_path / "rows.txt").write_text("# mine\n7\n3\n30\n")
    for given in (tmp_path / "rows.txt", "3,7,30"):
        arguments = ("--particles", given, "-o", tmp_path / "o.star", "--overwrite", "--quiet")
        assert _call("export", run.folder, "particles", *arguments).exit_code == 0
        assert _exported(tmp_path / "o.star", run).tolist() == [3, 7, 30]


def test_conformations_among_some_particles(run, tmp_path):
    out = tmp_path / "maps"
    arguments = ("--kmeans", "2", "--among", "4-9", "-o", out, "--quiet")
    assert _call("export", run.folder, "volumes", *arguments).exit_code == 0
    rows = [line.split(",")[2] for line in (out / "index.csv").read_text().splitlines()[1:]]
    assert len(rows) == 2 and {*map(int, rows)} <= set(range(4, 10))
    for wrong in (("--states", "--among", "4-9"), ("--kmeans", "2", "--among", "4-9", "--from-images")):
        assert _call("export", run.folder, "volumes", *wrong, "-o", tmp_path / "x").exit_code == 2


def _exported(path, run, source=None):
    """Rows of the input file that a file of particles has."""
    lines = [line for line in (source or run.table.source).read_text().splitlines() if "@" in line]
    return np.array([lines.index(line) for line in path.read_text().splitlines() if "@" in line])


def test_particles_by_the_states_and_motions_of_an_analysis(tmp_path):
    latent = np.random.default_rng(3).normal(np.repeat([[-1.5], [1.5]], N // 2, axis=0), 0.2)
    run = make_run(tmp_path / "run", n_particles=N, latent_dim=1, latent=latent, shared=True)
    run.table.source.write_text(star_text(N))
    run = attach(run, run.table.source)
    (tmp_path / "p.csv").write_text("0.5,-999\n1.5,-999\n1.5,999\n0.5,999\n")
    arguments = ("--clustering", "kmeans", "--states", "2", "--motion", "distance('A:1-5', 'B:2-9')", "--quiet")
    analysed = _call("analyze", run.folder, *arguments)
    assert analysed.exit_code == 0, analysed.output
    stored = np.load(run.folder / "analysis" / "particles.npz")
    motion = stored['distance("A:1-5","B:2-9")']
    middle = float(np.median(motion))
    for choice, expected in {
        ("--state", "2"): stored["state"] == 2,
        ("--polygon", tmp_path / "p.csv", "--axes", 'state, distance("A:1-5", "B:2-9")'): stored["state"] == 1,
        ("--select", f'distance("A:1-5",  "B:2-9") > {middle!r}'): motion > middle,
        ("--min-probability", "0.9", "--state", "1"): (stored["state"] == 1) & (stored["state_probability"] >= 0.9),
    }.items():
        output = tmp_path / "o.star"
        result = _call("export", run.folder, "particles", *choice, "-o", output, "--overwrite", "--quiet", "--columns")
        assert result.exit_code == 0, result.output
        assert (_row_numbers(output) == np.flatnonzero(expected)).all() and 0 < expected.sum() < N
    assert "state 2: 0 of 30" in result.stdout
    assert "_cryosphereDistanceA_1_5_B_2_9Std #" in output.read_text()


def _row_numbers(path):
    return np.array([int(line.partition("@")[0][-6:]) - 1 for line in path.read_text().splitlines() if "@" in line])
