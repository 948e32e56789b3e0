"""What a hand does to an explorer's canvas, and what the eye sees."""

from __future__ import annotations

import numpy as np


def pixel(explorer, place):
    """Where a place of the plane is on the canvas, in Qt's pixels."""
    from qtpy.QtCore import QPoint

    axes = explorer.canvas.figure.axes[0]
    x, y = axes.transData.transform(place)
    return QPoint(round(x), round(explorer.canvas.height() - y))


def drag(explorer, places, *keys):
    """Drag the left button along places; gives the places of the pixels that were gone through."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    canvas, points = explorer.canvas, [pixel(explorer, place) for place in places]
    held = Qt.KeyboardModifier.NoModifier
    for key in keys:
        held |= key
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, held, points[0])
    for point in points[1:]:
        QTest.mouseMove(canvas, point)
        QApplication.instance().processEvents()
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, held, points[-1])
    return np.array([canvas.place_of_pixel(point.x(), canvas.height() - point.y()) for point in points])


def notices() -> list[str]:
    from napari.utils.notifications import notification_manager

    return [record.message for record in notification_manager.records]


def shown(explorer) -> np.ndarray:
    """Pixels of the canvas."""
    explorer.canvas.draw()
    return np.asarray(explorer.canvas.buffer_rgba()).copy()


def turn_wheel(explorer, place) -> None:
    """Turn the mouse wheel by one step over a place."""
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    canvas, at = explorer.canvas, QPointF(pixel(explorer, place))
    buttons, keys = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    step = QPoint(0, 120)
    event = QWheelEvent(at, canvas.mapToGlobal(at), QPoint(), step, buttons, keys, Qt.ScrollPhase.NoScrollPhase, False)
    QApplication.sendEvent(canvas, event)
