"""A real napari window on a screen in memory, and a run to look at."""

from __future__ import annotations

import os
import shutil
import sys
import time

import pytest

# Otherwise first imported in threads, where the checker of shapes must not read them: Python 3.11, making syntax trees,
# fails now and then if two threads do so.
import cryosphere.physics.backprojection_numba
import cryosphere.physics.clashes_numba  # noqa: F401
from cryosphere.analysis.analyze import analyze
from cryosphere.viewer.display import DisplayError, check_display
from tests.run_factory import make_run
from tests.viewer.noiseless import make_noiseless_run


def _start_xvfb() -> str:
    """Start a screen that stays as long as this process (Qt ends what is left on one that goes away); its number."""
    (told, tell), (alive, _) = os.pipe(), os.pipe()
    options = ["-displayfd", "3", "-screen", "0", "1920x1200x24", "+extension", "GLX", "-nolisten", "tcp"]
    script = 'Xvfb "$@" 2> /dev/null & server=$!; cat > /dev/null; kill $server'
    connected = [(os.POSIX_SPAWN_DUP2, alive, 0), (os.POSIX_SPAWN_DUP2, tell, 3)]
    os.posix_spawn("/bin/sh", ["sh", "-c", script, "sh", *options], os.environ, file_actions=connected)
    os.close(alive)
    os.close(tell)
    with os.fdopen(told) as text:
        return text.readline().strip()


@pytest.fixture(scope="session")
def screen():
    """A display: the one that is there, or Xvfb's."""
    pytest.importorskip("napari", reason="napari is not installed: pip install 'cryosphere[gui]'")
    if sys.platform != "linux" or os.environ.get("CRYOSPHERE_TEST_DISPLAY"):
        yield
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("no screen in memory here: apt install xvfb libgl1-mesa-dri")
    number = _start_xvfb()
    known = {name: os.environ.get(name) for name in ("DISPLAY", "QT_QPA_PLATFORM", "NAPARI_CONFIG")}
    os.environ |= {"DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb", "NAPARI_CONFIG": ""}
    try:
        check_display()
    except DisplayError as error:
        pytest.skip(str(error))
    yield
    for name, value in known.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def analysed_folder(tmp_path_factory):
    """A run of 400 particles with an analysis; its images are not there."""
    run = make_run(tmp_path_factory.mktemp("viewer") / "run", n_particles=400, shared=True)
    analyze(run)
    return run.folder


@pytest.fixture(scope="session")
def noiseless_folder(tmp_path_factory):
    """A run of 40 particles with an analysis and with images without noise."""
    return make_noiseless_run(tmp_path_factory.mktemp("noiseless") / "run")


@pytest.fixture
def session(analysed_folder):
    from cryosphere.viewer.session import Session

    return Session.open(analysed_folder)


@pytest.fixture
def viewer(screen):
    """An open napari window."""
    import napari

    shown = napari.Viewer(show=True, ndisplay=3)
    yield shown
    shown.close()


@pytest.fixture(scope="module")
def window(screen):
    """A napari window that the tests of a module share (they define ``viewer`` as it)."""
    import napari

    shown = napari.Viewer(show=True)
    yield shown
    shown.close()


@pytest.fixture
def wait_until(viewer):
    """Let the window work until something holds."""
    from qtpy.QtWidgets import QApplication

    def wait(holds, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "the window did not get there"
            QApplication.instance().processEvents()
            time.sleep(0.002)

    return wait
