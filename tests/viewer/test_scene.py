"""The 3-D view in a real window: the tube is the exported conformation, the slider scrubs, films are written."""

from __future__ import annotations

import itertools
import threading
import time

import gemmi
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.selection import Selection, select_states
from cryosphere.io.mrc import write_volume
from cryosphere.viewer.session import Session
from tests.run_factory import write_protein
from tests.viewer.films import read_film

SPACING = 2.5
PARTS = ("ghost", "map", "arrows", "overlay")
ORIGIN = np.array([-50.0, -45.0, -40.0])


@pytest.fixture(scope="module")
def window(screen):
    """One napari window for all tests of this file."""
    import napari

    shown = napari.Viewer(show=True, ndisplay=3)
    yield shown
    shown.close()


@pytest.fixture(scope="module")
def scene(window, analysed_folder):
    """One panel in it, with its session."""
    from cryosphere.viewer.layers import SceneLayers
    from cryosphere.viewer.widgets.scene import SceneWidget

    session = Session.open(analysed_folder)
    layers = SceneLayers(window, session)
    made = SceneWidget(session, layers)
    window.window.add_dock_widget(made, name="3-D view", area="right")
    yield made
    layers.close_work()


@pytest.fixture
def viewer(window):
    """The window; overrides the one of every test."""
    return window


@pytest.fixture
def session(scene):
    return scene.session


@pytest.fixture
def layers(scene):
    return scene.layers


@pytest.fixture
def widget(scene):
    return scene


@pytest.fixture(autouse=True)
def as_at_first(request, analysed_folder):
    """Every test finds the window as it was opened."""
    if "layers" not in request.fixturenames:
        return
    session, layers, wait_until = (request.getfixturevalue(name) for name in ("session", "layers", "wait_until"))
    fresh = Session.open(analysed_folder)
    for part in PARTS:
        if layers.is_shown(part):
            layers.set_shown(part, False)
    layers.set_tint("segment")
    layers.set_arrows("nominal")
    layers.set_overlay("path")
    layers.set_rendering("iso")
    session.set_segments(fresh.segment_colours, fresh.segment_shown)
    session.set_path(fresh.path, fresh.path_name)
    wait_until(lambda: layers.is_idle)


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    """A map about the protein of the run: a lump of density around the origin, off the corner of its box."""
    axes = [ORIGIN[axis] + SPACING * np.arange(count) for axis, count in enumerate((40, 36, 32))]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    path = tmp_path_factory.mktemp("map") / "map.mrc"
    write_volume(path, np.exp(-(x**2 + y**2 + z**2) / 800).astype(np.float32), SPACING, ORIGIN)
    return path


def exported(session, latent, path) -> np.ndarray:
    """Residue positions as gemmi reads them from the file that the command line would write."""
    export_ensemble(session.run, Selection(latent[None], ("shown",)), path, what="residues")
    model = gemmi.read_structure(str(path))[0]
    return np.array([atom.pos.tolist() for chain in model for residue in chain for atom in residue])


def picture(viewer) -> np.ndarray:
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def named(viewer, part: str):
    return next(layer for layer in viewer.layers if layer.name.startswith(part))


def last_message() -> str:
    from napari.utils.notifications import notification_manager

    return notification_manager.records[-1].message


def test_a_particle_is_drawn_as_it_is_exported(session, layers, wait_until, tmp_path):
    for row in (7, 211):
        session.show_particle(row)
        wait_until(lambda: layers.is_idle)
        expected = exported(session, session.run.posterior.mean[row], tmp_path / f"{row}.cif")
        np.testing.assert_allclose(layers.shown_positions(), expected, atol=2e-3)


def test_the_slider_scrubs_the_path_and_follows_it(viewer, session, layers, wait_until, tmp_path):
    from qtpy.QtWidgets import QApplication

    shown: list = []

    def note() -> None:
        shown.append(session.frame)

    session.conformation_changed.connect(note)
    assert viewer.dims.nsteps[0] == len(session.path)
    viewer.dims.set_current_step(0, 13)
    wait_until(lambda: session.frame == 13 and layers.is_idle)
    expected = exported(session, session.path[13], tmp_path / "frame.cif")
    np.testing.assert_allclose(layers.shown_positions(), expected, atol=2e-3)
    session.show_frame(4)
    wait_until(lambda: layers.is_idle)
    assert viewer.dims.current_step[0] == 4
    QApplication.processEvents()
    assert shown == [13, 4]
    session.show_particle(3)
    wait_until(lambda: layers.is_idle)
    assert session.frame is None
    assert viewer.dims.current_step[0] == 4
    viewer.dims.set_current_step(0, 5)
    assert shown == [13, 4, None, 5]
    session.conformation_changed.disconnect(note)


