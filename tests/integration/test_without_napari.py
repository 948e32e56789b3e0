"""An environment with neither napari nor a Qt: the package and the whole command line work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cryosphere.cli import _COMMANDS
from tests.run_factory import make_run

ROOT = Path(__file__).parents[2]
_LEFT_OUT = re.compile(
    r"napari|npe2|app_model|magicgui|superqt|qtpy|pyside|shiboken|pyqt|vispy|psygnal|imageio|qt", re.IGNORECASE
)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment with what is installed here, but for napari and what only it needs."""
    folder = tmp_path_factory.mktemp("plain")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder / "venv"], check=True)
    own = next((folder / "venv").glob("lib*/python*/site-packages"))
    for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(path).iterdir():
            if not _LEFT_OUT.match(entry.name) and not (own / entry.name).exists():
                (own / entry.name).symlink_to(entry)
    return folder / "venv" / "bin" / "python"


def call(python: Path, *arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_environment_has_no_napari(python):
    for name in ("napari", "qtpy", "PySide6", "psygnal"):
        assert f"No module named '{name}'" in call(python, "-c", f"import {name}").stderr


def test_every_command_is_there(python):
    program = "import importlib, cryosphere\n" + "\n".join(f"cryosphere.{name}" for name in ("Run", "train", "analyze"))
    program += "\nfrom cryosphere.cli import _COMMANDS\n"
    program += "for name in _COMMANDS: print(importlib.import_module('cryosphere.cli.' + name).command.help[:10])"
    told = call(python, "-c", program)
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.split("\n")) == len(_COMMANDS) + 1


def test_a_run_is_analysed_exported_and_reported(python, tmp_path):
    run = make_run(tmp_path / "run", shared=True).folder
    for arguments in (
        ["analyze", run],
        ["export", run, "ensemble", "--traversal", "1", "-o", tmp_path / "models.cif"],
        ["report", run],
    ):
        done = call(python, "-m", "cryosphere", *arguments, "--quiet")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "models.cif").is_file() and (run / "report.html").is_file()


def test_view_says_what_to_install(python, tmp_path):
    run = make_run(tmp_path / "run", shared=True).folder
    done = call(python, "-m", "cryosphere", "view", run)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: the viewer needs napari, which is not installed: pip install 'cryosphere[gui]'"
    )
    assert "report.html" in done.stderr and "Traceback" not in done.stderr
