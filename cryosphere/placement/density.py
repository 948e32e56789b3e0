"""A map made ready for fitting: cubic, solvent at zero, coarse enough to compute with, origin at the box centre."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from cryosphere.errors import InputError
from cryosphere.io.mrc import DensityMap

# The grid that is computed on: at most so many voxels along an edge, at least so large (Å).
_LARGEST_EDGE = 200
_SMALLEST_SPACING = 1.25
# A Gaussian of width σ = 0.225 d is what is usually meant by a density at resolution d (ChimeraX molmap).
_SIGMA_PER_RESOLUTION = 0.225


@dataclass(frozen=True)
class FittingMap:
    """A map on a cubic grid in the model frame (Å, origin at voxel n // 2).

    Attributes
    ----------
    volume : tensor of shape (z, y, x)
        Density with the median of the box's faces, the solvent's, taken off.
    spacing : float
        Å per voxel, at least the map's own.
    centre : array of shape (3,)
        Place of the box centre in the map's own frame, ``map = model + centre``.
    """

    volume: Float[Tensor, "z y x"]
    spacing: float
    centre: Float[np.ndarray, " 3"]

    @property
    def size(self) -> int:
        """Voxels along an edge."""
        return self.volume.shape[0]

    def mirrored(self) -> FittingMap:
        """The other hand: z → -z about the box centre."""
        return replace(self, volume=mirror(self.volume))

    def low_passed(self, resolution: float) -> Float[Tensor, "z y x"]:
        """Density smoothed by a Gaussian of σ = 0.225 ``resolution`` (Å)."""
        sigma = _SIGMA_PER_RESOLUTION * resolution
        return filtered(self.volume, torch.exp(-2 * (math.pi * sigma) ** 2 * squared_frequencies(self)))


def prepare(density: DensityMap, source: str) -> FittingMap:
    """Make a map ready: solvent at zero, padded to a cube, brought to a grid that is quick to compute with.

    Raises
    ------
    InputError
        If the map has values that are not numbers, or the same value everywhere.
    """
    volume = density.volume
    if not np.isfinite(volume).all():
        count = int((~np.isfinite(volume)).sum())
        raise InputError(f"{source} has {count} voxels that are not numbers; write the map again.")
    if volume.min() == volume.max():
        raise InputError(f"{source} has the value {float(volume.flat[0]):g} in every voxel; give a map with density.")
    edge = max(volume.shape)
    cube = np.zeros((edge, edge, edge), dtype=np.float32)
    cube[_inner(volume.shape, edge)] = volume - _solvent(volume)
    length = edge * density.pixel_size
    size = min(edge, _LARGEST_EDGE, next_fast_len(math.ceil(length / _SMALLEST_SPACING), real=True))
    return FittingMap(resample(torch.from_numpy(cube), size), length / size, density.box_centre)


def on_grid_of(density: DensityMap, volume: Float[Tensor, "z y x"]) -> Float[np.ndarray, "z2 y2 x2"]:
    """Bring a volume of a :class:`FittingMap` back to the grid of the map that it was made from."""
    edge = max(density.volume.shape)
    return resample(volume, edge)[_inner(density.volume.shape, edge)].numpy()


def _inner(shape: tuple[int, ...], edge: int) -> tuple[slice, ...]:
    """Where an array lies in a cube so that both have voxel n // 2 at one place."""
    starts = [edge // 2 - length // 2 for length in shape]
    return tuple(slice(start, start + length) for start, length in zip(starts, shape, strict=True))


def _solvent(volume: Float[np.ndarray, "z y x"]) -> float:
    """Median of the voxels on the faces of the box."""
    faces = [np.take(volume, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
    return float(np.median(np.concatenate(faces)))


def mirror(volume: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
    """Mirror z → -z about voxel n // 2; in an even box the plane z = 0, which has no partner, stays."""
    flipped = torch.flip(volume, dims=(0,))
    return torch.roll(flipped, 1, dims=0) if volume.shape[0] % 2 == 0 else flipped


def mirrored_map(density: DensityMap) -> Float[np.ndarray, "z y x"]:
    """The other hand of a map on its own grid."""
    return mirror(torch.tensor(density.volume)).numpy()


def resample(volume: Float[Tensor, "z y x"], size: int) -> Float[Tensor, "z2 y2 x2"]:
    """Bring a cube to another number of voxels by cropping or padding its Fourier transform; voxel n // 2 stays."""
    old = volume.shape[0]
    if size == old:
        return volume
    for _ in range(3):
        spectrum = torch.fft.rfft(torch.fft.ifftshift(volume, dim=-1), dim=-1)[..., : size // 2 + 1]
        if size > old and old % 2 == 0:
            spectrum = spectrum.clone()
            spectrum[..., -1] *= 0.5
        line = torch.fft.irfft(spectrum, n=size, dim=-1) * (size / old)
        volume = torch.fft.fftshift(line, dim=-1).permute(2, 0, 1)
    return volume.contiguous()


def filtered(volume: Float[Tensor, "z y x"], weights: Float[Tensor, "z y half"]) -> Float[Tensor, "z y x"]:
    """Multiply the half Fourier transform of a volume by real weights."""
    return torch.fft.irfftn(torch.fft.rfftn(volume) * weights, s=volume.shape)


def squared_frequencies(grid: FittingMap) -> Float[Tensor, "z y half"]:
    """|k|² in Å⁻² of the half Fourier transform."""
    full = torch.fft.fftfreq(grid.size, d=grid.spacing) ** 2
    half = torch.fft.rfftfreq(grid.size, d=grid.spacing) ** 2
    return full[:, None, None] + full[None, :, None] + half[None, None, :]


def sample(
    volume: Float[Tensor, "z y x"], points: Float[Tensor, "batch point 3"], spacing: float
) -> Float[Tensor, "batch point"]:
    """Density at points (Å, origin at voxel n // 2) by trilinear interpolation, 0 outside the box."""
    size = volume.shape[0]
    place = 2 * (points / spacing + size // 2) / (size - 1) - 1
    values = torch.nn.functional.grid_sample(volume[None, None], place[None, :, :, None], align_corners=True)
    return values[0, 0, ..., 0]
