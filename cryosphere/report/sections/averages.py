"""The model beside the particles: averages by view and state."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from cryosphere.analysis.view_averages import ViewAverages, average_views
from cryosphere.errors import CryosphereError
from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, joined, missing, number, paragraph, percent, swatch, tag

# States shown at most, those with most particles.
_MOST_STATES = 6
_TITLE = "Model against particles"


def section(contents: Contents) -> Section:
    """Class averages in pairs of rows, one pair per state."""
    states = contents.states
    if states is None or states.membership is None:
        text = f"There are no states to average; `cryosphere analyze {contents.run.folder} --overwrite` finds them."
        return Section("averages", _TITLE, missing(text))
    shown = np.sort(states.populations.argsort(kind="stable")[::-1][:_MOST_STATES])
    rank = np.full(len(states.names) + 1, -1)
    rank[shown] = np.arange(len(shown))
    try:
        averages = average_views(contents.run, rank[states.membership], len(shown))
    except CryosphereError as error:
        text = f"No averages of particles: {error}"
        return Section("averages", _TITLE, missing(text))
    model, still = (averages.correlations(of) for of in (averages.model, averages.still))
    weights = averages.counts / averages.counts.sum()
    mean = [float(np.nansum(values * weights)) for values in (model, still)]
    said = paragraph(
        f"Particles of a state that look along nearly the same direction, averaged, above what the model predicts for "
        f"the same particles (with their CTFs), averaged the same way. Correlation over all: {mean[0]:.3f} with the "
        f"model, {mean[1]:.3f} with the nominal structure."
    )
    word = states.word
    grids = []
    for row, state in enumerate(shown):
        share = percent(states.populations[state])
        title = tag("h3", swatch(states.colours[state]), f" {word} {states.names[state]}, {share} of the particles")
        grids += [title, _grid(averages, model, row, f"{word} {states.names[state]}")]
    return Section("averages", _TITLE, joined([said, *grids]))


def _grid(averages: ViewAverages, correlation: np.ndarray, row: int, name: str) -> Markup:
    cells = []
    for view, count in enumerate(averages.counts[row]):
        if not count:
            continue
        pair = averages.particles[row, view], averages.model[row, view]
        words = [
            f"average of {count} particles of {name}, view {view + 1}",
            f"the model's projections of {name}, view {view + 1}",
        ]
        pictures = [
            tag("img", src=_picture(image), alt=text, class_="average") for image, text in zip(pair, words, strict=True)
        ]
        caption = f"view {view + 1}: {count} particles, correlation {number(correlation[row, view])}"
        cells.append(tag("figure", *pictures, tag("figcaption", caption)))
    labels = tag("p", tag("span", "particles"), tag("span", "model"), class_="row-names", aria_hidden="true")
    return tag("div", labels, *cells, class_="averages")


def _picture(image: np.ndarray) -> str:
    """Grey values from -60 % to 100 % of the largest magnitude; origin at the bottom."""
    reach = float(np.abs(image).max()) or 1.0
    grey = 255 * (image / reach + 0.6) / 1.6
    return charts.png_address(grey.clip(0, 255).round().astype(np.uint8)[::-1])
