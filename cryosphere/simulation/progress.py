"""Progress of a simulation on stderr."""

from __future__ import annotations

from tqdm import tqdm


class ProgressBars:
    """One bar on stderr for each kind of work in turn; what ``simulate`` calls as its ``progress``.

    Parameters
    ----------
    show : bool
        Whether anything is drawn.
    """

    def __init__(self, show: bool = True) -> None:
        self._show = show
        self._what: str | None = None
        self._bar: tqdm | None = None

    def __call__(self, what: str, step: int, total: int) -> None:
        """Count ``step`` further items of ``total`` at the work called ``what``."""
        if what != self._what:
            self._close()
            self._what = what
            self._bar = tqdm(total=total, desc=what, disable=not self._show, dynamic_ncols=True)
        self._bar.update(step)

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
