"""Colours and figures common to all plots; no pyplot, so that nothing global changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cryosphere.records import Structure

# Okabe & Ito (2008), distinguishable with every kind of colour vision; black is kept for lines.
SEGMENT_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
BLUE, ORANGE, INK, PALE = "#0072B2", "#D55E00", "#222222", "#BBBBBB"
_DPI = 150


def segment_colour(segment: int) -> str:
    """Colour of a segment; neighbours always differ."""
    return SEGMENT_COLOURS[segment % len(SEGMENT_COLOURS)]


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of a size in inches, laid out so that labels do not overlap."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def bare(axes) -> None:
    """Remove the frame's upper and right line and set small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without a date or version in it, so that equal plots are equal files."""
    figure.savefig(path, metadata={"Software": None})


def chain_rows(structure: Structure) -> list[tuple[str, np.ndarray]]:
    """Name and polymer rows of every chain in the order of the file."""
    polymer_chains = structure.chain_ids[: structure.n_polymer_residues]
    return [(chain, np.flatnonzero(polymer_chains == chain)) for chain in dict.fromkeys(polymer_chains.tolist())]


def chain_positions(structure: Structure, rows: np.ndarray) -> np.ndarray:
    """Abscissa of a chain's residues: their numbers, or the count from 1 if numbers repeat or go back."""
    numbers = structure.residue_numbers[rows]
    return numbers if np.all(np.diff(numbers) > 0) else np.arange(1, len(rows) + 1)


def runs_of(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Stretches of equal labels: (label, first index, last index)."""
    ends = np.flatnonzero(np.diff(labels)).tolist()
    firsts, lasts = [0, *(end + 1 for end in ends)], [*ends, len(labels) - 1]
    return [(int(labels[first]), first, last) for first, last in zip(firsts, lasts, strict=True)]
