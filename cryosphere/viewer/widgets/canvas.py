"""A plane of particles to look at and draw in: density, points, the current place, the path, outlines."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.artist import Artist
from matplotlib.backend_bases import MouseEvent
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QSizePolicy, QWidget

from cryosphere.analysis.style import ORANGE
from cryosphere.viewer.particle_colours import scale_colours
from cryosphere.viewer.points import Plane, axis_label, rectangle

# What dragging with the mouse does, with the label and the help text of its button.
TOOLS = {
    "pick": ("Pick", "Click a particle to see it and its conformation; drag to see one after the other (P)"),
    "lasso": ("Lasso", "Draw around particles to select them; Shift adds them, Alt or Ctrl takes them away (L)"),
    "rectangle": ("Box", "Drag a rectangle to select particles; Shift adds them, Alt or Ctrl takes them away (R)"),
    "state": ("State", "Click a particle to select all of its state; Shift adds them, Alt or Ctrl takes them away (S)"),
    "path": ("Path", "Drag a path: conformations follow, and it can be played afterwards (D)"),
    "move": ("Move", "Drag the picture; the mouse wheel zooms with every tool (M)"),
}
_SELECTING = ("lasso", "rectangle", "state")
# Pixels at the left, bottom, right and top of the axes; between points of a drawn line; of the radius of a particle.
_MARGINS = (58, 42, 10, 8)
_STEP = 3.0
_FONT = 8.5
# Milliseconds in which a conformation is usually in its layer, so that it is painted before its marker.
_LATER = 60


class PointCloud(Artist):
    """Small dots in colours of their own, drawn straight into pixels: 20,000 in a few milliseconds.

    Attributes
    ----------
    places : array of shape (dot, 2)
        In the axes' coordinates; what is not finite is not drawn.
    rgba : uint8 array of shape (dot, 4)
    """

    # Offsets (pixels) and opacities: a soft rim first, so that no dot's rim covers another's middle.
    _RIM = tuple((dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy)

    def __init__(self) -> None:
        super().__init__()
        self.places = np.zeros((0, 2))
        self.rgba = np.zeros((0, 4), dtype=np.uint8)

    def draw(self, renderer) -> None:
        """Draw the dots inside the axes."""
        box = self.axes.bbox
        width, height = int(box.width), int(box.height)
        if not self.get_visible() or not len(self.places) or width < 4 or height < 4:
            return
        pixel = self.axes.transData.transform(self.places) - (box.x0, box.y0)
        kept = ((pixel >= 1) & (pixel < (width - 1, height - 1))).all(1)
        x, y = pixel[kept].astype(int).T
        rgba = self.rgba[kept]
        rim = rgba * np.array([1, 1, 1, 0.55])
        image = np.zeros((height, width, 4), dtype=np.uint8)
        for dx, dy in self._RIM:
            image[y + dy, x + dx] = rim
        image[y, x] = rgba
        gc = renderer.new_gc()
        renderer.draw_image(gc, round(box.x0), round(box.y0), image)
        gc.restore()


class PlaneCanvas(FigureCanvasQTAgg):
    """Draws a plane of particles and what is done in it with the mouse. Places are in the coordinates of its axes.

    Signals: ``picked`` (x, y) while the pick tool is held down; ``outlined`` (polygon, tool, how) with ``how`` one of
    ``new``, ``add``, ``remove``; ``state_picked`` (x, y, how); ``path_moved`` (x, y) while a path is drawn;
    ``path_drawn`` (points) at its end.
    """

    picked = Signal(float, float)
    outlined = Signal(object, str, str)
    state_picked = Signal(float, float, str)
    path_moved = Signal(float, float)
    path_drawn = Signal(object)
    _axes = None

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Figure())
        if parent is not None:
            self.setParent(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(220, 240)
        self._later = QTimer(self, singleShot=True, interval=_LATER)
        self._later.timeout.connect(self._draw_over)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.tool = "pick"
        self.plane: Plane | None = None
        self._background = None
        self._drawn: list[tuple[float, float]] = []  # pixels of the line that is being drawn
        self._grabbed: tuple | None = None  # place and limits where a move began
        self._how = "new"
        self._rgba: np.ndarray | None = None
        self._chosen: np.ndarray | None = None
        self._shows_density = True
        self._axes = self.figure.add_subplot()
        self._make_artists()
        self._restyle()
        for event, slot in (
            ("draw_event", self._keep_background),
            ("resize_event", lambda _: self._lay_out()),
            ("button_press_event", self._press),
            ("motion_notify_event", self._move),
            ("button_release_event", self._release),
            ("scroll_event", self._scroll),
        ):
            self.mpl_connect(event, slot)
        self._lay_out()

    def _make_artists(self) -> None:
        axes = self._axes
        self._image = axes.imshow(np.zeros((2, 2)), origin="lower", aspect="auto", interpolation="bilinear", zorder=0)
        self._image.set_clim(0, 1)
        self._cloud = axes.add_artist(PointCloud())
        self._cloud.set_zorder(1)
        self._outlines: list[Artist] = []
        # Drawn over a copy of the rest, so that they move without drawing everything again.
        (self._path,) = axes.plot([], [], "-", lw=2, animated=True, zorder=4)
        (self._ends,) = axes.plot([], [], "o", markersize=5, animated=True, zorder=4)
        (self._line,) = axes.plot([], [], "-", color=ORANGE, lw=1.5, animated=True, zorder=5)
        (self._marker,) = axes.plot([], [], "o", color=ORANGE, markersize=10, mew=2, animated=True, zorder=6)
        axes.set(xticks=[], yticks=[])

    def _lay_out(self) -> None:
        """Keep the margins, whatever the size."""
        left, bottom, right, top = _MARGINS
        width, height = self.figure.bbox.size / self.device_pixel_ratio
        if width > left + right + 10 and height > bottom + top + 10:
            self._axes.set_position(
                [left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height]
            )
            # Labels of the axes at the edges; where they would be looked for is half of the time of drawing.
            edge = {"transform": self.figure.transFigure}
            self._axes.xaxis.set_label_coords((left + width - right) / (2 * width), 15 / height, **edge)
            self._axes.yaxis.set_label_coords(13 / width, (bottom + height - top) / (2 * height), **edge)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the window's theme."""
        super().changeEvent(event)
        if self._axes is not None and event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._restyle()

    def _restyle(self) -> None:
        """Take the colours of the window."""
        palette = (self.parentWidget() or QApplication.instance()).palette()  # matplotlib changes the canvas' own
        roles = palette.ColorRole.Window, palette.ColorRole.Text
        window, text = (np.array(to_rgb(palette.color(role).name())) for role in roles)
        axes = self._axes
        self.figure.set_facecolor(window)
        axes.set_facecolor(window)
        axes.spines[["top", "right"]].set_visible(False)
        for spine in axes.spines.values():
            spine.set_color(_between(window, text, 0.5))
        axes.tick_params(colors=_between(window, text, 0.8), labelsize=_FONT - 0.5, length=3)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=text, fontsize=_FONT)
        self._ground = window, text
        self._colour()
        edge = [withStroke(linewidth=4, foreground=window)]  # seen on any colours
        self._path.set(color=text, path_effects=edge)
        self._ends.set(color=text, path_effects=edge)
        self._marker.set(markeredgecolor=text)
        self.draw_idle()

    # -- what is shown ---------------------------------------------------------------------------------------------

    def show_plane(self, plane: Plane) -> None:
        """Show particles in other axes, all of them."""
        self.plane = plane
        (left, right), (bottom, top) = plane.limits
        self._image.set(data=plane.density, extent=(left, right, bottom, top))
        self._cloud.places = plane.values[plane.drawn]
        self._axes.set(xlabel=axis_label(plane.axes[0]), ylabel=axis_label(plane.axes[1]))
        self._axes.xaxis.set_major_locator(MaxNLocator(5))
        self._axes.yaxis.set_major_locator(MaxNLocator(5))
        self._axes.ticklabel_format(useOffset=False)
        for artist in (self._path, self._ends, self._marker, self._line):
            artist.set_data([], [])
        self.home()

    def show_colours(self, rgba: Float[np.ndarray, "dot 4"], show_density: bool) -> None:
        """Colour the drawn particles. To show their density, the picture has its colours, and single particles are
        seen where there are few; else it is a grey ground."""
        self._rgba, self._shows_density = rgba, show_density
        self._colour()

    def _colour(self) -> None:
        """Colours of the dots and of the picture of the density, from the ground to the scale's or to grey."""
        if self._rgba is not None:
            rgba = self._rgba.copy()
            if self._chosen is not None:
                rgba[:, 3] = np.where(self._chosen, rgba[:, 3], 0.2)
            elif self._shows_density:
                rgba[:, 3] = (1 - self.plane.density_at(self.plane.drawn)).clip(0, 0.9)
            self._cloud.rgba = (255 * rgba).astype(np.uint8)
        window, text = self._ground
        if self._shows_density and self._chosen is None:
            share = np.linspace(0, 1, 256)
            solid = (4 * share).clip(0, 1)[:, None]
            self._image.set_cmap(ListedColormap(solid * scale_colours(share)[:, :3] + (1 - solid) * window))
        else:
            self._image.set_cmap(LinearSegmentedColormap.from_list("ground", [window, _between(window, text, 0.4)]))
        self.draw_idle()

    def show_marker(self, place: Float[np.ndarray, " 2"] | None) -> None:
        """Mark the place of the conformation that is shown; painted a little later, together with the conformation, as
        each painting is of the whole window where it has an OpenGL view."""
        self._marker.set_data(*([[], []] if place is None else place[:, None]))
        self._later.start()

    def show_path(self, places: Float[np.ndarray, "frame 2"]) -> None:
        """Show a path, its beginning as a larger dot."""
        self._path.set_data(*places.T)
        self._ends.set_data(*places[:1].T)
        self._draw_over()

    def show_selections(
        self, outlines: list[tuple[Float[np.ndarray, "vertex 2"], bool]], chosen: Bool[np.ndarray, " dot"] | None
    ) -> None:
        """Show outlines, that of the current selection stronger; of dots chosen without one the others fade."""
        for artist in self._outlines:
            artist.remove()
        self._outlines = []
        for polygon, is_current in outlines:
            closed = np.vstack([polygon, polygon[:1]])
            style = {"lw": 2.0} if is_current else {"lw": 1.0, "linestyle": "--"}
            self._outlines += self._axes.plot(*closed.T, color=ORANGE, zorder=3, **style)
        self._chosen = chosen
        self._colour()

    def home(self) -> None:
        """Show all particles (all but the outermost decide on the limits)."""
        if self.plane is not None:
            self._axes.set(xlim=self.plane.limits[0], ylim=self.plane.limits[1])
            self.draw_idle()

    def set_tool(self, tool: str) -> None:
        """Choose what the mouse does (one of ``TOOLS``)."""
        self.tool = tool
        self._drawn, self._grabbed = [], None
        shape = {"move": Qt.CursorShape.OpenHandCursor, "pick": Qt.CursorShape.PointingHandCursor}
        self.setCursor(shape.get(tool, Qt.CursorShape.CrossCursor))

    @property
    def is_waiting(self) -> bool:
        """Whether what was changed is not drawn yet."""
        return self._draw_pending

    @property
    def limits(self) -> Float[np.ndarray, "2 2"]:
        """Low and high end of each axis as it is shown."""
        return np.array([self._axes.get_xlim(), self._axes.get_ylim()])

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _keep_background(self, _event: object) -> None:
        self._background = self.copy_from_bbox(self.figure.bbox)
        self._draw_animated()

    def _draw_animated(self) -> None:
        for artist in (self._path, self._ends, self._line, self._marker):
            self._axes.draw_artist(artist)

    def _draw_over(self) -> None:
        """Draw what moves over what is there."""
        if self._background is None:
            self.draw_idle()
            return
        self.restore_region(self._background)
        self._draw_animated()
        self.update()  # blit() would paint the whole window at once, the 3-D view with it

    # -- the mouse -------------------------------------------------------------------------------------------------

    def place_of_pixel(self, x: float, y: float) -> tuple[float, float]:
        """Place under a pixel (from the lower left), also outside the axes."""
        place = self._axes.transData.inverted().transform((x, y))
        return float(place[0]), float(place[1])

    def _press(self, event: MouseEvent) -> None:
        if self.plane is None or (event.inaxes is None and self.tool not in ("lasso", "rectangle")):
            return
        if self.tool == "move" or event.button == 2:
            self._grabbed = (event.x, event.y, self.limits)
            return
        if event.button != 1:
            return
        self._how = _how(event)
        self._drawn = [(event.x, event.y)]
        place = self.place_of_pixel(event.x, event.y)
        if self.tool == "pick":
            self.picked.emit(*place)
        elif self.tool == "path":
            self.path_moved.emit(*place)

    def _move(self, event: MouseEvent) -> None:
        if self._grabbed is not None:
            self._pan(event)
            return
        if not self._drawn or self.tool == "state":
            return
        if np.hypot(event.x - self._drawn[-1][0], event.y - self._drawn[-1][1]) < _STEP:
            return
        if self.tool == "rectangle":
            self._drawn = [self._drawn[0], (event.x, event.y)]
        else:
            self._drawn.append((event.x, event.y))
        place = self.place_of_pixel(event.x, event.y)
        if self.tool == "pick":
            self.picked.emit(*place)
            return
        points = self._line_places()
        closed = points if self.tool == "path" else np.vstack([points, points[:1]])
        self._line.set_data(*closed.T)
        if self.tool == "path":
            self.path_moved.emit(*place)
        self._draw_over()

    def _line_places(self) -> Float[np.ndarray, "point 2"]:
        points = np.array([self.place_of_pixel(*pixel) for pixel in self._drawn])
        return rectangle(tuple(points[0]), tuple(points[-1])) if self.tool == "rectangle" else points

    def _release(self, event: MouseEvent) -> None:
        self._grabbed = None
        if not self._drawn:
            return
        points, is_line = self._line_places(), len(self._drawn) > 1
        is_area = self.tool == "rectangle" or len(self._drawn) > 2
        self._drawn = []
        self._line.set_data([], [])
        if self.tool == "state":
            self.state_picked.emit(*points[0], self._how)
        elif self.tool == "path" and is_line:
            self.path_drawn.emit(points)
        elif self.tool in _SELECTING and is_line and is_area:
            self.outlined.emit(points, self.tool, self._how)
        self._draw_over()

    def _pan(self, event: MouseEvent) -> None:
        x, y, limits = self._grabbed
        box = self._axes.bbox
        share = np.array([(event.x - x) / box.width, (event.y - y) / box.height])
        moved = limits - (share * (limits[:, 1] - limits[:, 0]))[:, None]
        self._axes.set(xlim=moved[0], ylim=moved[1])
        self.draw_idle()

    def _scroll(self, event: MouseEvent) -> None:
        """Zoom about the place under the mouse."""
        if self.plane is None or event.inaxes is None:
            return
        place = np.array(self.place_of_pixel(event.x, event.y))[:, None]
        zoomed = place + (self.limits - place) * 0.8**event.step
        self._axes.set(xlim=zoomed[0], ylim=zoomed[1])
        self.draw_idle()


def _how(event: MouseEvent) -> str:
    """What a selection does to the one before, by the keys that are held."""
    held = event.guiEvent.modifiers() if event.guiEvent is not None else Qt.KeyboardModifier.NoModifier
    if held & Qt.KeyboardModifier.ShiftModifier:
        return "add"
    if held & (Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.ControlModifier):
        return "remove"
    return "new"


def _between(one: Float[np.ndarray, " 3"], other: Float[np.ndarray, " 3"], share: float) -> str:
    return to_hex((1 - share) * one + share * other)
