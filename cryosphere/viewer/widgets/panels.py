"""Grey pictures side by side, with titles and a scale bar, in the colours of the theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPainterPath, QPalette, QPen
from qtpy.QtWidgets import QLabel, QStackedWidget, QWidget

# Share of a picture's width that a scale bar has at most, and that lies before and below it.
_LONGEST_BAR, _BAR_MARGIN = 0.35, 0.06
_TITLE_PIXELS, _GAP_PIXELS, _NAME_PIXELS = 18, 4, 16
_LEAST_HEIGHT, _MOST_HEIGHT = 120, 420
# Text in pictures and above them, relative to the widget's.
_FONT_SCALE = 0.9


@dataclass(frozen=True)
class Panel:
    """One picture; ``low`` and ``high`` are the grey values of black and white, ``pixel_size`` is in Å."""

    image: Float[np.ndarray, "y x"]
    title: str
    pixel_size: float
    low: float
    high: float

    def greys(self) -> UInt8[np.ndarray, "y x"]:
        """Grey levels with the first row at the bottom, as y goes up."""
        share = (self.image[::-1] - self.low) / max(self.high - self.low, np.finfo(np.float32).tiny)
        return np.ascontiguousarray((255 * share.clip(0, 1)).round().astype(np.uint8))


class ImagePanels(QStackedWidget):
    """Rows of square pictures, or a sentence in their place.

    Parameters
    ----------
    parent : QWidget
    """

    def __init__(self, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.canvas = _Canvas(self)
        self.canvas.setToolTip("Black is low, white is high; y goes up, the origin is the middle of the box")
        self.message = QLabel(self, wordWrap=True, alignment=Qt.AlignmentFlag.AlignCenter)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.addWidget(self.message)
        self.addWidget(self.canvas)
        self._fit_height()

    @property
    def rows(self) -> list[list[Panel]]:
        """The pictures that are shown; none where a sentence is."""
        return [] if self.sentence else self.canvas.rows

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
        self.canvas.set_rows([list(row) for row in rows], list(names))
        self._fit_height()
        self.setCurrentWidget(self.canvas)

    def resizeEvent(self, event) -> None:
        """Keep pictures square and as large as they can be."""
        super().resizeEvent(event)
        self._fit_height()

    def _fit_height(self) -> None:
        """Be as high as rows of square pictures that fill the width, within limits; at first of one row of three."""
        self.setFixedHeight(min(max(self.canvas.height_for(self.width()), _LEAST_HEIGHT), _MOST_HEIGHT))


class _Canvas(QWidget):
    """Paints the pictures."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[list[Panel]] = []
        self._names: list[str] = []
        self._images: list[list[QImage]] = []

    def set_rows(self, rows: list[list[Panel]], names: list[str]) -> None:
        """Take pictures, and names of their rows if there are any."""
        self.rows, self._names = rows, names
        self._images = [[_image(panel.greys()) for panel in row] for row in rows]
        self.update()

    @property
    def _shape(self) -> tuple[int, int]:
        return max(len(self.rows), 1), max((len(row) for row in self.rows), default=3)

    def _edge_for(self, width: float) -> float:
        """Edge of pictures that fill a width."""
        n_columns = self._shape[1]
        return (width - _NAME_PIXELS * bool(self._names) - (n_columns + 1) * _GAP_PIXELS) / n_columns

    def height_for(self, width: int) -> int:
        """Height of rows of pictures that fill a width."""
        return round(self._shape[0] * (self._edge_for(width) + _TITLE_PIXELS + _GAP_PIXELS))

    def place(self, row: int, column: int) -> QRectF:
        """Where a picture is."""
        n_rows, n_columns = self._shape
        edge = max(min(self._edge_for(self.width()), self.height() / n_rows - _TITLE_PIXELS - _GAP_PIXELS), 10.0)
        names = _NAME_PIXELS * bool(self._names)
        left = names + (self.width() - names - n_columns * edge - (n_columns - 1) * _GAP_PIXELS) / 2
        top = (self.height() - n_rows * (edge + _TITLE_PIXELS + _GAP_PIXELS)) / 2
        y = top + row * (edge + _TITLE_PIXELS + _GAP_PIXELS) + _TITLE_PIXELS
        return QRectF(left + column * (edge + _GAP_PIXELS), y, edge, edge)

    def paintEvent(self, event) -> None:
        """Pictures with their titles, names of rows, and a scale bar in the first picture."""
        painter = QPainter(self)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        font = painter.font()
        font.setPixelSize(round(_FONT_SCALE * self.fontInfo().pixelSize()))
        painter.setFont(font)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        for row, images in enumerate(self._images):
            for column, image in enumerate(images):
                place = self.place(row, column)
                painter.drawImage(place, image)
                title = QRectF(place.left(), place.top() - _TITLE_PIXELS, place.width(), _TITLE_PIXELS)
                painter.drawText(title, Qt.AlignmentFlag.AlignCenter, self.rows[row][column].title)
            if self._names:
                _write_upwards(painter, self.place(row, 0), self._names[row])
        if self._images:
            panel = self.rows[0][0]
            _draw_bar(painter, self.place(0, 0), panel.image.shape[1] * panel.pixel_size)
        painter.end()


def _image(greys: UInt8[np.ndarray, "y x"]) -> QImage:
    height, width = greys.shape
    return QImage(greys.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()


def _write_upwards(painter: QPainter, place: QRectF, text: str) -> None:
    """Text to the left of a picture, read from below."""
    painter.save()
    painter.translate(place.left() - _NAME_PIXELS, place.bottom())
    painter.rotate(-90)
    painter.drawText(QRectF(0, 0, place.height(), _NAME_PIXELS), Qt.AlignmentFlag.AlignCenter, text)
    painter.restore()


def _draw_bar(painter: QPainter, place: QRectF, size: float) -> None:
    """A white bar with its length, outlined in black, in the lower left corner of a picture ``size`` Å wide."""
    length = bar_length(size)
    start = QPointF(place.left() + _BAR_MARGIN * place.width(), place.bottom() - _BAR_MARGIN * place.height())
    bar = QRectF(start.x(), start.y() - 2, place.width() * length / size, 2)
    painter.fillRect(bar.adjusted(-1, -1, 1, 1), QColor("black"))
    painter.fillRect(bar, QColor("white"))
    path = QPainterPath()
    path.addText(QPointF(start.x(), start.y() - 6), painter.font(), f"{length:g} Å")
    painter.strokePath(path, QPen(QColor("black"), 2.5))
    painter.fillPath(path, QColor("white"))


def bar_length(size: float) -> float:
    """Longest of 1, 2, 5, 10, 20, 50 … Å that takes at most a third of a picture of this size (Å)."""
    power = 10.0 ** np.floor(np.log10(_LONGEST_BAR * size))
    return float(power * max(step for step in (1, 2, 5) if step * power <= _LONGEST_BAR * size))
