"""The explorer on many particles, in a real napari window: python viewer.py RUN [--particles N] [-o RESULT.json]

The particles of a trained run are repeated until there are enough, in a folder of its own that is deleted. The mouse is
Qt's; a time ends when the window has painted what followed. Needs a screen: under Linux without one
``xvfb-run -s "-screen 0 1920x1200x24 +extension GLX" python viewer.py RUN``.

``open_s`` is the reading of the run; ``first_paint_s`` from making the explorer to particles on the screen;
``click_s`` from the mouse button to the picture of the conformation on the screen;
``drag_s`` the same for every further move; ``lasso_s`` from letting go to the selection with its outline;
``redraw_s`` all of the canvas; ``colour_s`` colours by a column; ``path_s`` from letting go to a path's latents.
``…_cpu_s`` is what the processor took, all threads together (of a click, with letting go), where other work keeps the
cores busy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from many_latents import repeat
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from cryosphere.viewer.layers import SceneLayers
from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.explorer import ExplorerWidget


class Window:
    """A napari window with the explorer of a run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.viewer = napari.Viewer(ndisplay=3)
        self.layers = SceneLayers(self.viewer, session)
        self.wait(lambda: True)
        start, cpu = time.perf_counter(), time.process_time()
        self.explorer = ExplorerWidget(session)
        self.viewer.window.add_dock_widget(self.explorer, name="Explorer", area="right")
        self.wait(lambda: self.explorer.plane is not None)
        self.first_paint, self.first_paint_cpu = time.perf_counter() - start, time.process_time() - cpu
        self.wait(lambda: not self.explorer.is_busy)
        self.swapped = 0.0
        self.viewer.window._qt_viewer.canvas.native.frameSwapped.connect(self._note_swap)

    def _note_swap(self) -> None:
        self.swapped = time.perf_counter()

    def wait(self, holds: Callable[[], bool]) -> None:
        """Let the window work until something holds and is painted."""
        app, end = QApplication.instance(), time.monotonic() + 300
        while not holds():
            assert time.monotonic() < end, "nothing happened"
            app.processEvents()
            time.sleep(0.001)
        app.processEvents()
        app.processEvents()

    def pixel(self, place: np.ndarray) -> QPoint:
        x, y = self.explorer.canvas.figure.axes[0].transData.transform(place)
        return QPoint(round(x), round(self.explorer.canvas.height() - y))

    def wait_for_structure(self, holds: Callable[[], bool]) -> None:
        """Let the window work until the conformation is in its layer and the next picture is on the screen."""
        app = QApplication.instance()
        while not (holds() and self.layers.is_idle):
            app.processEvents()
            time.sleep(0.0005)
        ready = time.perf_counter()
        while self.swapped < ready and time.perf_counter() < ready + 2:
            app.processEvents()

    def press(self, place: np.ndarray) -> float:
        """Seconds from the mouse button to the conformation."""
        before, start = self.session.particle, time.perf_counter()
        QTest.mousePress(self.explorer.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(place))
        self.wait_for_structure(lambda: self.session.particle != before)
        return self.swapped - start

    def move(self, place: np.ndarray) -> float:
        """Seconds that a move with the button held takes."""
        start = time.perf_counter()
        QTest.mouseMove(self.explorer.canvas, self.pixel(place))
        self.wait_for_structure(lambda: True)
        return self.swapped - start

    def release(self, place: np.ndarray, holds: Callable[[], bool]) -> float:
        """Seconds from letting go until something holds."""
        start = time.perf_counter()
        QTest.mouseRelease(self.explorer.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(place))
        self.wait(holds)
        return time.perf_counter() - start

    def lasso(self, radius: float, n_corners: int) -> tuple[float, float, int]:
        """Seconds from letting go of a lasso to the selection, of the clock and the processor, and its particles."""
        self.explorer.set_tool("lasso")
        low, high = self.explorer.plane.limits.T
        turns = np.linspace(0, 2 * np.pi, n_corners, endpoint=False)
        shape = np.column_stack([np.cos(turns), np.sin(turns)]) * (1 + 0.2 * np.cos(9 * turns))[:, None]
        places = (low + high) / 2 + radius * (high - low) * shape
        QTest.mousePress(self.explorer.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(places[0]))
        for place in places[1:]:
            self.move(place)
        count, cpu = len(self.session.selections), time.process_time()
        seconds = self.release(
            places[-1], lambda: len(self.session.selections) > count and not self.explorer.canvas.is_waiting
        )
        return seconds, time.process_time() - cpu, self.session.selection.n_particles


def measure(folder: Path) -> dict[str, float]:
    """Times in a window, seconds; medians of several where one can be repeated."""
    start = time.perf_counter()
    session = Session.open(folder)
    found = {"open_s": time.perf_counter() - start}
    window = Window(session)
    explorer = window.explorer
    found |= {"first_paint_s": window.first_paint, "first_paint_cpu_s": window.first_paint_cpu}
    places = explorer.plane.values[np.linspace(0, session.n_particles - 1, 20).astype(int)]
    clicks, cpu = [], time.process_time()
    for place in places:
        clicks.append(window.press(place))
        window.release(place, lambda: True)
    found["click_cpu_s"] = (time.process_time() - cpu) / len(places)
    found |= {"click_s": statistics.median(clicks), "click_worst_s": max(clicks)}
    window.press(places[0])
    drags = [window.move(place) for place in np.linspace(places[0], places[1], 40)]
    window.release(places[1], lambda: True)
    found["drag_s"] = statistics.median(drags)
    for name, radius in (("small", 0.1), ("large", 0.45)):
        names = f"lasso_{name}_s", f"lasso_{name}_cpu_s", f"lasso_{name}_particles"
        found |= dict(zip(names, window.lasso(radius, 150), strict=True))
    redraws = []
    for _ in range(10):
        start = time.perf_counter()
        explorer.canvas.draw()
        redraws.append(time.perf_counter() - start)
    found["redraw_s"] = statistics.median(redraws)
    start = time.perf_counter()
    explorer.set_colour("std(z1)")
    window.wait(lambda: not explorer.is_busy)
    found["colour_s"] = time.perf_counter() - start
    explorer.set_tool("path")
    window.explorer.canvas.setFocus()
    QTest.mousePress(explorer.canvas, Qt.MouseButton.LeftButton, pos=window.pixel(places[2]))
    for place in np.linspace(places[2], places[3], 30):
        window.move(place)
    found["path_s"] = window.release(places[3], lambda: session.path_name == "drawn path" and not explorer.is_busy)
    explorer.close_work()
    window.viewer.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--particles", type=int, default=1_000_000)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        repeat(options.run, options.particles, folder)
        found = {"run": options.run.name, "particles": options.particles, "cores": os.cpu_count()}
        found |= {name: round(value, 4) for name, value in measure(folder).items()}
    print(json.dumps(found))
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
