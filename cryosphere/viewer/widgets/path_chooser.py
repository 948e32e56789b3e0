"""Where the session's path comes from, and how many frames it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from cryosphere.viewer import paths
from cryosphere.viewer.points import Plane
from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.workers import Latest

EASIEST, DRAWN, BETWEEN = "least resistance", "drawn", "between …"


class PathChooser(QWidget):
    """Chooses the path of a session: along a principal component, of least resistance, drawn, or between two groups.

    Signals: ``hint`` (what to do where something is missing), ``line_wanted`` (no line was drawn yet).
    """

    hint = Signal(str)
    line_wanted = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.work = Latest(_call, lambda made: session.set_path(*made), self)
        self._states: list[str] = []
        self._line: tuple[Plane, np.ndarray] | None = None
        self.source = QComboBox(self)
        self.source.setToolTip("Path to play: along a principal component, of least resistance, drawn, or between two")
        self.frames = QSpinBox(self)
        self.frames.setRange(2, 500)
        self.frames.setValue(40)
        self.frames.setKeyboardTracking(False)
        self.frames.setSuffix(" frames")
        self.frames.setToolTip("Conformations along the path")
        self.first, self.last = QComboBox(self), QComboBox(self)
        self.first.setToolTip("State or selection where the path begins")
        self.last.setToolTip("State or selection where the path ends")
        self._lay_out()
        for chooser in (self.source, self.first, self.last):
            chooser.activated.connect(self._choose)
        self.frames.valueChanged.connect(self._choose)
        session.selections_changed.connect(self._list_ends)

    def _lay_out(self) -> None:
        row, self._ends, column = QHBoxLayout(), QWidget(self), QVBoxLayout(self)
        ends = QHBoxLayout(self._ends)
        for line, parts in (
            (row, (("Path", self.source), ("", self.frames))),
            (ends, (("From", self.first), ("to", self.last))),
        ):
            line.setContentsMargins(0, 0, 0, 0)
            for text, widget in parts:
                if text:
                    label = QLabel(text, self)
                    label.setBuddy(widget)
                    line.addWidget(label)
                line.addWidget(widget, 1)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self._ends)
        self._ends.hide()

    def offer(self, sources: Sequence[str], states: Sequence[str]) -> None:
        """List sources of paths, and states as their ends."""
        self.source.addItems(list(sources))
        self._states = list(states)
        self._list_ends()

    def _list_ends(self) -> None:
        names = [*self._states, *self.session.selections]
        for number, chooser in enumerate((self.first, self.last)):
            shown = chooser.findText(chooser.currentText())
            kept = names.index(chooser.currentText()) if shown >= 0 and chooser.currentText() in names else number
            chooser.clear()
            chooser.addItems(names)
            chooser.setCurrentIndex(min(kept, len(names) - 1))
        if self.first.currentText() == self.last.currentText():
            self.last.setCurrentText(next((name for name in reversed(names) if name != self.first.currentText()), ""))

    def use_line(self, plane: Plane, points: Float[np.ndarray, "point 2"]) -> None:
        """Make a line drawn in a plane the path."""
        self._line = plane, points
        self.set_path(DRAWN)

    def set_path(self, source: str) -> None:
        """Choose a path by its name in the list: ``PC 1`` …, ``least resistance``, ``drawn``, ``between …``."""
        self.source.setCurrentText(source)
        self._choose()

    def _choose(self, *_: object) -> None:
        source, n_frames, run = self.source.currentText(), self.frames.value(), self.session.run
        self._ends.setVisible(source == BETWEEN)
        if source == DRAWN and self._line is None:
            self.line_wanted.emit()
            self.hint.emit("drag a path through the particles")
        elif source == DRAWN:
            plane, points = self._line
            self._request(lambda: paths.drawn_path(plane, points, n_frames), "drawn path")
        elif source == EASIEST:
            self._request(lambda: paths.easiest_path(run, n_frames), "path of least resistance")
        elif source == BETWEEN:
            self._choose_between(n_frames)
        elif source:
            number = int(source.removeprefix("PC "))
            self._request(lambda: paths.component_path(run, number, n_frames), f"principal component {number}")

    def _choose_between(self, n_frames: int) -> None:
        first, last = self.first.currentText(), self.last.currentText()
        if first == last:
            self.hint.emit("a path between two groups wants two; select particles, or analyse states")
            return
        members = self._members
        self._request(
            lambda: paths.straight_path(self.session.run, members(first), members(last), n_frames), f"{first} to {last}"
        )

    def _members(self, name: str) -> np.ndarray:
        """Particles of a state or selection."""
        if name in self.session.selections:
            return self.session.selections[name].chosen
        return self.session.columns.read(["state"], "state")["state"] == int(name.removeprefix("state "))

    def _request(self, make: Callable[[], np.ndarray], name: str) -> None:
        self.work.request(lambda: (make(), name))

    def close_work(self) -> None:
        """Make no more paths, and follow the session no more."""
        self.session.selections_changed.disconnect(self._list_ends, missing_ok=True)
        self.work.close()


def _call(job: Callable):
    return job()
