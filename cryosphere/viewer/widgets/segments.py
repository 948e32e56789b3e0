"""The segments of a run: colours, which are shown, how they move; and regions for a new run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from cryosphere.viewer.regions import SegmentRow, segment_rows
from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.buttons import make_button
from cryosphere.viewer.widgets.notices import plainly
from cryosphere.viewer.widgets.regions import RegionsBox

_COLUMNS = ("", "Name", "Residues", "No.", "°", "Å", "Motion")
_TIPS = (
    "Colour: click to choose another",
    "Tick to show the segment",
    "Residues by chain",
    "Number of residues",
    "Range of its rotation over the ensemble (5th to 95th percentile)",
    "Range of its centre's translation over the ensemble (5th to 95th percentile)",
    "What held-out images say of its motion (held still: not supported, and the run does not let it move)",
)
_SWATCH, _ROW_HEIGHT = 14, 24
# Pixels, of all columns but the residues, which get the rest.
_WIDTHS = {0: 24, 1: 52, 3: 36, 4: 40, 5: 40, 6: 106}
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


class SegmentsWidget(QWidget):
    """Panel of the session's segments, and of regions for a new run (:attr:`regions`)."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.rows = session, segment_rows(session)
        self.table = QTableWidget(len(self.rows), len(_COLUMNS))
        self.regions = RegionsBox(session)
        self.buttons = {
            "only": make_button("&Only this", "Hide all other segments", self.show_only),
            "all": make_button("Show &all", "Show every segment", self.show_all),
            "colour": make_button("&Colour…", "Choose another colour for the marked segment", self.ask_colour),
        }
        self._set_up_table()
        box = QGroupBox("Segments")
        inner = QVBoxLayout(box)
        inner.addWidget(self.table)
        row = QHBoxLayout()
        for button in self.buttons.values():
            row.addWidget(button)
        inner.addLayout(row)
        layout = QVBoxLayout(self)
        layout.addWidget(box, 3)
        layout.addWidget(self.regions, 2)
        self.table.itemChanged.connect(self._show_or_hide)
        self.table.cellClicked.connect(self._clicked)
        self.table.cellActivated.connect(self._clicked)
        session.segments_changed.connect(self._follow)
        self._follow()

    def _set_up_table(self) -> None:
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setToolTip("Every segment, its residues, and how it moves")
        self.table.setWordWrap(False)
        self.table.setIconSize(QSize(_SWATCH, _SWATCH))
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.table.setMinimumHeight(4 * _ROW_HEIGHT)
        for row, segment in enumerate(self.rows):
            self._fill(row, segment)
        header = self.table.horizontalHeader()
        header.setMinimumSectionSize(24)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        for column, width in _WIDTHS.items():
            self.table.setColumnWidth(column, width)
        for column, tip in enumerate(_TIPS):
            self.table.horizontalHeaderItem(column).setToolTip(tip)
        if self.rows:
            self.table.setCurrentCell(0, 1)

    def _fill(self, row: int, segment: SegmentRow) -> None:
        numbers = [f"{segment.n_residues:,}", _number(segment.angle_range), _number(segment.translation_range)]
        cells = ["", segment.name.replace("segment ", "s"), segment.residues, *numbers, segment.verdict]
        for column, text in enumerate(cells):
            item = QTableWidgetItem(text)
            item.setFlags(Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled)
            item.setToolTip(
                (_TIPS[0], f"{segment.name}. {_TIPS[1]}")[column] if column < 2 else f"{_TIPS[column]}: {text}"
            )
            if column == 1:
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(Qt.CheckState.Checked)
            if 2 < column < 6:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(row, column, item)

    def _follow(self) -> None:
        """Show the session's colours and what is shown."""
        self.table.blockSignals(True)
        for row, colour in enumerate(self.session.segment_colours):
            swatch = QPixmap(_SWATCH, _SWATCH)
            swatch.fill(QColor(colour))
            self.table.item(row, 0).setIcon(QIcon(swatch))
            self.table.item(row, 0).setData(Qt.ItemDataRole.UserRole, colour)
            is_shown = bool(self.session.segment_shown[row])
            self.table.item(row, 1).setCheckState(Qt.CheckState.Checked if is_shown else Qt.CheckState.Unchecked)
        self.table.blockSignals(False)

    def _show_or_hide(self, item: QTableWidgetItem) -> None:
        if item.column() == 1:
            shown = self.session.segment_shown.copy()
            shown[item.row()] = item.checkState() == Qt.CheckState.Checked
            self.session.set_segments(shown=shown)

    def _clicked(self, row: int, column: int) -> None:
        if column == 0:
            self.ask_colour()

    def show_only(self) -> None:
        """Hide all segments but the marked one."""
        self.session.set_segments(shown=np.arange(len(self.rows)) == self.table.currentRow())

    def show_all(self) -> None:
        """Show all segments."""
        self.session.set_segments(shown=np.ones(len(self.rows), dtype=bool))

    def ask_colour(self) -> None:
        """Ask for a colour of the marked segment."""
        row = self.table.currentRow()
        if row < 0:
            return
        old = QColor(self.session.segment_colours[row])
        chosen = QColorDialog.getColor(old, self, f"Colour of {self.rows[row].name}")
        if chosen.isValid():
            self.set_colour(row, chosen.name())

    def set_colour(self, segment: int, colour: str) -> None:
        """Give a segment (from 0) another colour, ``#rrggbb``."""
        if _HEX.fullmatch(colour) is None:
            raise ValueError(f"{colour!r} is no colour of the form #rrggbb")
        colours = list(self.session.segment_colours)
        colours[segment] = colour
        self.session.set_segments(colours=colours)

    @plainly
    def save_configuration(self, path: Path | str, overwrite: bool = False) -> None:
        """Write the configuration of a new run with the regions of the table."""
        self.regions.save_to(path, overwrite)

    def close_work(self) -> None:
        """Follow the session no more."""
        self.session.segments_changed.disconnect(self._follow)


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else ""