def test_another_path_gives_the_slider_its_frames(viewer, session, layers, wait_until):
    viewer.dims.set_current_step(0, 19)
    session.set_path(session.path[:6], "shorter")
    wait_until(lambda: layers.is_idle)
    assert viewer.dims.nsteps[0] == 6
    assert (session.frame, viewer.dims.current_step[0]) == (0, 0)
    assert viewer.dims.axis_labels == ("frame", "z", "y", "x")


def test_pictures_show_something_and_differ(viewer, session, layers, wait_until):
    session.show_frame(0)
    wait_until(lambda: layers.is_idle)
    first = picture(viewer)
    session.show_frame(19)
    wait_until(lambda: layers.is_idle)
    second = picture(viewer)
    for image in (first, second):
        coloured = np.ptp(image, axis=2) > 40
        assert 0.01 < coloured.mean() < 0.6
    assert (np.abs(first - second).max(2) > 40).mean() > 0.003


def test_hidden_segments_have_no_triangles(viewer, session, layers, wait_until):
    all_faces = len(layers.tube_layer.faces)
    shown = np.arange(len(session.segment_colours)) != session.labels[0]
    session.set_segments(colours=["#ff00ff"] * len(shown), shown=shown)
    wait_until(lambda: layers.is_idle)
    drawn = layers.meshes.tube.vertex_residue[layers.tube_layer.faces]
    assert 0 < len(layers.tube_layer.faces) < all_faces
    assert not (session.labels[drawn] == session.labels[0]).any()
    image = picture(viewer)
    assert ((image[..., 0] > 60) & (image[..., 1] < image[..., 0] / 3)).mean() > 0.002


def test_the_ghost_is_the_nominal_structure_behind_the_tube(viewer, session, layers, wait_until):
    session.show_frame(0)
    wait_until(lambda: layers.is_idle)
    before = picture(viewer)
    layers.toggle("ghost")
    ghost = named(viewer, "nominal structure")
    assert viewer.layers.index(ghost) < viewer.layers.index(layers.tube_layer)
    assert [str(unit) for unit in ghost.units] == ["angstrom"] * 3
    middle = np.asarray(ghost.vertices)[:, ::-1].mean(0)
    np.testing.assert_allclose(middle, session.nominal_positions.mean(0), atol=1.0)
    assert (np.abs(picture(viewer) - before).max(2) > 10).any()
    layers.toggle("ghost")
    assert not ghost.visible
    assert not layers.is_shown("ghost")


def test_arrows_go_from_the_nominal_structure_to_the_conformation(viewer, session, layers, wait_until):
    session.show_frame(19)
    layers.set_shown("arrows", True)
    wait_until(lambda: layers.is_idle)
    arrows = named(viewer, "motion")
    moved = session.positions(session.path[19:])[0] - session.nominal_positions
    count = int((np.linalg.norm(moved, axis=1) >= 1.0).sum())
    assert len(arrows.vertices) == 40 * count > 0
    layers.set_arrows("path")
    wait_until(lambda: layers.is_idle)
    along = np.linalg.norm(np.subtract(*session.positions(session.path[[0, -1]])), axis=1)
    assert len(named(viewer, "motion").vertices) == 40 * int((along >= 1.0).sum())


def test_the_ensemble_is_overlaid(viewer, session, layers, wait_until):
    layers.set_shown("overlay", True)
    wait_until(lambda: layers.is_idle)
    layer = named(viewer, "ensemble")
    per_model = len(layer.vertices) // 10
    assert len(np.unique(layer.vertex_colors, axis=0)) == 10
    layers.set_overlay("states")
    wait_until(lambda: layers.is_idle)
    assert len(named(viewer, "ensemble").vertices) == per_model * select_states(session.run).n_conformations
    layers.set_overlay("path")
    wait_until(lambda: layers.is_idle)
    session.set_path(session.path[:4], "shorter")
    wait_until(lambda: layers.is_idle)
    assert len(named(viewer, "ensemble").vertices) == per_model * 4


