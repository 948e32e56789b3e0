"""Polygons drawn by people or programs: text with two numbers per line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from cryosphere.errors import InputError

_MOST_BYTES = 10_000_000


def read_polygon(path: Path) -> Float[np.ndarray, "vertex 2"]:
    """Read the corners of a polygon: two numbers per line, with a comma or blanks between them.

    A first line without numbers, empty lines and ``#`` comments are passed over, and a last corner that repeats the
    first one is left out.

    Raises
    ------
    InputError
        The file is missing, has another kind of line, or fewer than three different corners.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a polygon is a text file with two numbers per line, x,y.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: has {path.stat().st_size} bytes, which is no polygon; give a list of corners.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); a polygon has two numbers per line.") from None
    corners: list[tuple[float, float]] = []
    is_first = True
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        corner = _corner(text)
        if corner is not None:
            corners.append(corner)
        elif not is_first:
            raise InputError(f"{path}: line {number}: expected two finite numbers, x,y, found {text[:60]!r}.")
        is_first = False
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners.pop()
    if len(set(corners)) < 3:
        raise InputError(f"{path}: has {len(set(corners))} corners, a polygon has 3 or more; add some.")
    return np.array(corners)


def write_polygon(path: Path, polygon: Float[np.ndarray, "vertex 2"], axes: str) -> None:
    """Write the corners of a polygon drawn in ``axes``; reading it gives the same numbers."""
    lines = [f"# in {axes}", *(",".join(map(repr, corner)) for corner in polygon.astype(np.float64).tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _corner(text: str) -> tuple[float, float] | None:
    """Two finite numbers, or None."""
    try:
        x, y = (float(part) for part in re.split(r"\s*[,;]\s*|\s+", text))
    except ValueError:
        return None
    return (x, y) if np.isfinite([x, y]).all() else None


def inside_polygon(
    points: Float[np.ndarray, "point 2"], polygon: Float[np.ndarray, "vertex 2"]
) -> Bool[np.ndarray, " point"]:
    """Whether points lie in a polygon, which may cross itself: a ray from there crosses it an odd number of times.

    Of points on its border, those on left and lower edges are inside (M. Shimrat, *Algorithm 112*, CACM 1962); points
    that are not finite are outside.
    """
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    x, y = points[:, 0], points[:, 1]
    rows = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
    rows = rows[np.argsort(y[rows])]  # so that a side has to do with neighbours only, however many sides there are
    x, y = x[rows], y[rows]
    odd = np.zeros(len(rows), dtype=bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            first, end = np.searchsorted(y, sorted((y1, y2)))
            beside = slice(first, end)
            odd[beside] ^= x[beside] < x1 + (y[beside] - y1) / (y2 - y1) * (x2 - x1)
    inside = np.zeros(len(points), dtype=bool)
    inside[rows[odd]] = True
    return inside
