"""What tests of panels have in common."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget


def application() -> QApplication:
    """The application, without a napari window."""
    return QApplication.instance() or QApplication([])


def drop(widget: QWidget) -> None:
    """End a panel's work and delete it, as closing its window does."""
    widget.close_work()
    widget.close()
    widget.deleteLater()
    QApplication.sendPostedEvents(widget, QEvent.Type.DeferredDelete.value)
    QApplication.processEvents()


class Told:
    """Sentences that napari was given to show since this was made."""

    def __init__(self) -> None:
        from napari.utils.notifications import notification_manager

        self._records = notification_manager.records
        self._before = len(self._records)

    def __call__(self) -> list[str]:
        return [record.message for record in self._records[self._before :]]
