"""What the colours of the tube mean."""

from __future__ import annotations

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from cryosphere.viewer.tints import Legend

# Pixels between, and of a coloured square; entries at most, of which the last then says how many more there are.
_GAP, _SQUARE, _MOST = 6, 12, 30


class LegendView(QWidget):
    """Squares with names, or a bar with numbers, in the colours of the window's text."""

    def __init__(self, legend: Legend, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.legend = legend
        self.show_legend(legend)

    def show_legend(self, legend: Legend) -> None:
        """Show another legend."""
        self.legend = legend
        self.setAccessibleName(self.words())
        self.setToolTip(self.words())
        self.updateGeometry()
        self.update()

    def words(self) -> str:
        """The legend as a sentence."""
        if self.legend.stops:
            low, high = self.legend.stops[0][0], self.legend.stops[-1][0]
            return f"{self.legend.title}: {low:g} to {high:g} {self.legend.unit} and more"
        return f"{self.legend.title}: " + ", ".join(label for label, _ in self.legend.entries)

    def _entries(self) -> list[tuple[str, str | None]]:
        entries: list[tuple[str, str | None]] = list(self.legend.entries)
        if len(entries) > _MOST:
            entries = [*entries[: _MOST - 1], (f"and {len(entries) - _MOST + 1} more", None)]
        return entries

    def _columns(self) -> tuple[int, int]:
        """Number of columns, and their width."""
        metrics = self.fontMetrics()
        widest = max((metrics.horizontalAdvance(label) for label, _ in self._entries()), default=0)
        width = widest + _SQUARE + 3 * _GAP
        return max(1, self.width() // width), width

    def sizeHint(self) -> QSize:
        """Room for all entries, or for the bar and its numbers."""
        line = self.fontMetrics().height() + _GAP
        if self.legend.stops:
            return QSize(200, 2 * line)
        columns, _ = self._columns()
        return QSize(200, -(-len(self._entries()) // columns) * line)

    def resizeEvent(self, event: object) -> None:
        """Columns depend on the width."""
        self.updateGeometry()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bar, or the squares with their names."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.legend.stops:
            self._paint_bar(painter)
        else:
            self._paint_entries(painter)
        painter.end()

    def _paint_bar(self, painter: QPainter) -> None:
        line = self.fontMetrics().height() + _GAP
        stops = self.legend.stops
        low, high = stops[0][0], stops[-1][0]
        bar = QRectF(1, 1, self.width() - 2, line - _GAP)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for value, colour in stops:
            gradient.setColorAt((value - low) / (high - low), QColor(colour))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(gradient)
        painter.drawRoundedRect(bar, 3, 3)
        painter.setPen(self.palette().windowText().color())
        for number, (value, _) in enumerate(stops):
            where = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignHCenter)[number > 0]
            is_last = number == len(stops) - 1
            where = Qt.AlignmentFlag.AlignRight if is_last else where
            text = f"{value:g} {self.legend.unit}" if is_last else f"{value:g}"
            painter.drawText(QRectF(1, line - 2, self.width() - 2, line), where, text)

    def _paint_entries(self, painter: QPainter) -> None:
        line = self.fontMetrics().height() + _GAP
        columns, width = self._columns()
        for number, (label, colour) in enumerate(self._entries()):
            left, top = number % columns * width, number // columns * line
            if colour is not None:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(QColor(colour))
                painter.drawRoundedRect(QRectF(left + 1, top + (line - _SQUARE) / 2, _SQUARE, _SQUARE), 2, 2)
            painter.setPen(self.palette().windowText().color())
            place = QRectF(left + _SQUARE + _GAP, top, width, line)
            painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, label)
