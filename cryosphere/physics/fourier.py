"""Fourier helpers for square images whose origin is the pixel ``n // 2``."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def image_to_fourier(images: Float[Tensor, "... y x"]) -> Complex[Tensor, "... y half"]:
    """Transform real images (origin at pixel n // 2) to half Fourier images, frequency 0 at index (0, 0)."""
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def fourier_to_image(fourier: Complex[Tensor, "... y half"], box_size: int) -> Float[Tensor, "... y x"]:
    """Invert :func:`image_to_fourier`."""
    return torch.fft.fftshift(torch.fft.irfft2(fourier, s=(box_size, box_size)), dim=(-2, -1))


def frequency_grid(
    box_size: int,
    pixel_size: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "y half"], Float[Tensor, "y half"]]:
    """Spatial frequencies (k_x, k_y) in Å⁻¹ of the half Fourier image, each of shape (y, x // 2 + 1)."""
    ky = torch.fft.fftfreq(box_size, d=pixel_size, dtype=dtype, device=device)
    kx = torch.fft.rfftfreq(box_size, d=pixel_size, dtype=dtype, device=device)
    return kx[None, :].expand(box_size, -1), ky[:, None].expand(-1, len(kx))


def move_fourier(
    fourier: Complex[Tensor, "batch y half"], shift_pixels: Float[Tensor, "batch 2"]
) -> Complex[Tensor, "batch y half"]:
    """Move the content of images, given as half Fourier images, by (x, y) pixels, sub-pixel (periodic)."""
    kx, ky = frequency_grid(fourier.shape[-2], 1.0, shift_pixels.dtype, shift_pixels.device)
    angles = (-2 * torch.pi * shift_pixels[:, :1] * kx[0], -2 * torch.pi * shift_pixels[:, 1:] * ky[:, 0])
    x, y = (torch.polar(torch.ones_like(angle), angle).to(fourier) for angle in angles)
    return fourier * y[:, :, None] * x[:, None]


def translate(images: Float[Tensor, "batch y x"], shift_pixels: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch y x"]:
    """Move the content of images by (x, y) pixels, sub-pixel, by a phase ramp (periodic).

    At the Nyquist frequency of even boxes the ramp's real part is used, so that the result stays real.
    """
    box_size = images.shape[-1]
    return fourier_to_image(move_fourier(image_to_fourier(images), shift_pixels), box_size)


def resize(fourier: Complex[Tensor, "... y half"], box_size: int) -> Complex[Tensor, "... y2 half2"]:
    """Crop half Fourier images to a smaller box of the same field of view.

    Values are kept as they are: divide by ``(old / new)²`` to keep the mean of the image.
    """
    old = fourier.shape[-2]
    half = box_size // 2 + 1
    positive = (box_size + 1) // 2
    rows = torch.cat([fourier[..., :positive, :half], fourier[..., old - box_size // 2 :, :half]], dim=-2)
    if box_size % 2 == 0 and old > box_size:
        # On the Nyquist row and column of an even box both signs of the frequency fall together: take their mean.
        conjugate = fourier[..., positive, :half]
        rows = rows.clone()
        rows[..., positive, :] = 0.5 * (rows[..., positive, :] + conjugate)
    return rows


def radial_frequency(kx: Float[Tensor, "y half"], ky: Float[Tensor, "y half"]) -> Float[Tensor, "y half"]:
    """Length of the frequency vector in Å⁻¹."""
    return torch.sqrt(kx**2 + ky**2)


def low_pass_filter(
    box_size: int,
    pixel_size: float,
    resolution: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "y half"]:
    """Fourier weights that pass frequencies below 1 / ``resolution`` (Å) with a raised-cosine edge of 2 shells."""
    shell = radial_frequency(*frequency_grid(box_size, pixel_size, dtype, device)) * box_size * pixel_size
    cutoff = box_size * pixel_size / resolution
    return 0.5 * (1 + torch.cos(torch.pi * ((shell - cutoff) / 2).clamp(0, 1)))


def circular_mask(
    box_size: int,
    radius_pixels: float,
    edge_pixels: float = 5.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "y x"]:
    """Disc of 1 about pixel n // 2 that falls to 0 over ``edge_pixels`` beyond the radius (raised cosine)."""
    axis = torch.arange(box_size, dtype=dtype, device=device) - box_size // 2
    distance = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    return 0.5 * (1 + torch.cos(torch.pi * ((distance - radius_pixels) / edge_pixels).clamp(0, 1)))


def soft_sphere(
    box_size: int, radius_pixels: float, edge_pixels: float = 5.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "z y x"]:
    """Ball of 1 about voxel n // 2 that falls to 0 over ``edge_pixels`` beyond the radius (raised cosine)."""
    axis = (torch.arange(box_size, dtype=dtype) - box_size // 2) ** 2
    distance = torch.sqrt(axis[:, None, None] + axis[:, None] + axis)
    return 0.5 * (1 + torch.cos(torch.pi * ((distance - radius_pixels) / edge_pixels).clamp(0, 1)))
