"""Spreading of Gaussians in plain torch: the reference for the compiled kernels, and what runs without them.

Everything is in grid units; coordinates (x, y, z) are counted from the grid point ``size // 2`` along each axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Largest number of grid values spread in one go; larger batches are split (memory, cache).
_VALUES_PER_CHUNK = 4_000_000


def half_widths(sigma: Float[Tensor, " gaussian"], window: float) -> Int[Tensor, " gaussian"]:
    """Grid points on either side of the nearest one at which a Gaussian counts: ``window`` widths, rounded up."""
    return torch.ceil(window * sigma.detach()).long()


def spread(
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    height: int,
    width: int,
    window: float,
) -> Float[Tensor, "image y x"]:
    """Sum weight · exp(-½ d²/σ²) on grids, d the distance of a grid point from the Gaussian.

    Parameters
    ----------
    coordinates : tensor of shape (image, gaussian, 2)
        x and y from the grid point (``width // 2``, ``height // 2``); what is outside the grid is left out.
    weights, sigma : tensors of shape (gaussian,)
        Heights, and widths of at least 0.3 (narrower ones could not be sampled).
    height, width : int
        Grid points along y and along x.
    window : float
        Widths at which a Gaussian is cut, rounded up to whole grid points from the nearest one.
    """
    half_width = half_widths(sigma, window)
    images = coordinates.new_zeros(len(coordinates), height * width)
    for rows in _chunks(coordinates, half_width):
        flat, _, (gx, gy) = _patches(coordinates[rows], sigma, half_width, height, width)
        patch = (gy * weights[:, None])[..., :, None] * gx[..., None, :]
        images[rows] = images[rows].scatter_add(1, flat.flatten(1), patch.flatten(1))
    return images.view(-1, height, width)


def gather(
    slopes: Float[Tensor, "image y x"],
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    window: float,
) -> tuple[Float[Tensor, "image gaussian 2"], Float[Tensor, " gaussian"], Float[Tensor, " gaussian"]]:
    """Gradients of coordinates, weights and sigma from those of :func:`spread`'s images (``slopes``)."""
    half_width = half_widths(sigma, window)
    to_coordinates = torch.empty_like(coordinates)
    to_weights, to_sigma = torch.zeros_like(weights), torch.zeros_like(sigma)
    grid = slopes.flatten(1)
    for rows in _chunks(coordinates, half_width):
        flat, (dx, dy), (gx, gy) = _patches(coordinates[rows], sigma, half_width, *slopes.shape[1:])
        patch = grid[rows].gather(1, flat.flatten(1)).view(flat.shape)
        moments = patch @ torch.stack([gx, gx * dx, gx * dx**2], dim=-1)
        along_x = (gy * moments[..., 1]).sum(-1)
        along_y = (gy * dy * moments[..., 0]).sum(-1)
        square = (gy * (moments[..., 2] + dy**2 * moments[..., 0])).sum(-1)
        to_coordinates[rows] = torch.stack([along_x, along_y], dim=-1) * (weights / sigma**2)[:, None]
        to_weights += (gy * moments[..., 0]).sum((0, 2))
        to_sigma += square.sum(0) * weights / sigma**3
    return to_coordinates, to_weights, to_sigma


def spread_volume(
    coordinates: Float[Tensor, "gaussian 3"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    size: int,
    window: float,
) -> Float[Tensor, "z y x"]:
    """:func:`spread` on a cubic grid."""
    half_width = half_widths(sigma, window)
    volume = coordinates.new_zeros(size**3)
    step = max(1, _VALUES_PER_CHUNK // (2 * int(half_width.max()) + 1) ** 3)
    for start in range(0, len(coordinates), step):
        rows = slice(start, start + step)
        axes = [_window(coordinates[rows, axis], sigma[rows], half_width[rows], size) for axis in range(3)]
        (x, _, gx), (y, _, gy), (z, _, gz) = axes
        flat = (z[:, :, None, None] * size + y[:, None, :, None]) * size + x[:, None, None, :]
        patch = (weights[rows, None] * gz)[:, :, None, None] * (gy[:, None, :, None] * gx[:, None, None, :])
        volume.index_add_(0, flat.flatten(), patch.flatten())
    return volume.view(size, size, size)


def _window(coordinates: Tensor, sigma: Tensor, half_width: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grid indices, distances and Gaussian values about coordinates [..., g]; values beyond window or grid are 0."""
    widest = int(half_width.max())
    reach = torch.arange(-widest, widest + 1, device=coordinates.device)
    nearest = torch.round(coordinates)
    index = nearest.long()[..., None] + reach + size // 2
    distance = reach.to(coordinates) + (nearest - coordinates)[..., None]
    outside = (index < 0) | (index >= size) | (reach.abs() > half_width[:, None])
    value = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2).masked_fill(outside, 0.0)
    return index.clamp(0, size - 1), distance, value


def _patches(
    coordinates: Tensor, sigma: Tensor, half_width: Tensor, height: int, width: int
) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Flat indices of patches, and distances and values along x and y."""
    x, dx, gx = _window(coordinates[..., 0], sigma, half_width, width)
    y, dy, gy = _window(coordinates[..., 1], sigma, half_width, height)
    return y[..., :, None] * width + x[..., None, :], (dx, dy), (gx, gy)


def _chunks(coordinates: Tensor, half_width: Tensor) -> list[slice]:
    per_image = max(1, coordinates.shape[1] * (2 * int(half_width.max()) + 1) ** 2)
    step = max(1, _VALUES_PER_CHUNK // per_image)
    return [slice(start, start + step) for start in range(0, len(coordinates), step)]
