"""The page on the viewer says what the window has, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "tutorials" / "viewer.md").read_text()


def test_the_python_example_runs(screen, analysed_folder, monkeypatch):
    import napari

    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shown: list[str] = []
    monkeypatch.setattr(napari, "run", lambda: shown.append("run"))
    names: dict = {}
    exec(example.replace('"run1"', repr(str(analysed_folder))), names)
    assert shown == ["run"]
    assert names["opened"].session.particle == 40 and names["opened"].layers.is_shown("ghost")
    names["viewer"].close()


def test_keys_and_tools_are_those_of_the_window(viewer, analysed_folder):
    from cryosphere.viewer.window import open_run

    opened = open_run(viewer, analysed_folder)
    table = PAGE.partition("## Keys")[2].partition("## In Python")[0]
    assert set(re.findall(r"`([^`]+)`", table)) == set(opened.keys)
    for name in ("Pick", "Lasso", "Box", "State", "Path"):
        assert f"*{name}*" in PAGE and name in [button.text() for button in opened.explorer.tools.values()]
