"""The structure in three dimensions: a view that can be turned, coloured and moved, and still pictures for paper."""

from __future__ import annotations

import base64
import json

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from cryosphere.analysis.style import SEGMENT_COLOURS, chain_rows
from cryosphere.report.contents import Contents, colour_of_segment
from cryosphere.report.html import Section, joined, legend, number, paragraph, tag
from cryosphere.report.stills import still_pictures

# Residues drawn at most (every second, third … beyond), conformations along a path, paths.
_MOST_RESIDUES, _N_FRAMES, _MOST_PATHS = 3000, 25, 4
_QUANTUM_A = 0.01
# Okabe & Ito's blue to orange through grey would be two-sided; RMSF has one side: light to dark of one hue, as viridis.
_SCALE = ("#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
# Classes of AlphaFold DB: lower limit, colour, name.
_PLDDT = (
    (90, "#0053d6", "over 90"),
    (70, "#65cbf3", "70 to 90"),
    (50, "#ffdb13", "50 to 70"),
    (0, "#ff7d45", "under 50"),
)

_CANVAS = "Three-dimensional view of the structure: arrow keys turn it, plus and minus zoom"


def section(contents: Contents) -> Section:
    """The view with its controls and data."""
    rows = shown_residues(contents.run.structure.n_polymer_residues)
    schemes = _schemes(contents, rows)
    films = _films(contents, rows)
    first = next(iter(films.values()))["coordinates"]
    data = {
        "breaks": _breaks(contents, rows).astype(int).tolist(),
        "schemes": {key: scheme["colours"] for key, scheme in schemes.items()},
        "films": {key: _packed(film) for key, film in films.items()},
    }
    stills = still_pictures(first, schemes["segment"]["colours"], _breaks(contents, rows), _still_names(films))
    body = [
        paragraph(_said(contents, rows)),
        tag("div", _view(schemes, films), class_="viewer", id="viewer"),
        tag("div", *stills, class_="stills"),
        Markup('<script type="application/json" id="viewer-data">{}</script>').format(_as_json(data)),
    ]
    return Section("structure", "The structure and its motion", joined(body))


def shown_residues(count: int) -> Int[np.ndarray, " residue"]:
    """Of so many polymer residues those that are drawn: all, or every so many."""
    return np.arange(0, count, -(-count // _MOST_RESIDUES))


def _said(contents: Contents, rows: np.ndarray) -> str:
    count = contents.run.structure.n_polymer_residues
    step = -(-count // _MOST_RESIDUES)
    thinned = f" Every {step}th of the {count} residues is drawn." if step > 1 else ""
    return (
        "Cα (C1′) traces as the model decodes them. Drag or arrow keys turn the structure, Ctrl and the wheel or + and "
        "− zoom, the slider moves it." + thinned
    )


def _breaks(contents: Contents, rows: np.ndarray) -> np.ndarray:
    """Whether the chain is broken before each drawn residue."""
    bonded = contents.run.structure.bonded
    broken = np.concatenate([[0], np.cumsum(~bonded[: contents.run.structure.n_polymer_residues - 1])])[rows]
    return np.concatenate([[True], np.diff(broken) > 0])


def _films(contents: Contents, rows: np.ndarray) -> dict[str, dict]:
    """Conformations along every traversal, and those of the states: coordinates and a text for each."""
    films = {}
    run, states = contents.run, contents.states
    for place, (title, points) in enumerate(list(contents.paths().items())[:_MOST_PATHS]):
        latent = _along(points, _N_FRAMES)
        texts = [f"{i + 1} of {len(latent)}: z = {_vector(z)}" for i, z in enumerate(latent)]
        films[f"path{place}"] = {"title": title, "coordinates": run.decode(latent)[:, rows], "texts": texts}
    if states is not None and states.latent is not None and len(states.names) > 1:
        texts = [f"state {name}: {states.population(i)} of the particles" for i, name in enumerate(states.names)]
        films["states"] = {"title": "states", "coordinates": run.decode(states.latent)[:, rows], "texts": texts}
    if not films:
        means = run.posterior.mean.astype(np.float64)
        latent = np.percentile(means, [5, 50, 95], axis=0)
        texts = [f"{share}th percentile of every latent" for share in (5, 50, 95)]
        films["percentiles"] = {"title": "percentiles", "coordinates": run.decode(latent)[:, rows], "texts": texts}
    return films


def _along(points: Float[np.ndarray, "point latent"], count: int) -> Float[np.ndarray, "frame latent"]:
    """Latents evenly spread along the polygon through points, its corners not necessarily among them."""
    place = np.linspace(0, len(points) - 1, count)
    return np.stack([np.interp(place, np.arange(len(points)), column) for column in points.T], axis=1)


def _vector(latent: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in latent[:4]).replace("-", "\N{MINUS SIGN}")


def _still_names(films: dict[str, dict]) -> list[tuple[int, str]]:
    """First, middle and last conformation of the first film."""
    film = next(iter(films.values()))
    last = len(film["texts"]) - 1
    return [(i, f"{film['title']}, {film['texts'][i]}") for i in dict.fromkeys((0, last // 2, last))]


def _schemes(contents: Contents, rows: np.ndarray) -> dict[str, dict]:
    """Ways of colouring: a colour for every drawn residue, and a legend."""
    run, labels = contents.run, contents.labels[rows]
    present = [int(label) for label in np.unique(labels)]
    names = [(("in no segment" if s < 0 else run.segment_names[s]), colour_of_segment(s)) for s in present]
    schemes = {"segment": {"colours": [colour_of_segment(label) for label in labels.tolist()], "legend": legend(names)}}
    if contents.rmsf is not None:
        rmsf = contents.rmsf[rows]
        top = float(rmsf.max()) or 1.0
        place = np.minimum((rmsf / top * len(_SCALE)).astype(int), len(_SCALE) - 1)
        edges = np.linspace(0, top, len(_SCALE) + 1)
        entries = [(f"{number(edges[i])} to {number(edges[i + 1])} Å", colour) for i, colour in enumerate(_SCALE)]
        schemes["RMSF"] = {"colours": [_SCALE[i] for i in place], "legend": legend(entries)}
    if run.structure.plddt is not None:
        plddt = run.structure.plddt[rows]
        colours = [next((colour for limit, colour, _ in _PLDDT if value >= limit), _PLDDT[-1][1]) for value in plddt]
        schemes["pLDDT"] = {"colours": colours, "legend": legend([(name, colour) for _, colour, name in _PLDDT])}
    chains = [chain for chain, _ in chain_rows(run.structure)]
    colour_of = {chain: SEGMENT_COLOURS[i % len(SEGMENT_COLOURS)] for i, chain in enumerate(chains)}
    entries = [(f"chain {chain}", colour) for chain, colour in list(colour_of.items())[:24]]
    schemes["chain"] = {
        "colours": [colour_of[c] for c in run.structure.chain_ids[rows].tolist()],
        "legend": legend(entries),
    }
    return schemes


def _packed(film: dict) -> dict:
    """Coordinates as 16-bit multiples of a hundredth Å (or what the largest needs)."""
    coordinates = film["coordinates"]
    quantum = max(_QUANTUM_A, float(np.abs(coordinates).max()) / 32767)
    whole = np.round(coordinates / quantum).astype("<i2")
    return {
        "title": film["title"],
        "texts": film["texts"],
        "quantum": quantum,
        "frames": base64.b64encode(whole.tobytes()).decode(),
    }


def _as_json(data: dict) -> Markup:
    """JSON that cannot end the script element it is in."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


def _view(schemes: dict[str, dict], films: dict[str, dict]) -> Markup:
    colours = [_choice("scheme", key, key, i == 0) for i, key in enumerate(schemes)]
    motions = [_choice("film", key, film["title"], i == 0) for i, (key, film) in enumerate(films.items())]
    legends = [
        tag("div", scheme["legend"], data_scheme=key, hidden=i > 0) for i, (key, scheme) in enumerate(schemes.items())
    ]
    slider = tag(
        "input", type="range", id="frame", min="0", max="0", value="0", step="1", aria_describedby="frame-text"
    )
    return joined(
        [
            tag("div", id="canvas", role="img", tabindex="0", aria_label=_CANVAS),
            tag(
                "p",
                "This view needs JavaScript and WebGL; the pictures below show the same.",
                class_="missing",
                id="no-view",
            ),
            tag(
                "div",
                tag("fieldset", tag("legend", "Colour by"), *colours),
                tag("fieldset", tag("legend", "Move"), *motions),
                tag(
                    "div",
                    tag("button", "Play", type="button", id="play", aria_pressed="false"),
                    tag("label", "Conformation", for_="frame"),
                    slider,
                    tag("output", id="frame-text", for_="frame"),
                    class_="player",
                ),
                tag("button", "Reset view", type="button", id="reset"),
                class_="controls",
            ),
            *legends,
        ]
    )


def _choice(group: str, value: str, text: str, checked: bool) -> Markup:
    anchor = f"{group}-{value}"
    box = tag("input", type="radio", name=group, id=anchor, value=value, checked=checked)
    return tag("span", box, tag("label", text, for_=anchor), class_="choice")
