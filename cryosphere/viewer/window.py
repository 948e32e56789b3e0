"""A run opened in a napari window: its layers, its panels, its keys."""

from __future__ import annotations

import functools
from collections.abc import Callable
from html import escape
from pathlib import Path

import napari
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFileDialog, QLabel, QMessageBox, QPushButton, QScrollArea, QVBoxLayout, QWidget

from cryosphere.runs.run import Run
from cryosphere.viewer.layers import SceneLayers
from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.explorer import ExplorerWidget
from cryosphere.viewer.widgets.notices import plainly, show_info
from cryosphere.viewer.widgets.particle import ParticleWidget
from cryosphere.viewer.widgets.scene import SceneWidget
from cryosphere.viewer.widgets.segments import SegmentsWidget
from cryosphere.viewer.widgets.work import WorkWidget

_OPEN: list[RunWindow] = []
_TOOL_KEYS = "PLRSDM"  # as the tools' help texts say
_PARTS = (("G", "ghost", "the nominal structure"), ("M", "map", "the map"), ("A", "arrows", "arrows"))
_PARTS += (("O", "overlay", "the overlaid ensemble"),)


class RunWindow(QObject):
    """The layers and panels of a run in a napari viewer; they end with the window, or with :meth:`close`.

    Attributes
    ----------
    viewer : napari.Viewer
    session : Session
    layers : SceneLayers
    explorer, scene, particle, work, segments : QWidget
        The panels.
    keys : dict
        Keyboard shortcuts: key → (action, what it does).
    """

    def __init__(self, viewer: napari.Viewer, session: Session) -> None:
        super().__init__()
        self.viewer, self.session = viewer, session
        self.layers = SceneLayers(viewer, session)
        self.explorer = ExplorerWidget(session)
        self.scene = SceneWidget(session, self.layers)
        self.particle = ParticleWidget(session)
        self.work = WorkWidget(session)
        self.segments = SegmentsWidget(session)
        self._docks = [viewer.window.add_dock_widget(self.explorer, name="Explorer", area="right")]
        for name, panel in self._lower.items():
            tabify = len(self._docks) > 1
            self._docks.append(viewer.window.add_dock_widget(_scrolling(panel), name=name, area="right", tabify=tabify))
        for dock in self._docks:
            dock.destroyOnClose = dock.hide  # its cross; napari's menu Window shows it again
        self.scene.recorder.progressed.connect(lambda *_: self.explorer.player.play.setChecked(False))
        QTimer.singleShot(0, self._arrange)
        self._main = self.explorer.window()
        self.keys = self._keys()
        self._shortcuts = [QShortcut(QKeySequence(key), self._main) for key in self.keys]
        for shortcut, (action, _) in zip(self._shortcuts, self.keys.values(), strict=True):
            shortcut.activated.connect(plainly(action))
        self._main.installEventFilter(self)
        viewer.title = f"{session.run.folder.name} – cryoSPHERE"
        for note in session.notes:
            show_info(note)

    @property
    def _lower(self) -> dict[str, QWidget]:
        return {"3-D view": self.scene, "Particle": self.particle, "Selections": self.work, "Segments": self.segments}

    def _arrange(self) -> None:
        """Give the landscape half of the height, and show the first of the panels below."""
        if self._docks:
            first, second = self._docks[:2]
            self._main.resizeDocks([first, second], [1, 1], Qt.Orientation.Vertical)
            second.raise_()
            self.layers.fit_camera()

    def _keys(self) -> dict[str, tuple[Callable[[], None], str]]:
        keys = {
            "K": (self.explorer.toggle_play, "play or stop the path"),
            ",": (lambda: self.particle.step(-1), "the particle before"),
            ".": (lambda: self.particle.step(1), "the next particle"),
            "H": (self.explorer.home, "the whole landscape"),
        }
        for letter, (tool, button) in zip(_TOOL_KEYS, self.explorer.tools.items(), strict=True):
            action = functools.partial(self.explorer.set_tool, tool)
            keys[letter] = action, f"in the landscape: {button.text().lower()}"
        for letter, part, text in _PARTS:
            keys[f"Shift+{letter}"] = functools.partial(self.layers.toggle, part), f"show or hide {text}"
        return {**keys, "F1": (self.tell_keys, "these keys")}

    def tell_keys(self) -> None:
        """Show what the keys do, in a window of its own that can stay open."""
        rows = [
            f"<tr><td><b>{escape(key)}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, (_, text) in self.keys.items()
        ]
        box = QMessageBox(QMessageBox.Icon.NoIcon, "Keys", f"<table>{''.join(rows)}</table>", parent=self._main)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setModal(False)
        box.show()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stop all work when the main window goes away."""
        if watched is self._main and event.type() == QEvent.Type.Hide and not event.spontaneous():
            self._stop()
        return False

    def _stop(self) -> None:
        for part in (self.layers, self.explorer, *self._lower.values()):
            part.close_work()
        if self in _OPEN:
            _OPEN.remove(self)

    def close(self) -> None:
        """Take the run out of the window."""
        self._main.removeEventFilter(self)
        self._stop()
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
        docks, self._docks = self._docks, []
        for dock in docks:
            self.viewer.window.remove_dock_widget(dock)
        self.layers.remove()


def _scrolling(panel: QWidget) -> QScrollArea:
    """A panel that may be higher than its dock."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setMinimumWidth(panel.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())
    area.setWidget(panel)
    return area


def open_run(viewer: napari.Viewer, folder: Path | str) -> RunWindow:
    """Open a run in a viewer; another run that is open there is taken out.

    Raises
    ------
    RunError
        It is no run that can be shown (:meth:`Session.open`); what is open then stays.
    """
    return show_session(viewer, Session.open(folder))


def show_session(viewer: napari.Viewer, session: Session) -> RunWindow:
    """Show a session in a viewer; another that is shown there is taken out."""
    for other in [window for window in _OPEN if window.viewer is viewer]:
        other.close()
    opened = RunWindow(viewer, session)
    _OPEN.append(opened)
    return opened


def opened_run(viewer: napari.Viewer) -> RunWindow | None:
    """The run that is open in a viewer."""
    return next((window for window in _OPEN if window.viewer is viewer), None)


def view(run: Run, map_file: Path | None = None) -> None:
    """Open a run in a new window, and return when it is closed.

    Parameters
    ----------
    run : Run
        With its posterior.
    map_file : path, optional
        The consensus map, in the frame of the nominal structure's file.
    """
    viewer = napari.Viewer(ndisplay=3, show=False)
    opened = show_session(viewer, Session(run))
    if map_file is not None:
        opened.layers.set_map(map_file)
    viewer.show()
    napari.run()


class RunChooser(QWidget):
    """Plugins → cryoSPHERE: choose a run folder to open in this window."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        text = QLabel("Open a run folder of cryoSPHERE: conformations, particles and the map together.")
        text.setWordWrap(True)
        button = QPushButton("Open run…")
        button.setToolTip("Choose the folder that `cryosphere train` wrote; it may also be dropped on the window.")
        button.clicked.connect(self._choose)
        layout = QVBoxLayout(self)
        layout.addWidget(text)
        layout.addWidget(button)
        layout.addStretch(1)

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Run folder")
        if folder:
            self.open(folder)

    @plainly
    def open(self, folder: Path | str) -> RunWindow:
        """Open a run; what is wrong with it is shown as a notification."""
        return open_run(self._viewer, folder)


def look_for_images(folder: Path) -> None:
    """Let every window that shows a run look again for its particle images."""
    for window in _OPEN:
        if window.session.run.folder == folder:
            window.session.images_changed.emit()
