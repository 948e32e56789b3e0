"""The page's beginning: what was found, in a few numbers and sentences."""

from __future__ import annotations

import numpy as np

from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, facts, joined, number, paragraph, whole_number

_MOTION = {
    "supported": "The motion is supported by images kept out of training",
    "weak": "The motion is only weakly supported by images kept out of training",
    "not supported": "No motion found: images kept out of training do not tell the moving model from one structure",
    "undecided": "Too few images were kept out of training to judge whether the motion is real",
}

# States named in the summary.
_MOST_STATES = 8


def section(contents: Contents) -> Section:
    """Large numbers, then sentences."""
    run, states = contents.run, contents.states
    items = [("particles", whole_number(run.table.n_particles)), ("residues", whole_number(run.n_residues))]
    main = _main_motion(contents)
    if main is not None:
        items += [("largest turn of a segment, 5th to 95th percentile", f"{number(main[1])}°")]
        items += [("shift of its centre", f"{number(main[2])} Å")]
    if states is not None:
        items.append(("states" if len(states.names) > 1 else "state", str(len(states.names))))
    sentences = [_verdict(contents), _segments(contents, main), _states(contents)]
    return Section("summary", "Summary", joined([facts(items), *(paragraph(s) for s in sentences if s)]))


def _main_motion(contents: Contents) -> tuple[str, float, float] | None:
    """Number of the segment that turns most, its turn in degrees and its shift in Å."""
    columns, segments = ["angle_range_deg", "translation_range_angstrom"], contents.segments
    if segments is None or not {"segment", *columns} <= set(segments):
        return None
    angle, shift = contents.numbers("segments.csv", segments, columns).T
    if np.isnan(angle).all():
        return None
    most = int(np.nanargmax(angle))
    return str(segments["segment"].iloc[most]), float(angle[most]), float(shift[most])


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
        text += f" (5th to 95th percentile of the particles){_seen_from(contents, main[0])}"
    return text + "."


def _seen_from(contents: Contents, segment: str) -> str:
    """What a segment's motion is counted from, and where its nearest hinge is, if the analysis says so."""
    segments = contents.segments
    row = segments[segments["segment"].astype(str) == segment].iloc[0]
    words = ""
    if str(row.get("seen_from", "")).startswith("s"):
        words += f", seen from segment {row['seen_from'][1:]}"
    if isinstance(row.get("hinge_residues"), str) and row["hinge_residues"]:
        nearest = row["hinge_residues"].split("; ")[0].replace(")", " from the axis)")
        words += f", hinge residues {nearest}"
    return words


def _states(contents: Contents) -> str | None:
    states = contents.states
    if states is None:
        return None
    if len(states.names) == 1:
        return "The analysis told no states apart: one state holds all particles."
    named = [f"{name}: {states.population(i)}" for i, name in enumerate(states.names[:_MOST_STATES])]
    more = " …" if len(states.names) > _MOST_STATES else ""
    interval = "" if states.interval is None else " (68 % interval)"
    return f"{len(states.names)} states; share of the particles{interval}: {', '.join(named)}{more}."
