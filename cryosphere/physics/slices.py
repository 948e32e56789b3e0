"""Many conformations seen in many poses: central slices of oversampled Fourier volumes, shared by all images.

One transform per conformation, then a slice per image costs the same for ten residues or ten thousand. Slices are
interpolated linearly between the samples of a volume padded to twice its edge, whose density was divided by the
interpolation's own envelope beforehand; they serve for the weights of conformations, gradients come from
``gaussians.project_fourier``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from cryosphere.physics.compiled import in_parts, is_compiled
from cryosphere.physics.gaussians import density_grid, grid_size

# Smallest width, in pixels of the band's own grid, with which Gaussians are spread; narrower ones are spread so wide
# and sharpened in Fourier space.
_SPREAD_PIXELS = 0.75
# Points looked up in one go, and values of slices held at a time (memory).
_POINTS_PER_CHUNK = 400_000
_SLICE_VALUES = 20_000_000
# Spectra written to a table together, and their bytes, at most.
_SPECTRA, _SPECTRUM_BYTES = 8, 300_000_000
# Points along an edge of the squares in which ``by_neighbourhood`` orders them.
_SQUARE = 4


@dataclass(frozen=True)
class SliceTable:
    """Oversampled Fourier transforms of some volumes, frequency by frequency.

    Attributes
    ----------
    values : tensor of shape (frequency, 2 * volume)
        Real parts of all volumes, then imaginary parts, at frequencies (z, y, x) with x ≥ 0, half a shell apart; those
        farther than ``band + ½`` shells from the origin may hold anything.
    band : int
        Largest shell, in units of 1 / edge, at which slices can be taken.
    """

    values: Float[Tensor, "frequency column"]
    band: int

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return self.values.shape[1] // 2


@torch.no_grad()
def conformation_table(
    positions: Float[Tensor, "conformation gaussian 3"],
    amplitudes: Float[Tensor, " gaussian"],
    sigmas: Float[Tensor, " gaussian"],
    edge: float,
    band: int,
) -> SliceTable:
    """Transform sums of Gaussians; no gradient flows through a table.

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
    return _table(grids, len(positions), edge, band, excess)


@torch.no_grad()
def volume_table(volumes: Float[Tensor, "volume z y x"], band: int) -> SliceTable:
    """Transform real volumes (density per Å³ times voxel volume) of a common box; ``band`` is at most half the box."""
    return _table(iter(volumes), len(volumes), 1.0, band, 0.0)


