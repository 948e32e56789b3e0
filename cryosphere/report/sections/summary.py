"""The page's beginning: what was found, in a few numbers and sentences."""

from __future__ import annotations

import pandas as pd

from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, facts, joined, number, paragraph, percent, whole_number

_MOTION = {
    "supported": "The motion is supported by images kept out of training",
    "weak": "The motion is only weakly supported by images kept out of training",
    "not supported": "No motion found: images kept out of training do not tell the moving model from one structure",
    "undecided": "Too few images were kept out of training to judge whether the motion is real",
}


def section(contents: Contents) -> Section:
    """Large numbers, then sentences."""
    run, states = contents.run, contents.states
    items = [("particles", whole_number(run.table.n_particles)), ("residues", whole_number(run.n_residues))]
    main = _main_motion(contents.segments)
    if main is not None:
        items += [("largest turn of a segment, 5th to 95th percentile", f"{number(main[1])}°")]
        items += [("shift of its centre", f"{number(main[2])} Å")]
    if states is not None:
        items.append(("k-means clusters" if states.are_clusters else "states", str(len(states.names))))
    sentences = [_verdict(contents), _segments(contents, main), _states(contents)]
    return Section("summary", "Summary", joined([facts(items), *(paragraph(s) for s in sentences if s)]))


def _main_motion(segments: pd.DataFrame | None) -> tuple[str, float, float] | None:
    """Number of the segment that turns most, its turn in degrees and its shift in Å."""
    columns = ["angle_range_deg", "translation_range_angstrom"]
    if segments is None or not set(columns) <= set(segments) or segments[columns[0]].isna().all():
        return None
    row = segments.loc[segments[columns[0]].astype(float).idxmax()]
    return str(row["segment"]), float(row[columns[0]]), float(row[columns[1]])


def _verdict(contents: Contents) -> str:
    verdict = contents.run.verdict
    if not verdict:
        return (
            "Whether the motion is real was not judged: that takes the default objective (`loss.objective: marginal`)."
        )
    said = _MOTION.get(verdict["motion"], f"Motion: {verdict['motion']}")
    if verdict["motion"] == "undecided":
        return f"{said} ({verdict['n_images']} images)."
    evidence = verdict["evidence"]
    return (
        f"{said} ({verdict['standard_errors']:.1f} standard errors): {verdict['n_images']} held-out images have "
        f"{evidence['model']:.2f} nats each with motion, {evidence['still']:.2f} with one fitted structure, and "
        f"{evidence['nominal']:.2f} with the nominal structure."
    )


def _segments(contents: Contents, main: tuple[str, float, float] | None) -> str:
    judged = contents.run.verdict.get("segments") or []
    count = len(contents.run.segment_names)
    text = f"The structure moves in {count} segment{'s' if count != 1 else ''}"
    if judged and contents.run.verdict["motion"] != "not supported":
        supported = sum(segment["motion"] == "supported" for segment in judged)
        text += f", {supported} of them with a motion that held-out images support"
    if main is not None:
        text += f"; segment {main[0]} turns by {number(main[1])}° and its centre shifts by {number(main[2])} Å"
        text += " (5th to 95th percentile of the particles)"
    return text + "."


def _states(contents: Contents) -> str | None:
    states = contents.states
    if states is None:
        return None
    word = "k-means clusters (their number was chosen, not found)" if states.are_clusters else "states"
    named = []
    for i, name in enumerate(states.names[:8]):
        share = percent(states.populations[i])
        if states.interval is not None:
            share += f" ({number(100 * states.interval[0][i])} to {number(100 * states.interval[1][i])})"
        named.append(f"{name}: {share}")
    more = " …" if len(states.names) > 8 else ""
    return f"{len(states.names)} {word}, with populations {', '.join(named)}{more}."
