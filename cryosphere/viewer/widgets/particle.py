"""The particle that is shown, beside what the model predicts for it; or the average of the selection beside its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from cryosphere.analysis.view_averages import ViewAverages
from cryosphere.errors import CryosphereError
from cryosphere.viewer.pictures import Comparison, ParticleNumbers, ParticlePictures, StoredImage
from cryosphere.viewer.session import ChosenParticles, Session
from cryosphere.viewer.widgets.notices import plainly
from cryosphere.viewer.widgets.panels import ImagePanels, Panel
from cryosphere.viewer.widgets.workers import Latest

LOW_PASSED, CENTRED, STORED = "low-passed", "centred", "as stored"
_RESOLUTION_A = 15.0
# Widest text on how many particles there are.
_AMONG_PIXELS = 150
_NO_PARTICLE = "No particle is shown: click one in the explorer, or step through them with the arrows above."
_NO_SELECTION = "No selection to average: choose particles in the explorer first."


@dataclass(frozen=True)
class _Shown:
    """A particle, ready to be drawn: its numbers, and its pictures or why there are none."""

    row: int
    kind: str
    numbers: ParticleNumbers
    comparison: Comparison | None = None
    stored: StoredImage | None = None
    missing: str = ""


@dataclass(frozen=True)
class _Averaged:
    """Averages of a selection, or why there are none."""

    selection: ChosenParticles
    averages: ViewAverages | None = None
    missing: str = ""


class ParticleWidget(QWidget):
    """Image, projection and residual of the session's particle with its numbers, or averages of its selection.

    Parameters
    ----------
    session : Session
    parent : QWidget, optional
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.pictures = ParticlePictures(session.columns)
        self._averaged: _Averaged | None = None
        self._particle_worker = Latest(self._compute, self._show_particle, self)
        self._average_worker = Latest(self._average, self._show_averages, self)
        self._build()
        session.particle_changed.connect(self._update)
        session.selections_changed.connect(self._update_selection)
        session.images_changed.connect(self._look_again)
        self._update_selection()

    def _build(self) -> None:
        self.panels = ImagePanels(self)
        self.caption = QLabel(self)
        self.caption.setWordWrap(True)
        self.caption.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table = _number_table(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(self._particle_row())
        layout.addLayout(self._image_row())
        layout.addWidget(self.panels)
        layout.addWidget(self.caption)
        layout.addWidget(self.table)
        layout.addStretch(1)

    def _particle_row(self) -> QHBoxLayout:
        self.previous = QToolButton(self, text="◀", toolTip="Previous particle, of the selection if there is one")
        self.next = QToolButton(self, text="▶", toolTip="Next particle, of the selection if there is one")
        self.previous.setAccessibleName("previous particle")
        self.next.setAccessibleName("next particle")
        self.previous.clicked.connect(lambda: self.step(-1))
        self.next.clicked.connect(lambda: self.step(1))
        self.go_to = QSpinBox(self, minimum=0, maximum=self.session.n_particles - 1, keyboardTracking=False)
        self.go_to.setToolTip("Show the particle of this row of the run (from 0); type a number and press Enter")
        self.go_to.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.go_to.valueChanged.connect(plainly(self.session.show_particle))
        self.go_to.editingFinished.connect(self._go)
        label = QLabel("Particle", self)
        label.setBuddy(self.go_to)
        self.among = QLabel(self)
        row = QHBoxLayout()
        for widget in (label, self.previous, self.go_to, self.next, self.among):
            row.addWidget(widget)
        row.setStretch(2, 1)
        return row

    def _image_row(self) -> QHBoxLayout:
        self.kind = QComboBox(self)
        self.kind.addItems([LOW_PASSED, CENTRED, STORED])
        self.kind.setToolTip(
            "low-passed, centred: shift undone, protein bright, background at zero; as stored: grey values of the file"
        )
        self.resolution = QDoubleSpinBox(self, suffix=" Å", decimals=1, singleStep=1.0, keyboardTracking=False)
        table = self.session.run.table
        self.resolution.setRange(2 * table.pixel_size, max(0.25 * table.box_size, 4) * table.pixel_size)
        self.resolution.setValue(_RESOLUTION_A)
        self.resolution.setToolTip("Resolution to which image and projection are low-passed")
        self.resolution.setAccessibleName("resolution of the low-pass filter")
        self.average = QPushButton("Average selection", self, checkable=True)
        self.average.setToolTip(
            "Average chosen particles, up to 80 in each of five views, above projections of their models"
        )
        for changed in (self.kind.currentTextChanged, self.resolution.valueChanged, self.average.toggled):
            changed.connect(lambda _: self._update())
        label = QLabel("Image", self)
        label.setBuddy(self.kind)
        row = QHBoxLayout()
        for widget in (label, self.kind, self.resolution, self.average):
            row.addWidget(widget)
        row.addStretch(1)
        return row

    @plainly
    def step(self, count: int) -> None:
        """Show the particle so many further on, of the current selection or of all; after the last comes the first."""
        selection, current = self.session.selection, self.session.particle
        rows = np.arange(self.session.n_particles) if selection is None else selection.rows
        if current is None:
            place = 0 if count > 0 else -1
        else:
            left = np.searchsorted(rows, current)
            is_there = left < len(rows) and rows[left] == current
            place = left + count - (0 if is_there or count < 0 else 1)
        self.session.show_particle(int(rows[place % len(rows)]))

    @plainly
    def _go(self) -> None:
        """Enter pressed: show the particle of the number that stands there, even if it stood there before."""
        if self.go_to.hasFocus() and self.session.particle != self.go_to.value():
            self.session.show_particle(self.go_to.value())

    def _update_selection(self) -> None:
        selection = self.session.selection
        count = self.session.n_particles if selection is None else selection.n_particles
        text = f"of {count:,}" if selection is None else f"{count:,} in {selection.name}"
        self.among.setText(self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, _AMONG_PIXELS))
        self.among.setToolTip("Particles that the arrows go through" if selection is None else selection.how)
        if self.average.isChecked() or self.session.particle is None:
            self._update()

    def _update(self) -> None:
        """Ask for what is to be shown now."""
        row, kind = self.session.particle, self.kind.currentText()
        self.resolution.setEnabled(kind == LOW_PASSED and not self.average.isChecked())
        self.kind.setEnabled(not self.average.isChecked())
        if row is not None:
            self.go_to.blockSignals(True)
            self.go_to.setValue(row)
            self.go_to.blockSignals(False)
            self._particle_worker.request(row, kind, self.resolution.value())
        else:
            _fill(self.table, [])
        if self.average.isChecked():
            self._ask_for_averages()
        elif row is None:
            self._say(_NO_PARTICLE)

    def _look_again(self) -> None:
        self._averaged = None
        self._update()

    def _ask_for_averages(self) -> None:
        selection = self.session.selection
        if selection is None:
            self._say(_NO_SELECTION)
        elif self._averaged is not None and self._averaged.selection is selection:
            self._draw_averages(self._averaged)
        else:
            self._say(f"Averaging {selection.name} by view …")
            self._average_worker.request(selection)

    def _say(self, sentence: str) -> None:
        self.panels.say(sentence)
        self.caption.clear()

    def _compute(self, row: int, kind: str, resolution: float) -> _Shown:
        """Numbers and pictures of a particle; runs beside the window."""
        numbers = self.pictures.numbers(row)
        try:
            comparison = self.pictures.compare(row, resolution if kind == LOW_PASSED else None)
            stored = self.pictures.stored(row) if kind == STORED else None
        except (CryosphereError, OSError) as error:
            return _Shown(row, kind, numbers, missing=str(error))
        return _Shown(row, kind, numbers, comparison, stored)

    def _average(self, selection: ChosenParticles) -> _Averaged:
        """Averages of chosen particles; runs beside the window."""
        try:
            return _Averaged(selection, self.pictures.averages(selection.rows))
        except (CryosphereError, OSError) as error:
            return _Averaged(selection, missing=str(error))

    def _show_particle(self, shown: _Shown) -> None:
        if shown.row != self.session.particle:
            return
        _fill(self.table, shown.numbers.lines())
        if self.average.isChecked():
            return
        if shown.comparison is None:
            self._say(shown.missing)
            return
        one, stored = shown.comparison, shown.stored
        reach = _reach(one.image, one.projection, one.residual)
        panels = [
            Panel(image, title, one.pixel_size, -reach, reach)
            for title, image in (("image", one.image), ("projection", one.projection), ("residual", one.residual))
        ]
        if stored is not None:
            limits = np.percentile(stored.image, (0.5, 99.5)).tolist()
            panels[0] = Panel(stored.image, "image as stored", stored.pixel_size, *limits)
        self.panels.draw([panels])
        self.caption.setText(_caption(shown, self.resolution.value()))

    def _show_averages(self, averaged: _Averaged) -> None:
        self._averaged = averaged
        if self.average.isChecked() and averaged.selection is self.session.selection:
            self._draw_averages(averaged)

    def _draw_averages(self, averaged: _Averaged) -> None:
        found, name = averaged.averages, averaged.selection.name
        if found is None:
            self._say(averaged.missing)
            return
        agreement, still = found.correlations(found.model)[0], found.correlations(found.still)[0]
        counts, views = found.counts[0], np.flatnonzero(found.counts[0]).tolist()
        above = [_average_panel(found.particles[0, view], f"{counts[view]} images", found) for view in views]
        below = [_average_panel(found.model[0, view], f"r = {agreement[view]:.2f}", found) for view in views]
        self.panels.draw([above, below], ("particles", "model"))
        weights = counts[views] / counts[views].sum()
        self.caption.setText(
            f"{name}: {counts.sum():,} particles averaged by view, above the model's projections of the same "
            f"particles, both with their CTFs. Correlation {agreement[views] @ weights:.3f} with the model, "
            f"{still[views] @ weights:.3f} with the nominal structure."
        )

    def close_work(self) -> None:
        """Stop the workers and follow the session no more."""
        self.session.particle_changed.disconnect(self._update)
        self.session.selections_changed.disconnect(self._update_selection)
        self.session.images_changed.disconnect(self._look_again)
        self._particle_worker.close()
        self._average_worker.close()


