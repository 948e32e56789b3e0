"""The segments on the sequence and in a table, with what held-out images say of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from cryosphere.analysis.style import chain_positions, chain_rows, runs_of
from cryosphere.analysis.tables import residue_ranges
from cryosphere.report import charts
from cryosphere.report.contents import Contents, colour_of_segment
from cryosphere.report.html import Section, figure, joined, missing, number, paragraph, table, tag

_WIDTH, _LEFT, _BAND, _STEP, _PROFILE = 960.0, 70.0, 22.0, 46.0, 40.0
# Chains drawn one by one; more are in the table only.
_MOST_CHAINS = 40
# Columns of segments.csv that are directions in space, which say nothing to the eye.
_UNSEEN = ("axis_", "direction_", "centre_", "center_", "point_", "hinge_x", "hinge_y", "hinge_z")

# Columns that come first.
_FIRST = ("segment", "name", "motion_is", "angle_range_deg", "translation_range_angstrom", "hinge_residues")


def section(contents: Contents) -> Section:
    """A band per chain, and the table of segments."""
    chains = chain_rows(contents.run.structure)
    body = [figure(_bands(contents, chains[:_MOST_CHAINS]), _caption(contents), "wide")]
    if len(chains) > _MOST_CHAINS:
        body.append(paragraph(f"{len(chains) - _MOST_CHAINS} more chains are in the table."))
    body.append(_table(contents))
    return Section("segments", "Segments", joined(body))


def _caption(contents: Contents) -> str:
    words = "Segments along every chain; numbers are residue numbers"
    if contents.rmsf is None or not contents.rmsf.any():
        return f"{words}."
    return f"{words}. Above: RMSF over the particles, the highest {number(float(contents.rmsf.max()))} Å."


def _bands(contents: Contents, chains: list) -> Markup:
    structure = contents.run.structure
    longest = max(chain_positions(structure, rows)[-1] - chain_positions(structure, rows)[0] + 1 for _, rows in chains)
    scale = (_WIDTH - _LEFT - 16) / longest
    pieces, y = [], 8.0
    top = 0.0 if contents.rmsf is None else float(contents.rmsf.max())
    for chain, rows in chains:
        positions = chain_positions(structure, rows)
        if top > 0:
            x = _LEFT + (positions - positions[0] + 0.5) * scale
            pieces.append(_profile(x, y + _PROFILE - (_PROFILE - 6) * contents.rmsf[rows] / top, y + _PROFILE))
            y += _PROFILE
        pieces.append(tag("text", f"chain {chain}", x=_LEFT - 12, y=f"{y + 15:.1f}", text_anchor="end", class_="label"))
        start = positions[0]
        for label, first, last in runs_of(contents.labels[rows]):
            x, width = _LEFT + (positions[first] - start) * scale, (positions[last] - positions[first] + 1) * scale
            name = "in no segment" if label < 0 else contents.run.segment_names[label]
            words = f"{name}: {structure.label(rows[first])} to {structure.label(rows[last])}"
            place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{max(width, 0.8):.1f}", "height": f"{_BAND:g}"}
            pieces.append(tag("rect", tag("title", words), **place, fill=colour_of_segment(label), class_="band"))
            if width > 18 and label >= 0:
                middle = {"x": f"{x + width / 2:.1f}", "y": f"{y + 15:.1f}", "text_anchor": "middle"}
                pieces.append(tag("text", label + 1, **middle, class_="on-colour"))
        for value, text in charts.ticks(start, positions[-1], most=10):
            x = _LEFT + (value - start + 0.5) * scale
            pieces.append(tag("text", text, x=f"{x:.1f}", y=f"{y + _BAND + 13:.1f}", text_anchor="middle"))
        y += _STEP
    label = f"Segments of {len(chains)} {'chain' if len(chains) == 1 else 'chains'} along the sequence"
    return charts.svg(_WIDTH, y, label, *pieces, class_="chart bands")


def _profile(x: np.ndarray, heights: np.ndarray, ground) -> Markup:
    """RMSF of a chain as an area on its band."""
    way = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, heights, strict=True))
    return tag("polyline", points=f"{x[0]:.1f},{ground:.1f} {way} {x[-1]:.1f},{ground:.1f}", class_="profile")


def _table(contents: Contents) -> Markup:
    """Segments with their residues, motions, and verdicts; without an analysis what the model alone says."""
    found = contents.segments
    if found is None or "segment" not in found:
        rows = [
            {
                "segment": number + 1,
                "name": name,
                "residues": residue_ranges(contents.run.structure, (contents.labels == number).nonzero()[0]),
                "n_residues": int((contents.labels == number).sum()),
            }
            for number, name in enumerate(contents.run.segment_names)
        ]
        found = pd.DataFrame(rows)
    shown = found.loc[:, [not str(column).startswith(_UNSEEN) for column in found]].copy()
    if "name" in shown and all(name == f"segment {i}" for name, i in zip(shown["name"], shown["segment"], strict=True)):
        shown = shown.drop(columns="name")
    judged = contents.run.verdict.get("segments") or []
    if len(judged) == len(shown):
        shown["motion_is"] = [_judgement(segment) for segment in judged]
    shown = shown[[*(column for column in _FIRST if column in shown), *(c for c in shown if c not in _FIRST)]]
    colours = [colour_of_segment(int(number) - 1) for number in found["segment"]]
    note = (
        None
        if judged
        else missing(
            "Whether each segment's motion is supported was not judged: that takes the default objective and held-out "
            "images (`training.held_out`)."
        )
    )
    return joined([table(shown, "Segments, and the range of their motions", colours), note])


def _judgement(segment: dict) -> str:
    words = f"{segment['motion']} ({number(segment['standard_errors'])} s.e.)"
    return words + ", stilled" if segment["is_stilled"] else words
