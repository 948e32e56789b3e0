"""Regions for the configuration of a new run, checked while they are edited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from cryosphere.errors import CryosphereError
from cryosphere.viewer.regions import (
    check_regions,
    free_region,
    regions_of_run,
    save_config,
    split_region,
)
from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.buttons import make_button
from cryosphere.viewer.widgets.export import CopyableText
from cryosphere.viewer.widgets.notices import plainly

_COLUMNS = {
    "Chain": "Name of the chain, as in the structure's file",
    "First": "Number of the first residue; empty: where the chain begins",
    "Last": "Number of the last residue; empty: where the chain ends",
    "Segments": "Into how many segments the region is divided",
}
_ROW_HEIGHT = 24


class RegionsBox(QGroupBox):
    """Regions that can be edited, and saved as the configuration of a new run.

    Attributes
    ----------
    regions : list of RegionRow
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Regions for a new run", parent)
        self.session, self.regions = session, regions_of_run(session)
        self.table, self.verdict = QTableWidget(0, len(_COLUMNS)), QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setToolTip("What a new run with these regions would move, or what is wrong with them")
        self.command = CopyableText("The command that trains with the saved configuration", 3, True)
        self.command.hide()
        self.buttons = {
            "add": make_button("A&dd", "A region of the longest stretch outside all regions", self.add),
            "split": make_button("S&plit", "Divide the marked region into two halves", self.split),
            "remove": make_button("Re&move", "Remove the marked region; its residues stay fixed", self.remove),
            "reset": make_button("&From the run", "Begin again with the segments of the run", self.reset),
            "save": make_button("&Save configuration…", "Write a configuration for `cryosphere train`", self.save),
        }
        self._lay_out()
        self.table.itemChanged.connect(self._edit)
        self._fill(0)

    def _lay_out(self) -> None:
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.setToolTip("Double click a cell to change it; residues outside every region stay fixed")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.table.setMinimumHeight(4 * _ROW_HEIGHT)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        for column, tip in enumerate(_COLUMNS.values()):
            self.table.horizontalHeaderItem(column).setToolTip(tip)
        layout, row = QVBoxLayout(self), QHBoxLayout()
        layout.addWidget(self.table)
        for key in ("add", "split", "remove", "reset"):
            row.addWidget(self.buttons[key])
        layout.addLayout(row)
        layout.addWidget(self.verdict)
        layout.addWidget(self.buttons["save"])
        layout.addWidget(self.command)

    def _fill(self, current: int) -> None:
        self.table.blockSignals(True)
        self.table.setRowCount(len(self.regions))
        for row, region in enumerate(self.regions):
            for column, value in enumerate((region.chain, region.first, region.last, region.n_segments)):
                item = QTableWidgetItem("" if value is None else str(value))
                item.setToolTip(list(_COLUMNS.values())[column])
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
        self.table.blockSignals(False)
        if self.regions:
            self.table.setCurrentCell(min(current, len(self.regions) - 1), 0)
        self._check()

    def _edit(self, item: QTableWidgetItem) -> None:
        text, key = item.text().strip(), ("chain", "first", "last", "n_segments")[item.column()]
        value = text if key == "chain" else _number(text)
        self.regions[item.row()] = replace(self.regions[item.row()], **{key: value}, starts=None)
        self._check()

    def _check(self) -> None:
        try:
            text, is_good = check_regions(self.session.run, self.regions), True
        except CryosphereError as error:
            text, is_good = str(error), False
        self.verdict.setText(text if is_good else f"⚠ {text}")
        self.buttons["save"].setEnabled(is_good)
        for key in ("split", "remove"):
            self.buttons[key].setEnabled(bool(self.regions))

    @plainly
    def add(self) -> None:
        """Add the longest stretch outside all regions."""
        self.regions = [*self.regions, free_region(self.session, self.regions)]
        self._fill(len(self.regions) - 1)

    @plainly
    def split(self) -> None:
        """Divide the marked region into halves."""
        row = self.table.currentRow()
        self.regions = [*self.regions[:row], *split_region(self.session, self.regions[row]), *self.regions[row + 1 :]]
        self._fill(row)

    def remove(self) -> None:
        """Remove the marked region."""
        row = self.table.currentRow()
        self.regions = [*self.regions[:row], *self.regions[row + 1 :]]
        self._fill(row)

    def reset(self) -> None:
        """Begin again with the run's segments."""
        self.regions = regions_of_run(self.session)
        self._fill(0)

    @plainly
    def save(self) -> None:
        """Ask for a name, and whether a file may be replaced, and save."""
        path = self.ask_path()
        if path is not None and (not path.exists() or self.ask_overwrite(path)):
            self.save_to(path, overwrite=path.exists())

    def ask_path(self) -> Path | None:
        """A name for the configuration from the user; None where there is none."""
        options = QFileDialog.Option.DontConfirmOverwrite
        name, _ = QFileDialog.getSaveFileName(self, "Save configuration", "config.yaml", "*.yaml", options=options)
        return None if not name else Path(name if Path(name).suffix else f"{name}.yaml")

    def ask_overwrite(self, path: Path) -> bool:
        """Whether the user wants a file replaced."""
        yes = QMessageBox.StandardButton.Yes
        return QMessageBox.question(self, "Replace?", f"{path}\nis there already. Replace it?") == yes

    def save_to(self, path: Path | str, overwrite: bool = False) -> None:
        """Write the configuration and show the command that trains with it."""
        self.command.hide()
        self.command.set_text(save_config(self.session.run, self.regions, Path(path).absolute(), overwrite))


def _number(text: str) -> int | str | None:
    """A whole number; other text as it is, and nothing as None."""
    try:
        return int(text) if text else None
    except ValueError:
        return text
