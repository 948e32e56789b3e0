"""Where the particles lie in the latent space, and their free-energy landscape."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from cryosphere.analysis.latent import principal_components
from cryosphere.analysis.style import BLUE
from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, figure, joined, legend, paragraph, percent, whole_number

_FLAT = 1e-9


def section(contents: Contents) -> Section:
    """Density of the posterior means, coloured by state."""
    means = contents.run.posterior.mean.astype(np.float64)
    components = principal_components(means)
    states, member, colours, entries = contents.states, None, [BLUE], []
    if states is not None and len(states.names) > 1 and states.membership is not None:
        member, colours = states.membership, states.colours
        entries = list(zip(_named(states), colours, strict=True))
    flat = components.n_components == 1 or components.explained[1] < _FLAT
    caption = f"Posterior means of {whole_number(len(means))} particles" + (", coloured by state." if entries else ".")
    drawn = _one(means, components, member, colours) if flat else _two(contents, components, means, member, colours)
    spread = contents.run.posterior.std.mean(0)
    words = "; ".join(
        f"along z{i + 1} particles spread by {means[:, i].std():.2f}, each known to ±\N{NO-BREAK SPACE}{spread[i]:.2f} "
        "on average"
        for i in range(min(4, means.shape[1]))
    )
    said = paragraph(f"In standard deviations of the prior: {words}.")
    return Section("latent", "Latent space", joined([said, figure(joined([drawn, legend(entries)]), caption)]))


def _named(states) -> list[str]:
    return [f"state {name}, {percent(share)}" for name, share in zip(states.names, states.populations, strict=True)]


def _one(means, components, member, colours) -> Markup:
    if components.n_components == 1:
        return charts.histogram(means[:, 0], member, colours, "latent z1", "Histogram of the particles' latents")
    scores = components.scores(means)[:, 0]
    return charts.histogram(scores, member, colours, "first principal component", "Histogram of the particles' latents")


def _two(contents: Contents, components, means, member, colours) -> Markup:
    scores = components.scores(means)[:, :2]
    share = [percent(value) for value in components.explained[:2]]
    states, marks = contents.states, []
    if states is not None and states.latent is not None:
        centres = components.scores(states.latent)[:, :2]
        marks = [(x, y, name) for (x, y), name in zip(centres, states.names, strict=True)]
    return charts.density(
        scores,
        member,
        colours,
        f"first principal component ({share[0]} of the variance)",
        f"second ({share[1]})",
        "Density of the particles over the first two principal components of the latent space",
        marks,
    )