def test_the_map_lies_where_its_header_says(viewer, session, layers, widget, map_file, wait_until):
    widget.choose_map(map_file)
    wait_until(lambda: layers.is_shown("map") and layers.is_idle)
    surface = named(viewer, "map map.mrc")
    assert type(surface).__name__ == "Surface"
    np.testing.assert_allclose(surface.scale, SPACING)
    np.testing.assert_allclose(surface.translate, ORIGIN[::-1])
    assert [str(unit) for unit in surface.units] == ["angstrom"] * 3
    # exp(-r²/800) has the level at this distance from the origin of the coordinates.
    radius = np.linalg.norm(surface.vertices * surface.scale + surface.translate, axis=1)
    np.testing.assert_allclose(radius, np.sqrt(-800 * np.log(layers.level)), atol=0.3)
    widget.level.setValue(600)
    wait_until(lambda: layers.is_idle)
    surface = named(viewer, "map map.mrc")
    radius = np.linalg.norm(surface.vertices * surface.scale + surface.translate, axis=1)
    np.testing.assert_allclose(radius, np.sqrt(-800 * np.log(layers.level)), atol=0.3)
    widget.rendering.setCurrentIndex(1)
    widget.rendering.activated.emit(1)
    image = named(viewer, "map map.mrc")
    assert (type(image).__name__, image.rendering) == ("Image", "mip")
    np.testing.assert_allclose(image.scale, SPACING)
    np.testing.assert_allclose(image.translate, ORIGIN[::-1])
    assert image.contrast_limits[0] == pytest.approx(layers.level)
    layers.set_rendering("iso")
    wait_until(lambda: layers.is_idle)
    assert [layer.name for layer in viewer.layers].count("map map.mrc") == 1


def test_a_map_elsewhere_is_refused(viewer, session, layers, widget, wait_until, tmp_path):
    write_volume(tmp_path / "far.mrc", np.ones((8, 8, 8), np.float32), 1.0, (500.0, 0.0, 0.0))
    layers.set_map(tmp_path / "far.mrc")
    wait_until(lambda: layers.is_idle)
    assert "no residue of protein.cif lies in this map" in last_message()
    (tmp_path / "text.mrc").write_text("no map")
    layers.set_map(tmp_path / "text.mrc")
    wait_until(lambda: layers.is_idle)
    assert "not an MRC file" in last_message()
    assert not layers.is_shown("map")


def test_the_eye_and_the_dustbin_of_the_list_are_followed(viewer, session, layers, widget, wait_until):
    layers.set_shown("ghost", True)
    assert widget.boxes["ghost"].isChecked()
    named(viewer, "nominal structure").visible = False
    assert not widget.boxes["ghost"].isChecked()
    layers.set_shown("ghost", True)
    viewer.layers.remove(named(viewer, "nominal structure"))
    assert not widget.boxes["ghost"].isChecked()
    viewer.layers.remove(layers.tube_layer)
    session.show_frame(3)
    wait_until(lambda: layers.is_idle)
    assert layers.tube_layer in viewer.layers


def test_the_panel_colours_and_shows(viewer, session, layers, widget, wait_until):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QWidget

    widget.tint.setFocus()
    QTest.keyClick(widget.tint, Qt.Key.Key_Down)
    wait_until(lambda: layers.is_idle)
    assert (layers.tint, widget.legend.legend.title) == ("chain", "chain")
    assert widget.legend.toolTip() == "chain: A, B"
    box = widget.boxes["overlay"]
    QTest.keyClick(box, Qt.Key.Key_Space)
    wait_until(lambda: layers.is_idle)
    assert layers.is_shown("overlay")
    widget.opacity["overlay"].setValue(60)
    assert named(viewer, "ensemble").opacity == pytest.approx(0.6)
    widget.radius.setValue(1.4)
    wait_until(lambda: layers.is_idle)
    ring = np.asarray(layers.tube_layer.vertices)[30:40]
    assert np.linalg.norm(ring - ring.mean(0), axis=1).max() == pytest.approx(1.4, abs=1e-3)
    widget.tint.setCurrentIndex(widget.tint.findData("plddt"))
    widget.tint.activated.emit(widget.tint.currentIndex())
    assert "no predicted model" in last_message()
    assert widget.tint.currentData() == "chain"
    for kind in ("QComboBox", "QSlider", "QPushButton", "QCheckBox", "QSpinBox", "QDoubleSpinBox"):
        found = [child for child in widget.findChildren(QWidget) if type(child).__name__ == kind]
        assert found
        assert all(child.toolTip() and child.focusPolicy() & Qt.FocusPolicy.TabFocus for child in found)
    assert widget.minimumSizeHint().width() <= 430


