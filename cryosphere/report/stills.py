"""Still pictures of conformations, for paper and for browsers without WebGL."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from markupsafe import Markup

from cryosphere.report import charts
from cryosphere.report.html import figure, tag

_WIDTH, _MARGIN = 300.0, 10.0
# Depths into which strokes are sorted; farther ones are paler.
_N_DEPTHS = 12
_MOST_STROKES = 1500


def still_pictures(
    coordinates: Float[np.ndarray, "conformation residue 3"],
    colours: Sequence[str],
    breaks: Bool[np.ndarray, " residue"],
    chosen: Sequence[tuple[int, str]],
) -> list[Markup]:
    """Draw chosen conformations as seen across the plane in which the structure is widest.

    Parameters
    ----------
    coordinates : array of shape (conformation, residue, 3)
        Å.
    colours : sequence of str
        Of every residue.
    breaks : bool array of shape (residue,)
        Whether the chain is broken before each residue.
    chosen : sequence of (int, str)
        Conformations and what is written below each.
    """
    seen = coordinates - coordinates.reshape(-1, 3).mean(0, dtype=np.float64)
    axes = np.linalg.eigh(np.einsum("cri,crj->ij", seen, seen))[1][:, ::-1]
    axes[:, 2] *= np.sign(np.linalg.det(axes)) or 1.0
    seen = seen @ axes
    reach = (np.abs(seen[..., :2]).max((0, 1)) + 1e-6).tolist()
    scale = (_WIDTH / 2 - _MARGIN) / reach[0]
    height = 2 * (reach[1] * scale + _MARGIN)
    return [figure(_picture(seen[i], colours, breaks, scale, height, text), text) for i, text in chosen]


def _picture(points, colours, breaks, scale: float, height: float, text: str) -> Markup:
    step = -(-len(points) // _MOST_STROKES)
    x, y = _WIDTH / 2 + scale * points[:, 0], height / 2 - scale * points[:, 1]
    kept = [i for i in range(len(points)) if i % step == 0 or breaks[i]]
    depth = points[:, 2]
    edges = np.linspace(depth.min() - 1e-6, depth.max() + 1e-6, _N_DEPTHS + 1)
    ways: dict[tuple[int, str], list[str]] = {}
    for a, b in pairwise(kept):
        if breaks[b]:
            continue
        level = int(np.searchsorted(edges, 0.5 * (depth[a] + depth[b]), side="right")) - 1
        ways.setdefault((level, colours[a]), []).append(f"M{x[a]:.1f} {y[a]:.1f}L{x[b]:.1f} {y[b]:.1f}")
    strokes = [
        tag("path", d="".join(way), stroke=colour, stroke_opacity=f"{0.35 + 0.65 * level / (_N_DEPTHS - 1):.2f}")
        for (level, colour), way in sorted(ways.items())
    ]
    return charts.svg(_WIDTH, height, f"Structure, {text}", *strokes, class_="still")
