"""The demo's run as sample data: where it is copied, what it holds, and that its images are those of training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cryosphere.analysis.columns import has_analysis
from cryosphere.errors import RunError
from cryosphere.io.structures import read_structure
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.viewer import sample
from cryosphere.viewer.session import Session


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sample.demo_run(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pictured(folder):
    """The run with its images, which takes some seconds."""
    told = []
    sample.make_images(folder, lambda what, number, total: told.append((what, number)))
    count = Session.open(folder).n_particles
    assert sum(number for what, number in told if what == "projecting") == count
    return folder


def test_it_is_a_session_with_an_analysis_and_without_images_at_first(tmp_path):
    folder = sample.demo_run(tmp_path)
    session = Session.open(folder)
    assert has_analysis(session.run) and session.missing_images is not None
    assert session.missing_images.is_relative_to(tmp_path) and not sample.has_images(folder)
    assert session.run.table.source.parent == session.missing_images.parent
    assert session.run.config.particles.file == session.run.table.source
    assert not list(tmp_path.glob(".*"))


def test_it_is_copied_once(folder):
    marker = folder / "report.html"
    marker.write_text("mine")
    assert sample.demo_run(folder.parents[1]) == folder and marker.read_text() == "mine"
    marker.unlink()


def test_it_is_small():
    shipped = shipped_path("demo_run/config.yaml").parent
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) < 3e6
    text = "".join(path.read_text() for path in shipped.glob("*.yaml")) + (shipped / "check.json").read_text()
    assert "/tmp" not in text and "/home" not in text


def test_the_images_are_those_it_was_trained_on(pictured):
    session = Session.open(pictured)
    assert session.missing_images is None and session.notes == []
    assert sample.likelihood_difference(session.run) < 0.05
    stored = session.run.posterior.log_likelihood
    assert np.ptp(stored[0]) > 10  # nats between conformations: agreement to 0.05 is no accident


def test_other_images_are_not_kept(folder, tmp_path, monkeypatch):
    other = tmp_path / "demo" / "run"
    shutil.copytree(folder, other)
    particles = other.parent / "particles"

    def simulate(place, **settings):
        place.mkdir()

    monkeypatch.setattr(sample, "simulate_demo", simulate)
    monkeypatch.setattr(sample, "likelihood_difference", lambda run: 3.0)
    with pytest.raises(RunError, match=r"this PyTorch draws other random numbers .* up to 3 nats.*the rest works"):
        sample.make_images(other)
    assert not particles.exists()


def test_a_simulation_that_is_stopped_leaves_nothing(folder, monkeypatch):
    few = sample.simulate_demo
    monkeypatch.setattr(sample, "simulate_demo", lambda place, **more: few(place, **{**more, "n_particles": 40}))

    class Stopped(Exception):
        pass

    def stop(what, number, total):
        raise Stopped

    with pytest.raises(Stopped):
        sample.make_images(sample.demo_run(folder.parents[1] / "other"), stop)
    assert [path.name for path in next((folder.parents[1] / "other").iterdir()).iterdir()] == ["run"]


def test_the_known_open_structure_is_where_the_run_goes(folder):
    """Its distances are those of PDB 4AKE as shipped, and the run's path comes nearer to it than it starts."""
    found = sample.known_open_structure(folder).residue_positions
    shipped = read_structure(shipped_path("adk/open.cif")).residue_positions
    for positions in (found, shipped):
        positions -= positions.mean(0)
    np.testing.assert_allclose(found, shipped, atol=1e-6)
    session = Session.open(folder)
    known = sample.known_open_structure(folder).residue_positions
    ends = session.positions(session.path[[0, -1]])
    rmsd = np.sqrt(((ends - known) ** 2).sum(-1).mean(-1))
    assert rmsd.min() < 0.4 * rmsd.max()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/cryosphere"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/cryosphere"),
        ("darwin", {}, "Library/Caches/cryosphere"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/cryosphere"),
    ],
)
def test_where_the_cache_is(monkeypatch, tmp_path, platform, variables, expected):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert sample.cache_folder() == tmp_path / expected
