"""Versions of what a run is computed with."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def package_versions() -> dict[str, str]:
    """Versions of cryosphere, Python, and the packages that cryosphere needs, by name."""
    needed = [requirement for requirement in requires("cryosphere") or [] if "extra ==" not in requirement]
    names = sorted({_NAME.match(requirement)[0] for requirement in needed}, key=str.lower)
    found = {"cryosphere": version("cryosphere"), "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # declared, but not installed this way
            found[name] = "not installed"
    return found
