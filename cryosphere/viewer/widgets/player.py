"""Playing a session's path: slider, play, speed."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSlider, QSpinBox, QVBoxLayout, QWidget

from cryosphere.viewer.session import Session

_MODES = ("back and forth", "loop", "once")


class Player(QWidget):
    """Shows the frames of the session's path one after the other."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._step = 1
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._advance)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setToolTip("Place on the path: drag, or use the arrow keys")
        self.slider.setAccessibleName("frame of the path")
        self.slider.setPageStep(5)
        self.play = QPushButton("Play", self)
        self.play.setCheckable(True)
        self.play.setToolTip("Play the path, or stop (K)")
        self.mode = QComboBox(self)
        self.mode.addItems(_MODES)
        self.mode.setToolTip("What happens at the end of the path")
        self.speed = QSpinBox(self)
        self.speed.setRange(1, 60)
        self.speed.setValue(15)
        self.speed.setSuffix(" /s")
        self.speed.setToolTip("Frames per second; frames that cannot be decoded in time are left out")
        self._count = QLabel(self)
        self._lay_out()
        self.slider.valueChanged.connect(self._slide)
        self.play.toggled.connect(self._play)
        self.speed.valueChanged.connect(lambda value: self._timer.setInterval(round(1000 / value)))
        session.path_changed.connect(self._new_path)
        session.conformation_changed.connect(self._follow)
        self._new_path()

    def _lay_out(self) -> None:
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.play)
        first.addWidget(self.slider, 1)
        first.addWidget(self._count)
        label = QLabel("Speed", self)
        label.setBuddy(self.speed)
        second.addWidget(self.mode)
        second.addStretch(1)
        second.addWidget(label)
        second.addWidget(self.speed)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(first)
        column.addLayout(second)

    def _new_path(self) -> None:
        self._step = 1
        self.slider.blockSignals(True)
        self.slider.setRange(0, len(self.session.path) - 1)
        self.slider.blockSignals(False)
        self._follow()

    def _follow(self) -> None:
        """Move the slider to the frame that is shown."""
        frame = self.session.frame
        if frame is not None:
            self.slider.blockSignals(True)
            self.slider.setValue(frame)
            self.slider.blockSignals(False)
        elif self.is_playing:  # something else was picked
            self.play.setChecked(False)
        shown = "–" if frame is None else str(frame + 1)
        self._count.setText(f"{shown} of {len(self.session.path)}")

    def _slide(self, frame: int) -> None:
        self.session.show_frame(frame)

    def toggle_play(self) -> None:
        """Play, or stop."""
        self.play.toggle()

    @property
    def is_playing(self) -> bool:
        """Whether the path is being played."""
        return self._timer.isActive()

    def step_frame(self, step: int) -> None:
        """Show a frame further on (or back)."""
        self.session.show_frame(self.slider.value() + step)

    def _play(self, plays: bool) -> None:
        self.play.setText("Stop" if plays else "Play")
        if not plays:
            self._timer.stop()
            return
        if self.mode.currentText() == "once" and self.slider.value() == self.slider.maximum():
            self.session.show_frame(0)
        self._timer.start(round(1000 / self.speed.value()))

    def _advance(self) -> None:
        last, frame = len(self.session.path) - 1, self.slider.value()
        mode = self.mode.currentText()
        if mode == "once" and frame >= last:
            self.play.setChecked(False)
            return
        if mode == "back and forth":
            self._step = -1 if frame >= last else 1 if frame <= 0 else self._step
            frame += self._step
        else:
            frame = 0 if frame >= last else frame + 1
        self.session.show_frame(frame)

    def close_work(self) -> None:
        """Stop, and follow the session no more."""
        self._timer.stop()
        self.session.path_changed.disconnect(self._new_path, missing_ok=True)
        self.session.conformation_changed.disconnect(self._follow, missing_ok=True)
