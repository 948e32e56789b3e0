"""The consensus map: a surface at a level, or its largest values along the line of sight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QObject

from cryosphere.viewer.isosurface import LocatedMap, locate_map
from cryosphere.viewer.layers.stack import UNITS, LayerStack
from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.workers import Latest

Rendering = Literal["iso", "mip"]
_COLOUR = (0.75, 0.82, 0.9, 1.0)
OPACITY = {"iso": 0.22, "mip": 0.6}


class MapLayer:
    """A map in the list of layers; ``loaded`` tells that another one is read.

    The surface is triangles and not napari's own ray casting, which takes seconds per picture without a graphics card.

    Attributes
    ----------
    located : LocatedMap or None
    level : float
        Of the surface; with ``mip``, where the map begins to be seen.
    rendering : str
    """

    loaded = Signal()

    def __init__(self, stack: LayerStack, session: Session, is_wanted: Callable[[], bool], parent: QObject) -> None:
        self._stack, self._is_wanted = stack, is_wanted
        self.located: LocatedMap | None = None
        self.level, self.rendering = 0.0, "iso"
        self._reading = Latest(lambda path: locate_map(session, path), self._receive, parent)
        self._surfacing = Latest(lambda located, level: located.surface(level), self._show_surface, parent)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being read or computed."""
        return self._reading.is_idle and self._surfacing.is_idle

    def close(self) -> None:
        """Stop all work."""
        self._reading.close()
        self._surfacing.close()

    def read(self, path: Path) -> None:
        """Read a map beside the window, then show it."""
        self._reading.request(path)

    def _receive(self, located: LocatedMap) -> None:
        self.located, self.level = located, located.level
        if (layer := self._stack.get("map")) is not None:
            self._stack.viewer.layers.remove(layer)
        self.loaded.emit()

    def draw(self) -> None:
        """Show the map as it is set."""
        if self.located is None or not self._is_wanted():
            return
        if self.rendering == "iso":
            self._surfacing.request(self.located, self.level)
            return
        limits = (min(self.level, float(np.nextafter(self.located.highest, -np.inf))), self.located.highest)
        layer = self._stack.get("map")
        if isinstance(layer, Image):
            layer.contrast_limits = limits
            return
        volume = self.located.density.volume
        style = {"rendering": "mip", "blending": "additive", "opacity": OPACITY["mip"]}
        self._stack.put("map", Image(volume, contrast_limits=limits, **style, **self._place()))

    def _show_surface(self, surface: tuple[np.ndarray, np.ndarray]) -> None:
        if self.rendering != "iso" or not self._is_wanted():
            return
        vertices, faces = surface
        colours = np.broadcast_to(np.float32(_COLOUR), (len(vertices), 4))
        if isinstance(layer := self._stack.get("map"), Image):
            self._stack.viewer.layers.remove(layer)
        # In voxels, so that scale and place of the layer are the map's, as with an image.
        self._stack.put_surface("map", vertices, faces, colours, opacity=OPACITY["iso"], **self._place())

    def _place(self) -> dict[str, Any]:
        density = self.located.density
        return {
            "name": f"map {self.located.path.name}",
            "scale": (density.pixel_size,) * 3,
            "translate": tuple(density.origin[::-1].tolist()),
            "units": UNITS,
        }
