"""Panel of the 3-D view: colours, what is shown besides the conformation, the map, films."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from cryosphere.analysis.columns import has_analysis
from cryosphere.viewer.layers import SceneLayers
from cryosphere.viewer.session import Session
from cryosphere.viewer.tints import TINT_LABELS, TINTS
from cryosphere.viewer.widgets.legend import LegendView
from cryosphere.viewer.widgets.notices import plainly, show_info
from cryosphere.viewer.widgets.recorder import Recorder

_STEPS = 1000
_PARTS = {
    "ghost": ("nominal structure", "Show the nominal structure as a grey ghost behind the conformation (Shift+G)."),
    "arrows": ("motion arrows", "Show arrows for residues that move by more than 1 Å (Shift+A)."),
    "overlay": (
        "ensemble",
        "Show about ten conformations of the path, or the states, behind it (Shift+O).",
    ),
    "map": ("map", "Show the consensus map about the structure; choose its file below first (Shift+M)."),
}
_FORMATS = {"mp4": "MP4 film", "gif": "GIF film", "png": "PNG images"}


class SceneWidget(QWidget):
    """Controls of the 3-D view of a session; everything is done by its :class:`SceneLayers`."""

    def __init__(self, session: Session, layers: SceneLayers, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.layers = session, layers
        self.recorder = Recorder(layers, self)
        self.recorder.progressed.connect(self._show_progress)
        self.recorder.ended.connect(self._show_end)
        layout = QVBoxLayout(self)
        for group in (self._colour_group(), self._part_group(), self._map_group(), self._film_group()):
            layout.addWidget(group)
        layout.addStretch(1)
        layers.changed.connect(self.refresh)
        layers.closed.connect(self.close_work)
        self.refresh()

    def close_work(self) -> None:
        """Stop the film that is being made, and follow the layers no longer."""
        self.recorder.close()
        self.layers.changed.disconnect(self.refresh)
        self.layers.closed.disconnect(self.close_work)

    # What the panel consists of.

    def _colour_group(self) -> QGroupBox:
        group, layout = _group("Conformation")
        self.tint = _narrow()
        for name in TINTS:
            self.tint.addItem(TINT_LABELS[name], name)
        self.tint.setToolTip("What the colours of the tube stand for.")
        self.tint.activated.connect(plainly(lambda *_: self._choose_tint()))
        self.legend = LegendView(self.layers.legend)
        self.radius = QDoubleSpinBox()
        self.radius.setRange(0.1, 10.0)
        self.radius.setSingleStep(0.1)
        self.radius.setDecimals(1)
        self.radius.setSuffix(" Å")
        self.radius.setKeyboardTracking(False)
        self.radius.setToolTip("Radius of the tube.")
        self.radius.valueChanged.connect(self.layers.set_radius)
        layout.addWidget(QLabel("colour by"), 0, 0)
        layout.addWidget(self.tint, 0, 1)
        layout.addWidget(self.legend, 1, 0, 1, 2)
        layout.addWidget(QLabel("tube radius"), 2, 0)
        layout.addWidget(self.radius, 2, 1)
        return group

    def _part_group(self) -> QGroupBox:
        group, layout = _group("Show with it")
        self.boxes: dict[str, QCheckBox] = {}
        self.opacity: dict[str, QSlider] = {}
        for row, (part, (label, tip)) in enumerate(_PARTS.items()):
            box, slider = QCheckBox(label), QSlider(Qt.Orientation.Horizontal)
            box.setToolTip(tip)
            box.toggled.connect(plainly(lambda shown, part=part: self._show_part(part, shown)))
            slider.setRange(5, 100)
            slider.setToolTip(f"Opacity of the {label}.")
            slider.setAccessibleName(f"opacity of the {label}")
            slider.valueChanged.connect(lambda value, part=part: self.layers.set_opacity(part, value / 100))
            self.boxes[part], self.opacity[part] = box, slider
            layout.addWidget(box, row, 0)
            layout.addWidget(slider, row, 2)
        self.arrows_of = _choice({"nominal": "from nominal", "path": "along the path"}, self.layers.set_arrows)
        self.arrows_of.setToolTip("From the nominal structure to the conformation, or from end to end of the path.")
        self.overlay_of = _choice({"path": "along the path", "states": "the states"}, self.layers.set_overlay)
        self.overlay_of.setToolTip("Conformations along the path (from blue to orange), or the states of the analysis.")
        self.overlay_of.model().item(1).setEnabled(has_analysis(self.session.run))
        layout.addWidget(self.arrows_of, 1, 1)
        layout.addWidget(self.overlay_of, 2, 1)
        return group

    def _map_group(self) -> QGroupBox:
        group, layout = _group("Map")
        self.map_button = QPushButton("Choose a map…")
        self.map_button.setToolTip("Choose the map (.mrc, .map) that the nominal structure was placed in.")
        self.map_button.clicked.connect(plainly(lambda *_: self.choose_map()))
        self.rendering = _choice({"iso": "surface", "mip": "projection"}, self.layers.set_rendering)
        self.rendering.setToolTip("A surface at the level, or the largest values along the line of sight (slower).")
        self.level = QSlider(Qt.Orientation.Horizontal)
        self.level.setRange(0, _STEPS)
        self.level.setToolTip("Level of the surface; of the projection, the value where it begins.")
        self.level.setAccessibleName("level of the map")
        self.level.valueChanged.connect(self._set_level)
        self.level_text = QLabel("–")
        layout.addWidget(self.map_button, 0, 0, 1, 2)
        layout.addWidget(self.rendering, 0, 2)
        layout.addWidget(QLabel("level"), 1, 0)
        layout.addWidget(self.level, 1, 1)
        layout.addWidget(self.level_text, 1, 2)
        return group

    def _film_group(self) -> QGroupBox:
        group, layout = _group("Film of the path")
        self.format = _choice(_FORMATS, lambda _: None)
        self.format.setToolTip("MP4 and GIF are one file, PNG images a folder.")
        self.frames_per_second = QSpinBox()
        self.frames_per_second.setRange(1, 60)
        self.frames_per_second.setValue(15)
        self.frames_per_second.setSuffix(" fps")
        self.frames_per_second.setToolTip("Frames per second of the film.")
        self.forth_and_back = QCheckBox("forth and back")
        self.forth_and_back.setChecked(True)
        self.forth_and_back.setToolTip("Go back to the start, so that the film can be repeated without a jump.")
        self.record_button = QPushButton("Record…")
        self.record_button.setToolTip("Choose a name, and record the path as the canvas shows it; again to cancel.")
        self.record_button.clicked.connect(plainly(lambda *_: self.record()))
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.progress.setToolTip("Frames that are recorded.")
        settings = QHBoxLayout()
        for widget in (self.format, self.frames_per_second, self.forth_and_back):
            settings.addWidget(widget)
        layout.addLayout(settings, 0, 0, 1, 2)
        layout.addWidget(self.record_button, 1, 0)
        layout.addWidget(self.progress, 1, 1)
        return group

    # From the layers to the panel.

    def refresh(self) -> None:
        """Show the settings that the layers have."""
        layers = self.layers
        for choice, value in (
            (self.tint, layers.tint),
            (self.arrows_of, layers.arrows_of),
            (self.overlay_of, layers.overlay_of),
            (self.rendering, layers.rendering),
        ):
            choice.setCurrentIndex(choice.findData(value))
        self.legend.show_legend(layers.legend)
        with QSignalBlocker(self.radius):
            self.radius.setValue(layers.radius)
        for part, box in self.boxes.items():
            with QSignalBlocker(box):
                box.setChecked(layers.is_shown(part))
            opacity, slider = layers.opacity(part), self.opacity[part]
            slider.setEnabled(opacity is not None)
            with QSignalBlocker(slider):
                slider.setValue(slider.value() if opacity is None else round(100 * opacity))
        self._refresh_map()

    def _refresh_map(self) -> None:
        located = self.layers.map
        self.boxes["map"].setEnabled(located is not None)
        for control in (self.level, self.rendering):
            control.setEnabled(located is not None)
        if located is None:
            return
        self.map_button.setText(located.path.name)
        share = (self.layers.level - located.lowest) / max(located.highest - located.lowest, 1e-30)
        with QSignalBlocker(self.level):
            self.level.setValue(round(_STEPS * share**0.5 if share > 0 else 0))
        self.level_text.setText(f"{self.layers.level:.3g}")

    # From the panel to the layers.

    def _choose_tint(self) -> None:
        try:
            self.layers.set_tint(self.tint.currentData())
        finally:
            self.refresh()

    def _show_part(self, part: str, shown: bool) -> None:
        try:
            self.layers.set_shown(part, shown)
        finally:
            self.refresh()

    def _set_level(self, step: int) -> None:
        """Steps are finer at low levels, where the surface changes most."""
        located = self.layers.map
        level = located.lowest + (step / _STEPS) ** 2 * (located.highest - located.lowest)
        self.layers.set_level(level)
        self.level_text.setText(f"{level:.3g}")

    def choose_map(self, path: Path | str | None = None) -> None:
        """Show a map; asks for its file where none is given."""
        if path is None:
            kinds = "Maps (*.mrc *.map *.ccp4);;All files (*)"
            path, _ = QFileDialog.getOpenFileName(self, "Map", str(Path.cwd()), kinds)
        if path:
            self.layers.set_map(path)

    def record(self, path: Path | str | None = None, overwrite: bool = False) -> None:
        """Record the path, or cancel the recording; asks for a name where none is given.

        Raises
        ------
        InputError
            The path exists and may not be replaced, cannot be written to, or has another suffix.
        """
        if self.recorder.is_running:
            self.recorder.cancel()
            return
        if path is None:
            suffix = self.format.currentData()
            suffix = "" if suffix == "png" else f".{suffix}"
            options = QFileDialog.Option.DontConfirmOverwrite
            name, _ = QFileDialog.getSaveFileName(self, "Film", str(Path.cwd() / f"path{suffix}"), options=options)
            if not name:
                return
            path = Path(name if Path(name).suffix else name + suffix)
            overwrite = path.exists()
            if overwrite and not self.ask_overwrite(path):
                return
        self.recorder.start(path, self.frames_per_second.value(), self.forth_and_back.isChecked(), overwrite)
        self.record_button.setText("Cancel")
        self.progress.setVisible(True)

    def ask_overwrite(self, path: Path) -> bool:
        """Whether the user wants an older film replaced."""
        yes = QMessageBox.StandardButton.Yes
        return QMessageBox.question(self, "Replace?", f"{path} is there already. Replace it?") == yes

    def _show_progress(self, done: int, count: int) -> None:
        self.progress.setMaximum(count)
        self.progress.setValue(done)

    def _show_end(self, path: Path | None) -> None:
        self.record_button.setText("Record…")
        self.progress.setVisible(False)
        if path is not None:
            show_info(f"The film is written: {path}")


def _group(title: str) -> tuple[QGroupBox, QGridLayout]:
    group = QGroupBox(title)
    layout = QGridLayout(group)
    layout.setColumnStretch(1, 1)
    return group, layout


def _narrow() -> QComboBox:
    """A list that may be narrower than its longest label."""
    choice = QComboBox()
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(8)
    return choice


def _choice(labels: dict[str, str], chosen: object) -> QComboBox:
    """A list of labels; what is called when one is chosen gets its key."""
    choice = _narrow()
    for key, label in labels.items():
        choice.addItem(label, key)
    choice.activated.connect(plainly(lambda *_: chosen(choice.currentData())))
    return choice
