"""Maps of the states from their images: correlation of the half-maps, and of each map with the state's model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, figure, joined, legend, missing, paragraph, table, tag

_TITLE = "Maps from the images"
_CURVES = {"fsc": ("half-maps, in the mask", "train"), "fsc_model": ("map against the model", "held-out")}
_LEVELS = (0.143, 0.5)


def section(contents: Contents) -> Section:
    """Fourier shell correlations of every map of the folder, and its index."""
    found = contents.maps
    if found is None:
        text = (
            "No maps from the images were given; "
            f"`cryosphere export {contents.run.folder} volumes --states --from-images -o maps` reconstructs them, and "
            "`--maps maps` shows their correlations here."
        )
        return Section("maps", _TITLE, missing(text))
    said = (
        "Every particle is backprojected with its weight in the state. Resolutions are where correlations fall below "
        "0.143 (half-maps) and 0.5 (half-maps, and map against the state's model)."
    )
    drawn = [figure(_chart(curves), name) for name, curves in found.curves]
    entries = [(label, f"var(--{style})") for label, style in _CURVES.values()]
    index = found.index.drop(columns=[column for column in found.index if column[:1] == "z" and column[1:].isdigit()])
    body = [
        paragraph(said),
        legend(entries),
        tag("div", *drawn, class_="pair"),
        table(index, f"Maps in {found.folder}"),
    ]
    return Section("maps", _TITLE, joined(body))


def _chart(curves: pd.DataFrame) -> Markup:
    """Correlations over spatial frequency, with the levels that resolutions are read at."""
    frequency = curves["frequency"].to_numpy(float, copy=True)
    axes = charts.Axes(
        (0.0, float(frequency.max())), (-0.1, 1.02), "spatial frequency (1/Å)", "Fourier shell correlation"
    )
    ends = np.array([0.0, frequency.max()])
    levels = [
        charts.draw_line(axes, charts.Line("", ends, np.full(2, level), "level"), dots=False) for level in _LEVELS
    ]
    lines = [
        charts.draw_line(axes, charts.Line(name, frequency, curves[name].to_numpy(float, copy=True), style), dots=False)
        for name, (_, style) in _CURVES.items()
    ]
    return axes.drawing("Fourier shell correlation of a map", *levels, *lines)
