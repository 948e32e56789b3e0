"""One long function beside the window, with its progress; it can be cancelled, and ends with the window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from cryosphere.errors import Cancelled
from cryosphere.progress import listening
from cryosphere.viewer.widgets.notices import tell
from cryosphere.viewer.widgets.workers import Latest

# Seconds that closing the window waits for a function that was cancelled.
_PATIENCE = 5.0


class Job(QObject):
    """Runs a function in a thread of its own, one at a time.

    ``progressed`` carries (done, total or None, what); ``ended`` comes once after every start, before what the
    function gave is handed on, and whether or not it gave anything.
    """

    progressed = Signal(object, object, str)
    ended = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._worker = Latest(self._run, self._deliver, self)
        self._cancelled, self._idle = threading.Event(), threading.Event()
        self._idle.set()
        self._done: Callable[[Any], None] = lambda result: None

    def start(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call a function, which touches neither Qt nor napari, and then ``done`` with its result in the window.

        Errors are told as :func:`~cryosphere.viewer.widgets.notices.tell` does, and not handed on.
        """
        self._cancelled.clear()
        self._idle.clear()
        self._done = done
        self._worker.request(function)

    @property
    def is_running(self) -> bool:
        """Whether a function has been started and its end has not been told."""
        return not self._worker.is_idle

    def cancel(self) -> None:
        """Stop the function at its next step."""
        self._cancelled.set()

    def _run(self, function: Callable[[], Any]) -> tuple[Any, Exception | None]:
        try:
            with listening(self._listen):
                return function(), None
        except Exception as error:  # told in the window
            return None, error
        finally:
            self._idle.set()

    def _listen(self, done: int, total: int | None, what: str) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self.progressed.emit(done, total, what)

    def _deliver(self, outcome: tuple[Any, Exception | None]) -> None:
        result, error = outcome
        self.ended.emit()
        if error is None:
            self._done(result)
        elif not isinstance(error, Cancelled):
            tell(error)

    def close(self) -> None:
        """Cancel what runs and wait for its next step, for a few seconds at most."""
        self.cancel()
        self._worker.close(wait=self._idle.wait(_PATIENCE))
