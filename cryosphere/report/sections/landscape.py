"""The free energy over one or two motions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from cryosphere.analysis.style import BLUE
from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, figure, joined, missing, percent, table, tag

# Energies above this are not told apart, kT.
_TOP = 6.0
_UNITS = {"deg": "°"}
_NEEDED = ("names", "units", "edges1", "energy", "error", "minima", "populations")


def section(contents: Contents) -> Section:
    """A curve with its error, or a map with contours and the path; and the basins."""
    found = contents.read_arrays("landscape.npz")
    if found is None or not set(_NEEDED) <= set(found):
        text = (
            "There is no free-energy landscape: no segment moves, or the analysis is of an earlier version "
            f"(`cryosphere analyze {contents.run.folder} --overwrite` makes it again)."
        )
        return Section("landscape", "Free-energy landscape", missing(text))
    labels = [
        f"{name} ({_UNITS.get(str(unit), unit)})" for name, unit in zip(found["names"], found["units"], strict=True)
    ]
    drawn = _curve(found, labels) if len(labels) == 1 else _map(contents, found, labels)
    caption = "Free energy −ln p in kT over the particles, 0 at the lowest place" + (
        "; band: ± one standard deviation."
        if len(labels) == 1
        else "; a contour for every kT; the line, where there is one, is the path of least resistance."
    )
    basins = pd.DataFrame(
        {
            "basin": np.arange(1, len(found["populations"]) + 1),
            **{label: found["minima"][:, axis] for axis, label in enumerate(labels)},
            "population": [percent(share) for share in found["populations"]],
        }
    )
    parts = [figure(drawn, caption), table(basins, "Basins, with the place of their minima")]
    return Section("landscape", "Free-energy landscape", tag("div", *parts, class_="pair"))


def _curve(found: dict[str, np.ndarray], labels: list[str]) -> Markup:
    edges, energy, error = found["edges1"], found["energy"], found["error"]
    centres = 0.5 * (edges[1:] + edges[:-1])
    known = np.flatnonzero(np.isfinite(energy))
    if not len(known):
        return missing("The landscape is empty.")
    top = min(_TOP, float(energy[known].max()) + 0.3)
    axes = charts.Axes((centres[known[0]], centres[known[-1]]), (-0.3, top + 0.7), labels[0], "free energy (kT)")
    band = np.concatenate([energy[known] - error[known], (energy[known] + error[known])[::-1]])
    x = np.concatenate([centres[known], centres[known][::-1]])
    inside = np.clip(band, -0.3, top + 0.7)
    outline = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(axes.x(x), axes.y(inside), strict=True))
    shown = np.where(energy <= top + 0.7, energy, np.nan)
    pieces = [tag("polyline", points=outline, class_="uncertainty")]
    pieces.append(charts.draw_line(axes, charts.Line("energy", centres, shown, "train"), dots=False))
    for number, (place,) in enumerate(found["minima"], start=1):
        pieces.append(charts.mark(axes, place, float(np.interp(place, centres[known], energy[known])), str(number)))
    return axes.drawing("Free energy over a motion", *pieces)


def _map(contents: Contents, found: dict[str, np.ndarray], labels: list[str]) -> Markup:
    energy, edges = found["energy"], (found["edges1"], found["edges2"])
    keep = [np.flatnonzero((np.nan_to_num(energy, nan=np.inf) < _TOP).any(axis)) for axis in (1, 0)]
    ranges = [(edge[rows[0]], edge[rows[-1] + 1]) for edge, rows in zip(edges, keep, strict=True)]
    part = energy[keep[0][0] : keep[0][-1] + 1, keep[1][0] : keep[1][-1] + 1]
    strength = np.where(np.isfinite(part), 1 - np.clip(part, 0, _TOP) / _TOP, 0)
    axes = charts.Axes(*ranges, *labels, height=380.0, grid=False)
    pieces = [charts.shade(axes, strength, BLUE), _contours(axes, edges, energy, ranges)]
    path = contents.read_table("path.csv")
    names = [str(name) for name in found["names"]]
    if path is not None and set(names) <= set(path):
        points = contents.numbers("path.csv", path, names)
        pieces.append(charts.draw_line(axes, charts.Line("path", points[:, 0], points[:, 1], "held-out")))
    for number, place in enumerate(found["minima"], start=1):
        if all(low <= value <= high for value, (low, high) in zip(place, ranges, strict=True)):
            pieces.append(charts.mark(axes, *place, str(number)))
    return axes.drawing("Free energy over two motions", *pieces)


def _contours(axes: charts.Axes, edges, energy: np.ndarray, ranges) -> Markup:
    from contourpy import contour_generator

    centres = [0.5 * (edge[1:] + edge[:-1]) for edge in edges]
    lines = contour_generator(*centres, np.ma.masked_invalid(energy.T))
    pieces = []
    for level in range(1, int(_TOP)):
        for way in lines.lines(level):
            inside = ((way >= [low for low, _ in ranges]) & (way <= [high for _, high in ranges])).all(1)
            y = np.where(inside, axes.y(way[:, 1]), np.nan)
            parts = np.split(np.arange(len(way)), np.flatnonzero(np.isnan(y)))
            for rows in parts:
                rows = rows[np.isfinite(y[rows])]
                if len(rows) > 1:
                    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(axes.x(way[rows, 0]), y[rows], strict=True))
                    pieces.append(tag("polyline", points=points, class_="contour"))
    return joined(pieces)
