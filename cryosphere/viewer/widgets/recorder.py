"""Films of the path, one frame per turn of the window's event loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from cryosphere.viewer.layers import SceneLayers
from cryosphere.viewer.recording import Film, film_frames
from cryosphere.viewer.widgets.notices import show_warning, tell
from cryosphere.viewer.widgets.workers import Latest

# Milliseconds between looks at whether a frame is on the screen.
_POLL = 5


class Recorder(QObject):
    """Shows frame after frame of the session's path, and writes what the canvas shows; encoding runs beside the window.

    ``progressed`` has the number of frames that are written and of all, ``ended`` the path of the film, None where
    there is none.
    """

    progressed = Signal(int, int)
    ended = Signal(object)

    def __init__(self, layers: SceneLayers, parent: QObject) -> None:
        super().__init__(parent)
        self.layers, self.session = layers, layers.session
        self._film: Film | None = None
        self._path = self.session.path
        self._frames: list[int] = []
        self._done = 0
        self._is_cancelled = False
        self._writing = Latest(_attempt, self._written, self)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL)
        self._timer.timeout.connect(self._look)

    @property
    def is_running(self) -> bool:
        """Whether a film is being made."""
        return self._film is not None

    def start(self, path: Path | str, frames_per_second: float, forth_and_back: bool, overwrite: bool) -> None:
        """Begin a film of the path.

        Raises
        ------
        InputError
            The path exists and may not be replaced, cannot be written to, or has another suffix.
        """
        self._film, self._path = Film(path, frames_per_second, overwrite), self.session.path
        self._frames, self._done, self._is_cancelled = film_frames(len(self.session.path), forth_and_back), 0, False
        self.progressed.emit(0, len(self._frames))
        self._timer.start()

    def cancel(self) -> None:
        """Stop, and leave nothing."""
        self._is_cancelled = True

    def close(self) -> None:
        """Stop all work."""
        self._timer.stop()
        self._writing.close()
        if self._film is not None:
            self._film.abort()
            self._film = None

    def _look(self) -> None:
        """Take the next frame if it is on the screen."""
        if self._is_cancelled:
            self._end(None)
        elif self.session.path is not self._path:
            self._end(None)
            show_warning("The path was changed while it was recorded, so there is no film of it.")
        elif self._done == len(self._frames):
            self._timer.stop()
            self._writing.request(self._film.finish)
        elif self.session.frame != self._frames[self._done]:
            self.session.show_frame(self._frames[self._done])
        elif self.layers.is_idle:
            self._timer.stop()
            image = self.layers.viewer.screenshot(canvas_only=True, flash=False)
            self._writing.request(self._film.add, image)

    def _written(self, result: Any) -> None:
        if isinstance(result, Exception):
            self._end(None)
            tell(result)
        elif self._done == len(self._frames):
            self._end(result)
        else:
            self._done += 1
            self.progressed.emit(self._done, len(self._frames))
            self._timer.start()

    def _end(self, path: Path | None) -> None:
        self._timer.stop()
        film, self._film = self._film, None
        if path is None:
            film.abort()
        self.ended.emit(path)


def _attempt(function: Callable, *args: Any) -> Any:
    """What a function returns, or what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return error
