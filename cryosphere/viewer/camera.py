"""From where to look at a structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class View:
    """A direction of view and what is up (x y z, unit vectors), with the middle and the size of what is seen, Å."""

    direction: Float[np.ndarray, " 3"]
    up: Float[np.ndarray, " 3"]
    centre: Float[np.ndarray, " 3"]
    width: float
    height: float

    def zoom(self, canvas_height: float, canvas_width: float, filled: float) -> float:
        """Pixels per Å at which it fills a share of a canvas (pixels)."""
        return filled * min(canvas_width / max(self.width, 1.0), canvas_height / max(self.height, 1.0))


def broad_view(positions: Float[np.ndarray, "point 3"]) -> View:
    """The view in which points are widest across and least deep: along their principal axes, always the same side."""
    points = positions.astype(np.float64)
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    direction, up = axes[:, 0], axes[:, 1]
    direction = direction * np.sign(direction[np.abs(direction).argmax()])
    up = up * np.sign(up[np.abs(up).argmax()])
    across = np.cross(direction, up)
    frame = np.stack([direction, up, across])
    low, high = (points @ frame.T).min(0), (points @ frame.T).max(0)
    return View(direction, up, frame.T @ ((low + high) / 2), float(high[2] - low[2]), float(high[1] - low[1]))
