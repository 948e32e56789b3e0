"""Grey pictures side by side, with titles and a scale bar, in the colours of the theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from qtpy.QtCore import Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QStackedWidget, QWidget

# Share of a picture's width that a scale bar has at most.
_LONGEST_BAR = 0.35
_TITLE_PIXELS, _GAP_PIXELS, _NAME_PIXELS = 18, 4, 16
_LEAST_HEIGHT, _MOST_HEIGHT = 120, 420
_FONT_SIZE = 8


@dataclass(frozen=True)
class Panel:
    """One picture; ``low`` and ``high`` are the grey values of black and white, ``pixel_size`` is in Å."""

    image: Float[np.ndarray, "y x"]
    title: str
    pixel_size: float
    low: float
    high: float


class ImagePanels(QStackedWidget):
    """Rows of square pictures, or a sentence in their place.

    Parameters
    ----------
    parent : QWidget
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.figure = Figure(dpi=100)
        self.canvas = FigureCanvasQTAgg(self.figure)
        self.canvas.setToolTip("Grey values: black is low, white is high; y goes up, the origin is the middle")
        self.message = QLabel(self, wordWrap=True, alignment=Qt.AlignmentFlag.AlignCenter)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.addWidget(self.message)
        self.addWidget(self.canvas)
        self._rows: list[list[Panel]] = []
        self._names: tuple[str, ...] = ()
        self._fit_height()

    def _fit_height(self) -> None:
        """Be as high as rows of square pictures that fill the width, within limits; at first of one row of three."""
        n_rows, n_columns = self._shape
        edge = (self.width() - self._names_width - (n_columns + 1) * _GAP_PIXELS) / n_columns
        height = round(n_rows * (edge + _TITLE_PIXELS + _GAP_PIXELS))
        self.setFixedHeight(min(max(height, _LEAST_HEIGHT), _MOST_HEIGHT))

    @property
    def _shape(self) -> tuple[int, int]:
        return max(len(self._rows), 1), max((len(row) for row in self._rows), default=3)

    @property
    def _names_width(self) -> int:
        return _NAME_PIXELS * bool(self._names)

    @property
    def sentence(self) -> str:
        """What stands in place of pictures; empty where there are pictures."""
        return self.message.text() if self.currentWidget() is self.message else ""

    def say(self, sentence: str) -> None:
        """Show a sentence instead of pictures."""
        self.message.setText(sentence)
        self.setCurrentWidget(self.message)

    def draw(self, rows: Sequence[Sequence[Panel]], names: Sequence[str] = ()) -> None:
        """Show rows of pictures, each with the name of its row on the left if there are names."""
        self._rows, self._names = [list(row) for row in rows], tuple(names)
        self._fit_height()
        self._draw()
        self.setCurrentWidget(self.canvas)

    def follow_theme(self) -> None:
        """Draw again in the colours of the palette."""
        if self._rows:
            self._draw()

    def resizeEvent(self, event) -> None:
        """Keep pictures square and as large as they can be."""
        super().resizeEvent(event)
        self._fit_height()
        if self._rows:
            self._draw()

    def _draw(self) -> None:
        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText).name()
        self.figure.clear()
        self.figure.set_facecolor(palette.color(QPalette.ColorRole.Window).name())
        for number, row in enumerate(self._rows):
            for column, panel in enumerate(row):
                axes = self.figure.add_axes(self._place(number, column))
                _draw_panel(axes, panel, ink, with_bar=number == column == 0)
                if column == 0 and self._names:
                    axes.set_ylabel(self._names[number], color=ink, fontsize=_FONT_SIZE, labelpad=2)
        self.canvas.draw_idle()

    def _place(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a picture, as shares of the figure."""
        width, height, names = max(self.width(), 1), max(self.height(), 1), self._names_width
        n_rows, n_columns = self._shape
        edge = min(
            (width - names - (n_columns + 1) * _GAP_PIXELS) / n_columns,
            height / n_rows - _TITLE_PIXELS - _GAP_PIXELS,
        )
        edge = max(edge, 10.0)
        left = (width - names - n_columns * edge - (n_columns - 1) * _GAP_PIXELS) / 2 + names
        top = (height - n_rows * (edge + _TITLE_PIXELS + _GAP_PIXELS)) / 2
        x = left + column * (edge + _GAP_PIXELS)
        y = height - top - (row + 1) * (edge + _TITLE_PIXELS) - row * _GAP_PIXELS
        return x / width, y / height, edge / width, edge / height


def _draw_panel(axes, panel: Panel, ink: str, with_bar: bool) -> None:
    size = panel.image.shape[1] * panel.pixel_size
    axes.imshow(
        panel.image,
        cmap="gray",
        vmin=panel.low,
        vmax=panel.high,
        origin="lower",
        extent=(0, size, 0, panel.image.shape[0] * panel.pixel_size),
        interpolation="bilinear",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(panel.title, color=ink, fontsize=_FONT_SIZE, pad=3)
    if with_bar:
        length = bar_length(size)
        outline = [withStroke(linewidth=2.5, foreground="black")]
        start = 0.06 * size
        axes.plot([start, start + length], [0.06 * size] * 2, color="white", linewidth=2, path_effects=outline)
        axes.text(
            start,
            0.09 * size,
            f"{length:g} Å",
            color="white",
            fontsize=_FONT_SIZE,
            ha="left",
            va="bottom",
            path_effects=outline,
        )


def bar_length(size: float) -> float:
    """Longest of 1, 2, 5, 10, 20, 50 … Å that takes at most a third of a picture of this size (Å)."""
    power = 10.0 ** np.floor(np.log10(_LONGEST_BAR * size))
    return float(power * max(step for step in (1, 2, 5) if step * power <= _LONGEST_BAR * size))
