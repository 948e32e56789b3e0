"""Deformed residues → rendered images, at full resolution or coarser, comparable with centred particle images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from cryosphere.conventions import GAUSSIAN_WINDOW_SIGMAS
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import (
    circular_mask,
    fourier_to_image,
    frequency_grid,
    image_to_fourier,
    low_pass_filter,
    radial_frequency,
    resize,
)
from cryosphere.physics.gaussians import project_fourier
from cryosphere.physics.noise import shell_index
from cryosphere.physics.slices import SliceTable, band_points, by_neighbourhood, conformation_table, contract_slices
from cryosphere.records import ParticleBatch, Structure

# Least width, in pixels of a coarse level, with which Gaussians are spread; narrower ones are sharpened in Fourier
# space afterwards.
_SPREAD_PIXELS = 0.6
# Memory for the transforms of conformations, (4 band + 1)² (2 band + 1) complex numbers each.
_TABLE_BYTES = 4e9
_LEAST_BAND = 6


@dataclass(frozen=True)
class Level:
    """Images cropped in Fourier space to shells below ``band``: fewer pixels of the same field of view.

    Attributes
    ----------
    band : int
        Shells (of width 1 / edge) r with 0 < r ≤ band - ½ are compared, below Nyquist and without the mean.
    size : int, pixels. pixel_size : float, Å.
    kx, ky : tensors of shape (y, half)
        Å⁻¹.
    shells : int tensor of shape (y, half)
    passed : tensor of shape (y, half)
        Weights of the band and the low-pass filter.
    mask : tensor of shape (y, x)
    excess : float
        Variance (Å²) by which Gaussians are widened before they are spread, undone by ``sharpen``.
    point_index, points : int tensor of shape (point,), tensor of shape (point, 2)
        Where slices are compared: flat index in the half image, and frequency in shells.
    """

    band: int
    size: int
    pixel_size: float
    kx: Float[Tensor, "y half"]
    ky: Float[Tensor, "y half"]
    shells: Int[Tensor, "y half"]
    passed: Float[Tensor, "y half"]
    mask: Float[Tensor, "y x"]
    excess: float
    sharpen: Float[Tensor, "y half"]
    point_index: Int[Tensor, " point"]
    points: Float[Tensor, "point 2"]


@dataclass(frozen=True)
class PreparedImages:
    """Images of a batch at a level, filtered and masked, with all that a rendering goes through to match them.

    ``transfer`` is CTF, whitening, band and low-pass filter in one.
    """

    images: Float[Tensor, "batch y x"]
    rotmat: Float[Tensor, "batch 3 3"]
    transfer: Float[Tensor, "batch y half"]
    level: Level

    def take(self, index: Int[Tensor, " n"] | slice) -> PreparedImages:
        """Some of the images."""
        return PreparedImages(self.images[index], self.rotmat[index], self.transfer[index], self.level)


class Renderer(nn.Module):
    """Project a structure's Gaussians in a pose, with CTF, whitening, filters and mask as the images have them.

    Parameters
    ----------
    structure : Structure
        Gives amplitudes (electrons) and widths (Å), in the model frame.
    box_size : int, pixels. pixel_size : float, Å.
    mask_radius : float
        Å; data and prediction are both masked there.
    low_pass_resolution : float, optional
        Å; applied to data and prediction.
    """

    def __init__(
        self,
        structure: Structure,
        box_size: int,
        pixel_size: float,
        mask_radius: float,
        low_pass_resolution: float | None = None,
    ) -> None:
        super().__init__()
        self.box_size, self.pixel_size = box_size, pixel_size
        self.mask_radius, self.low_pass_resolution = mask_radius, low_pass_resolution
        self.register_buffer("amplitudes", torch.tensor(structure.amplitudes, dtype=torch.float32), persistent=False)
        self.register_buffer("sigmas", torch.tensor(structure.sigmas, dtype=torch.float32), persistent=False)
        self._levels: dict[tuple[int, torch.device], Level] = {}

    @property
    def edge(self) -> float:
        """Edge of the box in Å."""
        return self.box_size * self.pixel_size

    @property
    def full_band(self) -> int:
        """Band of the level that holds everything below Nyquist."""
        return self.box_size // 2

    def band_at(self, resolution: float, least: int = _LEAST_BAND) -> int:
        """Band of the level that reaches a resolution (Å), at least ``least`` shells and at most to Nyquist."""
        return max(min(least, self.full_band), min(self.full_band, math.ceil(self.edge / resolution)))

    def level(self, band: int | None = None, n_conformations: int = 1) -> Level:
        """Level of a band, by default the full one with the images' own pixels.

        Where so many conformations' transforms would not fit into 4 GB (large boxes), the band is what does.
        """
        band = self.full_band if band is None else band
        affordable = int((_TABLE_BYTES / (8 * 32 * n_conformations)) ** (1 / 3)) - 1
        if band < self.full_band or affordable < band:
            band = min(band, max(affordable, min(_LEAST_BAND, self.full_band)))
        key = (band, self.amplitudes.device)
        if key not in self._levels:
            self._levels[key] = self._make_level(band, self.amplitudes.device)
        return self._levels[key]

    def capacity(self, level: Level) -> int:
        """Number of conformations whose transforms fit into 4 GB at a level, at least 1."""
        return max(1, int(_TABLE_BYTES / (8 * 32 * (level.band + 1) ** 3)))

    def _make_level(self, band: int, device: torch.device) -> Level:
        size = self.box_size if band >= self.full_band else 2 * band
        pixel_size = self.edge / size
        kx, ky = frequency_grid(size, pixel_size, device=device)
        radius = radial_frequency(kx, ky) * self.edge
        passed = ((radius <= band - 0.5) & (radius > 0.5)).float()
        if self.low_pass_resolution is not None:
            passed = passed * low_pass_filter(size, pixel_size, self.low_pass_resolution, device=device)
        excess = (
            max(0.0, (_SPREAD_PIXELS * pixel_size) ** 2 - float(self.sigmas.min()) ** 2)
            if size < self.box_size
            else 0.0
        )
        index, points = band_points(size, band)
        order = by_neighbourhood(points)
        order = order[(points[order] ** 2).sum(1) > 0.25]
        return Level(
            band=band,
            size=size,
            pixel_size=pixel_size,
            kx=kx.contiguous(),
            ky=ky.contiguous(),
            shells=shell_index(size, device),
            passed=passed,
            mask=circular_mask(size, self.mask_radius / pixel_size, 5.0 * size / self.box_size, device=device),
            excess=excess,
            sharpen=torch.exp(2 * math.pi**2 * excess * (kx**2 + ky**2)),
            point_index=index[order].to(device),
            points=points[order].to(device),
        )

    def prepare(self, batch: ParticleBatch, level: Level | None = None) -> PreparedImages:
        """Images of a batch and what their renderings pass through, at a level."""
        level = self.level() if level is None else level
        scale = self.box_size / level.size
        fourier = batch.fourier
        if level.size < self.box_size:
            fourier = resize(fourier, level.size)
        whitening = batch.whitening.index_select(1, level.shells.flatten()).unflatten(1, level.shells.shape)
        transfer = contrast_transfer(level.kx, level.ky, batch.ctf) * whitening * level.passed
        images = fourier_to_image(fourier * level.passed, level.size) / scale
        return PreparedImages(images * level.mask, batch.rotmat, transfer * scale, level)

    def render(
        self,
        prepared: PreparedImages,
        positions: Float[Tensor, "batch residue 3"],
        window: float = GAUSSIAN_WINDOW_SIGMAS,
    ) -> Float[Tensor, "batch y x"]:
        """What the prepared images would be without noise at given residue positions (Å) and contrast 1.

        There may be a whole number of consecutive conformations per image.
        """
        fourier = self.render_fourier(prepared, positions, window)
        return fourier_to_image(fourier, prepared.level.size) * prepared.level.mask

    def render_fourier(
        self,
        prepared: PreparedImages,
        positions: Float[Tensor, "batch residue 3"],
        window: float = GAUSSIAN_WINDOW_SIGMAS,
    ) -> Complex[Tensor, "batch y half"]:
        """:meth:`render` before the mask, as half Fourier images."""
        level = prepared.level
        per_image = len(positions) // len(prepared.images)
        rotmat = prepared.rotmat.repeat_interleave(per_image, dim=0)
        sigmas = torch.sqrt(self.sigmas**2 + level.excess)
        fourier = project_fourier(positions, self.amplitudes, sigmas, rotmat, level.size, level.pixel_size, window)
        transfer = prepared.transfer * level.sharpen
        return fourier * transfer.repeat_interleave(per_image, dim=0)

    def table(self, positions: Float[Tensor, "conformation residue 3"], level: Level) -> SliceTable:
        """Transforms of conformations, from which :meth:`overlaps` takes slices."""
        return conformation_table(positions, self.amplitudes, self.sigmas, self.edge, level.band)

    def overlaps(
        self, prepared: PreparedImages, table: SliceTable
    ) -> tuple[Float[Tensor, "batch conformation"], Float[Tensor, "batch conformation"]]:
        """Inner products image · rendering and squared norms of the renderings, of every image with every conformation.

        From slices, without making the renderings: the image takes the mask twice instead of once each, and the mask's
        effect on the norm is taken from one conformation (the middle one), as it hardly differs between them.
        """
        overlap, power = self.inner_products(prepared, prepared.images[:, None], table)
        return overlap[:, 0], power

    def inner_products(
        self, prepared: PreparedImages, images: Float[Tensor, "batch n y x"], table: SliceTable
    ) -> tuple[Float[Tensor, "batch n conformation"], Float[Tensor, "batch conformation"]]:
        """:meth:`overlaps` with any number of masked images in place of each prepared one."""
        level = prepared.level
        weight = 2.0 / level.size**2 / level.pixel_size**2
        seen = image_to_fourier(images * level.mask).flatten(2)[..., level.point_index]
        transfer = prepared.transfer.flatten(1)[:, level.point_index]
        seen, squares = seen * (weight * transfer[:, None]), transfer**2 * (weight / level.pixel_size**2)
        overlap, power, middle = contract_slices(table, prepared.rotmat, level.points, seen, squares)
        return overlap, power * self._masked_share(middle * transfer, level)[:, None]

    def _masked_share(self, rendered: Complex[Tensor, "batch point"], level: Level) -> Float[Tensor, " batch"]:
        """Share of a rendering's squared norm that is left within the mask."""
        half = rendered.new_zeros(len(rendered), level.size * (level.size // 2 + 1))
        half[:, level.point_index] = rendered
        half = _complete(half.view(len(half), level.size, -1))
        image = fourier_to_image(half, level.size)
        tiny = torch.finfo(image.dtype).tiny
        return (image * level.mask).square().sum((-2, -1)) / image.square().sum((-2, -1)).clamp_min(tiny)


def _complete(half: Complex[Tensor, "batch y half"]) -> Complex[Tensor, "batch y half"]:
    """Fill the points (x = 0, y < 0) that ``band_points`` leaves out, by Friedel's law."""
    size = half.shape[-2]
    upper = half[:, 1 : (size + 1) // 2, 0]
    half[:, size - upper.shape[1] :, 0] = upper.conj().flip(1)
    return half
