"""Where no window can be opened, `view` says so and names the page."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.viewer.display import DisplayError, check_display

linux = pytest.mark.skipif(sys.platform != "linux", reason="screens of other systems have no name")


@pytest.fixture
def no_screen(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


def test_a_screen_in_memory_will_do(screen):
    check_display()


def test_napari_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DisplayError, match=r"napari, which is not installed: pip install 'cryosphere\[gui\]'"):
        check_display()


@linux
def test_no_screen(analysed_folder, no_screen):
    pytest.importorskip("napari")
    result = CliRunner().invoke(main, ["view", str(analysed_folder)])
    assert result.exit_code == 1
    assert "no screen to open a window on (DISPLAY is not set" in result.output
    assert f"{analysed_folder / 'report.html'} shows the same run in a browser" in result.output
    assert len(result.output.splitlines()) == 1


@linux
def test_a_screen_that_is_not_there(screen, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":98765")
    with pytest.raises(DisplayError, match=r"Qt cannot open a window here: .*could not connect to display"):
        check_display()


def test_a_folder_that_is_no_run(tmp_path):
    result = CliRunner().invoke(main, ["view", str(tmp_path)])
    assert result.exit_code == 1
    assert "not a run folder" in result.output
