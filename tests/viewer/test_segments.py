"""Segments: what the table says, colours and what is shown, and regions for a new run."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

from cryosphere.analysis.results import read_analysis
from cryosphere.config_files import read_config
from cryosphere.errors import ConfigError, InputError
from cryosphere.model.vae import CryoSphere
from cryosphere.viewer.regions import (
    RegionRow,
    check_regions,
    free_region,
    regions_of_run,
    save_config,
    segment_rows,
    split_region,
)
from cryosphere.viewer.session import Session
from tests.run_factory import make_run


@pytest.fixture(scope="module")
def window(screen):
    from tests.viewer.panels import application

    return application()


@pytest.fixture
def panel(window, session):
    from cryosphere.viewer.widgets.segments import SegmentsWidget
    from tests.viewer.panels import drop

    widget = SegmentsWidget(session)
    widget.resize(420, 800)
    widget.show()
    yield widget
    drop(widget)


@pytest.fixture
def told(window):
    from tests.viewer.panels import Told

    return Told()


def test_the_table_is_that_of_the_analysis(panel, session):
    table = read_analysis(session.run, "segments")
    assert panel.table.rowCount() == len(table)
    for row in range(len(table)):
        expected = table.iloc[row]
        texts = [panel.table.item(row, column).text() for column in range(2, 6)]
        angle, shift = expected["angle_range_deg"], expected["translation_range_angstrom"]
        assert texts == [expected["residues"], str(expected["n_residues"]), f"{angle:.1f}", f"{shift:.1f}"]


def test_verdicts_of_held_out_images_are_shown(session):
    words = {"segment 1": ("supported", False), "segment 2": ("weak", False), "segment 3": ("not supported", True)}
    session.run._state["verdict"] = {
        "segments": [{"name": name, "motion": word, "is_stilled": still} for name, (word, still) in words.items()]
    }
    assert [row.verdict for row in segment_rows(session)] == ["supported", "weak", "held still", ""]
    labels = session.labels
    still = {session.run.structure.residue_numbers[r].item() for r in np.flatnonzero(labels[:24] == 2)}
    inside = {n for r in regions_of_run(session) if r.chain == "A" for n in range(r.first, r.last + 1)}
    if len(still) >= 6:
        assert not still & inside


def test_without_an_analysis_the_residues_are_shown(tmp_path):
    session = Session.open(make_run(tmp_path / "run", n_segments=3).folder)
    rows = segment_rows(session)
    assert sum(row.n_residues for row in rows) == 40 and np.isnan([row.angle_range for row in rows]).all()
    assert rows[0].residues.startswith("A:1-")


def test_ticks_hide_and_show(panel, session):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    changes = []
    session.segments_changed.connect(lambda: changes.append(session.segment_shown.tolist()))
    panel.table.setFocus()
    panel.table.setCurrentCell(1, 1)
    QTest.keyClick(panel.table, Qt.Key.Key_Space)
    assert changes == [[True, False, True, True]]
    panel.table.setCurrentCell(2, 1)
    QTest.mouseClick(panel.buttons["only"], Qt.MouseButton.LeftButton)
    assert session.segment_shown.tolist() == [False, False, True, False]
    states = [panel.table.item(row, 1).checkState() == Qt.CheckState.Checked for row in range(4)]
    assert states == [False, False, True, False]
    QTest.mouseClick(panel.buttons["all"], Qt.MouseButton.LeftButton)
    assert session.segment_shown.all()


def test_a_click_on_the_colour_asks_for_another(panel, session, monkeypatch):
    from qtpy.QtCore import Qt
    from qtpy.QtGui import QColor
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QColorDialog

    answers = [QColor("#ff0080"), QColor()]
    asked = []
    monkeypatch.setattr(
        QColorDialog, "getColor", staticmethod(lambda old, *rest: asked.append(old.name()) or answers.pop(0))
    )
    before = list(session.segment_colours)
    place = panel.table.visualItemRect(panel.table.item(1, 0)).center()
    for _ in range(2):
        QTest.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    assert session.segment_colours == [before[0], "#ff0080", *before[2:]]
    assert asked == [before[1].lower(), "#ff0080"]
    swatch = panel.table.item(1, 0).icon().pixmap(14, 14).toImage()
    assert swatch.pixelColor(7, 7).name() == "#ff0080"


def edit(panel, rows):
    """Type regions into the table."""
    box = panel.regions
    while box.regions:
        box.remove()
    for row, cells in enumerate(rows):
        box.add()
        for column, text in enumerate(cells):
            box.table.item(row, column).setText(text)


def test_edited_regions_become_a_configuration_that_trains(panel, session, tmp_path):
    edit(panel, [("A", "3", "11", "2"), ("B", "", "12", "1")])
    assert panel.regions.verdict.text() == "3 segments of 21 residues; the other 19 stay fixed."
    path = tmp_path / "é new" / "next.yaml"
    panel.save_configuration(path)
    config, own = read_config(path, check_files=False), session.run.config
    assert [r.model_dump(exclude={"starts", "prior_std"}) for r in config.segments.regions] == [
        {"chain": "A", "first": 3, "last": 11, "n_segments": 2},
        {"chain": "B", "first": None, "last": 12, "n_segments": 1},
    ]
    changed = {"segments": config.segments, "structure": config.structure}
    assert config == own.model_copy(update=changed)
    assert config.segments.method == own.segments.method and config.segments.n_segments == "auto"
    assert config.structure.file.is_absolute() and config.particles.file.is_absolute()
    table = session.run.table
    model = CryoSphere(session.run.structure, table.n_particles, table.box_size, table.pixel_size, config)
    weights = model.segment_weights().detach().numpy()
    assert weights.shape == (40, 3)
    numbers, chains = session.run.structure.residue_numbers, session.run.structure.chain_ids
    moves = ((chains == "A") & (numbers >= 3) & (numbers <= 11)) | ((chains == "B") & (numbers <= 12))
    assert ((weights.sum(1) > 0.5) == moves).all()
    words = shlex.split(panel.regions.command.text.toPlainText())
    assert words == ["cryosphere", "train", str(path), "-o", str(path.with_name("next_run"))]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("X", "", "", "1")], "segments.regions[0].chain: chain 'X' is not in protein.cif, which has chains A, B."),
        ([("A", "1", "99", "1")], "segments.regions[0].last: residue 99 is not among residues 1-25 of chain A"),
        ([("A", "9", "3", "1")], "segments.regions[0]: last (3) comes before first (9)."),
        ([("A", "1", "9", "1"), ("A", "5", "20", "1")], "segments.regions[1]: overlaps an earlier region at A/5"),
        ([("A", "1", "5", "9")], "segments.regions[0].n_segments: 9 segments, but there are only 5 residues"),
        ([("A", "1", "5", "0")], "'segments.regions.0.n_segments'"),
        ([("A", "one", "5", "1")], "'segments.regions.0.first': expected a valid integer, found 'one'."),
        ([], "There are no regions; add one"),
    ],
)
def test_mistakes_are_said_at_once_and_cannot_be_saved(panel, rows, words):
    edit(panel, [("A", "", "", "1"), ("B", "", "", "1")][: len(rows)])
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            panel.regions.table.item(row, column).setText(text)
    assert words in panel.regions.verdict.text()
    assert not panel.regions.buttons["save"].isEnabled()


def test_a_file_that_is_there_is_replaced_only_after_a_question(panel, session, told, tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text("mine")
    panel.save_configuration(path)
    assert told() == [f"{path} exists and is kept; choose another name."] and path.read_text() == "mine"
    assert not panel.regions.command.isVisible()
    monkeypatch.setattr(panel.regions, "ask_path", lambda: path)
    for answer in (False, True):
        monkeypatch.setattr(panel.regions, "ask_overwrite", lambda _, answer=answer: answer)
        panel.regions.buttons["save"].click()
        assert (path.read_text() == "mine") is not answer
    read_config(path, check_files=False)
    own = (session.run.layout.config).read_bytes()
    with pytest.raises(InputError, match="would be among the files of the run"):
        save_config(session.run, panel.regions.regions, session.run.layout.config, overwrite=True)
    assert session.run.layout.config.read_bytes() == own


def test_regions_begin_as_the_segments_and_can_be_split_and_added(panel, session):
    box = panel.regions
    assert box.buttons["save"].isEnabled()
    assert check_regions(session.run, box.regions) == box.verdict.text()
    for region in box.regions:
        assert isinstance(region.first, int) and region.n_segments == 1
    edit(panel, [("A", "1", "", "3")])
    box.split()
    assert box.regions == [RegionRow("A", 1, 13, 1), RegionRow("A", 14, 25, 2)]
    assert box.table.item(1, 3).text() == "2"
    box.add()
    assert box.regions[2] == RegionRow("B", 1, 16, 1)
    box.buttons["reset"].click()
    assert box.regions == regions_of_run(session)


def test_there_is_an_end_to_splitting_and_adding(session):
    with pytest.raises(InputError, match="one residue and cannot be split"):
        split_region(session, RegionRow("A", 3, 3, 1))
    with pytest.raises(InputError, match="Every residue is in a region"):
        free_region(session, [RegionRow("A", None, None, 1), RegionRow("B", None, None, 1)])
    with pytest.raises(ConfigError, match="chain 'X'"):
        free_region(session, [RegionRow("X", None, None, 1)])


def test_regions_of_the_configuration_come_first_and_keep_what_they_have(tmp_path):
    folder = make_run(tmp_path / "run", n_segments=2).folder
    session = Session.open(folder)
    given = [RegionRow("A", 2, 20, 2, (2, 9), 3.0)]
    path = tmp_path / "c.yaml"
    save_config(session.run, given, path)
    config = read_config(path, check_files=False)
    session.run.config = config
    assert regions_of_run(session) == given


def test_the_runs_copy_of_the_structure_stands_in_for_a_missing_one(tmp_path):
    run = make_run(tmp_path / "run")
    assert run.config.structure.file.exists()
    run.config.structure.file.unlink()
    save_config(run, [RegionRow("A", None, None, 1)], tmp_path / "c.yaml")
    config = read_config(tmp_path / "c.yaml", check_files=False)
    assert config.structure.file == run.folder / "structure" / "protein.cif" and config.structure.file.exists()


def test_closing_follows_no_more(window, session):
    from cryosphere.viewer.widgets.segments import SegmentsWidget
    from tests.viewer.panels import drop

    widget = SegmentsWidget(session)
    drop(widget)
    session.set_segments(colours=["#000000"] * 4)
