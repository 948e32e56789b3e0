"""Where the small files that come with the package lie, in an installed wheel and in a source checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from cryosphere.errors import InputError


def shipped_path(name: str) -> Path:
    """Find a file that comes with the package.

    Parameters
    ----------
    name : str
        Path below ``data/``, for example ``adk/closed.cif``.

    Raises
    ------
    InputError
        If the installation lacks the file.
    """
    package = Path(str(resources.files("cryosphere")))
    for folder in (package / "data", package.parent / "data"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"The installation lacks the file data/{name}: install cryosphere again, from a wheel or with 'pip install .'."
    )
