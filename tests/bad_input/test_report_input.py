"""``cryosphere report`` on what it cannot use: one sentence, exit code 1, nothing half-written."""

from __future__ import annotations

import os
import shutil

import pytest
from click.testing import CliRunner

from cryosphere.cli import main
from tests.run_factory import make_run


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("report") / "run", n_particles=60, shared=True)
    assert report(run.folder).exit_code == 0  # computes the analysis
    assert (run.layout.analysis / "states.csv").is_file()
    return run.folder


@pytest.fixture
def folder(analysed, tmp_path):
    shutil.copytree(analysed, tmp_path / "run ü 1")
    (tmp_path / "run ü 1" / "report.html").unlink()
    return tmp_path / "run ü 1"


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments), "--quiet"])


def refused(folder, *words, arguments=()):
    before = sorted(path for path in folder.rglob("*")) if folder.is_dir() else None
    result = report(folder, *arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ") and len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
    if before is not None:
        assert sorted(path for path in folder.rglob("*")) == before


def test_names_with_spaces_and_unicode(folder):
    result = report(folder, "-o", folder.parent / "for the PI ü.html")
    assert result.exit_code == 0
    assert result.stdout.strip() == str(folder.parent / "for the PI ü.html")
    assert result.stderr == ""
    assert "run ü 1" in (folder.parent / "for the PI ü.html").read_text(encoding="utf-8")


def test_no_run(tmp_path):
    refused(tmp_path / "nothing", "not a run folder", "cryosphere train")
    refused(tmp_path, "not a run folder")


def test_an_earlier_page_is_kept(folder):
    assert report(folder).exit_code == 0
    (folder / "report.html").write_text("mine")
    refused(folder, "exists and is kept", "--overwrite")
    assert (folder / "report.html").read_text() == "mine"
    assert report(folder, "--overwrite").exit_code == 0
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_an_output_that_is_a_folder(folder, tmp_path):
    refused(folder, "is a folder; a file name is expected", arguments=["-o", tmp_path])


def test_a_write_protected_folder(folder, monkeypatch):
    folder.chmod(0o500)
    if os.geteuid() == 0:  # who may write into every folder
        allowed = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != folder and allowed(path, mode))
    refused(folder, "report.html cannot be written", "write-protected; choose another one")
    assert report(folder, "-o", folder.parent / "elsewhere.html").exit_code == 0
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("states.csv", b"\xff\xfe\x00rubbish"),
        ("states.csv", b'state,population\n1,"much"\n'),
        ("motions.csv", b"motion,unit,p5,p25,p50,p75,p95\nangle(s1),deg,a,b,c,d,e\n"),
        ("segments.csv", b""),
        ("landscape.npz", b"PK rubbish"),
        ("particles.npz", b"rubbish"),
    ],
)
def test_damaged_tables(folder, name, content):
    (folder / "analysis" / name).write_bytes(content)
    refused(folder, name, "damaged", "cryosphere analyze")


@pytest.mark.parametrize("name", ["check.json", "versions.json"])
@pytest.mark.parametrize("content", ["[]", '{"faults"', ""])
def test_damaged_records(folder, name, content):
    (folder / name).write_text(content)
    refused(folder, name, "damaged; delete it")


def test_without_posterior_and_images(folder):
    (folder / "posterior.npz").unlink()
    shutil.rmtree(folder / "analysis")
    refused(folder, "has no posterior yet", "image stacks")


def test_tables_that_are_not_there_are_named_in_the_page(folder):
    for name in ("states.csv", "motions.csv", "landscape.npz", "segments.csv", "rmsf.csv", "pca.csv", "path.csv"):
        (folder / "analysis" / name).unlink(missing_ok=True)
    (folder / "metrics.jsonl").unlink()
    assert report(folder).exit_code == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    for words in (
        "The analysis has no states",
        "The analysis has no table of motions",
        "There is no record of the training",
    ):
        assert words in text
