"""The explorer, driven with the mouse and the keyboard."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from cryosphere.analysis.columns import read_columns
from cryosphere.analysis.results import read_analysis
from cryosphere.export.particle_selection import RunColumns, choose_rows
from cryosphere.export.selection import select_traversal
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text
from tests.viewer.mouse import drag, notices, shown, turn_wheel


@pytest.fixture(scope="module")
def app(screen):
    from qtpy.QtWidgets import QApplication

    return QApplication.instance() or QApplication([])


@pytest.fixture
def settle(app):
    """Let the window work until something holds."""

    def wait(holds, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "the window did not get there"
            app.processEvents()
            time.sleep(0.002)
        app.processEvents()

    return wait


@pytest.fixture
def open_explorer(settle):
    """Opens explorers of sessions, and closes them."""
    from cryosphere.viewer.widgets.explorer import ExplorerWidget

    opened = []

    def show(session, settled: bool = True):
        widget = ExplorerWidget(session)
        opened.append(widget)
        widget.resize(440, 760)
        widget.show()
        if settled:
            settle(lambda: not widget.is_busy and widget.plane is not None)
        return widget

    yield show
    for widget in opened:
        widget.close_work()
        widget.close()


@pytest.fixture
def explorer(open_explorer, session):
    return open_explorer(session)


@pytest.fixture(scope="module")
def star_folder(tmp_path_factory):
    """A run without an analysis whose particle file is there."""
    folder = tmp_path_factory.mktemp("star")
    (folder / "particles.star").write_text(star_text(N))
    return attach(make_run(folder / "run", n_particles=N), folder / "particles.star").folder


def test_a_click_shows_the_nearest_particle(explorer, session):
    assert explorer.plane.axes == ("pc1", "pc2")
    values = np.column_stack(list(read_columns(session.run, ["pc1", "pc2"]).values()))
    size = explorer.plane.limits[:, 1] - explorer.plane.limits[:, 0]
    for place in ([0.4, 0.1], [-1.2, -0.3]):
        (there,) = drag(explorer, [place])
        nearest = np.linalg.norm((values - there) / size, axis=1).argmin()
        assert session.particle == nearest
        np.testing.assert_array_equal(session.latent, session.run.posterior.mean[nearest])
    before = shown(explorer)
    drag(explorer, [[1.0, 0.2]])
    assert (shown(explorer) != before).any()


def test_dragging_goes_from_particle_to_particle(explorer, session):
    rows = []
    session.particle_changed.connect(lambda: rows.append(session.particle))
    drag(explorer, np.column_stack([np.linspace(-1.5, 1.5, 25), np.zeros(25)]))
    assert len(rows) > 8 and len(set(rows)) == len(rows)
    assert (np.diff(explorer.plane.values[rows, 0]) > -0.1).all()


def test_a_lasso_selects_what_the_command_line_does(explorer, session, settle, tmp_path):
    from qtpy.QtCore import Qt

    explorer.set_tool("lasso")
    turns = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    drag(explorer, np.column_stack([np.cos(turns), 0.4 * np.sin(turns) + 0.2 * np.cos(3 * turns)]))
    settle(lambda: session.selection is not None)
    made = session.selection
    assert (made.name, made.how, made.axes) == ("selection 1", "lasso in pc1, pc2", ("pc1", "pc2"))
    (tmp_path / "p.csv").write_text("".join(f"{x},{y}\n" for x, y in made.polygon.tolist()))
    expected = choose_rows(RunColumns(session.run), polygon=tmp_path / "p.csv", axes="pc1,pc2").chosen
    assert 20 < made.n_particles < 380
    assert made.chosen.tolist() == expected.tolist()
    settle(lambda: "selection 1: " in explorer.status.text())

    explorer.set_tool("rectangle")
    low, size = explorer.plane.limits[:, 0], np.ptp(explorer.plane.limits, axis=1)
    box = [low - 0.03 * size, [0, 0.1], [0.2, 0.3]]  # from outside the axes
    corners = drag(explorer, box, Qt.KeyboardModifier.AltModifier)
    settle(lambda: session.selection.n_particles < made.n_particles)
    x, y = explorer.plane.values.T
    inside = (x >= corners[0, 0]) & (x < corners[-1, 0]) & (y >= corners[0, 1]) & (y < corners[-1, 1])
    assert session.selection.chosen.tolist() == (made.chosen & ~inside).tolist()
    assert session.selection.how == "lasso in pc1, pc2 without rectangle in pc1, pc2"
    drag(explorer, box, Qt.KeyboardModifier.ShiftModifier)
    settle(lambda: session.selection.n_particles > made.n_particles)
    assert session.selection.chosen.tolist() == (made.chosen | inside).tolist()
    assert session.selection.how.endswith(" without rectangle in pc1, pc2 or rectangle in pc1, pc2")
    assert list(session.selections) == ["selection 1"]


def test_outlines_are_drawn_in_their_axes_only(explorer, session, settle):
    explorer.set_tool("rectangle")
    bare = shown(explorer)
    drag(explorer, [[-0.5, -0.3], [0.1, 0.2], [0.5, 0.3]])
    settle(lambda: session.selection is not None)
    assert (shown(explorer) != bare).any()
    explorer.set_axes("z1", "z2")
    settle(lambda: explorer.plane.axes == ("z1", "z2") and not explorer.is_busy)
    with_dots = shown(explorer)
    session.choose_selection(None)
    assert (shown(explorer) != with_dots).any()


def test_an_empty_selection_is_said_and_nothing_else_happens(explorer, session, settle):
    explorer.set_tool("rectangle")
    count = len(notices())
    low = explorer.plane.limits[:, 0]
    drag(explorer, [low + 0.01, low + 0.05, low + 0.08])
    settle(lambda: len(notices()) > count)
    assert notices()[count:] == ["rectangle in pc1, pc2: no particles in it."]
    assert not session.selections


def test_a_click_selects_a_state(explorer, session, settle):
    explorer.set_tool("state")
    (there,) = drag(explorer, [[0.5, 0.0]])
    settle(lambda: session.selection is not None)
    state = read_columns(session.run, ["state"])["state"]
    row = explorer.plane.nearest(*there)
    assert session.selection.chosen.tolist() == (state == state[row]).tolist()
    assert session.selection.how == f"state {state[row]}"


def test_a_drawn_path_is_followed_and_kept(explorer, session, settle):
    latents = []
    session.conformation_changed.connect(lambda: latents.append(session.latent))
    explorer.set_tool("path")
    gone = drag(explorer, np.column_stack([np.linspace(-1, 1, 30), np.linspace(-0.3, 0.3, 30)]))
    live = len(latents)
    assert live > 20
    np.testing.assert_allclose(explorer.plane.places_of(np.array(latents[:live])), gone[:live], atol=1e-6)
    settle(lambda: session.path_name == "drawn path" and not explorer.is_busy)
    assert len(session.path) == 40 and session.frame == 0
    places = explorer.plane.places_of(session.path)
    np.testing.assert_allclose(places[[0, -1]], gone[[0, -1]], atol=1e-6)
    np.testing.assert_allclose(np.diff(places, axis=0), np.tile((gone[-1] - gone[0]) / 39, (39, 1)), atol=0.02)
    explorer.path.frames.setValue(11)
    settle(lambda: len(session.path) == 11)
    np.testing.assert_allclose(explorer.plane.places_of(session.path)[[0, -1]], gone[[0, -1]], atol=1e-6)


def test_paths_from_the_list(explorer, session, settle):
    listed = [explorer.path.source.itemText(i) for i in range(explorer.path.source.count())]
    assert listed == ["PC 1", "PC 2", "least resistance", "drawn", "between …"]
    explorer.set_path("PC 2")
    settle(lambda: session.path_name == "principal component 2")
    np.testing.assert_array_equal(session.path, select_traversal(session.run, 2, 40).latent)
    explorer.set_path("least resistance")
    settle(lambda: session.path_name == "path of least resistance")
    table = read_analysis(session.run, "path")[["z1", "z2"]].to_numpy()
    np.testing.assert_allclose(session.path[[0, -1]], table[[0, -1]])
    explorer.set_tool("rectangle")
    for number, box in enumerate(([[-1.5, -0.6], [-1, 0], [-0.6, 0.6]], [[0.4, -0.6], [1, 0], [1.5, 0.6]]), start=1):
        drag(explorer, box)
        settle(lambda number=number: len(session.selections) == number)
    assert explorer.path.first.currentText() != explorer.path.last.currentText()
    explorer.path.first.setCurrentText("selection 1")
    explorer.path.last.setCurrentText("selection 2")
    explorer.set_path("between …")
    settle(lambda: session.path_name == "selection 1 to selection 2")
    ends = [session.run.posterior.mean[s.rows].mean(0, dtype=np.float64) for s in session.selections.values()]
    np.testing.assert_allclose(session.path, np.linspace(*ends, 40), atol=1e-6)


def test_without_a_line_the_path_is_asked_for(explorer, session):
    explorer.set_path("drawn")
    assert explorer.canvas.tool == "path" and explorer.tools["path"].isChecked()
    assert "drag a path" in explorer.status.text()
    assert session.path_name == "principal component 1"


def test_playing_goes_back_and_forth_loops_and_stops(explorer, session, settle):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session.set_path(session.path[:4], "short")
    player, frames = explorer.player, []
    session.conformation_changed.connect(lambda: frames.append(session.frame))
    player.speed.setValue(60)
    QTest.mouseClick(player.play, Qt.MouseButton.LeftButton)
    settle(lambda: len(frames) >= 9)
    player.mode.setCurrentText("loop")
    explorer.toggle_play()
    assert not player.is_playing
    assert frames[:9] == [1, 2, 3, 2, 1, 0, 1, 2, 3]
    session.show_frame(2)
    frames.clear()
    explorer.toggle_play()
    settle(lambda: len(frames) >= 4)
    assert frames[:4] == [3, 0, 1, 2]
    player.mode.setCurrentText("once")
    settle(lambda: not player.is_playing)
    assert session.frame == 3
    player.slider.setFocus()
    QTest.keyClick(player.slider, Qt.Key.Key_Left)
    assert session.frame == 2 and player.slider.value() == 2
    explorer.step_frame(-1)
    assert session.frame == 1


def test_axes_are_typed_and_measured(explorer, settle):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    edit = explorer.y.lineEdit()
    edit.selectAll()
    QTest.keyClicks(edit, 'distance("A:1-5","B:1-5")')
    QTest.keyClick(edit, Qt.Key.Key_Return)
    assert "measuring pc1, distance" in explorer.status.text()
    settle(lambda: not explorer.is_busy)
    assert explorer.plane.axes == ("pc1", 'distance("A:1-5","B:1-5")')
    measured = read_columns(explorer.session.run, ['distance("A:1-5","B:1-5")'])
    np.testing.assert_allclose(explorer.plane.values[:, 1], *measured.values())
    assert "measuring" not in explorer.status.text()


def test_a_name_that_means_nothing_is_told_once_and_nothing_changes(explorer, settle):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    count = len(notices())
    for chooser, name in ((explorer.x, "angel(s1)"), (explorer.colour, "colour of hope")):
        before = chooser.currentText()
        chooser.lineEdit().selectAll()
        QTest.keyClicks(chooser.lineEdit(), name)
        QTest.keyClick(chooser.lineEdit(), Qt.Key.Key_Return)
        settle(lambda: not explorer.is_busy)
        assert chooser.currentText() == before
    told = notices()[count:]
    assert len(told) == 2
    assert "angel(s1)" in told[0] and "is no motion" in told[0]
    assert "colour of hope" in told[1] and "cannot be understood" in told[1]
    assert explorer.plane.axes == ("pc1", "pc2")
    assert explorer.colours.label == "density"


def test_colours_and_their_legend(explorer, settle):
    pictures = [shown(explorer)]
    for name, words in (("angle(s1)", ("angle(s1)", "°")), ("state", ("state&nbsp;1",)), ("density", ("per bin",))):
        explorer.set_colour(name)
        settle(lambda: not explorer.is_busy)
        assert all(word in explorer.legend.text for word in words)
        pictures.append(shown(explorer))
    assert all((one != other).any() for one, other in itertools.pairwise(pictures))
    assert (pictures[0] == pictures[-1]).all()


def test_zooming_moving_and_home(explorer):
    canvas, home = explorer.canvas, explorer.canvas.limits
    place = np.array([0.5, 0.2])
    turn_wheel(explorer, place)
    np.testing.assert_allclose(np.ptp(canvas.limits, axis=1), 0.8 * np.ptp(home, axis=1))
    np.testing.assert_allclose(
        (place - canvas.limits[:, 0]) / np.ptp(canvas.limits, axis=1),
        (place - home[:, 0]) / np.ptp(home, axis=1),
        atol=0.01,
    )
    explorer.set_tool("move")
    zoomed = canvas.limits
    gone = drag(explorer, [[0.0, 0.0], [0.2, 0.1]])
    assert gone.shape == (2, 2)
    np.testing.assert_allclose(zoomed - canvas.limits, [[0.2, 0.2], [0.1, 0.1]], atol=0.02)
    explorer.home_button.click()
    np.testing.assert_array_equal(canvas.limits, home)


def test_every_control_has_a_help_text_and_the_keyboard(explorer):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QComboBox, QPushButton, QSlider, QSpinBox

    for kind in (QPushButton, QComboBox, QSpinBox, QSlider):
        controls = explorer.findChildren(kind)
        assert controls
        for control in controls:
            assert control.toolTip()
            assert control.focusPolicy() & Qt.FocusPolicy.TabFocus


def test_a_run_without_analysis_has_its_file_and_a_note(open_explorer, star_folder, settle):
    from cryosphere.viewer.session import Session

    session = Session.open(star_folder)
    explorer = open_explorer(session)
    assert "cryosphere analyze" in explorer.notes.text() and explorer.notes.isVisible()
    assert explorer.colour.findText("rlnClassNumber") >= 0
    assert explorer.path.source.findText("least resistance") < 0
    explorer.set_axes("z1", "rlnDefocusU")
    explorer.set_colour("rlnClassNumber")
    settle(lambda: not explorer.is_busy)
    assert explorer.plane.axes == ("z1", "rlnDefocusU")
    assert "4&nbsp;(25&nbsp;%)" in explorer.legend.text
    count = len(notices())
    explorer.set_tool("state")
    drag(explorer, [explorer.plane.values[3]])
    settle(lambda: len(notices()) > count)
    assert notices()[-1].startswith("states: ") and "has no analysis" in notices()[-1]
    drag(explorer, [explorer.plane.values[3]])
    explorer.set_path("between …")
    assert "wants two" in explorer.status.text()


def test_a_note_of_missing_images_goes_when_they_come(open_explorer, session, tmp_path, settle):
    explorer = open_explorer(session)
    settle(lambda: not explorer.is_busy)
    assert f"{session.missing_images}: missing" in explorer.notes.text() and explorer.notes.isVisible()
    assert explorer.notes.height() >= explorer.notes.heightForWidth(explorer.notes.width())
    session.run.table = replace(session.run.table, stack_paths=(tmp_path,))
    session.images_changed.emit()
    assert "missing" not in explorer.notes.text()


def test_a_changed_particle_file_is_said_and_the_rest_works(open_explorer, star_folder, tmp_path, settle):
    from cryosphere.viewer.session import Session

    session = Session.open(star_folder)
    session.columns.path = tmp_path / "other.star"
    session.columns.path.write_text(star_text(N - 1))
    explorer = open_explorer(session)
    settle(lambda: "has 59 particles" in explorer.notes.text())
    drag(explorer, [[0.0, 0.0]])
    assert session.particle is not None


def test_closing_while_a_column_is_measured(open_explorer, session, settle, monkeypatch):
    from cryosphere.viewer.widgets import explorer as module

    explorer = open_explorer(session)
    count, started, gate, plane = len(notices()), threading.Event(), threading.Event(), explorer.plane

    def slow(columns, axes):
        started.set()
        gate.wait(20)
        return plane

    monkeypatch.setattr(module, "Plane", slow)
    explorer.set_axes("z1", "angle(s1)")
    settle(started.is_set)
    threading.Timer(0.2, gate.set).start()
    explorer.close_work()
    explorer.close()
    session.show_particle(5)
    session.set_path(session.path, "again")
    settle(lambda: gate.is_set())
    assert explorer.plane is plane and len(notices()) == count


def test_closing_at_once(open_explorer, session):
    explorer = open_explorer(session, settled=False)
    drag(explorer, [[0.3, 0.3]])
    explorer.toggle_play()
    explorer.close_work()
    explorer.close()
    assert session.particle is None


def test_a_path_between_groups_begins_with_two_different_ones(screen, session):
    from cryosphere.viewer.session import ChosenParticles
    from cryosphere.viewer.widgets.path_chooser import PathChooser
    from tests.viewer.panels import application, drop

    application()
    chooser = PathChooser(session)
    chooser.offer(["between …"], ["state 1"])
    assert (chooser.first.currentText(), chooser.last.currentText()) == ("state 1", "state 1")
    chosen = np.arange(session.n_particles) < 30
    session.add_selection(ChosenParticles("mine", chosen, "by hand"))
    assert (chooser.first.currentText(), chooser.last.currentText()) == ("state 1", "mine")
    drop(chooser)
