"""Spreading of Gaussians on CUDA, compiled by Triton; ``spreading`` says what is computed.

One program per Gaussian and image (or plane of a volume): it adds its patch to the grid atomically, so that the last
bits of images vary from run to run, or reads the patch and makes the Gaussian's gradients.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.spreading_torch import half_widths


@triton.jit
@no_type_check
def _axis(coordinate, sigma, reach, size, WIDTH: tl.constexpr):
    """Grid indices about a coordinate, their distances and Gaussian values, and which are in window and grid."""
    nearest = tl.floor(coordinate + 0.5)
    step = tl.arange(0, WIDTH) - reach
    index = step + nearest.to(tl.int32) + size // 2
    distance = step.to(tl.float32) - (coordinate - nearest)
    inside = (step <= reach) & (index >= 0) & (index < size)
    value = tl.where(inside, tl.exp(-0.5 * distance * distance / (sigma * sigma)), 0.0)
    return index, distance, value, inside


@triton.jit
@no_type_check
def _spread(images, coordinates, weights, sigma, reach, n_gaussians, rows, columns, WIDTH: tl.constexpr):
    program = tl.program_id(0)
    image, g = program // n_gaussians, program % n_gaussians
    width, half = tl.load(sigma + g), tl.load(reach + g).to(tl.int32)
    x, _, along_x, in_x = _axis(tl.load(coordinates + program * 2), width, half, columns, WIDTH)
    y, _, along_y, in_y = _axis(tl.load(coordinates + program * 2 + 1), width, half, rows, WIDTH)
    patch = tl.load(weights + g) * along_y[:, None] * along_x[None, :]
    at = image.to(tl.int64) * rows * columns + y[:, None] * columns + x[None, :]
    tl.atomic_add(images + at, patch, mask=in_y[:, None] & in_x[None, :], sem="relaxed")


@triton.jit
@no_type_check
def _gather(slopes, coordinates, weights, sigma, reach, to_coordinates, to_weights, to_sigma, n_gaussians, rows,
            columns, WIDTH: tl.constexpr):  # fmt: skip
    program = tl.program_id(0)
    image, g = program // n_gaussians, program % n_gaussians
    width, half = tl.load(sigma + g), tl.load(reach + g).to(tl.int32)
    x, dx, along_x, in_x = _axis(tl.load(coordinates + program * 2), width, half, columns, WIDTH)
    y, dy, along_y, in_y = _axis(tl.load(coordinates + program * 2 + 1), width, half, rows, WIDTH)
    at = image.to(tl.int64) * rows * columns + y[:, None] * columns + x[None, :]
    patch = tl.load(slopes + at, mask=in_y[:, None] & in_x[None, :], other=0.0) * along_y[:, None] * along_x[None, :]
    sharpness = 1.0 / (width * width)
    by_x, by_y = tl.sum(patch, axis=0), tl.sum(patch, axis=1)
    scale = tl.load(weights + g) * sharpness
    tl.store(to_coordinates + program * 2, scale * tl.sum(by_x * dx))
    tl.store(to_coordinates + program * 2 + 1, scale * tl.sum(by_y * dy))
    tl.store(to_weights + program, tl.sum(by_x))
    tl.store(to_sigma + program, scale / width * (tl.sum(by_x * dx * dx) + tl.sum(by_y * dy * dy)))


@triton.jit
@no_type_check
def _spread_volume(volume, coordinates, weights, sigma, reach, size, WIDTH: tl.constexpr):
    g = tl.program_id(0)
    width, half = tl.load(sigma + g), tl.load(reach + g).to(tl.int32)
    x, _, along_x, in_x = _axis(tl.load(coordinates + g * 3), width, half, size, WIDTH)
    y, _, along_y, in_y = _axis(tl.load(coordinates + g * 3 + 1), width, half, size, WIDTH)
    z = tl.load(coordinates + g * 3 + 2)
    step, nearest = tl.program_id(1) - half, tl.floor(z + 0.5)
    plane = nearest.to(tl.int32) + size // 2 + step
    if (step <= half) & (plane >= 0) & (plane < size):
        distance = step.to(tl.float32) - (z - nearest)
        height = tl.load(weights + g) * tl.exp(-0.5 * distance * distance / (width * width))
        at = plane.to(tl.int64) * size * size + y[:, None] * size + x[None, :]
        patch = height * along_y[:, None] * along_x[None, :]
        tl.atomic_add(volume + at, patch, mask=in_y[:, None] & in_x[None, :], sem="relaxed")


def _prepared(sigma: Tensor, window: float, *tensors: Tensor) -> tuple[list[Tensor], int]:
    """What every kernel reads, and the edge of its patch: a power of two."""
    reach = half_widths(sigma, window)
    return [tensor.contiguous() for tensor in (*tensors, sigma, reach)], triton.next_power_of_2(
        2 * int(reach.max()) + 1
    )


def spread(
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    height: int,
    width: int,
    window: float,
) -> Float[Tensor, "image y x"]:
    """Images of sums of Gaussians: ``spreading_torch.spread``, on CUDA."""
    inputs, patch = _prepared(sigma, window, coordinates, weights)
    images = coordinates.new_zeros(len(coordinates), height, width)
    n_images, n_gaussians = coordinates.shape[:2]
    _spread[(n_images * n_gaussians,)](images, *inputs, n_gaussians, height, width, WIDTH=patch)
    return images


def gather(
    slopes: Float[Tensor, "image y x"],
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    window: float,
) -> tuple[Float[Tensor, "image gaussian 2"], Float[Tensor, " gaussian"], Float[Tensor, " gaussian"]]:
    """Gradients of coordinates, weights and sigma from those of the images: ``spreading_torch.gather``, on CUDA."""
    inputs, patch = _prepared(sigma, window, slopes, coordinates, weights)
    n_images, n_gaussians = coordinates.shape[:2]
    results = [coordinates.new_empty(n_images, n_gaussians, 2)]
    results += [coordinates.new_empty(n_images, n_gaussians) for _ in range(2)]
    _gather[(n_images * n_gaussians,)](*inputs, *results, n_gaussians, *slopes.shape[1:], WIDTH=patch)
    return results[0], results[1].sum(0), results[2].sum(0)


def spread_volume(
    coordinates: Float[Tensor, "gaussian 3"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    size: int,
    window: float,
) -> Float[Tensor, "z y x"]:
    """Volume of a sum of Gaussians: ``spreading_torch.spread_volume``, on CUDA."""
    inputs, width = _prepared(sigma, window, coordinates, weights)
    volume = torch.zeros(size, size, size, dtype=coordinates.dtype, device=coordinates.device)
    _spread_volume[(len(coordinates), width)](volume, *inputs, size, WIDTH=width)
    return volume
