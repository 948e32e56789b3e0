"""Layers with fixed places in napari's list, whose triangles are swapped as cheaply as may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from napari import Viewer
from napari.layers import Layer, Surface
from psygnal import Signal

from cryosphere.viewer.meshes import Mesh

UNITS = ("angstrom",) * 3
# Directions of z, y and x on the screen in which x, y, z are right-handed; napari's own show the mirror image.
RIGHT_HANDED = ("away", "down", "right")
# From the first that is drawn to the last. What is translucent is drawn before the tube and without depth, so that it
# is evenly translucent and never hides the tube.
ORDER = ("path", "map", "overlay", "ghost", "other models", "model", "tube", "arrows")
_SOLID = ("tube", "arrows", "model")


class LayerStack:
    """Layers by what they show. ``seen`` tells that one was added, shown, hidden or removed: (part, is it visible)."""

    seen = Signal(str, bool)

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._layers: dict[str, Layer] = {}
        viewer.layers.events.removed.connect(self._forget)

    def close(self) -> None:
        """Follow the list of layers no longer."""
        self.viewer.layers.events.removed.disconnect(self._forget)

    def clear(self) -> None:
        """Remove all its layers from the list."""
        while self._layers:
            self.viewer.layers.remove(self._layers.popitem()[1])

    def get(self, part: str) -> Layer | None:
        """The layer of a part, if it is in the list."""
        return self._layers.get(part)

    def put_mesh(self, part: str, mesh: Mesh, name: str, opacity: float) -> None:
        """Show a mesh (x y z), in place of the part's former one."""
        self.put_surface(
            part, mesh.vertices[:, ::-1], mesh.faces, mesh.colours, name=name, opacity=opacity, units=UNITS
        )

    def put_surface(
        self,
        part: str,
        vertices: Float[np.ndarray, "vertex 3"],
        faces: Int[np.ndarray, "face 3"],
        colours: Float[np.ndarray, "vertex 4"],
        **style: Any,
    ) -> None:
        """Show triangles (z y x), in place of the part's former ones.

        Vertices, triangles and colours are swapped with one upload: of as many colours, the values are replaced in the
        layer's own array, and the event that would upload everything again is held back.
        """
        layer = self._layers.get(part)
        if isinstance(layer, Surface) and len(layer.vertex_colors) == len(colours):
            layer.vertex_colors[...] = colours
            with layer.events.data.blocker():
                layer.data = (vertices, faces)
            return
        if layer is not None:
            style["opacity"], style["visible"] = layer.opacity, layer.visible
        blending = "translucent" if part in _SOLID else "translucent_no_depth"
        surface = Surface((vertices, faces), vertex_colors=colours.copy(), shading="smooth", blending=blending, **style)
        self.put(part, surface)

    def put(self, part: str, layer: Layer) -> None:
        """Add a layer at its place in the list, instead of the part's former one."""
        former = self._layers.pop(part, None)
        if former is not None:
            self.viewer.layers.remove(former)
        above = [other for name, other in self._layers.items() if ORDER.index(name) > ORDER.index(part)]
        places = [self.viewer.layers.index(other) for other in above]
        is_first = not self._layers
        self._layers[part] = layer
        chosen = set(self.viewer.layers.selection)
        self.viewer.layers.insert(min(places, default=len(self.viewer.layers)), layer)
        if is_first:
            self.viewer.dims.ndisplay = 3  # napari cannot while nothing is there
        if isinstance(layer, Surface):
            _keep_program(self.viewer, layer)
            light_surface(self.viewer, layer)
        if chosen:
            self.viewer.layers.selection = chosen & set(self.viewer.layers)
        layer.events.visible.connect(lambda: self.seen.emit(part, bool(layer.visible)))
        self.seen.emit(part, bool(layer.visible))

    def _forget(self, event: Any) -> None:
        for part, layer in list(self._layers.items()):
            if layer is event.value:
                del self._layers[part]
                self.seen.emit(part, False)


def _keep_program(viewer: Viewer, surface: Surface) -> None:
    """Keep the shader function that takes colours of vertices. vispy makes another for every mesh, and compiles the
    whole program again for it, which is a sixth of the time of a picture without a graphics card."""
    visual = viewer.window._qt_viewer.canvas.layer_to_visual.get(surface)
    node = getattr(visual, "node", None)
    make = getattr(node, "_build_color_transform", None)
    if make is not None:
        kept = make(np.zeros((1, 3, 4), np.float32))
        node._build_color_transform = lambda colours: kept if colours.shape[-1] == 4 else make(colours)


def light_surface(viewer: Viewer, surface: Surface) -> None:
    """Light a surface from the side of the viewer. napari's light comes from behind where its axes are flipped, as they
    are for a right-handed frame."""
    canvas = viewer.window._qt_viewer.canvas
    visual = canvas.layer_to_visual.get(surface)
    plain = getattr(visual, "_on_view_direction_change", None)
    if plain is not None:
        visual._on_view_direction_change = lambda view=None, up=None: plain(None if view is None else -view, up)
        canvas._on_view_direction_change()
