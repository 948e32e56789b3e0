"""Lists of table rows: text with one row (from 0) per line, or an integer array of numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from cryosphere.errors import InputError


def read_rows(path: Path, remedy: str) -> Int[np.ndarray, " n"]:
    """Rows (from 0) of a text file with one per line, blank lines and ``#`` comments aside, or of a ``.npy`` array.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do where the file does not exist.

    Raises
    ------
    InputError
        The file is missing, empty, a pickle, or holds something else.
    """
    return read_numbered_rows(path, remedy)[0]


def read_numbered_rows(path: Path, remedy: str) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """As :func:`read_rows`, and where each row stands: its line of the text, or its place in the array (from 1)."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}.")
    if path.suffix in (".pkl", ".pickle"):
        raise InputError(
            f"{path}: a pickle can run any program when it is read, so it is not; "
            "write the rows as text, one per line, or with numpy.save."
        )
    if path.suffix == ".npy":
        rows = _rows_of_array(path)
        places = np.arange(1, len(rows) + 1)
    else:
        rows, places = _rows_of_text(path)
    if not len(rows):
        raise InputError(f"{path}: no particle rows in it; write one row (from 0) per line.")
    return rows, places


def write_rows(path: Path, rows: Int[np.ndarray, " n"], source: str) -> None:
    """Write rows (from 0) of the particle file named ``source`` as text, one per line."""
    lines = [f"# rows (from 0) of {source}", *map(str, rows.tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows_of_array(path: Path) -> Int[np.ndarray, " n"]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a numpy array ({error}); write it with numpy.save.") from None
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"{path}: expected a list of integers (particle rows from 0), found {rows.dtype}.")
    return rows


def _rows_of_text(path: Path) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    rows, places = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from None
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not text.isdecimal():
            raise InputError(f"{path}: line {number}: expected a particle row (an integer from 0), found {text!r}.")
        rows.append(int(text))
        places.append(number)
    return np.array(rows, dtype=np.int64), np.array(places, dtype=np.int64)
