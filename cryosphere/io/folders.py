"""Whole folders or none: a folder of outputs is filled under a temporary name and then moved into place."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryosphere.errors import InputError


@contextmanager
def atomic_folder(path: str | Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its name when the block ends without an error.

    After an error nothing is left of it and an older folder is untouched.

    Parameters
    ----------
    path : path
        Where the folder is to be.
    marker : str
        A file that every folder of this kind has. A folder without it was made by something else and is never
        replaced, unless it is empty.
    overwrite : bool
        Whether an existing folder may be replaced.

    Raises
    ------
    InputError
        If ``path`` exists and may not be replaced, or its parent cannot be written to.
    """
    path = Path(os.path.realpath(path))
    _check_folder(path, marker, overwrite)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{path} cannot be made: {error}; choose another folder.") from error
    try:
        yield temporary
        if path.is_dir():
            replaced = path.with_name(f".{path.name}.{secrets.token_hex(4)}.replaced")
            os.replace(path, replaced)
            os.replace(temporary, path)
            shutil.rmtree(replaced)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_folder(path: Path, marker: str, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, a folder is expected; choose another name.")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not (path / marker).is_file():
        raise InputError(f"{path} is a folder that this command did not make (no {marker}); choose another name.")
    if not overwrite:
        raise InputError(f"{path} exists and is kept; pass --overwrite to replace it, or choose another name.")
