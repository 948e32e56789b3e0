"""Picture of the speed benchmark: images per second beside the published program, and where the time goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryosphere.analysis.style import SEGMENT_COLOURS, bare, new_figure, save

_PROGRAMS = {"ours": "cryoSPHERE", "full": "0.6.1, full clash", "light": "0.6.1, light clash"}


def draw(path: Path, report: dict) -> None:
    """Write a PNG."""
    results = report["cases"]
    names = [
        f"{r['box_size']} px, batch {r['batch_size']}\n{r['n_residues']} residues, {r['n_segments']} segments"
        for r in results
    ]
    figure = new_figure(9.0, 1.5 + 0.45 * len(results))
    left, right = figure.subplots(1, 2, sharey=True)
    place = np.arange(len(results))
    for number, (key, label) in enumerate(_PROGRAMS.items()):
        speeds = [result["images_per_second"].get(key, np.nan) for result in results]
        left.barh(place + 0.25 * (number - 1), speeds, 0.25, color=SEGMENT_COLOURS[number], label=label)
    left.set_xscale("log")
    left.set_xlim(right=6 * left.get_xlim()[1])  # room for the legend
    left.set_xlabel("images per second", fontsize=9)
    begin = np.zeros(len(results))
    for number, stage in enumerate(results[0]["milliseconds"]):
        values = np.array([result["milliseconds"][stage] for result in results])
        right.barh(place, values, 0.6, left=begin, color=SEGMENT_COLOURS[number], label=stage)
        begin += values
    right.set_xlabel("ms per image", fontsize=9)
    left.set_yticks(place, names, fontsize=7)
    left.invert_yaxis()
    for axes in (left, right):
        bare(axes)
        axes.legend(fontsize=7, frameon=False)
    save(figure, path)
