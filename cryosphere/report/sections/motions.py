"""Motions in degrees and Å, and how the particles are distributed over them."""

from __future__ import annotations

import pandas as pd

from cryosphere.analysis.style import BLUE, segment_colour
from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, figure, joined, missing, table, tag

_PERCENTILES = ["p5", "p25", "p50", "p75", "p95"]
# Motions drawn for one unit at most, those that spread most.
_MOST_DRAWN = 14


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
    if {"name", *_PERCENTILES} <= set(found):
        units = found["unit"].fillna("").astype(str) if "unit" in found else pd.Series([""] * len(found))
        body.append(tag("div", *(_chart(found[units == unit], unit) for unit in dict.fromkeys(units)), class_="pair"))
    body.append(table(found, "Motions over the particles"))
    return Section("motions", "Motions", joined(body))


def _chart(rows: pd.DataFrame, unit: str):
    spread = (rows["p95"] - rows["p5"]).astype(float)
    shown = rows.loc[spread.sort_values(ascending=False, kind="stable").index[:_MOST_DRAWN].sort_values()]
    names = [str(name) for name in shown["name"]]
    label = f"Distribution of motions in {unit}" if unit else "Distribution of motions"
    drawn = charts.spans(names, shown[_PERCENTILES].to_numpy(float), unit, label, [_colour(name) for name in names])
    left_out = f" The {len(shown)} of {len(rows)} that spread most." if len(shown) < len(rows) else ""
    return figure(drawn, f"Line: 5th to 95th percentile; bar: quartiles; dot: median.{left_out}")


def _colour(name: str) -> str:
    """That of the segment a motion is named after (``angle_s2``), if it is."""
    digits = name.rsplit("s", 1)[-1].strip("()_ ")
    return segment_colour(int(digits) - 1) if digits.isdigit() and int(digits) > 0 else BLUE