def _table(grids: Iterator[Tensor], count: int, edge: float, band: int, excess: float) -> SliceTable:
    """Transform ``count`` grids with a box of so many Å, and take ``excess`` (Å²) from their Gaussians' variances."""
    first = next(grids)
    grids = chain([first], grids)
    size, device, n_y, n_x = len(first), first.device, 4 * band + 1, 2 * band + 1
    factor = _factor(first, edge, band, excess)
    values = _empty((n_y**2 * n_x, 2 * count), torch.float32, device)
    at_a_time = max(1, min(_SPECTRA, count, _SPECTRUM_BYTES // (16 * n_y * n_x * size)))
    spectra = _empty((at_a_time, n_y, n_x, 2 * size), torch.complex64, device)
    for column in range(0, count, at_a_time):
        some = spectra[: count - column]
        for spectrum, grid in zip(some, grids, strict=False):
            spectrum.copy_(_transform(grid, band))
        _write(some, factor, column, values)
    return SliceTable(values, band)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Large tensor to be filled."""
    if device.type == "cpu":  # NumPy asks for huge pages, which are ready sooner and make far rows quicker to find
        return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
    return torch.empty(shape, dtype=dtype, device=device)


def _transform(grid: Float[Tensor, "z y x"], band: int) -> Complex[Tensor, "y2 x2 z2"]:
    """Spectrum, origin at the first grid point, of a grid over its envelope and zero-padded to twice its edge.

    Frequencies run from -2 band to 2 band along y and from 0 to 2 band along x; along z they are the transform's own.
    """
    size, reach = len(grid), 2 * band
    axis = torch.arange(size, device=grid.device, dtype=grid.dtype) - size // 2
    envelope = 1 / torch.sinc(axis / (2 * size)) ** 2
    kept = torch.arange(-reach, reach + 1, device=grid.device) % (2 * size)
    grid = grid * (envelope[:, None] * envelope)[:, :, None] * envelope
    along_x = torch.fft.rfft(grid, n=2 * size)[..., : reach + 1]
    along_y = torch.fft.fft(along_x.mT.contiguous(), n=2 * size)
    return torch.fft.fft(along_y.permute(2, 1, 0).index_select(0, kept), n=2 * size)


def _factor(grid: Tensor, edge: float, band: int, excess: float) -> Complex[Tensor, " frequency"]:
    """What a spectrum is multiplied with along every axis: moves the origin to point size // 2, and sharpens."""
    size = len(grid)
    signed = torch.arange(-2 * band, 2 * band + 1, device=grid.device, dtype=grid.dtype)
    sharpen = torch.exp(2 * math.pi**2 * excess * (signed / (2 * edge)) ** 2)
    return torch.polar(sharpen, math.pi * signed * (size // 2) / size)


def _write(
    spectra: Complex[Tensor, "volume y x z"],
    factor: Complex[Tensor, " y"],
    column: int,
    values: Float[Tensor, "frequency columns"],
) -> None:
    """Write spectra, times a factor along every axis, to a table's columns from the given one on."""
    count, n_y, n_x, n_z = spectra.shape
    if is_compiled(values):
        from cryosphere.physics import slices_numba

        in_parts(slices_numba.write, n_y, spectra.numpy(), factor.numpy(), column, values.numpy())
        return
    kept = torch.arange(1 - n_x, n_x, device=values.device) % n_z
    scaled = spectra.index_select(3, kept) * (factor[:, None, None] * factor[n_x - 1 :, None] * factor)
    rows, n_volumes = scaled.permute(3, 1, 2, 0).reshape(len(values), count), values.shape[1] // 2
    values[:, column : column + count] = rows.real
    values[:, n_volumes + column : n_volumes + column + count] = rows.imag


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


def by_neighbourhood(points: Float[Tensor, "point 2"]) -> Int[Tensor, " point"]:
    """Order of points in which those of a small square follow each other, so that they are found near in memory."""
    row, column = torch.floor(points[:, 1] / _SQUARE), torch.floor(points[:, 0] / _SQUARE)
    return torch.argsort(row * len(points) + column, stable=True)


def contract_slices(
    table: SliceTable,
    rotmat: Float[Tensor, "batch 3 3"],
    points: Float[Tensor, "point 2"],
    seen: Complex[Tensor, "batch n point"],
    weight: Float[Tensor, "batch point"],
) -> tuple[Float[Tensor, "batch n volume"], Float[Tensor, "batch volume"], Complex[Tensor, "batch point"]]:
    """Inner products of images with the slices of all volumes in given poses, and the slices' squared norms.

    Parameters
    ----------
    table : SliceTable
    rotmat : tensor of shape (batch, 3, 3)
    points : tensor of shape (point, 2)
        Frequencies (x, y) in shells, at most ``band - ½`` from the origin; in the order of :func:`by_neighbourhood` it
        is faster.
    seen : complex tensor of shape (batch, n, point)
        Any number of half Fourier images for each pose.
    weight : tensor of shape (batch, point)
        Of the squares.

    Returns
    -------
    overlap : tensor of shape (batch, n, volume)
        Real part of the sum over points of conj(seen) · slice.
    power : tensor of shape (batch, volume)
        Sum over points of weight · |slice|².
    middle : complex tensor of shape (batch, point)
        Slice of volume ``n_volumes // 2``.
    """
    if is_compiled(table.values):
        return _contract_compiled(table, rotmat, points, seen, weight)
    rows = max(1, _SLICE_VALUES // (len(points) * table.values.shape[1]))
    parts = [
        _contract(table, rotmat[start : start + rows], points, seen[start : start + rows], weight[start : start + rows])
        for start in range(0, len(rotmat), rows)
    ]
    overlap, power, middle = (torch.cat(part) for part in zip(*parts, strict=True))
    return overlap, power, middle


def _contract_compiled(table, rotmat, points, seen, weight) -> tuple[Tensor, Tensor, Tensor]:
    from cryosphere.physics import slices_numba

    given = torch.cat([weight[:, :, None].to(torch.complex64), seen.mT.to(torch.complex64)], dim=2).contiguous()
    totals = torch.zeros(*given.shape[::2], table.n_volumes)
    arrays = [tensor.contiguous().numpy() for tensor in (rotmat.float(), points.float(), given, totals)]
    in_parts(slices_numba.contract, len(rotmat), table.values.numpy(), 2 * table.band, *arrays)
    return totals[:, 1:], totals[:, 0], given[:, :, 0]


def _contract(table, rotmat, points, seen, weight) -> tuple[Tensor, Tensor, Tensor]:
    count = table.n_volumes
    slices = take_slices(table, rotmat, points)
    middle = torch.complex(slices[..., count // 2], slices[..., count + count // 2])
    overlap = torch.bmm(seen.real, slices[..., :count]) + torch.bmm(seen.imag, slices[..., count:])
    squares = torch.bmm(weight[:, None], slices.square_())[:, 0]
    return overlap, squares[:, :count] + squares[:, count:], middle


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
