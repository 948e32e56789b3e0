"""The tube that follows the conformation, and what may be shown with it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from napari import Viewer
from napari.layers import Surface
from psygnal import Signal

from cryosphere.errors import InputError
from cryosphere.viewer.camera import broad_view
from cryosphere.viewer.isosurface import LocatedMap
from cryosphere.viewer.layers.density import MapLayer, Rendering
from cryosphere.viewer.layers.slider import PathSlider
from cryosphere.viewer.layers.stack import RIGHT_HANDED, LayerStack
from cryosphere.viewer.meshes import ArrowsOf, Mesh, Meshes, OverlayOf, Shown, ShownModels
from cryosphere.viewer.session import Session
from cryosphere.viewer.tints import Legend, TintName
from cryosphere.viewer.widgets.notices import show_warning
from cryosphere.viewer.widgets.workers import Latest

Part = Literal["ghost", "map", "arrows", "overlay"]
PARTS: tuple[Part, ...] = get_args(Part)
_NAMES = {"tube": "conformation", "ghost": "nominal structure", "arrows": "motion", "overlay": "ensemble"}
_OPACITY = {"tube": 1.0, "ghost": 0.35, "arrows": 1.0, "overlay": 0.35}
# Share of the canvas that the structure fills at first, and the angle of the lens (degrees).
_FILLED, _LENS = 0.85, 10.0


class SceneLayers:
    """Draws a session in a napari viewer, follows its signals, and puts its path on napari's slider.

    ``drawn`` tells that the tube is another, ``changed`` that a setting is, ``closed`` that nothing is drawn any more.

    Parameters
    ----------
    viewer : napari.Viewer
    session : Session

    Attributes
    ----------
    tint : str
        What the tube's colours stand for.
    legend : Legend
        Of these colours.
    arrows_of, overlay_of : str
        What arrows connect, and what is overlaid.
    is_closed : bool
        Whether nothing is drawn any more.
    """

    drawn = Signal()
    changed = Signal()
    closed = Signal()

    def __init__(self, viewer: Viewer, session: Session) -> None:
        self.viewer, self.session, self.meshes = viewer, session, Meshes(session)
        self.tint: TintName = "segment"
        self.legend: Legend = self.meshes.tints.of("segment", session.nominal_positions).legend
        self.arrows_of: ArrowsOf = "nominal"
        self.overlay_of: OverlayOf = "path"
        self._wanted: dict[str, bool] = dict.fromkeys(PARTS, False)
        self.is_closed = False
        self._reach: tuple[np.ndarray, ...] = ()
        window = viewer.window._qt_window
        self._stack = LayerStack(viewer)
        self._tube_work = Latest(self.meshes.shown, self._show, window)
        self._overlay_work = Latest(self.meshes.overlay, self._show_overlay, window)
        self._model_work = Latest(self.meshes.models, self._show_models, window)
        self._map = MapLayer(self._stack, session, lambda: self._wanted["map"], window)
        self._slider = PathSlider(self._stack, session)
        self._put("tube", self.meshes.nominal())
        viewer.layers.selection.active = self._stack.get("tube")
        viewer.canvas.overlays.scale_bar.visible = True
        self.fit_camera()
        self._stack.seen.connect(self._on_seen)
        self._map.loaded.connect(self._show_map)
        session.conformation_changed.connect(self._request)
        session.segments_changed.connect(self._request)
        session.path_changed.connect(self._on_path)
        window.destroyed.connect(self.close_work)
        self._request()

    def close_work(self) -> None:
        """Stop all work, and follow the session no longer."""
        if self.is_closed:
            return
        self.is_closed = True
        self.closed.emit()
        self.session.conformation_changed.disconnect(self._request)
        self.session.segments_changed.disconnect(self._request)
        self.session.path_changed.disconnect(self._on_path)
        for work in (self._tube_work, self._overlay_work, self._model_work, self._map, self._slider, self._stack):
            work.close()

    def remove(self) -> None:
        """Stop all work, and take the layers out of the viewer."""
        self.close_work()
        self._stack.clear()

    @property
    def is_idle(self) -> bool:
        """Whether what is on the screen is what the session and the settings say."""
        return all(work.is_idle for work in (self._tube_work, self._overlay_work, self._model_work, self._map))

    def _put(self, part: str, mesh: Mesh) -> None:
        self._stack.put_mesh(part, mesh, _NAMES[part], _OPACITY[part])

    def fit_camera(self) -> None:
        """Look at the nominal structure and the ends of the path where they are broadest, and let them fill the canvas.

        What is not decoded yet does not count.
        """
        view, camera = (
            broad_view(np.concatenate([self.session.nominal_positions, *self._reach])),
            self.viewer.scene.camera,
        )
        camera.orientation = RIGHT_HANDED
        camera.perspective = _LENS
        camera.set_view_direction(tuple(view.direction[::-1]), tuple(view.up[::-1]))
        camera.center = tuple(view.centre[::-1].tolist())
        camera.zoom = view.zoom(*self.viewer.canvas.size, filled=_FILLED)
        self._fitted = (camera.angles, camera.center, camera.zoom)

    # The conformation.

    def _request(self) -> None:
        self._tube_work.request(self.session.latent, self.tint, self.arrows_of if self._wanted["arrows"] else None)

    def _show(self, shown: Shown) -> None:
        if not self._reach:
            self._reach = shown.ends
            camera = self.viewer.scene.camera
            if (camera.angles, camera.center, camera.zoom) == self._fitted:
                self.fit_camera()
        self._slider.follow()  # only now, so that tube and slider are painted at once
        self._put("tube", shown.mesh)
        if shown.arrows is not None and self._wanted["arrows"]:
            self._put("arrows", shown.arrows)
        if shown.legend != self.legend:
            self.legend = shown.legend
            self.changed.emit()
        self.drawn.emit()

    @property
    def tube_layer(self) -> Surface | None:
        """The layer of the conformation, unless it was removed from the list."""
        return self._stack.get("tube")

    def shown_positions(self) -> Float[np.ndarray, "residue 3"]:
        """Residue positions (x y z, Å) read back from the layer of the conformation."""
        return self.meshes.tube.ring_centres(np.asarray(self.tube_layer.vertices)[:, ::-1])

    def set_tint(self, tint: TintName) -> None:
        """Colour the tube by something else.

        Raises
        ------
        InputError
            The structure has no pLDDT.
        """
        self.meshes.tints.check(tint)
        self.tint = tint
        self._request()
        self.changed.emit()

    @property
    def radius(self) -> float:
        """Radius of the tube, Å."""
        return self.meshes.tube.radius

    def set_radius(self, radius: float) -> None:
        """Draw the tube, and what goes with it, with another radius (Å)."""
        self.meshes.tube.radius = radius
        self._request()
        self._renew("ghost")
        self._renew("overlay")
        self.changed.emit()

    # What may be shown besides.

    def is_shown(self, part: Part) -> bool:
        """Whether a part is shown."""
        return self._wanted[part]

    def toggle(self, part: Part) -> None:
        """Show a part, or hide it."""
        self.set_shown(part, not self._wanted[part])

    def set_shown(self, part: Part, shown: bool) -> None:
        """Show or hide the ghost of the nominal structure, the map, the arrows or the overlay.

        Raises
        ------
        InputError
            There is no map yet.
        """
        if part == "map" and shown and self.map is None:
            raise InputError("There is no map to show; choose the file of one first.")
        self._wanted[part] = shown
        if (layer := self._stack.get(part)) is not None:
            layer.visible = shown
        self._renew(part)
        self.changed.emit()

    def _renew(self, part: Part) -> None:
        """Draw a part anew, if it is shown."""
        if not self._wanted[part]:
            return
        if part == "ghost":
            self._put("ghost", self.meshes.ghost())
        elif part == "overlay":
            self._overlay_work.request(self.overlay_of)
        elif part == "arrows":
            self._request()
        else:
            self._map.draw()

    def _show_overlay(self, mesh: Mesh) -> None:
        if self._wanted["overlay"]:
            self._put("overlay", mesh)

    def _on_seen(self, part: str, visible: bool) -> None:
        """A part was drawn first, or somebody used the eye or the dustbin of napari's list."""
        if part not in self._wanted:
            return
        if self._wanted[part] != visible:
            self._wanted[part] = visible
            self._renew(part)
        self.changed.emit()

    def _on_path(self) -> None:
        if self.overlay_of == "path":
            self._renew("overlay")

    def opacity(self, part: Part) -> float | None:
        """Opacity of a part (0 to 1), None where it is not drawn."""
        layer = self._stack.get(part)
        return None if layer is None else float(layer.opacity)

    def set_opacity(self, part: Part, opacity: float) -> None:
        """Make a part that is drawn more or less translucent."""
        if (layer := self._stack.get(part)) is not None:
            layer.opacity = opacity

    def set_arrows(self, arrows_of: ArrowsOf) -> None:
        """Draw arrows from the nominal structure to the conformation, or from one end of the path to the other."""
        self.arrows_of = arrows_of
        self._renew("arrows")
        self.changed.emit()

    def set_overlay(self, overlay_of: OverlayOf) -> None:
        """Overlay conformations along the path, or the states."""
        self.overlay_of = overlay_of
        self._renew("overlay")
        self.changed.emit()

    # The map.

    @property
    def map(self) -> LocatedMap | None:
        """The map that was read."""
        return self._map.located

    @property
    def level(self) -> float:
        """Level of the map's surface; of ``mip``, where the map begins to be seen."""
        return self._map.level

    @property
    def rendering(self) -> Rendering:
        """``iso`` or ``mip``."""
        return self._map.rendering

    def set_map(self, path: Path | str) -> None:
        """Read a map beside the window and show it; a notification says so where no residue lies in it."""
        self._map.read(Path(path))

    def _show_map(self) -> None:
        self.set_shown("map", True)

    def set_level(self, level: float) -> None:
        """Draw the map at another level."""
        self._map.level = level
        self._map.draw()

    def set_rendering(self, rendering: Rendering) -> None:
        """Draw the map as a surface at its level (``iso``), or its largest values along the line of sight (``mip``)."""
        self._map.rendering = rendering
        self._map.draw()
        self.changed.emit()

    # Structures of other files.

    def add_model(self, path: Path | str) -> None:
        """Read any structure beside the window and show it: its first model as a tube, others overlaid.

        A notification says so where it has another number of residues than the run's structure.
        """
        self._model_work.request(Path(path))

    def _show_models(self, models: ShownModels) -> None:
        self._stack.put_mesh("model", models.first, models.name, 1.0)
        if models.others is not None:
            self._stack.put_mesh("other models", models.others, f"{models.name}, other models", _OPACITY["overlay"])
        if models.note:
            show_warning(models.note)
