"""The states of the particles, their populations and errors, and where the motions stand in each."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from cryosphere.report import charts
from cryosphere.report.contents import Contents, States
from cryosphere.report.html import Section, figure, joined, missing, number, paragraph, table, tag

_TITLE = "States and populations"
# Rows of the table of motions that are shown unfolded, states that have a column in it.
_MOST_ROWS, _MOST_STATES = 12, 8


def section(contents: Contents) -> Section:
    """Populations as bars, the table of states, and their motions."""
    states = contents.states
    if states is None:
        text = f"The analysis has no states; `cryosphere analyze {contents.run.folder} --overwrite` finds them."
        return Section("states", _TITLE, missing(text))
    shown = table(_shown(states), "States; particle: input row (from 0) of the representative", states.colours)
    if len(states.names) == 1:
        said = (
            "One state holds all particles: the analysis told no states apart. "
            f"`cryosphere analyze {contents.run.folder} --clustering kmeans --states 3 --overwrite` divides a "
            "continuous motion too."
        )
        return Section("states", _TITLE, joined([paragraph(said), shown]))
    low, high = (None, None) if states.interval is None else (100 * bound for bound in states.interval)
    caption = "Share of the particles in every state" + (" with its 68 % interval." if states.interval else ".")
    drawn = charts.bars(
        *(states.names, 100 * states.populations, low, high, states.colours),
        *("state", "population (%)", "Populations of the states"),
    )
    body = [tag("div", figure(drawn, caption), shown, class_="pair"), _motions(states)]
    return Section("states", _TITLE, joined(body))


def _is_motion(states: States, column: str) -> bool:
    return f"spread({column})" in states.table


def _shown(states: States) -> pd.DataFrame:
    """Populations in per cent, without latents and motions."""
    frame = states.table
    hidden = [
        column
        for column in frame
        if (column[:1] == "z" and column[1:].isdigit()) or _is_motion(states, column) or column.startswith("spread(")
    ]
    frame = frame.drop(columns=hidden).copy()
    names = {column: f"{column}_percent" for column in frame if column.startswith("population")}
    for column in names:
        frame[column] = 100 * frame[column]
    return frame.rename(columns=names)


def _motions(states: States) -> Markup | None:
    """Mean and spread of every motion (rows) in the states (columns)."""
    motions = [column for column in states.table if _is_motion(states, column)]
    if not motions:
        return None
    columns = {"motion": motions}
    for row, name in list(enumerate(states.names))[:_MOST_STATES]:
        values = states.table.iloc[row]
        columns[f"state {name}"] = [f"{number(values[m])} ± {number(values[f'spread({m})'])}" for m in motions]
    whole = table(pd.DataFrame(columns), "Mean and spread of the motions in every state (degrees for angles, else Å)")
    if len(motions) <= _MOST_ROWS:
        return whole
    return tag("details", tag("summary", f"{len(motions)} motions in every state"), whole)
