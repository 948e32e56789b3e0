"""Where to draw the surface of a map that a structure lies in."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cryosphere.io.mrc import DensityMap

_SHARE_OF_MEDIAN = 0.5


def surface_level(density: DensityMap, positions: Float[np.ndarray, "residue 3"]) -> float | None:
    """Level of a surface about a structure: half the median density at its residues (Å, the map's frame).

    None where no residue lies in the map.
    """
    index = np.round((positions - density.origin) / density.pixel_size).astype(int)
    x, y, z = index[((index >= 0) & (index < density.volume.shape[::-1])).all(1)].T
    return _SHARE_OF_MEDIAN * float(np.median(density.volume[z, y, x])) if len(x) else None
