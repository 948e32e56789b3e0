"""The particle panel as people use it: real clicks and keys, pictures and numbers as the session has them."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest

from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_table
from tests.viewer.noiseless import GREY, OFFSET, N


@pytest.fixture
def open_widget(window, wait_until):
    """Put a panel on a session of a run folder into the window."""
    from cryosphere.viewer.session import Session
    from cryosphere.viewer.widgets.particle import ParticleWidget

    opened = []

    def make(folder):
        widget = ParticleWidget(Session.open(folder))
        opened.append((widget, window.window.add_dock_widget(widget, area="right")))
        return widget

    yield make
    for widget, dock in opened:
        widget.close_work()
        window.window.remove_dock_widget(dock)


@pytest.fixture
def viewer(window):
    return window


@pytest.fixture
def widget(open_widget, noiseless_folder):
    return open_widget(noiseless_folder)


def settled(widget):
    return lambda: widget._particle_worker.is_idle and widget._average_worker.is_idle


def choose(widget, rows, name="mine"):
    from cryosphere.viewer.session import ChosenParticles

    chosen = np.zeros(widget.session.n_particles, dtype=bool)
    chosen[rows] = True
    widget.session.add_selection(ChosenParticles(name, chosen, "chosen by the test"))


def click(button):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def drawn(widget):
    """Images, titles and grey limits of the pictures, row by row."""
    panels = [panel for row in widget.panels.rows for panel in row]
    return [panel.image for panel in panels], [panel.title for panel in panels], [(p.low, p.high) for p in panels]


def painted(widget, row, column):
    """Grey levels on the screen where a picture is, the first row at the bottom."""
    from qtpy.QtGui import QImage

    place = widget.panels.canvas.place(row, column).toAlignedRect()
    shot = widget.panels.canvas.grab().toImage().convertToFormat(QImage.Format.Format_Grayscale8)
    whole = np.frombuffer(shot.constBits(), np.uint8).reshape(shot.height(), shot.bytesPerLine())
    ratio = shot.width() / widget.panels.canvas.width()
    top, bottom, left, right = (
        round(ratio * edge) for edge in (place.top(), place.bottom() + 1, place.left(), place.right() + 1)
    )
    return whole[top:bottom, left:right][::-1]


def cells(widget):
    table = widget.table
    return {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}


def test_image_projection_and_residual_have_one_grey_scale(widget, wait_until):
    assert "No particle is shown" in widget.panels.sentence and not widget.table.isVisible()
    widget.session.show_particle(4)
    wait_until(settled(widget))
    images, titles, limits = drawn(widget)
    expected = widget.pictures.compare(4, 15.0)
    assert titles == ["image", "projection", "residual"]
    for image, name in zip(images, titles, strict=True):
        np.testing.assert_array_equal(image, getattr(expected, name))
    assert len(set(limits)) == 1 and limits[0][0] == -limits[0][1]
    assert limits[0][1] == pytest.approx(np.percentile(np.abs(images[0]), 99.5))
    assert "low-passed to 15 Å; 4 Å per pixel; correlation of image and projection 1.00" in widget.caption.text()
    assert cells(widget) == dict(widget.pictures.numbers(4).lines())
    assert widget.go_to.value() == 4 and widget.among.text() == "of 40"


def test_the_chooser_changes_the_image(widget, wait_until):
    widget.session.show_particle(3)
    widget.kind.setCurrentText("centred")
    wait_until(settled(widget))
    np.testing.assert_array_equal(drawn(widget)[0][0], widget.pictures.compare(3).image)
    assert not widget.resolution.isEnabled()
    widget.kind.setCurrentText("as stored")
    wait_until(settled(widget))
    images, titles, limits = drawn(widget)
    np.testing.assert_array_equal(images[0], widget.pictures.stored(3).image)
    np.testing.assert_array_equal(images[1], widget.pictures.compare(3).projection)
    assert titles[0] == "image as stored" and limits[0][0] > 0.5 * OFFSET and limits[1] == limits[2]
    assert "protein dark" in widget.caption.text()
    widget.kind.setCurrentText("low-passed")
    widget.resolution.setValue(20.0)
    wait_until(settled(widget))
    np.testing.assert_array_equal(drawn(widget)[0][0], widget.pictures.compare(3, 20.0).image)


def test_pictures_are_painted_as_they_are(widget, wait_until):
    widget.session.show_particle(0)
    wait_until(settled(widget))
    images, _, limits = drawn(widget)
    for column, (image, (low, high)) in enumerate(zip(images, limits, strict=True)):
        shown = painted(widget, 0, column)
        at = ((np.arange(24) + 0.5) / 24 * len(shown)).astype(int)
        expected = 255 * ((image - low) / (high - low)).clip(0, 1)
        there = np.s_[8:, :] if column == 0 else np.s_[:, :]  # above the scale bar
        assert np.abs(shown[np.ix_(at, at)][there] - expected[there]).mean() < 12


def test_the_scale_bar_is_as_long_as_it_says(widget, wait_until):
    from cryosphere.viewer.widgets.panels import bar_length

    widget.session.show_particle(0)
    widget.kind.setCurrentText("centred")
    wait_until(settled(widget))
    shown = painted(widget, 0, 0)
    edge = len(shown)
    white = [(row[: edge // 2] == 255) for row in shown[: edge // 8]]
    assert bar_length(96.0) == 20.0
    assert max(row.sum() for row in white) == pytest.approx(edge * 20 / 96, abs=2)
    assert [bar_length(size) for size in (3.0, 60.0, 150.0, 400.0, 800.0)] == [1.0, 20.0, 50.0, 100.0, 200.0]


def test_arrows_step_through_all_and_through_the_selection(widget, wait_until):
    click(widget.next)
    assert widget.session.particle == 0
    click(widget.previous)
    assert widget.session.particle == N - 1
    choose(widget, [5, 9, 30])
    assert widget.among.text() == "3 in mine"
    seen = []
    for button in (widget.next, widget.next, widget.previous, widget.previous):
        click(button)
        seen.append(widget.session.particle)
    assert seen == [5, 9, 5, 30]
    widget.session.show_particle(20)
    widget.step(1)
    assert widget.session.particle == 30
    widget.session.show_particle(20)
    widget.step(-1)
    assert widget.session.particle == 9
    wait_until(settled(widget))


def test_a_row_is_typed_and_shown(widget, wait_until):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    widget.go_to.setFocus()
    widget.go_to.selectAll()
    QTest.keyClicks(widget.go_to, "17")
    assert widget.session.particle is None
    QTest.keyClick(widget.go_to, Qt.Key.Key_Return)
    assert widget.session.particle == 17
    wait_until(settled(widget))
    assert cells(widget)["image"] == "000018@particles.mrcs"


def test_the_average_of_the_selection_is_above_the_models(widget, wait_until):
    widget.average.setChecked(True)
    assert "No selection to average" in widget.panels.sentence
    choose(widget, np.arange(0, N, 2))
    assert "Averaging mine by view" in widget.panels.sentence
    wait_until(settled(widget))
    expected = widget.pictures.averages(np.arange(0, N, 2))
    views = np.flatnonzero(expected.counts[0])
    images, titles, _ = drawn(widget)
    assert len(images) == 2 * len(views)
    for place, view in enumerate(views):
        np.testing.assert_array_equal(images[place], expected.particles[0, view])
        np.testing.assert_array_equal(images[len(views) + place], expected.model[0, view])
        assert titles[place] == f"{expected.counts[0, view]} images"
        assert titles[len(views) + place] == f"r = {expected.correlations(expected.model)[0, view]:.2f}"
    assert f"{expected.counts.sum()} particles averaged" in widget.caption.text()
    choose(widget, np.arange(N), "everything")
    wait_until(settled(widget))
    assert widget.caption.text().startswith("everything")
    widget.session.show_particle(2)
    click(widget.average)
    wait_until(settled(widget))
    assert drawn(widget)[1] == ["image", "projection", "residual"]


def test_missing_images_are_said_and_the_numbers_stay(open_widget, analysed_folder, wait_until):
    widget = open_widget(analysed_folder)
    widget.session.show_particle(7)
    wait_until(settled(widget))
    assert widget.panels.sentence.endswith(
        "missing, so this particle's image cannot be shown; its numbers can, and the rest."
    )
    assert cells(widget)["image"] == "000008@particles.mrcs"
    widget.average.setChecked(True)
    choose(widget, [1, 2, 3])
    wait_until(settled(widget))
    assert "missing; averages of particles need the image stacks" in widget.panels.sentence


@pytest.mark.parametrize("how", ["next particle", "told"])
def test_images_that_come_later_are_shown(open_widget, noiseless_folder, tmp_path, wait_until, how):
    folder = shutil.copytree(noiseless_folder, tmp_path / "run")
    table = Run.load(folder).table
    save_table(folder / "particles.npz", replace(table, stack_paths=(tmp_path / "late.mrcs",)))
    widget = open_widget(folder)
    widget.step(1)
    wait_until(settled(widget))
    assert "late.mrcs: missing" in widget.panels.sentence
    shutil.copy(table.stack_paths[0], tmp_path / "late.mrcs")
    if how == "told":
        widget.session.images_changed.emit()
    else:
        widget.step(1)
    wait_until(settled(widget))
    assert widget.panels.sentence == "" and len(drawn(widget)[0]) == 3
    assert widget.pictures.compare(1).contrast == pytest.approx(GREY, rel=0.01)


def test_closing_while_a_picture_is_made(open_widget, noiseless_folder, wait_until, monkeypatch):
    widget, gate, begun = open_widget(noiseless_folder), threading.Event(), threading.Event()
    plain = widget.pictures.compare

    def slow(*arguments):
        begun.set()
        gate.wait(10)
        return plain(*arguments)

    monkeypatch.setattr(widget.pictures, "compare", slow)
    widget.step(1)
    assert begun.wait(10)
    threading.Timer(0.2, gate.set).start()
    widget.close_work()
    widget.session.show_particle(3)
    assert widget.session.particle == 3 and widget.go_to.value() == 0
    monkeypatch.setattr(widget, "close_work", lambda: None)


def test_every_control_says_what_it_does(widget):
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox

    controls = [child for kind in (QAbstractButton, QAbstractSpinBox, QComboBox) for child in widget.findChildren(kind)]
    own = [child for child in controls if child.parent() is widget]
    assert len(own) == 6 and all(child.toolTip() for child in own)


def test_pictures_follow_the_theme(widget, window, wait_until):
    widget.session.show_particle(1)
    wait_until(settled(widget))

    def corner() -> int:
        return widget.panels.canvas.grab().toImage().pixelColor(1, 1).lightness()

    assert corner() < 100
    window.theme = "light"
    wait_until(lambda: corner() > 200)
    window.theme = "dark"
    wait_until(lambda: corner() < 100)
