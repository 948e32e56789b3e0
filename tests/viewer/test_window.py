"""A run in a napari window as a whole: what opens, what is refused, what happens when it is closed."""

from __future__ import annotations

import shutil

import gemmi
import numpy as np
import pytest
import torch

from cryosphere.errors import RunError
from cryosphere.io.mrc import write_volume
from cryosphere.runs.layout import RunLayout
from tests.run_factory import make_run, write_protein


@pytest.fixture
def open_run(viewer):
    from cryosphere.viewer.window import open_run

    return lambda folder: open_run(viewer, folder)


@pytest.fixture
def messages():
    """What napari has told the user since."""
    from napari.utils.notifications import notification_manager

    before = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[before:]]


@pytest.fixture
def copied(analysed_folder, tmp_path):
    return shutil.copytree(analysed_folder, tmp_path / "copy")


def test_a_run_opens_with_all_its_panels(open_run, viewer, analysed_folder, wait_until):
    opened = open_run(analysed_folder)
    for name in ("Explorer", "3-D view", "Particle", "Selections", "Segments"):
        assert name in viewer.window.dock_widgets
    before = viewer.screenshot(canvas_only=False, flash=False)
    assert before[..., :3].std() > 10
    opened.session.show_particle(7)
    row = opened.session.positions(opened.session.run.posterior.mean[7:8])[0]
    wait_until(lambda: np.abs(opened.layers.shown_positions() - row).max() < 1e-4)
    opened.close()
    assert not [name for name in viewer.window.dock_widgets if name in ("Explorer", "Particle")]
    assert len(viewer.layers) == 0


def test_a_second_run_takes_the_place_of_the_first(open_run, viewer, analysed_folder, copied):
    open_run(analysed_folder)
    n_layers, n_panels = len(viewer.layers), len(viewer.window.dock_widgets)
    second = open_run(copied)
    assert (len(viewer.layers), len(viewer.window.dock_widgets)) == (n_layers, n_panels)
    assert second.session.run.folder == copied


def test_every_key_does_something_and_is_told(open_run, analysed_folder, viewer, messages):
    from qtpy.QtWidgets import QMessageBox

    opened = open_run(analysed_folder)
    shortcuts = dict(zip(opened.keys, opened._shortcuts, strict=True))
    texts = [text for _, text in opened.keys.values()]
    assert len(set(texts)) == len(texts)
    for key, shortcut in shortcuts.items():
        assert shortcut.key().toString() == key and shortcut.isEnabled()
    shortcuts["."].activated.emit()
    first = opened.session.particle
    shortcuts["."].activated.emit()
    assert opened.session.particle == first + 1
    shortcuts[","].activated.emit()
    assert opened.session.particle == first
    for key in "LRSDMP":
        shortcuts[key].activated.emit()
        (button,) = [button for button in opened.explorer.tools.values() if button.isChecked()]
        assert f"({key})" in button.toolTip()
    shortcuts["Shift+G"].activated.emit()
    assert opened.layers.is_shown("ghost")
    shortcuts["Shift+M"].activated.emit()
    assert messages()[-1] == "There is no map to show; choose the file of one first."
    shortcuts["F1"].activated.emit()
    (box,) = opened._main.findChildren(QMessageBox)
    assert box.isVisible() and not box.isModal()
    assert all(f"<b>{key}</b>" in box.text() and text in box.text() for key, (_, text) in opened.keys.items())
    box.close()


@pytest.mark.parametrize("case", ["no run", "no posterior", "another structure", "newer", "damaged"])
def test_what_is_no_run_to_be_shown_is_told_in_plain_words(case, viewer, copied, tmp_path, messages, analysed_folder):
    from cryosphere.viewer.window import RunChooser, opened_run

    layout = RunLayout(copied)
    if case == "no run":
        copied, words = tmp_path, "not a run folder"
    elif case == "no posterior":
        layout.posterior.unlink()
        words = "posterior"
    elif case == "another structure":
        structure = next(layout.structure.iterdir())
        write_protein(structure)
        model = gemmi.read_structure(str(structure))
        model[0].remove_chain("B")
        model.make_mmcif_document().write_file(str(structure))
        words = "does not fit"
    elif case == "newer":
        state = torch.load(layout.last_checkpoint, weights_only=True)
        torch.save({**state, "format": 99}, layout.last_checkpoint)
        words = "written by a newer cryoSPHERE"
    else:
        layout.last_checkpoint.write_bytes(b"nothing")
        words = "not a readable checkpoint"
    chooser = RunChooser(viewer)
    first = chooser.open(analysed_folder)
    assert chooser.open(copied) is None
    assert words in messages()[-1] and "Traceback" not in messages()[-1]
    assert opened_run(viewer) is first and "Explorer" in viewer.window.dock_widgets
    chooser.close()


