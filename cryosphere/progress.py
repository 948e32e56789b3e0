"""Progress of long functions: a bar on stderr, or whoever listens in the same thread, who may also stop them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

Listen = Callable[[int, int | None, str], None]
# Seconds between two calls of a listener, the first and last of a bar aside.
_INTERVAL = 0.1


class _Listener:
    """Calls a function at most ten times a second."""

    def __init__(self, callback: Listen) -> None:
        self._callback, self._next = callback, 0.0

    def tell(self, done: int, total: int | None, what: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now >= self._next:
            self._next = now + _INTERVAL
            self._callback(done, total, what)


_LISTENER: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(callback: Listen) -> Iterator[None]:
    """Within this block, call ``callback(done, total, what)`` as long functions get on.

    It is called in the thread of the block, of work in that thread alone: at the beginning and the end of every bar,
    and at most ten times a second between. ``total`` is None where it is not known. What it raises
    (:class:`cryosphere.errors.Cancelled`) ends the function; files that it was to write are left as they were.
    """
    token = _LISTENER.set(_Listener(callback))
    try:
        yield
    finally:
        _LISTENER.reset(token)


class Bar(tqdm):
    """tqdm's bar on stderr, which also tells the listener of its thread, if there is one.

    Parameters
    ----------
    iterable : iterable, optional
    **options
        As of tqdm; ``desc`` is what the listener is told, also where ``disable`` keeps stderr empty.
    """

    def __init__(self, iterable: Iterable | None = None, **options: Any) -> None:
        super().__init__(iterable, **options)
        self._listener, self._done, self._what = _LISTENER.get(), 0, options.get("desc") or ""
        total = options.get("total")
        self._of = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        if self._listener is not None:
            self._listener.tell(0, self._of, self._what, at_once=True)

    def __iter__(self) -> Iterator:
        """The items, each counted when the next is asked for."""
        return super().__iter__() if self._listener is None else self._counted()

    def _counted(self) -> Iterator:
        with self:
            for item in self.iterable:
                yield item
                self.update(1)

    def update(self, n: int = 1) -> bool | None:
        """Count ``n`` more."""
        drawn = super().update(n)
        if self._listener is not None:
            self._done += n
            self._listener.tell(self._done, self._of, self._what, at_once=self._done == self._of)
        return drawn
