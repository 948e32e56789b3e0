"""``benchmark accuracy`` as users type it."""

import json

import pytest
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.pipelines import accuracy
from cryosphere.pipelines.accuracy_families import Inputs


def _call(*arguments):
    return CliRunner().invoke(main, ["benchmark", "accuracy", *map(str, arguments)])


@pytest.fixture
def suite(monkeypatch):
    """The benchmark replaced by one that notes what it was asked and has a result."""
    asked = {}

    def run_suite(folder, cells, **options):
        asked.update(options, folder=folder, cells=[cell.name for cell in cells])
        options["say"]("a-0.1, seed 1: simulate")
        folder.mkdir()
        (folder / accuracy.RESULTS).write_text('{"cells": []}\n')
        return accuracy.Suite(folder, (), "the table")

    monkeypatch.setattr(accuracy, "run_suite", run_suite)
    return asked


def test_cells_are_listed_and_nothing_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _call("--list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["a-0.1", "SNR", "0.1"]
    assert len(lines) == 16
    assert lines[4].endswith("(--igg)")
    assert _call("--list", "--cells", "f").stdout.count("\n") == 2
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_benchmark(suite, tmp_path):
    text = "--cells a,c-0.1 --seeds 2 --preset paper --size full --igg igg.pdb --atpase one.pdb two.pdb --device cpu"
    result = _call("-o", tmp_path / "out", *text.split(), "--overwrite", "--quiet")
    assert result.exit_code == 0
    assert result.stdout == "the table\n"
    assert result.stderr == "a-0.1, seed 1: simulate\n"
    assert suite["cells"] == ["a-0.1", "a-0.01", "c-0.1"]
    path = type(suite["folder"])
    assert suite["inputs"] == Inputs(path("igg.pdb"), (path("one.pdb"), path("two.pdb")))
    given = {name: suite[name] for name in ("seeds", "paper", "size", "device", "overwrite", "show_progress")}
    assert given == {
        "seeds": 2,
        "paper": True,
        "size": "full",
        "device": "cpu",
        "overwrite": True,
        "show_progress": False,
    }


def test_defaults(suite, tmp_path):
    assert _call("-o", tmp_path / "out").exit_code == 0
    assert (suite["seeds"], suite["paper"], suite["size"], suite["overwrite"]) == (3, False, "small", False)
    assert suite["inputs"] == Inputs()
    assert len(suite["cells"]) == 16


def test_results_as_json(suite, tmp_path):
    assert json.loads(_call("-o", tmp_path / "out", "--json").stdout) == {"cells": []}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "-o"),
        (("-o", "out", "--cells", "z"), 1, "There is no cell 'z'"),
        (("-o", "out", "--cells", "c"), 1, "needs PDB 1IGY (--igg)"),
        (("-o", "out", "--cells", "c", "--igg", "absent.pdb"), 1, "absent.pdb"),
        (("-o", "out", "--seeds", "0"), 2, "--seeds"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    result = _call(*arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []
