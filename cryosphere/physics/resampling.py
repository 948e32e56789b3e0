"""Images brought to another box and pixel size, exactly, for any ratio of the two.

An image of n pixels of p Å is taken for the trigonometric polynomial of period n p that runs through its pixels, and
sampled anew about the same origin (pixel n // 2) after the frequencies beyond the new Nyquist frequency have been cut.
Where the field of view stays the same, this is cropping (or padding) in Fourier space.

Grey values are those of the image as a function in the plane: a density keeps its value per area, not per pixel, so
that a projection at the new pixel size has the grey values of the old one. The variance of white noise falls with the
share of frequencies that are kept. What is left of differences in grey values between optics groups (dose,
normalisation) goes into each group's own noise spectrum and contrast.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Pixel sizes nearer than this (relative) are the same number written by two programs.
SAME_PIXEL_SIZE = 1e-3
# Frequencies nearer than this to Nyquist, in cycles per field of view, are at Nyquist.
_AT_NYQUIST = 1e-6


def common_grid(
    box_sizes: Int[np.ndarray, " group"], pixel_sizes: Float[np.ndarray, " group"], pixel_size: float | None = None
) -> tuple[int, float]:
    """Box (pixels) and pixel size (Å) that images of several samplings are brought to.

    The pixels are the coarsest, or ``pixel_size`` if that is coarser; the box is the largest even one within the
    smallest field of view, so that nothing is ever padded: pixels without noise would spoil the noise spectrum. Images
    that are all alike already, and no coarser pixels asked for, keep what they have.
    """
    coarsest = float(np.max(pixel_sizes))
    alike = np.ptp(box_sizes) == 0 and np.ptp(pixel_sizes) <= SAME_PIXEL_SIZE * coarsest
    if pixel_size is None or pixel_size <= coarsest * (1 + SAME_PIXEL_SIZE):
        if alike:
            return int(box_sizes[0]), float(pixel_sizes[0])
        pixel_size = coarsest
    field = float(np.min(box_sizes * pixel_sizes))
    return 2 * int(field / pixel_size * (1 + SAME_PIXEL_SIZE) / 2), float(pixel_size)


def resampling_matrix(
    box_size: int, pixel_size: float, new_box_size: int, new_pixel_size: float
) -> Float[Tensor, "new old"]:
    """Matrix T (float64) that resamples one axis; an image becomes ``T image Tᵀ``.

    ``T_ji = 1/n Σ_k w_k cos(2π k (y_j - x_i) / (n p))`` with pixels x_i = (i - n // 2) p and y_j = (j - m // 2) q, and
    w_k = 1 below the new Nyquist frequency; on it (and on the old one of even n, which stands for two frequencies) ½,
    so that the result is real and nothing changes where the grids are the same. New pixels outside the field of view
    are 0.
    """
    field = box_size * pixel_size
    k = torch.arange(-(box_size // 2), box_size // 2 + 1, dtype=torch.float64)
    nyquist = field / (2 * new_pixel_size)
    halved = k.abs() * 2 == box_size
    weight = (k.abs() < nyquist + _AT_NYQUIST).double()
    weight[halved | ((k.abs() - nyquist).abs() <= _AT_NYQUIST)] *= 0.5
    old = (torch.arange(box_size, dtype=torch.float64) - box_size // 2) * pixel_size
    new = (torch.arange(new_box_size, dtype=torch.float64) - new_box_size // 2) * new_pixel_size
    angle_old, angle_new = (2 * torch.pi / field * x[:, None] * k for x in (old, new))
    matrix = (angle_new.cos() * weight) @ angle_old.cos().T + (angle_new.sin() * weight) @ angle_old.sin().T
    inside = new.abs() <= 0.5 * field * (1 + SAME_PIXEL_SIZE)
    return matrix * inside[:, None] / box_size


def resample(images: Float[Tensor, "batch y x"], matrix: Float[Tensor, "new old"]) -> Float[Tensor, "batch new new"]:
    """Resample images along both axes with a :func:`resampling_matrix`, in the images' precision."""
    matrix = matrix.to(images)
    return matrix @ images @ matrix.T
