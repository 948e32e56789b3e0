"""A list of columns in which others can be typed."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QCompleter, QWidget


class ColumnChooser(QComboBox):
    """Chooses a column by name; what is typed is found anywhere in the names. ``chosen`` carries the name."""

    chosen = Signal(str)

    def __init__(self, help_text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)
        self.setMaxVisibleItems(24)
        self.setToolTip(help_text)
        completer = QCompleter(self.model(), self)
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.setCompleter(completer)
        self.activated.connect(lambda _: self.chosen.emit(self.currentText()))
        self.lineEdit().returnPressed.connect(lambda: self.chosen.emit(self.currentText()))

    def show_name(self, name: str) -> None:
        """Show a name without choosing it; its beginning where there is no room for all."""
        self.setEditText(name)
        self.lineEdit().setCursorPosition(0)

    def offer(self, names: Sequence[str]) -> None:
        """List more names."""
        shown = self.currentText()
        self.addItems([name for name in names if self.findText(name, Qt.MatchFlag.MatchExactly) < 0])
        self.show_name(shown)
