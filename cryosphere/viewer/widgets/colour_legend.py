"""What the colours of particles mean, in one line."""

from __future__ import annotations

import html

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from cryosphere.viewer.particle_colours import DENSITY, MISSING, ParticleColours, scale_colours

_MOST_NAMED = 12


class ColourLegend(QWidget):
    """A scale with its ends and unit, or the groups with their colours."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._bar, self._high = (QLabel(self) for _ in range(3))
        self._low.setTextFormat(Qt.TextFormat.RichText)
        self._bar.setFixedSize(110, 10)
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 0, 2, 0)
        row.setSpacing(6)
        for part in (self._low, self._bar, self._high):
            row.addWidget(part)
        row.addStretch(1)

    def show_colours(self, colours: ParticleColours) -> None:
        """Explain colours."""
        is_scale = not colours.groups
        self._low.setWordWrap(not is_scale)
        self.layout().setStretch(0, 0 if is_scale else 1)
        self.layout().setStretch(3, 1 if is_scale else 0)
        self._bar.setVisible(is_scale)
        self._high.setVisible(is_scale)
        if not is_scale:
            shown = [
                f'<span style="color:{colour}">&#9632;</span>&nbsp;{html.escape(name).replace(" ", "&nbsp;")}'
                for name, colour in colours.groups[:_MOST_NAMED]
            ]
            more = len(colours.groups) - len(shown)
            self._low.setText("&ensp; ".join([*shown, f"and {more} more"] if more else shown))
            self.setToolTip(f"{colours.label}: groups and their shares of all particles")
            return
        unit = f" {colours.unit}" if colours.unit else ""
        is_density = colours.label == DENSITY
        label = "particles per bin" if is_density else html.escape(colours.label)
        self._low.setText(f"{label}&ensp;{number(colours.low)}")
        missing = f', <span style="color:{MISSING}">&#9632;</span> no value' if colours.n_missing else ""
        self._high.setText(f"{number(colours.high)}{unit}{missing}")
        self._bar.setPixmap(_gradient(self._bar.width(), self._bar.height()))
        self.setToolTip(
            "Logarithm of the number of particles in a bin of the picture"
            if is_density
            else f"{colours.label}: from the 1st to the 99th percentile of all particles; beyond these colours stay"
        )

    @property
    def text(self) -> str:
        """What it says, without colours."""
        return f"{self._low.text()} {self._high.text()}" if self._high.isVisibleTo(self) else self._low.text()


def number(value: float) -> str:
    """A number for people, with four digits at most."""
    if np.isnan(value):
        return "–"
    return (f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}").replace("-", "\N{MINUS SIGN}")


def _gradient(width: int, height: int) -> QPixmap:
    row = (255 * scale_colours(np.linspace(0, 1, width))).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(row, (height, width, 4)))
    return QPixmap.fromImage(QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGBA8888).copy())
