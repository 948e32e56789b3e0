"""Colours of particles by density, group or number, with what a legend says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.colors import to_rgba

from cryosphere.analysis.style import SEGMENT_COLOURS, segment_colour
from cryosphere.export.particle_selection import RunColumns
from cryosphere.viewer.points import Plane, read_quantity, unit_of

DENSITY = "density"
# Perceptually uniform, also with colour vision deficiencies (Nuñez, Anderton & Renslow, PLoS One 2018).
SCALE = "viridis"
MISSING = "#8c8c8c"
# Columns of integers or text with at most so many different values are groups.
_MOST_GROUPS = len(SEGMENT_COLOURS)
_RANGE = (1.0, 99.0)


@dataclass(frozen=True)
class ParticleColours:
    """Colours of some particles.

    Attributes
    ----------
    rgba : array of shape (row, 4)
        From 0 to 1.
    label : str
        What they show.
    groups : tuple of (str, str)
        Name and colour (``#rrggbb``) of every group; none where the colours are a scale.
    low, high : float
        Ends of the scale; beyond them colours stay.
    unit : str
    n_missing : int
        Particles without a value, grey.
    """

    rgba: Float[np.ndarray, "row 4"]
    label: str
    groups: tuple[tuple[str, str], ...] = ()
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    n_missing: int = 0


def scale_colours(share: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 4"]:
    """Colours of the scale from 0 to 1; NaN is grey."""
    rgba = colormaps[SCALE](np.nan_to_num(share))
    rgba[np.isnan(share)] = to_rgba(MISSING)
    return rgba


def by_density(plane: Plane) -> ParticleColours:
    """Colours of the drawn particles by the logarithm of the number of particles around them."""
    return ParticleColours(
        scale_colours(plane.density_at(plane.drawn)), DENSITY, low=0.0, high=float(plane.counts.max())
    )


def by_column(columns: RunColumns, name: str, rows: Int[np.ndarray, " row"]) -> ParticleColours:
    """Colours of some particles by a column: ``state``, other integers and text with few values as groups, anything
    else as numbers.

    Raises
    ------
    InputError, ConfigError
        There is no such column, it needs an analysis, or it is text of many values.
    """
    name = name.strip()
    if name in columns.known or (_is_in_file(columns, name)):
        values = columns.read([name], "colour")[name]
        if values.dtype.kind not in "f":
            groups, member = np.unique(values.astype(str) if values.dtype.kind == "O" else values, return_inverse=True)
            if name == "state" or len(groups) <= _MOST_GROUPS:
                return _by_group(name, groups, member, rows)
    return _by_number(name, read_quantity(columns, name, "colour"), rows)


def _is_in_file(columns: RunColumns, name: str) -> bool:
    return "(" not in name and columns.path.is_file() and name in columns.source.names


def _by_group(
    name: str, groups: np.ndarray, member: Int[np.ndarray, " particle"], rows: Int[np.ndarray, " row"]
) -> ParticleColours:
    colours = [segment_colour(number) for number in range(len(groups))]
    share = np.bincount(member, minlength=len(groups)) / len(member)
    word = "state " if name == "state" else ""
    labels = tuple(
        (f"{word}{group} ({100 * part:.0f} %)", colour)
        for group, part, colour in zip(groups.tolist(), share, colours, strict=True)
    )
    return ParticleColours(np.array([to_rgba(colour) for colour in colours])[member[rows]], name, labels)


def _by_number(name: str, values: Float[np.ndarray, " particle"], rows: Int[np.ndarray, " row"]) -> ParticleColours:
    finite = np.isfinite(values)
    low, high = np.percentile(values[finite], _RANGE) if finite.any() else (np.nan, np.nan)
    shown = np.where(finite[rows], values[rows], np.nan)
    share = ((shown - low) / (high - low)).clip(0, 1) if high > low else np.where(np.isnan(shown), np.nan, 0.5)
    missing = int((~finite).sum())
    return ParticleColours(
        scale_colours(share), name, low=float(low), high=float(high), unit=unit_of(name), n_missing=missing
    )
