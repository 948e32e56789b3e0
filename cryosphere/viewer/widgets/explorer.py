"""The particles of a run in a plane: click, select, draw paths, play them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from cryosphere.errors import CryosphereError, InputError
from cryosphere.viewer.particle_colours import DENSITY, ParticleColours, by_column, by_density
from cryosphere.viewer.paths import has_easiest_path
from cryosphere.viewer.points import Plane, default_axes, drawn_rows
from cryosphere.viewer.session import ChosenParticles, Session
from cryosphere.viewer.widgets.canvas import TOOLS, PlaneCanvas
from cryosphere.viewer.widgets.colour_legend import ColourLegend
from cryosphere.viewer.widgets.column_chooser import ColumnChooser
from cryosphere.viewer.widgets.notices import plainly, tell
from cryosphere.viewer.widgets.path_chooser import BETWEEN, DRAWN, EASIEST, PathChooser
from cryosphere.viewer.widgets.player import Player
from cryosphere.viewer.widgets.workers import Latest

# What is done beside the window; of each kind the newest request wins.
_WORKS = ("plane", "colours", "selection", "places", "names")
_WHOSE_MISTAKE = (CryosphereError, OSError, MemoryError)
# Pixels that a note's lines are wrapped to at least.
_NOTE_WIDTH = 400


class ExplorerWidget(QWidget):
    """Explorer of a session: canvas, tools, axes, colours, path.

    Parameters
    ----------
    session : Session
    parent : QWidget, optional
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.plane: Plane | None = None
        self.colours: ParticleColours | None = None
        self._places: np.ndarray | None = None  # of the path, in the plane
        self._held: np.ndarray | None = None  # where the mouse draws a path
        self._asked_axes: tuple[str, str] | None = None
        self._asked_colour = DENSITY
        self._works = {kind: Latest(_call, _call, self) for kind in _WORKS}
        self.canvas = PlaneCanvas(self)
        self.legend = ColourLegend(self)
        self.player = Player(session, self)
        self._make_controls()
        self._lay_out()
        self._connect()
        self.set_tool("pick")
        self._say("reading the particles …")
        self._works["plane"].request(self._read_plane, None)

    # -- controls --------------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self.tools: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        for tool, (label, help_text) in TOOLS.items():
            button = self.tools[tool] = _tool_button(label, help_text, self)
            button.setCheckable(True)
            group.addButton(button)
            button.clicked.connect(lambda _=False, tool=tool: self.set_tool(tool))
        self.home_button = _tool_button("Home", "Show all particles again (H)", self)
        self.x = ColumnChooser("Horizontal axis: a column of the particles, or a motion such as angle(s2)", self)
        self.y = ColumnChooser("Vertical axis: a column of the particles, or a motion such as angle(s2)", self)
        self.colour = ColumnChooser("Colour the particles by their density, state, or any column or motion", self)
        self.colour.addItem(DENSITY)
        self.path = PathChooser(self.session, self)
        self.notes, self.status = QLabel(self), QLabel(self)
        for label in (self.notes, self.status):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._note_of_file = ""
        self._show_notes()

    def _lay_out(self) -> None:
        tools, grid, column = QHBoxLayout(), QGridLayout(), QVBoxLayout(self)
        tools.setSpacing(2)
        for button in (*self.tools.values(), self.home_button):
            tools.addWidget(button, 1)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)
        for row, column_number, text, chooser, width in (
            (0, 0, "X axis", self.x, 1),
            (0, 2, "Y axis", self.y, 1),
            (1, 0, "Colour", self.colour, 3),
        ):
            label = QLabel(text, self)
            label.setBuddy(chooser)
            grid.addWidget(label, row, column_number)
            grid.addWidget(chooser, row, column_number + 1, 1, width)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.notes)
        column.addLayout(tools)
        column.addWidget(self.canvas, 1)
        column.addWidget(self.legend)
        column.addLayout(grid)
        column.addWidget(self.path)
        column.addWidget(self.player)
        column.addWidget(self.status)

    def _connect(self) -> None:
        self.home_button.clicked.connect(self.home)
        for chooser in (self.x, self.y):
            chooser.chosen.connect(lambda _: self.set_axes(self.x.currentText(), self.y.currentText()))
        self.colour.chosen.connect(self.set_colour)
        self.path.hint.connect(self._say)
        self.path.line_wanted.connect(lambda: self.set_tool("path"))
        self.canvas.picked.connect(self._pick)
        self.canvas.outlined.connect(self._outlined)
        self.canvas.state_picked.connect(self._state_picked)
        self.canvas.path_moved.connect(self._path_moved)
        self.canvas.path_drawn.connect(self._path_drawn)
        self.session.conformation_changed.connect(self._follow)
        self.session.path_changed.connect(self._follow_path)
        self.session.selections_changed.connect(self._follow_selections)
        self.session.images_changed.connect(self._show_notes)

    def set_tool(self, tool: str) -> None:
        """Choose what the mouse does: ``pick``, ``lasso``, ``rectangle``, ``state``, ``path`` or ``move``."""
        self.tools[tool].setChecked(True)
        self.canvas.set_tool(tool)

    def home(self) -> None:
        """Show all particles."""
        self.canvas.home()

    def toggle_play(self) -> None:
        """Play the path, or stop."""
        self.player.toggle_play()

    def step_frame(self, step: int) -> None:
        """Go on along the path, or back."""
        self.player.step_frame(step)

    def _say(self, text: str | None = None) -> None:
        """Say what is going on, or else how many particles there are and are chosen."""
        if text is None:
            chosen = self.session.selection
            text = f"{self.session.n_particles:,} particles"
            if chosen is not None:
                text += f"; {chosen.name}: {chosen.n_particles:,} ({chosen.how})"
        self.status.setText(text)

    @property
    def is_busy(self) -> bool:
        """Whether something is being read or reckoned."""
        return not all(work.is_idle for work in (*self._works.values(), self.path.work))

    # -- axes and colours ------------------------------------------------------------------------------------------

    def _read_plane(self, axes: tuple[str, str] | None) -> Callable[[], None]:
        try:
            plane = Plane(self.session.columns, default_axes(self.session.columns) if axes is None else axes)
            plane.prepare()
        except _WHOSE_MISTAKE as error:
            return lambda error=error: self._keep_axes(axes, error)
        return lambda: self._show_plane(axes, plane)

    def _read_names(self) -> Callable[[], None]:
        columns, run, note = self.session.columns, self.session.run, ""
        known = sorted(columns.known, key=lambda name: (name.startswith("std("), not name.startswith("pc")))
        of_file = []
        try:
            if columns.path.is_file():
                of_file = [name for name in columns.source.names if name not in known]
        except CryosphereError as error:
            note = str(error)
        components = [f"PC {number}" for number in range(1, run.latent_dim + 1)]
        sources = [*components, *([EASIEST] if has_easiest_path(run) else []), DRAWN, BETWEEN]
        states = np.unique(columns.read(["state"], "state")["state"]) if "state" in known else ()

        def show() -> None:
            for chooser in (self.x, self.y, self.colour):
                chooser.offer([*known, *of_file])
            self.path.offer(sources, [f"state {state}" for state in states])
            self._note_of_file = note
            self._show_notes()

        return show

    def _show_notes(self) -> None:
        notes = [note for note in (*self.session.notes, self._note_of_file) if note]
        self.notes.setText("\n".join(notes))
        self.notes.setVisible(bool(notes))
        # Panels do not make room for wrapped lines by themselves.
        self.notes.setMinimumHeight(self.notes.heightForWidth(max(self.width(), _NOTE_WIDTH)) if notes else 0)

    def set_axes(self, x: str, y: str) -> None:
        """Show other axes, measured beside the window if need be; of a name that means nothing the user is told."""
        axes = x.strip(), y.strip()
        if axes == self._asked_axes:
            return
        self._asked_axes = axes
        self._say(f"measuring {', '.join(axes)} …")
        self._works["plane"].request(self._read_plane, axes)

    def _show_plane(self, asked: tuple[str, str] | None, plane: Plane) -> None:
        if asked != self._asked_axes:  # others are on their way
            return
        is_first, self.plane, self._asked_axes = self.plane is None, plane, plane.axes
        self._show_axes()
        self.canvas.show_plane(plane)
        if self.colours is None or self.colours.label == DENSITY:
            self._show_colours(by_density(plane))
        self._follow_path()
        self._follow_selections()
        if is_first:
            self._works["names"].request(self._read_names)

    def _show_axes(self) -> None:
        if self.plane is not None:
            for chooser, name in zip((self.x, self.y), self.plane.axes, strict=True):
                chooser.show_name(name)

    def _keep_axes(self, asked: tuple[str, str] | None, error: BaseException) -> None:
        if asked == self._asked_axes:
            self._asked_axes = None if self.plane is None else self.plane.axes
            self._show_axes()
            self._say()
        tell(error)

    def set_colour(self, name: str) -> None:
        """Colour by a column or motion, or ``density``; a name that means nothing is told, and the colours stay."""
        name = name.strip()
        if self.colours is None or name == self._asked_colour:
            return
        self._asked_colour = name
        if name == DENSITY:
            self._show_colours(by_density(self.plane))
            return
        self._say(f"measuring {name} …")
        self._works["colours"].request(self._read_colours, name)

    def _read_colours(self, name: str) -> Callable[[], None]:
        try:
            colours = by_column(self.session.columns, name, drawn_rows(self.session.n_particles))
        except _WHOSE_MISTAKE as error:
            return lambda error=error: self._keep_colours(name, error)
        return lambda: self._show_colours(colours)

    def _show_colours(self, colours: ParticleColours) -> None:
        if colours.label != self._asked_colour:  # others are on their way
            return
        self.colours = colours
        self.colour.show_name(colours.label)
        self.canvas.show_colours(colours.rgba, colours.label == DENSITY)
        self.legend.show_colours(colours)
        self._say()

    def _keep_colours(self, asked: str, error: BaseException) -> None:
        if asked == self._asked_colour:
            self._asked_colour = self.colours.label
            self.colour.show_name(self._asked_colour)
            self._say()
        tell(error)

    # -- conformations ---------------------------------------------------------------------------------------------

    def _pick(self, x: float, y: float) -> None:
        row = self.plane.nearest(x, y)
        if row != self.session.particle:
            self.session.show_particle(row)

    def _follow(self) -> None:
        """Mark what is shown."""
        if self.plane is None:
            return
        session = self.session
        if self._held is not None:
            place = self._held
        elif session.particle is not None:
            place = self.plane.values[session.particle]
        elif session.frame is not None:
            place = None if self._places is None else self._places[session.frame]
        else:
            place = self.plane.places_of(session.latent[None])[0]
        self.canvas.show_marker(place)

    # -- selections ------------------------------------------------------------------------------------------------

    def _outlined(self, polygon: Float[np.ndarray, "vertex 2"], tool: str, how: str) -> None:
        plane = self.plane
        word = f"{tool} in {plane.axes[0]}, {plane.axes[1]}"

        def choose() -> Callable[[], None]:
            chosen = ChosenParticles("", plane.inside(polygon), word, plane.axes, polygon)
            return lambda: self._select(chosen, how)

        self._works["selection"].request(choose)

    def _state_picked(self, x: float, y: float, how: str) -> None:
        plane = self.plane

        def choose() -> Callable[[], None]:
            chosen, state = plane.same_cluster(plane.nearest(x, y))
            return lambda: self._select(ChosenParticles("", chosen, f"state {state}"), how)

        self._works["selection"].request(choose)

    @plainly
    def _select(self, new: ChosenParticles, how: str) -> None:
        """Keep a selection by itself, added to the current one, or taken from it."""
        current = self.session.selection
        if how == "new" or current is None:
            if how == "remove":
                raise InputError("There is no selection to take particles from; draw one without Alt or Ctrl first.")
            self.session.add_selection(replace(new, name=self.session.new_name()))
            return
        both = current.chosen | new.chosen if how == "add" else current.chosen & ~new.chosen
        word = "or" if how == "add" else "without"
        self.session.add_selection(ChosenParticles(current.name, both, f"{current.how} {word} {new.how}"))

    def _follow_selections(self) -> None:
        if self.plane is None:
            return
        session, plane = self.session, self.plane
        outlines = [
            (selection.polygon, name == session.current)
            for name, selection in session.selections.items()
            if selection.polygon is not None and selection.axes == plane.axes
        ]
        current = session.selection
        has_outline = current is not None and current.polygon is not None and current.axes == plane.axes
        self.canvas.show_selections(outlines, None if current is None or has_outline else current.chosen[plane.drawn])
        self._say()

    # -- paths -----------------------------------------------------------------------------------------------------

    def _path_moved(self, x: float, y: float) -> None:
        """The conformation under the mouse follows it."""
        self._held = np.array([x, y])
        try:
            self.session.show_latent(self.plane.latents_at(self._held[None])[0])
        finally:
            self._held = None

    def _path_drawn(self, points: Float[np.ndarray, "point 2"]) -> None:
        self.path.use_line(self.plane, points)

    def set_path(self, source: str) -> None:
        """Choose the path by its name in the list: ``PC 1`` …, ``least resistance``, ``drawn``, ``between …``."""
        self.path.set_path(source)

    def _follow_path(self) -> None:
        """Draw the session's path where it lies in the plane."""
        self._places = None
        plane, path = self.plane, self.session.path
        if plane is None:
            return

        def job() -> Callable[[], None]:
            places = plane.places_of(path)
            return lambda: self._show_path(plane, path, places)

        self._works["places"].request(job)

    def _show_path(self, plane: Plane, path: np.ndarray, places: np.ndarray) -> None:
        if plane is self.plane and path is self.session.path:
            self._places = places
            self.canvas.show_path(places)
            self._follow()

    def close_work(self) -> None:
        """Compute nothing more, and follow the session no more."""
        self.player.close_work()
        self.path.close_work()
        for signal, slot in (
            (self.session.conformation_changed, self._follow),
            (self.session.path_changed, self._follow_path),
            (self.session.selections_changed, self._follow_selections),
            (self.session.images_changed, self._show_notes),
        ):
            signal.disconnect(slot, missing_ok=True)
        for work in self._works.values():
            work.close()


def _call(job: Callable, *args):
    """Call a job beside the window; it gives what is to be done in the window."""
    return job(*args)


def _tool_button(label: str, help_text: str, parent: QWidget) -> QPushButton:
    button = QPushButton(label, parent)
    button.setToolTip(help_text)
    button.setMinimumWidth(button.fontMetrics().horizontalAdvance(label) + 10)
    return button