@pytest.mark.parametrize("tint, title", [("rmsf", "RMSF"), ("displacement", "displacement from nominal")])
def test_numbers_get_a_bar_with_their_range(viewer, layers, widget, wait_until, tint, title):
    layers.set_tint(tint)
    wait_until(lambda: layers.is_idle)
    assert widget.legend.legend.title == title
    bar = widget.legend.grab().toImage()
    left, right = bar.pixelColor(4, 6), bar.pixelColor(bar.width() - 5, 6)
    assert left.blue() > left.red()
    assert right.red() > right.blue()


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "film"])
def test_the_path_is_recorded(viewer, session, layers, widget, wait_until, tmp_path, name):
    session.set_path(session.path[[0, 10, 19]], "three")
    widget.record(tmp_path / name)
    assert widget.record_button.text() == "Cancel"
    wait_until(lambda: not widget.recorder.is_running)
    path = tmp_path / name
    images, _ = read_film(path)
    assert len(images) == 4
    assert all(np.abs(one.astype(int) - other).max() > 60 for one, other in itertools.pairwise(images))
    assert images[0].shape[0] % 2 == images[0].shape[1] % 2 == 0
    assert widget.record_button.text() == "Record…"
    with pytest.raises(InputError, match="exists and is kept"):
        widget.record(path)


def test_the_mouse_chooses_a_film_and_a_map(layers, widget, wait_until, tmp_path, map_file, monkeypatch):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "film.gif"), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(map_file), ""))
    QTest.mouseClick(widget.record_button, Qt.MouseButton.LeftButton)
    assert widget.recorder.is_running
    QTest.mouseClick(widget.record_button, Qt.MouseButton.LeftButton)
    wait_until(lambda: not widget.recorder.is_running)
    QTest.mouseClick(widget.map_button, Qt.MouseButton.LeftButton)
    wait_until(lambda: layers.is_shown("map"))


def test_a_cancelled_film_leaves_nothing(session, widget, wait_until, tmp_path):
    counts = []
    widget.recorder.progressed.connect(lambda done, _: counts.append(done))
    widget.record(tmp_path / "film.gif")
    wait_until(lambda: counts and counts[-1] >= 2)
    widget.record()
    wait_until(lambda: not widget.recorder.is_running)
    assert not list(tmp_path.iterdir())


def test_a_film_of_a_path_that_is_changed_ends_and_leaves_nothing(session, widget, wait_until, tmp_path):
    counts = []
    widget.recorder.progressed.connect(lambda done, _: counts.append(done))
    widget.record(tmp_path / "film.gif")
    wait_until(lambda: counts and counts[-1] >= 1)
    session.set_path(session.path[::-1].copy(), "backwards")
    wait_until(lambda: not widget.recorder.is_running)
    assert "path was changed" in last_message() and not list(tmp_path.iterdir())
    assert widget.record_button.text() == "Record…"


def test_any_structure_can_be_shown(viewer, session, layers, wait_until, tmp_path):
    write_protein(tmp_path / "same.cif")
    layers.add_model(tmp_path / "same.cif")
    wait_until(lambda: layers.is_idle)
    same = named(viewer, "same.cif")
    np.testing.assert_allclose(np.asarray(same.vertices)[:, ::-1].mean(0), session.nominal_positions.mean(0), atol=1)
    smaller = gemmi.read_structure(str(tmp_path / "same.cif"))
    smaller[0].remove_chain("B")
    second = smaller[0].clone()
    second.num = 2
    smaller.add_model(second)
    smaller.make_mmcif_document().write_file(str(tmp_path / "smaller.cif"))
    layers.add_model(tmp_path / "smaller.cif")
    wait_until(lambda: layers.is_idle)
    assert "smaller.cif has 24 residues, the structure of the run 40" in last_message()
    assert named(viewer, "smaller.cif, other models")
    layers.add_model(tmp_path / "absent.pdb")
    wait_until(lambda: layers.is_idle)
    assert "absent.pdb does not exist" in last_message()


def test_closing_the_window_while_it_works(screen, analysed_folder, tmp_path, monkeypatch):
    """Neither hangs nor crashes, and leaves no thread at work."""
    import napari
    from qtpy.QtWidgets import QApplication

    from cryosphere.viewer.layers import SceneLayers
    from cryosphere.viewer.widgets.scene import SceneWidget

    session, started = Session.open(analysed_folder), threading.Event()
    real = session.positions

    def slow(latent):
        started.set()
        time.sleep(0.5)
        return real(latent)

    monkeypatch.setattr(session, "positions", slow)
    viewer = napari.Viewer(show=True, ndisplay=3)
    layers = SceneLayers(viewer, session)
    widget = SceneWidget(session, layers)
    viewer.window.add_dock_widget(widget, name="3-D view")
    with pytest.raises(InputError, match="choose the file"):
        layers.toggle("map")
    layers.set_shown("overlay", True)
    widget.record(tmp_path / "film.gif")
    started.wait(10)
    viewer.close()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        QApplication.instance().processEvents()
        session.show_frame(1)
        time.sleep(0.01)
    assert layers.is_closed
    assert not list(tmp_path.iterdir())
