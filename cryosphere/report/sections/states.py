"""The states of the particles, their populations and errors."""

from __future__ import annotations

from cryosphere.report import charts
from cryosphere.report.contents import Contents, States
from cryosphere.report.html import Section, figure, joined, missing, paragraph, table, tag


def section(contents: Contents) -> Section:
    """Populations as bars, and the table of states."""
    states = contents.states
    if states is None:
        text = (
            f"The analysis has no table of states; `cryosphere analyze {contents.run.folder} --overwrite` writes one."
        )
        return Section("states", "States and populations", missing(text))
    low, high = states.interval or (None, None)
    caption = f"Share of the particles in every {states.word}" + (
        " with its 68 % interval." if states.interval else "."
    )
    drawn = charts.bars(
        states.names, 100 * states.populations, *(None if x is None else 100 * x for x in (low, high)),
        states.colours, states.word, "population (%)", f"Populations of the {states.word}s",
    )  # fmt: skip
    body = [tag("div", figure(drawn, caption), table(_shown(states), _caption(states), states.colours), class_="pair")]
    if states.are_clusters:
        body.insert(0, paragraph(
            "These are k-means clusters: their number was chosen, not found, and they divide a continuous motion too."
        ))  # fmt: skip
    return Section("states", "States and populations", joined(body))


def _shown(states: States):
    """Without latents, which are in the file; shares in per cent."""
    frame = states.table
    hidden = [column for column in frame if column[:1] == "z" and column[1:].isdigit()]
    frame = frame.drop(columns=hidden).copy()
    for column in ("population", "population_low", "population_high"):
        if column in frame:
            frame[column] = 100 * frame[column]
    names = {column: f"{column}_percent" for column in frame if column.startswith("population")}
    return frame.rename(columns=names)


def _caption(states: States) -> str:
    what = "k-means clusters" if states.are_clusters else "States"
    return f"{what}; particle: input row (from 0) of the representative"
