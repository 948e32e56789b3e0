"""Many conformations seen in many poses: central slices of oversampled Fourier volumes, shared by all images.

One transform per conformation, then a slice per image costs the same for ten residues or ten thousand. Slices are
interpolated linearly between the samples of a volume padded to twice its edge, whose density was divided by the
interpolation's own envelope beforehand; they serve for the weights of conformations, gradients come from
``gaussians.project_fourier``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from cryosphere.physics.gaussians import density_grid, grid_size

# Smallest width, in pixels of the band's own grid, with which Gaussians are spread; narrower ones are spread so wide
# and sharpened in Fourier space.
_SPREAD_PIXELS = 0.75
# Points looked up in one go (memory).
_POINTS_PER_CHUNK = 400_000


@dataclass(frozen=True)
class SliceTable:
    """Oversampled Fourier transforms of some volumes, frequency by frequency.

    Attributes
    ----------
    values : tensor of shape (frequency, 2 * volume)
        Real parts of all volumes, then imaginary parts, at frequencies (z, y, x) with x ≥ 0, half a shell apart.
    band : int
        Largest shell, in units of 1 / edge, at which slices can be taken.
    """

    values: Float[Tensor, "frequency column"]
    band: int

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return self.values.shape[1] // 2


def conformation_table(
    positions: Float[Tensor, "conformation gaussian 3"],
    amplitudes: Float[Tensor, " gaussian"],
    sigmas: Float[Tensor, " gaussian"],
    edge: float,
    band: int,
) -> SliceTable:
    """Transform sums of Gaussians.

    Parameters
    ----------
    positions : tensor of shape (conformation, gaussian, 3)
        Å, origin at the box centre.
    amplitudes, sigmas : tensors of shape (gaussian,)
        Integral and width (Å) of each Gaussian.
    edge : float
        Edge of the box in Å; what lies outside is left out.
    band : int
        Largest shell in units of 1 / edge.
    """
    pixel = edge / (2 * band)
    spread = _SPREAD_PIXELS * pixel
    excess = max(0.0, spread**2 - float(sigmas.min()) ** 2)
    widened = torch.sqrt(sigmas**2 + excess)
    fine = grid_size(2 * band, pixel, float(widened.min()))
    spacing = edge / fine
    content = amplitudes * spacing**3
    grids = (density_grid(one, content, widened, fine, spacing) for one in positions)
    return _table((_transform(grid, edge, band, excess) for grid in grids), len(positions), band)


def volume_table(volumes: Float[Tensor, "volume z y x"], band: int) -> SliceTable:
    """Transform real volumes (density per Å³ times voxel volume) of a common box; ``band`` is at most half the box."""
    return _table((_transform(one, 1.0, band, 0.0) for one in volumes), len(volumes), band)


def _table(spectra: Iterable[Tensor], count: int, band: int) -> SliceTable:
    values = None
    for number, spectrum in enumerate(spectra):
        if values is None:
            values = torch.empty(spectrum.numel(), 2 * count, dtype=torch.float32, device=spectrum.device)
        values[:, number], values[:, count + number] = spectrum.real.flatten(), spectrum.imag.flatten()
    return SliceTable(values, band)


def _transform(grid: Tensor, edge: float, band: int, excess: float) -> Tensor:
    """Complex spectrum (z, y, x ≥ 0) of a grid zero-padded to twice its edge, up to ``band`` shells.

    ``excess``: variance (Å²) to be taken from the Gaussians' widths.
    """
    size, reach = grid.shape[0], 2 * band
    axis = torch.arange(size, device=grid.device, dtype=grid.dtype) - size // 2
    envelope = 1 / torch.sinc(axis / (2 * size)) ** 2
    signed = torch.arange(-reach, reach + 1, device=grid.device)
    phase = torch.polar(torch.ones_like(signed, dtype=grid.dtype), math.pi * signed * (size // 2) / size)
    sharpen = torch.exp(2 * math.pi**2 * excess * (signed / (2 * edge)) ** 2)
    factor = phase * sharpen
    spectrum = torch.fft.rfft(grid * envelope, n=2 * size, dim=2)[..., : reach + 1] * factor[reach:]
    spectrum = spectrum * (envelope[:, None, None] * envelope[None, :, None])
    for dim in (1, 0):
        spectrum = torch.fft.fft(spectrum, n=2 * size, dim=dim)
        kept = spectrum.index_select(dim, signed % (2 * size))
        spectrum = kept * factor.view(-1, *[1] * (2 - dim))
    return spectrum


def band_points(box_size: int, band: int) -> tuple[Int[Tensor, " point"], Float[Tensor, "point 2"]]:
    """Points of a half Fourier image on the shells r ≤ band - ½ that stand for all: index and (x, y) frequency.

    Frequencies are in units of 1 / edge. Of the points with x = 0, whose negatives are in the half image too, those
    with y < 0 are left out.
    """
    y = torch.fft.fftfreq(box_size, d=1 / box_size)[:, None].expand(-1, box_size // 2 + 1)
    x = torch.arange(box_size // 2 + 1, dtype=y.dtype)[None, :].expand(box_size, -1)
    inside = (x**2 + y**2 <= (min(band, box_size / 2) - 0.5) ** 2) & ~((x == 0) & (y < 0))
    index = torch.nonzero(inside.flatten()).flatten()
    return index, torch.stack([x.flatten()[index], y.flatten()[index]], dim=1)


def take_slices(
    table: SliceTable, rotmat: Float[Tensor, "batch 3 3"], points: Float[Tensor, "point 2"]
) -> Float[Tensor, "batch point column"]:
    """Central slices of all volumes in given poses, real parts of all volumes and then imaginary parts.

    Values are those of ``fourier.image_to_fourier`` of the projections, times the pixel area in Å².
    """
    rows = max(1, _POINTS_PER_CHUNK // len(points))
    chunks = [_slices(table, part, points) for part in rotmat.split(rows)]
    return torch.cat(chunks)


def _slices(table: SliceTable, rotmat: Tensor, points: Tensor) -> Tensor:
    reach = 2 * table.band
    frequency = 2 * torch.einsum("pi,bij->bpj", points, rotmat[:, :2])
    mirrored = frequency[..., 0] < 0
    frequency = torch.where(mirrored[..., None], -frequency, frequency)
    corner = torch.floor(frequency)
    part = frequency - corner
    x, y, z = corner.long().unbind(-1)
    base = ((z + reach) * (2 * reach + 1) + y + reach) * (reach + 1) + x
    steps, weights = [], []
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                steps.append((dz * (2 * reach + 1) + dy) * (reach + 1) + dx)
                share = [part[..., i] if d else 1 - part[..., i] for i, d in enumerate((dx, dy, dz))]
                weights.append(share[0] * share[1] * share[2])
    index = base[..., None] + torch.tensor(steps, device=base.device)
    weight = torch.stack(weights, dim=-1)
    found = embedding_bag(index.flatten(0, 1), table.values, mode="sum", per_sample_weights=weight.flatten(0, 1))
    found = found.view(*mirrored.shape, -1)
    imaginary = found[..., table.n_volumes :]
    imaginary.mul_(torch.where(mirrored, -1.0, 1.0)[..., None])
    return found
