"""One picture of the accuracy benchmark: how far every cell is from its Bayes limit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.analysis.style import BLUE, INK, ORANGE, PALE, bare, new_figure, save
from cryosphere.io.atomic import atomic_output
from cryosphere.pipelines.accuracy_cells import Cell

_MEASURE = "ratio_to_limit"
_TICKS = (1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)
_BAR_HEIGHT, _MARK_HEIGHT = 0.5, 0.76
# Columns of numbers beside the bars: heading, and right edge as a fraction of their width.
_NUMBERS = (("ratio", 0.2), ("RMSD (Å)", 0.6), ("limit (Å)", 1.0))
_SMALL = 8


def draw(path: Path, results: list[dict[str, Any]], cells: Mapping[str, Cell], overwrite: bool = False) -> None:
    """Draw mean and seeds of RMSD over the Bayes limit for every cell that has one, with what is asked of it.

    Parameters
    ----------
    path : Path
        PNG to write.
    results : list of dict
        As the benchmark's folders have them.
    cells : mapping
        Name → cell, for labels and bars.
    overwrite : bool
        Whether the file may be replaced.
    """
    shown = [result for result in results if _values(result["seeds"])]
    figure = new_figure(9.4, 1.5 + 0.32 * max(len(shown), 1))
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[1, 0.3])
    for row, result in enumerate(shown):
        _draw_cell(axes, row, result, cells[result["name"]])
        _write_numbers(beside, row, result)
    beside.set_axis_off()
    for heading, place in _NUMBERS:
        _write(beside, place, -0.8, heading)
    axes.axvline(1.0, color=INK, linewidth=1.2, zorder=3)
    _draw_scale(axes, [f"{cells[result['name']].label}, SNR {result['snr']:g}" for result in shown])
    _draw_legend(axes, any(result["paper"] for result in shown))
    with atomic_output(path, overwrite=overwrite) as temporary:
        save(figure, temporary)


def _values(seeds: list[dict[str, Any]]) -> list[float]:
    return [value for seed in seeds if (value := seed["measures"][_MEASURE]) is not None]


def _draw_cell(axes, row: int, result: dict[str, Any], cell: Cell) -> None:
    values = _values(result["seeds"])
    mean = float(np.mean(values))
    axes.barh(row, mean - 1, left=1, height=_BAR_HEIGHT, color=BLUE, alpha=0.75, linewidth=0)
    axes.plot(values, np.full(len(values), row), "o", color=INK, markersize=3, zorder=5)
    asked = next((bar.high for bar in cell.bars if bar.measure == _MEASURE), None)
    if asked is not None:
        ends = [row - _MARK_HEIGHT / 2, row + _MARK_HEIGHT / 2]
        axes.plot([asked, asked], ends, color=ORANGE, linewidth=2.2, zorder=4)
    if result["paper"] is not None:
        paper = _values([result["paper"]])
        axes.plot(paper, [row] * len(paper), "D", color="white", markeredgecolor=INK, markersize=5, zorder=5)


def _write_numbers(axes, row: int, result: dict[str, Any]) -> None:
    """Means over seeds, each in its column."""
    for key, (_, place) in zip((_MEASURE, "rmsd", "limit"), _NUMBERS, strict=True):
        _write(axes, place, row, f"{np.mean([seed['measures'][key] for seed in result['seeds']]):.2f}")


def _write(axes, place: float, row: float, text: str) -> None:
    axes.text(place, row, text, ha="right", va="center", fontsize=_SMALL, color=INK)


def _draw_scale(axes, labels: list[str]) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.97), max(1.04 * high, 2.0))
    axes.set_xticks([tick for tick in _TICKS if tick <= axes.get_xlim()[1]])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(max(len(labels), 1) - 0.4, -1.0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("mean RMSD per image over the Bayes limit (log scale)", fontsize=9)
    axes.grid(axis="x", color=PALE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    bare(axes)


def _draw_legend(axes, with_paper: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=BLUE, alpha=0.75, linewidth=0, label="mean over seeds"),
        Line2D([], [], marker="o", color=INK, markersize=3, linestyle="", label="each seed"),
        Line2D([], [], color=ORANGE, linewidth=2.2, label="at most this is asked"),
    ]
    if with_paper:
        diamond = {"marker": "D", "color": "white", "markeredgecolor": INK, "markersize": 5, "linestyle": ""}
        handles.append(Line2D([], [], label="the paper's preset on the same images", **diamond))
    place = "outside upper center"
    axes.figure.legend(handles=handles, loc=place, ncols=len(handles), fontsize=_SMALL, frameon=False)
