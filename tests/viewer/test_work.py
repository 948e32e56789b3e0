"""Selections: their list, their numbers, and their files, which are those of the command line."""

from __future__ import annotations

import shlex
import shutil
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

from cryosphere.analysis.columns import read_columns
from cryosphere.cli import main
from cryosphere.io.mrc import write_stack
from cryosphere.io.polygons import inside_polygon
from cryosphere.runs.run import Run
from cryosphere.viewer.session import ChosenParticles, Session
from tests.star_runs import attach, star_text

N = 400


@pytest.fixture(scope="module")
def window(screen):
    from tests.viewer.panels import application

    return application()


@pytest.fixture(scope="module")
def run(analysed_folder, tmp_path_factory):
    """The analysed run with a STAR file of its particles."""
    folder = tmp_path_factory.mktemp("work") / "run é"
    shutil.copytree(analysed_folder, folder)
    source = folder.parent / "particles.star"
    source.write_text(star_text(N))
    return attach(Run.load(folder), source)


@pytest.fixture
def session(run):
    return Session.open(run.folder)


@pytest.fixture
def wait(window):
    def until(holds, seconds=60.0):
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "the window did not get there"
            window.processEvents()
            time.sleep(0.002)

    return until


@pytest.fixture
def panel(window, session, wait):
    from cryosphere.viewer.widgets.work import WorkWidget
    from tests.viewer.panels import drop

    widget = WorkWidget(session)
    widget.resize(420, 900)
    widget.show()
    yield widget
    drop(widget)


@pytest.fixture
def told(window):
    from tests.viewer.panels import Told

    return Told()


def drawn(session):
    """What a lasso in the explorer gives."""
    polygon = np.array([[-0.3, -1.1], [1.7, -0.9], [1.2, 0.8], [0.1, 0.3]])
    points = np.column_stack([*read_columns(session.run, ["pc1", "pc2"]).values()])
    chosen = inside_polygon(points, polygon)
    assert 3 < chosen.sum() < N - 3
    return ChosenParticles("drawn", chosen, "lasso in pc1, pc2", ("pc1", "pc2"), polygon)


def by_hand(session, rows=(3, 8, 17, 30, 44)):
    chosen = np.zeros(session.n_particles, dtype=bool)
    chosen[list(rows)] = True
    return ChosenParticles("picked", chosen, "by hand")


def export(panel, wait, *arguments, **options):
    panel.export_to(*arguments, **options)
    wait(lambda: not panel.exporter.job.is_running)


def command_line(command, output):
    """Run a command that the window showed, with another output."""
    program, *arguments = shlex.split(command)
    assert program == "cryosphere"
    arguments[arguments.index("-o") + 1] = str(output)
    result = CliRunner().invoke(main, [*arguments, "--quiet"])
    assert result.exit_code == 0, result.output


