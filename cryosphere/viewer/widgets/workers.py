"""Work beside the window: the newest request wins, and nothing outlives the window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from cryosphere.viewer.widgets.notices import tell

# Seconds for which the end of a window waits for what is being computed.
_PATIENCE = 1.0


class Latest(QObject):
    """Computes in a thread of its own; of requests that come while one is computed, only the newest is.

    Parameters
    ----------
    compute : callable
        Called with the arguments of a request, outside the window's thread; touches neither Qt nor napari.
    deliver : callable
        Called with every result in the window's thread, in order.
    parent : QObject
        Whose end ends this: a request in progress is waited for a moment, its result dropped.
    """

    _finished = Signal(object, object)

    def __init__(self, compute: Callable[..., Any], deliver: Callable[[Any], None], parent: QObject) -> None:
        super().__init__(parent)
        self._compute, self._deliver = compute, deliver
        self._executor = futures.ThreadPoolExecutor(1, thread_name_prefix="cryosphere-viewer")
        self._running = self._closed = False
        self._waiting: tuple | None = None
        self._future: futures.Future | None = None
        # Held while a result is told: Qt crashes where an object is deleted while it emits.
        self._telling = threading.Lock()
        self._finished.connect(self._receive, Qt.ConnectionType.QueuedConnection)

    def request(self, *args: Any) -> None:
        """Compute with these arguments as soon as may be."""
        if self._closed:
            return
        if self._running:
            self._waiting = args
            return
        self._running = True
        self._future = self._executor.submit(self._compute, *args)
        self._future.add_done_callback(self._tell)

    def _tell(self, future: futures.Future) -> None:
        with self._telling:
            if not self._closed:
                error = future.exception()
                self._finished.emit(None if error else future.result(), error)

    def _receive(self, result: Any, error: BaseException | None) -> None:
        self._running = False
        if self._closed:
            return
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.request(*waiting)
        if error is not None:
            tell(error)
        else:
            self._deliver(result)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being computed or waits for it."""
        return not self._running

    def close(self, wait: bool = True) -> None:
        """Compute nothing more; what is being computed is dropped, and waited for a moment unless ``wait`` is false."""
        with self._telling:
            self._closed, self._waiting = True, None
        if wait and self._future is not None:
            futures.wait([self._future], timeout=_PATIENCE)
        self._executor.shutdown(wait=False, cancel_futures=True)
