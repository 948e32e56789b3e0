"""Selections, what they are in numbers, and their export."""

from __future__ import annotations

import math
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from cryosphere.export.particles import ParticleSummary
from cryosphere.viewer.selections import combined, inverted, summarise_selection, unit
from cryosphere.viewer.session import ChosenParticles, Session
from cryosphere.viewer.widgets.buttons import make_button
from cryosphere.viewer.widgets.export import ExportBox
from cryosphere.viewer.widgets.notices import plainly
from cryosphere.viewer.widgets.workers import Latest

ALL, ROW_HEIGHT = "all particles", 24


class WorkWidget(QWidget):
    """Panel of the session's selections; :attr:`exporter` writes the current one as files."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.list, self.summary = SelectionList(session), SummaryTable()
        self.share = QLabel()
        self.share.setWordWrap(True)
        self.share.setToolTip("How many particles there are, and the share with a 68 % interval by their number")
        self.exporter = ExportBox(session)
        self._summaries = Latest(self._summarise, self._show_summary, self)
        layout = QVBoxLayout(self)
        layout.addWidget(_boxed("Selections", self.list))
        layout.addWidget(_boxed("The selection in numbers", self.share, self.summary), 1)
        layout.addWidget(self.exporter)
        session.selections_changed.connect(self._follow)
        self._follow()

    def _follow(self) -> None:
        self.list.refresh()
        self._summaries.request(self.session.selection)

    def _summarise(self, selection: ChosenParticles | None) -> ParticleSummary:
        return summarise_selection(self.session, selection)

    def _show_summary(self, summary: ParticleSummary) -> None:
        low, high = (100 * bound for bound in summary.interval)
        share = 100 * summary.n_chosen / summary.n_particles
        of = f"<b>{summary.n_chosen:,}</b> of {summary.n_particles:,} particles"
        is_part = summary.n_chosen < summary.n_particles
        self.share.setText(f"{of}: <b>{share:.1f} %</b> ({low:.1f} to {high:.1f} %)" if is_part else of)
        self.summary.show_summary(summary)

    def export_to(self, kind: str, path: Path | str, overwrite: bool = False) -> None:
        """Write the current selection as files of a kind (a key of ``work.KINDS``), beside the window.

        Options are those of the form of that kind.
        """
        self.exporter.export_to(kind, path, overwrite)

    def close_work(self) -> None:
        """Cancel an export that runs, stop the other work, and follow the session no more."""
        self.session.selections_changed.disconnect(self._follow)
        self.exporter.close_work()
        self._summaries.close()


class SelectionList(QWidget):
    """The selections, all particles first; the marked one is the session's current one."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._shown: list[ChosenParticles] | None = None
        self.table = QTableWidget(0, 4)
        self.table.setHorizontalHeaderLabels(["Name", "Particles", "%", "How"])
        self.table.setToolTip("Click: use this selection; double click its name: rename; Ctrl and click: mark several")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.setWordWrap(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.table.setFixedHeight(6 * ROW_HEIGHT)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(3, QHeaderView.ResizeMode.Stretch)
        self.table.setColumnWidth(0, 130)
        self.table.itemSelectionChanged.connect(self._choose)
        self.table.itemChanged.connect(self._rename)
        self.buttons = {
            "invert": make_button("&Invert", "All particles that are not in the current selection", self.invert),
            "union": make_button("&Union", "Particles in any of the marked selections", lambda: self.combine("or")),
            "intersection": make_button(
                "I&ntersection", "Particles in all of the marked selections", lambda: self.combine("and")
            ),
            "remove": make_button("&Remove", "Forget the marked selections; files stay", self.remove),
        }
        row = QHBoxLayout()
        for button in self.buttons.values():
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(row)

    def refresh(self) -> None:
        """Show the session's selections and mark the current one."""
        kept = list(self.session.selections.values())
        self.table.blockSignals(True)
        if self._shown is None or [id(one) for one in kept] != [id(one) for one in self._shown]:
            self._fill(kept)
        row = 0 if self.session.current is None else list(self.session.selections).index(self.session.current) + 1
        if row not in self._marked_rows():
            self.table.selectRow(row)
        self.table.blockSignals(False)
        marked = self.marked()
        self.buttons["invert"].setEnabled(self.session.current is not None)
        self.buttons["remove"].setEnabled(bool(marked))
        for name in ("union", "intersection"):
            self.buttons[name].setEnabled(len(marked) > 1)

    def _fill(self, kept: list[ChosenParticles]) -> None:
        n = self.session.n_particles
        rows = [(ALL, n, "")] + [(one.name, one.n_particles, one.how) for one in kept]
        self.table.setRowCount(len(rows))
        for row, (name, count, how) in enumerate(rows):
            cells = [name, f"{count:,}", f"{100 * count / n:.1f}", how]
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{name}: {how}" if how else name)
                flags = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled
                item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if column == 0 and row else flags)
                if column in (1, 2):
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
        self._shown = kept

    def _marked_rows(self) -> list[int]:
        return sorted(index.row() for index in self.table.selectionModel().selectedRows())

    def marked(self) -> list[str]:
        """Names of the marked selections."""
        names = list(self.session.selections)
        return [names[row - 1] for row in self._marked_rows() if row]

    def _choose(self) -> None:
        row = self.table.currentRow()
        self.session.choose_selection(list(self.session.selections)[row - 1] if row > 0 else None)

    @plainly
    def _rename(self, item: QTableWidgetItem) -> None:
        name = list(self.session.selections)[item.row() - 1]
        try:
            self.session.rename_selection(name, item.text())
        finally:
            self._shown = None
            self.refresh()

    @plainly
    def invert(self) -> None:
        """Add what is not in the current selection."""
        if self.session.selection is not None:
            self.session.add_selection(inverted(self.session, self.session.selection))

    @plainly
    def combine(self, how: str) -> None:
        """Add the union (``or``) or intersection (``and``) of the marked selections."""
        self.session.add_selection(combined(self.session, self.marked(), how))

    def remove(self) -> None:
        """Forget the marked selections."""
        for name in self.marked():
            self.session.remove_selection(name)


class SummaryTable(QTableWidget):
    """States and mean motions of a selection beside those of all particles."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, 3, parent)
        self.setHorizontalHeaderLabels(["Mean ± spread", "Selection", "All particles"])
        self.setToolTip("Mean ± standard deviation over the particles; of states, their share")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.setMinimumHeight(160)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

    def show_summary(self, summary: ParticleSummary) -> None:
        """Fill the table."""
        rows = [
            (
                f"state {state}",
                f"{100 * ours / summary.n_chosen:.1f} %",
                f"{100 * theirs / summary.n_particles:.1f} %",
            )
            for state, (ours, theirs) in summary.states.items()
        ]
        for name in summary.shown:
            pairs = zip(summary.means[name], summary.spreads[name], strict=True)
            rows.append((name, *(f"{_with_spread(mean, spread)}{unit(name)}" for mean, spread in pairs)))
        self.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, item)


def _with_spread(mean: float, spread: float) -> str:
    """Mean and spread with as many digits as two of the spread."""
    digits = 1 - math.floor(math.log10(spread)) if math.isfinite(spread) and spread > 0 else 2
    return f"{mean:.{min(max(digits, 0), 4)}f} ± {spread:.{min(max(digits, 0), 4)}f}"


def _boxed(title: str, *widgets: QWidget) -> QGroupBox:
    box = QGroupBox(title)
    layout = QVBoxLayout(box)
    for widget in widgets:
        layout.addWidget(widget)
    return box
