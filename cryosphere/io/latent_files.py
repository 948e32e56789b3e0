"""Lists of latents: text with one per line, a table with the columns z1, z2 …, or a float array of numpy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryosphere.errors import InputError

_COLUMN = re.compile(r"z([1-9]\d*)")


def read_latents(path: Path, latent_dim: int) -> Float[np.ndarray, "conformation latent"]:
    """Latents in the order of a file.

    Parameters
    ----------
    path : Path
        ``.npy`` of shape (conformation, latent), or (conformation,) for one dimension; or text with one latent per
        line, numbers separated by commas or blanks, ``#`` before comments. If the first line is a header, the columns
        ``z1``, ``z2`` … are taken (``index.csv`` of volumes, ``states.csv``, ``path.csv``).
    latent_dim : int
        Numbers expected in a latent.

    Raises
    ------
    InputError
        The file is missing or empty, or holds something else, naming the line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; a file with one latent per line, or a .npy array, is expected.")
    latents = _of_array(path, latent_dim) if path.suffix == ".npy" else _of_text(path, latent_dim)
    if not len(latents):
        raise InputError(f"{path}: no latents in it; write one per line, {latent_dim} numbers each.")
    return latents


def write_latents(path: Path, latents: Float[np.ndarray, "conformation latent"]) -> None:
    """Write latents in order as a table with the columns ``z1``, ``z2`` …; reading it gives the same numbers."""
    lines = [",".join(f"z{number}" for number in range(1, latents.shape[1] + 1))]
    lines += [",".join(map(repr, row)) for row in latents.astype(np.float64).tolist()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_array(path: Path, latent_dim: int) -> Float[np.ndarray, "conformation latent"]:
    try:
        latents = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a numpy array ({error}); write it with numpy.save.") from None
    if latents.ndim == 1 and latent_dim == 1:
        latents = latents[:, None]
    if latents.ndim != 2 or latents.shape[1] != latent_dim or not np.issubdtype(latents.dtype, np.number):
        raise InputError(
            f"{path}: expected numbers of the shape (conformations, {latent_dim}), found {latents.dtype} of the shape "
            f"{latents.shape}."
        )
    wrong = np.flatnonzero(~np.isfinite(latents).all(1))
    if len(wrong):
        raise InputError(f"{path}: row {wrong[0]} (from 0) is not finite; correct it.")
    return latents.astype(np.float64)


def _of_text(path: Path, latent_dim: int) -> Float[np.ndarray, "conformation latent"]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from None
    latents, columns = [], None
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        cells = [cell.strip() for cell in (text.split(",") if "," in text else text.split())]
        if not latents and columns is None and any(_COLUMN.fullmatch(cell) for cell in cells):
            columns = _latent_columns(path, cells, latent_dim)
            continue
        if columns is not None:
            cells = [cells[column] for column in columns if column < len(cells)]
        latents.append(_numbers(path, number, cells, latent_dim))
    return np.array(latents, dtype=np.float64).reshape(-1, latent_dim)


def _latent_columns(path: Path, header: list[str], latent_dim: int) -> list[int]:
    """Columns z1, z2 … of a header in their order."""
    place = {cell: column for column, cell in enumerate(header) if _COLUMN.fullmatch(cell)}
    wanted = [f"z{number}" for number in range(1, latent_dim + 1)]
    if sorted(place) != sorted(wanted):
        raise InputError(
            f"{path}: has the latent columns {', '.join(sorted(place))}; expected {', '.join(wanted)}, as this run's "
            "latent space has them."
        )
    return [place[name] for name in wanted]


def _numbers(path: Path, number: int, cells: list[str], latent_dim: int) -> list[float]:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        raise InputError(f"{path}: line {number}: expected numbers, found {', '.join(cells)!r}.") from None
    if len(values) != latent_dim or not np.isfinite(values).all():
        raise InputError(
            f"{path}: line {number}: expected {latent_dim} finite numbers, found {len(values)}: {', '.join(cells)}."
        )
    return values
