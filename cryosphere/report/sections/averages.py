"""The model beside the particles: averages by view and state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from cryosphere.analysis.latent import principal_components
from cryosphere.analysis.view_averages import ViewAverages, average_views
from cryosphere.errors import CryosphereError
from cryosphere.report import charts
from cryosphere.report.contents import Contents, state_colour
from cryosphere.report.html import Section, joined, missing, number, paragraph, percent, swatch, tag

_TITLE = "Model against particles"
# States shown at most, those with most particles; parts into which one continuous state is cut.
_MOST_STATES, _N_PARTS = 6, 3


@dataclass(frozen=True)
class _Groups:
    """Names and colours of groups of particles, the group of every particle (-1 for none), and what they are."""

    names: list[str]
    colours: list[str]
    membership: Int[np.ndarray, " particle"]
    what: str


def section(contents: Contents) -> Section:
    """Class averages in pairs of rows, one pair per state."""
    groups = _groups(contents)
    try:
        averages = average_views(contents.run, groups.membership, len(groups.names))
    except CryosphereError as error:
        return Section("averages", _TITLE, missing(f"No averages of particles: {error}"))
    model, still = (averages.correlations(of) for of in (averages.model, averages.still))
    weights = averages.counts / averages.counts.sum()
    mean = [float(np.nansum(values * weights)) for values in (model, still)]
    said = paragraph(
        f"Particles of {groups.what} that look along nearly the same direction, averaged, above what the model "
        f"predicts for the same particles (with their CTFs), averaged the same way. Correlation over all: "
        f"{mean[0]:.3f} with the model, {mean[1]:.3f} with the nominal structure."
    )
    grids = []
    for row, (name, colour) in enumerate(zip(groups.names, groups.colours, strict=True)):
        grids += [tag("h3", swatch(colour), name), _grid(averages, model, row, name)]
    return Section("averages", _TITLE, joined([said, *grids]))


def _groups(contents: Contents) -> _Groups:
    """The largest states, or thirds of the particles along the first principal component where there is one state."""
    states = contents.states
    if states is None or states.membership is None or len(states.names) == 1:
        means = contents.run.posterior.mean.astype(np.float64)
        score = principal_components(means).scores(means)[:, 0]
        limits = np.quantile(score, np.arange(1, _N_PARTS) / _N_PARTS)
        names = [f"third {i + 1} along the first principal component" for i in range(_N_PARTS)]
        colours = [state_colour(i) for i in range(_N_PARTS)]
        return _Groups(names, colours, np.searchsorted(limits, score), "each third of the latent space")
    shown = np.sort(states.populations.argsort(kind="stable")[::-1][:_MOST_STATES])
    rank = np.full(len(states.names), -1)
    rank[shown] = np.arange(len(shown))
    names = [f"state {states.names[i]}, {percent(states.populations[i])} of the particles" for i in shown]
    return _Groups(names, [states.colours[i] for i in shown], rank[states.membership], "a state")


def _grid(averages: ViewAverages, correlation: np.ndarray, row: int, name: str) -> Markup:
    cells = []
    for view, count in enumerate(averages.counts[row]):
        if not count:
            continue
        place = f"{name}, view {view + 1}"
        pair = {
            f"Average of {count} particles: {place}": averages.particles[row, view],
            f"The model's projections: {place}": averages.model[row, view],
        }
        pictures = [tag("img", src=_picture(image), alt=text, class_="average") for text, image in pair.items()]
        caption = f"view {view + 1}: {count} particles, correlation {number(correlation[row, view])}"
        cells.append(tag("figure", *pictures, tag("figcaption", caption)))
    labels = tag("p", tag("span", "particles"), tag("span", "model"), class_="row-names", aria_hidden="true")
    return tag("div", labels, *cells, class_="averages")


def _picture(image: np.ndarray) -> str:
    """Grey values from -60 % to 100 % of the largest magnitude; origin at the bottom."""
    reach = float(np.abs(image).max()) or 1.0
    grey = 255 * (image / reach + 0.6) / 1.6
    return charts.png_address(grey.clip(0, 255).round().astype(np.uint8)[::-1])
