"""Surface of a map at a level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.mrc import DensityMap, read_volume
from cryosphere.placement.contour import surface_level
from cryosphere.viewer.session import Session

# Voxels along the longest edge that are looked at; larger maps are thinned out.
_MOST_VOXELS = 160
# The range of levels begins at this share of the level about the structure.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class LocatedMap:
    """A map in which the structure lies, with the level of its surface about it and the range of useful levels."""

    path: Path
    density: DensityMap
    level: float
    lowest: float
    highest: float

    def surface(self, level: float) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
        """Vertices (z y x, voxels) and triangles where the density passes a level, none where it does not."""
        from skimage.measure import marching_cubes

        volume = self.density.volume
        if not volume.min() < level < volume.max():
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
        step = -(-max(volume.shape) // _MOST_VOXELS)
        thinned = np.ascontiguousarray(volume[::step, ::step, ::step]) if step > 1 else volume.copy()
        if not thinned.min() < level < thinned.max():
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
        vertices, faces, _, _ = marching_cubes(thinned, level)
        return (vertices * step).astype(np.float32), faces.astype(np.int32)


def locate_map(session: Session, path: Path | str) -> LocatedMap:
    """Read a map in which the nominal structure lies.

    Raises
    ------
    InputError
        It cannot be read, or no residue lies in it.
    """
    path = Path(path)
    density = read_volume(path)
    level = surface_level(density, session.nominal_positions)
    if level is None:
        raise InputError(
            f"{path}: no residue of {session.run.structure.source} lies in this map; give the map that the structure "
            "was placed in."
        )
    low, high = float(density.volume.min()), float(density.volume.max())
    lowest = _LEAST_SHARE * level if level > 0 else low
    return LocatedMap(path, density, level, min(max(lowest, low), high), high)