def contents(path):
    """Bytes of a file, or of every file of a folder."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*"))}


def test_a_lasso_is_exported_as_the_command_line_does_with_the_polygon(panel, session, run, wait, tmp_path):
    chosen = drawn(session)
    session.add_selection(chosen)
    export(panel, wait, "particles", tmp_path / "lasso.star")
    (tmp_path / "drawn.csv").write_text("\n".join(f"{x!r},{y!r}" for x, y in chosen.polygon.tolist()))
    arguments = ["--polygon", str(tmp_path / "drawn.csv"), "--axes", "pc1,pc2", "-o", str(tmp_path / "cli.star")]
    result = CliRunner().invoke(main, ["export", str(run.folder), "particles", *arguments, "--quiet"])
    assert result.exit_code == 0
    assert (tmp_path / "lasso.star").read_bytes() == (tmp_path / "cli.star").read_bytes()
    shown = panel.exporter.command.text.toPlainText()
    assert "--polygon" in shown and "--particles" not in shown
    command_line(shown, tmp_path / "again.star")
    assert (tmp_path / "again.star").read_bytes() == (tmp_path / "cli.star").read_bytes()
    assert str(tmp_path / "lasso.star") in panel.exporter.result.text.toPlainText()


OPTIONS = {
    "particles": {"columns": True},
    "ensemble": {"conformations": "kmeans", "n_points": 2, "atoms": "ca"},
    "volumes": {"conformations": "mean"},
    "scene": {"conformations": "traversal", "n_points": 2, "colour_by": "rmsf"},
}
NAMES = {"particles": "p.star", "ensemble": "e.cif", "volumes": "maps", "scene": "scene"}


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_kind_writes_what_its_command_writes(panel, session, wait, tmp_path, kind):
    session.add_selection(by_hand(session))
    form = panel.exporter.forms[kind]
    for key, value in OPTIONS[kind].items():
        control = form.controls[key]
        if isinstance(value, bool):
            control.setChecked(value)
        elif isinstance(value, int):
            control.setValue(value)
        else:
            control.setCurrentIndex(control.findData(value))
    out, again = tmp_path / "a b" / NAMES[kind], tmp_path / "again" / NAMES[kind]
    export(panel, wait, kind, out)
    command_line(panel.exporter.written.command, again)
    assert contents(out) == contents(again) and all(contents(out).values())
    assert "rows.txt" not in panel.exporter.written.command
    assert (out.parent / f"{out.name}.particles.txt").read_text().split()[-5:] == ["3", "8", "17", "30", "44"]


def test_the_path_that_is_shown_is_exported(panel, session, wait, tmp_path):
    session.set_path(np.array([[0.1, 0.25], [1 / 3, -0.5], [1.0, 0.0]]), "mine")
    form = panel.exporter.forms["ensemble"]
    form.controls["conformations"].setCurrentIndex(form.controls["conformations"].findData("path"))
    assert not form.controls["n_points"].isEnabled()
    export(panel, wait, "ensemble", tmp_path / "path.pdb")
    command_line(panel.exporter.written.command, tmp_path / "again.pdb")
    assert (tmp_path / "path.pdb").read_bytes() == (tmp_path / "again.pdb").read_bytes()
    assert (tmp_path / "path.pdb").read_text().count("MODEL     ") == 3


def test_the_list_follows_the_session_and_the_session_the_list(panel, session, wait, told):
    from qtpy.QtCore import QItemSelectionModel, Qt
    from qtpy.QtTest import QTest

    session.add_selection(drawn(session))
    session.add_selection(by_hand(session))
    table = panel.list.table
    texts = [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount())]
    n = int(session.selections["drawn"].chosen.sum())
    assert texts == [
        ["all particles", "400", "100.0"],
        ["drawn", str(n), f"{100 * n / N:.1f}"],
        ["picked", "5", "1.2"],
    ]
    place = table.visualItemRect(table.item(1, 1)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    assert session.current == "drawn"
    table.item(1, 0).setText("open")
    assert list(session.selections) == ["open", "picked"] and session.current == "open"
    assert session.selection.name == "open"
    table.item(1, 0).setText("picked")
    assert told() == ["There is a selection 'picked' already; choose another name."]
    assert table.item(1, 0).text() == "open"
    flags = QItemSelectionModel.SelectionFlag
    table.selectionModel().select(table.model().index(2, 0), flags.Select | flags.Rows)
    first, second = session.selections["open"].chosen, session.selections["picked"].chosen
    for name, expected in (("union", first | second), ("intersection", first & second)):
        session.choose_selection("open")
        table.selectionModel().select(table.model().index(1, 0), flags.Select | flags.Rows)
        table.selectionModel().select(table.model().index(2, 0), flags.Select | flags.Rows)
        QTest.mouseClick(panel.list.buttons[name], Qt.MouseButton.LeftButton)
        if expected.any():
            assert (session.selection.chosen == expected).all()
    session.choose_selection("open")
    QTest.mouseClick(panel.list.buttons["invert"], Qt.MouseButton.LeftButton)
    assert session.current == "not open" and (session.selection.chosen == ~first).all()
    QTest.mouseClick(panel.list.buttons["remove"], Qt.MouseButton.LeftButton)
    assert "not open" not in session.selections


def test_numbers_of_the_selection(panel, session, run, wait):
    chosen = drawn(session)
    session.add_selection(chosen)
    wait(lambda: panel._summaries.is_idle)
    assert panel.share.text().startswith(f"<b>{chosen.n_particles}</b> of 400 particles: <b>")
    table = panel.summary
    cells = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}
    name = next(name for name in cells if name.startswith("angle("))
    values = read_columns(run, [name])[name][chosen.chosen]
    mean, spread = cells[name].removesuffix("°").split(" ± ")
    assert float(mean) == pytest.approx(values.mean(), abs=10 ** -len(mean.partition(".")[2]))
    assert float(spread) == pytest.approx(values.std(), rel=0.06)
    state = read_columns(run, ["state"])["state"]
    assert cells["state 1"] == f"{100 * (state[chosen.chosen] == 1).mean():.1f} %"


def test_files_that_are_there_are_kept(panel, session, wait, told, tmp_path, monkeypatch):
    session.add_selection(by_hand(session))
    (tmp_path / "mine.star").write_text("mine")
    export(panel, wait, "particles", tmp_path / "mine.star")
    assert told() == [f"{tmp_path / 'mine.star'} exists and is kept; choose another name."]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.star"]
    asked = []
    monkeypatch.setattr(panel.exporter, "ask_path", lambda: tmp_path / "mine.star")
    for answer in (False, True):
        monkeypatch.setattr(panel.exporter, "ask_overwrite", lambda there, answer=answer: asked.append(there) or answer)
        panel.exporter.start.click()
        wait(lambda: not panel.exporter.job.is_running)
        assert ((tmp_path / "mine.star").read_text() == "mine") is not answer
    assert asked == [[tmp_path / "mine.star"]] * 2


def test_what_an_earlier_export_was_of_goes_with_it(panel, session, wait, tmp_path):
    path = tmp_path / "some.star"
    session.add_selection(drawn(session))
    export(panel, wait, "particles", path)
    assert (tmp_path / "some.star.polygon.csv").is_file()
    session.add_selection(by_hand(session))
    export(panel, wait, "particles", path, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["some.star", "some.star.particles.txt"]


def test_a_missing_particle_file_is_a_sentence_and_may_be_named(panel, session, wait, told, tmp_path):
    source = session.run.table.source
    moved = source.rename(tmp_path / "moved.star")
    try:
        session.add_selection(by_hand(session))
        export(panel, wait, "particles", tmp_path / "o.star")
        what = f"{source}, the particle file of {session.run.folder}, is not there any more; say where it is now"
        assert told() == [f"{what} (--input)."]
        assert not (tmp_path / "o.star").exists() and panel.exporter.start.isEnabled()
        panel.exporter.forms["particles"].controls["input_file"].line.setText(str(moved))
        export(panel, wait, "particles", tmp_path / "o.star")
        assert (tmp_path / "o.star").read_text().count("@particles.mrcs") == 5
        assert f"--input {moved}" in panel.exporter.written.command
    finally:
        moved.rename(source)


def test_a_map_from_the_images_is_that_of_the_command(panel, session, wait, tmp_path):
    session.add_selection(drawn(session))
    (stack,) = session.run.table.stack_paths
    images = np.random.default_rng(0).normal(size=(N, 24, 24)).astype(np.float32)
    write_stack(stack, [images], n_images=N, pixel_size=4.0)
    try:
        export(panel, wait, "image_map", tmp_path / "map")
        command_line(panel.exporter.written.command, tmp_path / "again")
    finally:
        stack.unlink()
    assert contents(tmp_path / "map") == contents(tmp_path / "again")
    assert len(list((tmp_path / "map").glob("state_01*.mrc"))) == 3


def test_missing_images_are_a_sentence(panel, session, wait, told, tmp_path):
    session.choose_selection(None)
    export(panel, wait, "image_map", tmp_path / "map")
    assert len(told()) == 1 and "maps from images need the image stacks, of which 1 are missing" in told()[0]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def slow(monkeypatch):
    """Maps of conformations that are slow to make; tells when one is being made."""
    from cryosphere.export import volumes

    real, begun = volumes.density_maps, threading.Event()

    def slowly(*arguments):
        for volume in real(*arguments):
            begun.set()
            time.sleep(0.15)
            yield volume

    monkeypatch.setattr(volumes, "density_maps", slowly)
    return begun


def test_cancelling_leaves_nothing_and_the_window_goes_on(panel, session, wait, told, tmp_path, slow):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session.add_selection(by_hand(session))
    box = panel.exporter
    panel.export_to("volumes", tmp_path / "maps")
    wait(lambda: slow.is_set() and box.bar.maximum() == 5)
    assert box.cancel.isVisible() and not box.start.isEnabled()
    assert box.bar.format().startswith("volumes")
    panel.export_to("volumes", tmp_path / "second")
    QTest.mouseClick(box.cancel, Qt.MouseButton.LeftButton)
    wait(lambda: not box.job.is_running)
    assert list(tmp_path.iterdir()) == [] and told() == [] and box.written is None
    assert box.start.isEnabled() and not box.cancel.isVisible()
    export(panel, wait, "volumes", tmp_path / "maps")
    assert len(list((tmp_path / "maps").glob("*.mrc"))) == 5


def test_closing_the_window_ends_an_export(window, session, wait, told, tmp_path, slow):
    from cryosphere.viewer.widgets.work import WorkWidget
    from tests.viewer.panels import drop

    widget = WorkWidget(session)
    widget.show()
    session.add_selection(by_hand(session))
    widget.export_to("volumes", tmp_path / "maps")
    wait(slow.is_set)
    begun = time.monotonic()
    drop(widget)
    assert time.monotonic() - begun < 3
    for _ in range(20):
        window.processEvents()
    session.choose_selection(None)
    assert list(tmp_path.iterdir()) == [] and told() == []


def test_every_control_says_what_it_is_for(panel):
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QTableWidget

    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QTableWidget)
    controls = [one for kind in kinds for one in panel.findChildren(kind)]
    controls += [
        form.controls[key].line for form in panel.exporter.forms.values() for key in form.controls if "file" in key
    ]
    own = [
        one for one in controls if not one.objectName().startswith("qt_") and not isinstance(one.parent(), QTableWidget)
    ]
    assert len(own) > 20
    assert [one for one in own if not one.toolTip()] == []
    assert all(isinstance(one, (*kinds, QLineEdit)) for one in own)
