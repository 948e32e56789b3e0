"""Whether a window can be opened here, asked before anything is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from cryosphere.errors import CryosphereError

_INSTALL = "pip install 'cryosphere[gui]' (from a clone: pip install '.[gui]')"
# Qt ends the whole program where it cannot open a window, so another one tries.
_TRY = """
import sys
from qtpy.QtGui import QGuiApplication, QOpenGLContext
application = QGuiApplication([])
sys.exit(0 if QOpenGLContext().create() else 3)
"""
_NO_OPENGL = 3


class DisplayError(CryosphereError):
    """No window can be opened here, or what draws it is not installed."""


def check_display() -> None:
    """Make sure that napari can open a window.

    Raises
    ------
    DisplayError
        napari or a Qt is not installed, there is no screen, or Qt cannot use it.
    """
    if importlib.util.find_spec("napari") is None or importlib.util.find_spec("qtpy") is None:
        raise DisplayError(f"the viewer needs napari, which is not installed: {_INSTALL}.")
    if sys.platform.startswith("linux") and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        raise DisplayError("no screen to open a window on (DISPLAY is not set; `ssh -X` or a desktop sets it).")
    try:
        tried = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise DisplayError("the screen did not answer within a minute.") from None
    if tried.returncode == _NO_OPENGL:
        raise DisplayError("the screen has no OpenGL, which napari draws with (Debian: apt install libgl1-mesa-dri).")
    if tried.returncode:
        lines = [line for line in tried.stderr.splitlines() if line.strip() and not line.startswith((" ", "Traceback"))]
        if "QtBindingsNotFoundError" in tried.stderr:
            raise DisplayError(f"the viewer needs a Qt, which is not installed: {_INSTALL}.")
        raise DisplayError(f"Qt cannot open a window here: {lines[0] if lines else 'it ended without a word'}.")
