"""The path of a session on napari's own slider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from napari.layers import Points

from cryosphere.viewer.layers.stack import UNITS, LayerStack
from cryosphere.viewer.session import Session

_DIMENSIONS = 4


class PathSlider:
    """Moving the slider shows a frame of the path, and :meth:`follow` moves it to a frame shown otherwise.

    One invisible point per frame is what gives napari's slider its length.
    """

    def __init__(self, stack: LayerStack, session: Session) -> None:
        self.stack, self.session, self.dims = stack, session, stack.viewer.dims
        self._is_following = False
        self._last = 0
        self.renew()
        self.dims.events.current_step.connect(self._scrub)
        session.path_changed.connect(self.renew)

    def close(self) -> None:
        """Follow nothing any more."""
        self.dims.events.current_step.disconnect(self._scrub)
        self.session.path_changed.disconnect(self.renew)

    def renew(self) -> None:
        """Give the slider as many places as the path has frames."""
        frames = np.arange(len(self.session.path), dtype=float)[:, None]
        centre = self.session.nominal_positions.mean(0)[::-1].astype(float)
        data = np.concatenate([frames, np.tile(centre, (len(frames), 1))], axis=1)
        with self._following():
            layer = self.stack.get("path")
            if layer is None:
                self.stack.put("path", Points(data, name="path", size=0.1, opacity=0.0, units=("pixel", *UNITS)))
                self.dims.axis_labels = (*self.dims.axis_labels[:-_DIMENSIONS], "frame", "z", "y", "x")
            else:
                layer.data = data
        self.follow()

    def follow(self) -> None:
        """Move the slider to the frame that the session shows, if it shows one."""
        if self._axis >= 0:
            with self._following():
                self.dims.set_point(self._axis, self._last if self.session.frame is None else self.session.frame)
            self._last = self._frame

    def _scrub(self) -> None:
        if self._is_following or self._axis < 0 or self._frame == self._last:
            return
        self._last = self._frame
        self.session.show_frame(self._last)

    @property
    def _axis(self) -> int:
        return self.dims.ndim - _DIMENSIONS

    @property
    def _frame(self) -> int:
        return int(self.dims.current_step[self._axis])

    @contextmanager
    def _following(self) -> Iterator[None]:
        self._is_following, before = True, self._is_following
        try:
            yield
        finally:
            self._is_following = before
