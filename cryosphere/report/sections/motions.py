"""Motions in degrees and Å, and how the particles are distributed over them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from jaxtyping import Float
from markupsafe import Markup

from cryosphere.analysis.style import BLUE, segment_colour
from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, figure, joined, missing, table, tag

_PERCENTILES = ["p5", "p25", "p50", "p75", "p95"]
# Motions drawn for one unit at most, those that spread most.
_MOST_DRAWN = 14
# Rows of the table that are shown unfolded.
_MOST_ROWS = 12
_SEGMENT = re.compile(r"\w+\(s([1-9]\d*)\)")
_UNITS = {"deg": "degrees"}


def section(contents: Contents) -> Section:
    """One row per motion, and a chart for every unit."""
    found = contents.motions
    if found is None:
        text = (
            "The analysis has no table of motions (the segments' ranges are above); "
            f"`cryosphere analyze {contents.run.folder} --overwrite` writes one where this version measures them."
        )
        return Section("motions", "Motions", missing(text))
    body = []
    if {"motion", *_PERCENTILES} <= set(found):
        units = found["unit"].fillna("").astype(str) if "unit" in found else pd.Series([""] * len(found))
        values = contents.numbers("motions.csv", found, _PERCENTILES)
        charts_of_units = (_chart(found["motion"][units == u], values[units == u], u) for u in dict.fromkeys(units))
        body.append(tag("div", *charts_of_units, class_="pair"))
    whole = table(found, "Motions over the particles")
    folded = tag("details", tag("summary", f"All {len(found)} motions"), whole)
    body.append(whole if len(found) <= _MOST_ROWS else folded)
    return Section("motions", "Motions", joined(body))


def _chart(names: pd.Series, percentiles: Float[np.ndarray, "motion 5"], unit: str) -> Markup:
    spread = np.nan_to_num(percentiles[:, -1] - percentiles[:, 0])
    shown = np.sort(spread.argsort(kind="stable")[::-1][:_MOST_DRAWN])
    left_out = f" The {len(shown)} of {len(names)} that spread most." if len(shown) < len(names) else ""
    names = [str(name) for name in names.iloc[shown]]
    unit = _UNITS.get(unit, unit)
    label = f"Distribution of motions in {unit}" if unit else "Distribution of motions"
    drawn = charts.spans(names, percentiles[shown], unit, label, [_colour(name) for name in names])
    return figure(drawn, f"Line: 5th to 95th percentile; bar: quartiles; dot: median.{left_out}")


def _colour(name: str) -> str:
    """That of the segment that a motion is of, as ``angle(s2)``, if it is of one."""
    found = _SEGMENT.fullmatch(name)
    return segment_colour(int(found[1]) - 1) if found else BLUE