def _caption(shown: _Shown, resolution: float) -> str:
    one, parts = shown.comparison, []
    if shown.stored is not None:
        sign = "bright" if shown.stored.is_bright else "dark"
        parts.append(f"Image as stored, protein {sign}, {shown.stored.pixel_size:.4g} Å per pixel; the others centred")
    else:
        parts.append(
            "Centred, protein bright" + (f", low-passed to {resolution:.3g} Å" if shown.kind == LOW_PASSED else "")
        )
    parts.append(f"{one.pixel_size:.4g} Å per pixel")
    parts.append(f"correlation of image and projection {one.correlation:.2f}")
    turn, *shift = one.pose_correction
    if turn or any(shift):
        parts.append(f"pose corrected in training by {turn:.2f}° and {shift[0]:.2f}, {shift[1]:.2f} Å")
    return "; ".join(parts) + "."


def _reach(*images: np.ndarray) -> float:
    """Common limit of grey values, either side of zero."""
    return max(float(np.percentile(np.abs(image), 99.5)) for image in images) or 1.0


def _average_panel(image: np.ndarray, title: str, averages: ViewAverages) -> Panel:
    reach = float(np.abs(image).max()) or 1.0
    return Panel(image, title, averages.pixel_size, -0.6 * reach, reach)


def _number_table(parent: QWidget) -> QTableWidget:
    table = QTableWidget(0, 2, parent)
    table.setToolTip("Pose and CTF as in the particle file, and the posterior; select cells to copy them")
    table.setAccessibleName("numbers of the particle")
    table.horizontalHeader().hide()
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 5)
    table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
    table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
    table.setShowGrid(False)
    return table


def _fill(table: QTableWidget, lines: list[tuple[str, str]]) -> None:
    table.setRowCount(len(lines))
    for row, cells in enumerate(lines):
        for column, text in enumerate(cells):
            table.setItem(row, column, QTableWidgetItem(text))
    table.setVisible(bool(lines))
    table.setFixedHeight(len(lines) * table.verticalHeader().defaultSectionSize() + 2 * table.frameWidth() + 2)