def test_the_frame_on_the_screen_is_right_handed(open_run, analysed_folder, viewer, wait_until):
    opened = open_run(analysed_folder)
    places = {"x": (30.0, 0.0, 0.0), "y": (0.0, 30.0, 0.0)}
    colours = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0)}
    wait_until(lambda: opened.layers.is_idle)
    for layer in viewer.layers:
        layer.visible = False
    for name, place in places.items():
        viewer.add_points([place[::-1]], size=12, face_color=[colours[name]], border_width=0, units=("angstrom",) * 3)
    camera = viewer.scene.camera
    camera.set_view_direction((1, 0, 0), (0, -1, 0))  # along +z, y down
    camera.center, camera.zoom = (0, 0, 0), 5
    picture = viewer.screenshot(flash=False).astype(int)[..., :3]
    middle = np.array(picture.shape[:2]) / 2
    seen = {}
    for name, colour in colours.items():
        strong = np.argwhere((picture @ colour > 150) & (picture.sum(-1) < 400))
        seen[name] = (strong.mean(0) - middle)[::-1]  # to the right, downwards
    assert seen["y"][1] > 50 and abs(seen["y"][0]) < 20
    assert seen["x"][0] > 50 and abs(seen["x"][1]) < 20


def test_surfaces_are_lit_from_the_viewer(open_run, analysed_folder, viewer, wait_until):
    opened = open_run(analysed_folder)
    wait_until(lambda: opened.layers.is_idle)
    camera = viewer.scene.camera
    for direction, up in (((1, 0, 0), (0, -1, 0)), ((0, 0.6, 0.8), (1, 0, 0)), ((-1, 0.3, 0.2), (0, 1, 0))):
        camera.set_view_direction(direction, up)
        picture = viewer.screenshot(flash=False)[..., :3].astype(int)
        assert picture[picture.sum(-1) > 20].max(-1).mean() > 100


def test_the_cross_of_a_panel_hides_it(open_run, analysed_folder, viewer, wait_until):
    opened = open_run(analysed_folder)
    for dock in opened._docks:
        dock.title.close_button.click()
        assert dock.isHidden()
    opened.session.show_particle(5)
    expected = opened.session.positions(opened.session.latent[None])[0]
    wait_until(lambda: np.abs(opened.layers.shown_positions() - expected).max() < 1e-4)


def test_keys_reach_the_window(open_run, analysed_folder, viewer, wait_until):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    opened = open_run(analysed_folder)
    opened._main.activateWindow()
    wait_until(opened._main.isActiveWindow)
    for key, part in ((Qt.Key.Key_G, "ghost"), (Qt.Key.Key_A, "arrows"), (Qt.Key.Key_O, "overlay")):
        QTest.keyClick(opened._main, key, Qt.KeyboardModifier.ShiftModifier)
        wait_until(lambda part=part: opened.layers.is_shown(part))
    QTest.keyClick(opened._main, Qt.Key.Key_Period)
    wait_until(lambda: opened.session.particle is not None)


def test_a_slow_computation_does_not_hold_the_window(screen, analysed_folder, monkeypatch):
    import threading
    import time

    import napari
    from qtpy.QtWidgets import QApplication

    from cryosphere.viewer.session import Session
    from cryosphere.viewer.window import open_run

    gate, started = threading.Event(), threading.Event()

    def stuck(self, latent):
        started.set()
        gate.wait(30)
        return np.zeros((len(latent), self.run.n_residues, 3), np.float32)

    shown = napari.Viewer(show=True)
    monkeypatch.setattr(Session, "positions", stuck)
    open_run(shown, analysed_folder)
    while not started.is_set():
        QApplication.instance().processEvents()
    begun = time.monotonic()
    shown.close()
    assert time.monotonic() - begun < 8
    gate.set()


