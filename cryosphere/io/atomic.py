"""Whole files or none: outputs get a temporary name beside the target, then are moved into place."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryosphere.errors import InputError


@contextmanager
def atomic_output(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its name when the block ends without an error.

    The temporary name keeps the suffix of ``path``, so that writers which choose a format by suffix work. The
    folder is created if need be. After an error nothing is left and an older ``path`` is untouched.

    Parameters
    ----------
    path : path
        Where the file is to be.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If ``path`` exists and may not be replaced, or its folder cannot be written to.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written because its folder cannot be made: {error}.") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: {path.parent} is write-protected; choose another one.")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse an output path that is a folder, or that exists when it may not be replaced."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file name is expected.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists and is kept; pass --overwrite or choose another name.")
