"""Controls for the options of an export."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QWidget,
)

from cryosphere.viewer.work import Kind, Option

# Of conformations.
_MOST = 500


class FileEdit(QWidget):
    """A line for the name of a file that exists, and a button that asks for it."""

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.line, button = QLineEdit(), QToolButton()
        self.line.setPlaceholderText("none")
        self.line.setToolTip(tip)
        button.setText("…")
        button.setToolTip("Choose the file")
        button.clicked.connect(lambda *_: self._ask())
        layout.addWidget(self.line, 1)
        layout.addWidget(button)
        self.setFocusProxy(self.line)

    def _ask(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Choose a file", self.line.text())
        if name:
            self.line.setText(name)


class OptionsForm(QWidget):
    """The options of one kind of export."""

    def __init__(self, kind: Kind, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind, self.controls = kind, {option.key: _control(option) for option in kind.options}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for option in kind.options:
            control = self.controls[option.key]
            if isinstance(control, QCheckBox):
                layout.addRow(control)
                continue
            label = QLabel(option.label)
            label.setBuddy(control)
            label.setToolTip(option.tip)
            layout.addRow(label, control)
        conformations = self.controls.get("conformations")
        if conformations is not None:
            conformations.currentIndexChanged.connect(lambda *_: self._enable())
            self._enable()

    def _enable(self) -> None:
        chosen = self.controls["conformations"].currentData()
        for option in self.kind.options:
            if option.only_for:
                self.controls[option.key].setEnabled(chosen in option.only_for)

    def values(self) -> dict[str, Any]:
        """Value of every option."""
        return {key: _value(control) for key, control in self.controls.items()}


def _control(option: Option) -> QWidget:
    if option.choices:
        control = QComboBox()
        for value, text in option.choices:
            control.addItem(text, value)
        control.setCurrentIndex(control.findData(option.default))
    elif isinstance(option.default, bool):
        control = QCheckBox(option.label)
        control.setChecked(option.default)
    elif isinstance(option.default, int):
        control = QSpinBox()
        control.setRange(2, _MOST)
        control.setValue(option.default)
    else:
        control = FileEdit(option.tip)
    control.setToolTip(option.tip)
    return control


def _value(control: QWidget) -> Any:
    if isinstance(control, QComboBox):
        return control.currentData()
    if isinstance(control, QCheckBox):
        return control.isChecked()
    if isinstance(control, QSpinBox):
        return control.value()
    return control.line.text().strip()