def test_a_run_without_analysis_opens_and_says_so(open_run, copied, messages):
    shutil.rmtree(RunLayout(copied).analysis)
    opened = open_run(copied)
    assert any("has no analysis" in message and "cryosphere analyze" in message for message in messages())
    assert opened.session.axis_names[:2] == ["pc1", "pc2"]


def test_missing_stacks_are_told(open_run, analysed_folder, messages):
    opened = open_run(analysed_folder)
    told = [message for message in messages() if "particle images cannot be shown" in message]
    assert len(told) == 1 and str(opened.session.missing_images) in told[0]


def test_a_run_is_shown_in_three_dimensions_in_any_window(open_run, analysed_folder, viewer, wait_until):
    viewer.dims.ndisplay = 2
    open_run(analysed_folder)
    wait_until(lambda: len(viewer.layers) > 0)
    assert viewer.dims.ndisplay == 3


def test_a_map_that_is_opened_beside_a_run_is_its_map(open_run, analysed_folder, tmp_path, wait_until):
    from cryosphere.viewer.readers import read_map

    opened = open_run(analysed_folder)
    volume = np.zeros((24, 24, 24), dtype=np.float32)
    volume[8:16, 8:16, 8:16] = 1.0
    write_volume(tmp_path / "map.mrc", volume, 4.0)
    assert read_map(tmp_path / "map.mrc") == [(None,)]
    wait_until(lambda: opened.layers.is_shown("map"))


def test_windows_of_a_run_look_again_for_its_images(open_run, analysed_folder, copied):
    from cryosphere.viewer.window import look_for_images

    window = open_run(analysed_folder)
    heard = []
    window.session.images_changed.connect(lambda: heard.append(window.session.run.folder))
    look_for_images(copied)
    assert heard == []
    look_for_images(analysed_folder)
    assert heard == [analysed_folder]


def test_closing_the_window_while_it_computes(screen, analysed_folder, monkeypatch):
    import threading
    import time

    import napari
    from qtpy.QtWidgets import QApplication

    from cryosphere.viewer.session import Session
    from cryosphere.viewer.window import open_run, opened_run

    started, plain, before = threading.Event(), Session.positions, set(threading.enumerate())

    def slow(self, latent):
        started.set()
        time.sleep(0.5)
        return plain(self, latent)

    viewer = napari.Viewer(show=True)
    opened = open_run(viewer, analysed_folder)
    monkeypatch.setattr(Session, "positions", slow)
    opened.session.show_particle(3)
    opened.explorer.toggle_play()
    while not started.is_set():
        QApplication.instance().processEvents()
    begun = time.monotonic()
    viewer.close()
    QApplication.instance().processEvents()
    assert time.monotonic() - begun < 10
    assert opened_run(viewer) is None
    while [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("cryosphere-viewer")]:
        assert time.monotonic() - begun < 20
        time.sleep(0.1)


def test_the_session_knows_no_napari():
    import subprocess
    import sys

    program = (
        "import sys, pkgutil, importlib, cryosphere.viewer as room\n"
        "told = {'layers', 'readers', 'window', 'widgets'}\n"
        "for found in pkgutil.iter_modules(room.__path__):\n"
        "    if found.name not in told: importlib.import_module('cryosphere.viewer.' + found.name)\n"
        "print(sorted({'napari', 'qtpy', 'vispy', 'PySide6'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_manifest_is_whole(screen):
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("cryosphere")
    manifest.validate_imports()
    contributions = manifest.contributions
    assert contributions.readers and contributions.widgets and contributions.sample_data
    named = {command.id for command in contributions.commands}
    used = [*contributions.readers, *contributions.widgets, *contributions.sample_data]
    assert {part.command for part in used} == named


def test_a_newer_checkpoint_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    state = torch.load(run.layout.last_checkpoint, weights_only=True)
    assert state["format"] == 1
    torch.save({**state, "format": 2}, run.layout.last_checkpoint)
    with pytest.raises(RunError, match=r"newer cryoSPHERE \(format 2, this one reads up to 1\); update cryosphere"):
        type(run).load(run.folder)
