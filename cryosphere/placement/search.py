"""Search of all rotations and shifts at low resolution, by fast Fourier correlation.

For every rotation of an even grid the correlation of the structure's electrons with the map is computed at all shifts
at once (Wriggers & Chacón, Structure 2001; Roseman, Acta Cryst. D 2000), and the best shift is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor
from tqdm import tqdm

from cryosphere.placement.body import Body
from cryosphere.placement.density import FittingMap, sample
from cryosphere.placement.poses import Placements, joined, uniform_rotations

# 15° apart: a point at the rim of the structure is at most about 1/13 of its diameter from where it should be.
N_ROTATIONS = 4608
# The resolution of the search is the diameter over this, so that the map is as smooth as the rotations are coarse.
_FEATURES_PER_DIAMETER = 7.0
_VOXELS_PER_RESOLUTION = 2.5
_LARGEST_EDGE = 64
_BATCH = 16
# Density above this share of the map's highest counts when the search box is laid around it.
_SUPPORT = 0.1


@dataclass(frozen=True)
class _SearchBox:
    """Cubic grid about the map's density, wide enough that the structure cannot leave it at one side and come back."""

    centre: Float[Tensor, " 3"]
    size: int
    spacing: float

    def points(self) -> Float[Tensor, "z y_x 3"]:
        """Places of all voxels (Å, model frame)."""
        axis = (torch.arange(self.size) - self.size // 2) * self.spacing
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        return (torch.stack([x, y, z], dim=-1) + self.centre).reshape(self.size, -1, 3)


def search_resolution(body: Body, grid: FittingMap) -> float:
    """Resolution (Å) of the search for a structure in a map."""
    return max(body.diameter / _FEATURES_PER_DIAMETER, 2.5 * grid.spacing)


def search(
    body: Body,
    grids: list[FittingMap],
    show_progress: bool = False,
) -> list[Placements]:
    """Find the best shift for every rotation in each of several maps of one size.

    Parameters
    ----------
    body : Body
        The structure, of which the residues are used.
    grids : list of FittingMap
        Both hands of a map.
    show_progress : bool
        Progress bar on stderr.

    Returns
    -------
    list of Placements
        For each map, one placement per rotation.
    """
    resolution = search_resolution(body, grids[0])
    smooth = [grid.low_passed(resolution) for grid in grids]
    box = _search_box(smooth, grids[0].spacing, body.diameter, resolution)
    targets = torch.stack([sample(volume, box.points(), grids[0].spacing).view((box.size,) * 3) for volume in smooth])
    weights = body.residue_electrons
    spectra = torch.fft.rfftn(targets, dim=(-3, -2, -1))
    rotations = uniform_rotations(N_ROTATIONS)
    found: list[list[Placements]] = [[] for _ in grids]
    bar = tqdm(total=len(rotations), desc="search", unit="rotation", disable=not show_progress)
    with bar, torch.no_grad():
        for batch in rotations.split(_BATCH):
            model = _spread(torch.einsum("bij,pj->bpi", batch, body.residues) / box.spacing, weights, box.size)
            conjugate = torch.fft.rfftn(model, dim=(-3, -2, -1)).conj()
            for hand, spectrum in enumerate(spectra):
                correlation = torch.fft.irfftn(spectrum * conjugate, s=(box.size,) * 3, dim=(-3, -2, -1))
                score, place = correlation.flatten(1).max(dim=1)
                found[hand].append(Placements(batch, _shift(place, box), score / weights.sum()))
            bar.update(len(batch))
    return [joined(parts) for parts in found]


def _search_box(smooth: list[Tensor], spacing: float, diameter: float, resolution: float) -> _SearchBox:
    """Box about what is dense in any of the maps, with room for the structure beside it."""
    size = smooth[0].shape[0]
    dense = torch.stack([volume > _SUPPORT * volume.max() for volume in smooth]).any(0).nonzero()
    low, high = (end.flip(0) - size // 2 for end in (dense.amin(0), dense.amax(0)))
    edge = float((high - low).max()) * spacing + diameter
    voxel = max(resolution / _VOXELS_PER_RESOLUTION, edge / _LARGEST_EDGE)
    return _SearchBox(0.5 * (low + high) * spacing, next_fast_len(math.ceil(edge / voxel), real=True), voxel)


def _spread(coordinates: Float[Tensor, "batch point 3"], weights: Float[Tensor, " point"], size: int) -> Tensor:
    """Put weights on a periodic grid (coordinates in voxels from voxel n // 2), each shared by the eight nearest."""
    low = torch.floor(coordinates)
    share = coordinates - low
    low = low.long() + size // 2
    image = coordinates.new_zeros(len(coordinates), size**3)
    for corner in range(8):
        step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        part = torch.where(step.bool(), share, 1 - share).prod(-1) * weights
        x, y, z = ((low + step) % size).unbind(-1)
        image.scatter_add_(1, (z * size + y) * size + x, part)
    return image.view(-1, size, size, size)


def _shift(place: Tensor, box: _SearchBox) -> Float[Tensor, "batch 3"]:
    """Position (Å, model frame) that belongs to a place in the periodic correlation."""
    size = box.size
    z, y, x = place // size**2, place // size % size, place % size
    index = torch.stack([x, y, z], dim=-1).float()
    return torch.where(index >= size / 2, index - size, index) * box.spacing + box.centre
