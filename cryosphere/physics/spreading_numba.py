"""Spreading of Gaussians on CPUs, compiled by numba; ``spreading`` says what is computed.

A Gaussian's patch is never kept: its values along each axis come from one exponential by recurrence, and its rows are
added to the grid, or read from it, eight numbers at a time. Threads share out images, or rows and Gaussians of them,
so that every number is made by one thread in the Gaussians' order: results do not depend on how many there are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from cryosphere.physics.spreading_lanes import WIDTH, load, multiply_add, repeat, store, total
from cryosphere.physics.spreading_torch import half_widths

# Pieces of work per thread: when another program takes one core, the other cores take over what is left.
_PIECES = 4


def _compiled(function: Callable) -> Callable:
    """Compile when first called, keeping the result on disk where any folder can be written."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)


@_compiled
@no_type_check
def _padded(length):
    return (length + WIDTH - 1) // WIDTH * WIDTH


@_compiled
@no_type_check
def _buffer(reach, dtype):
    """Values along an axis with so many zeros on both sides that padded rows at the grid's edge stay within."""
    return np.zeros(2 * (reach + _padded(2 * reach + 1)) + 1, dtype)


@_compiled
@no_type_check
def _place(coordinate, size):
    """Index of the nearest grid point, and the offset from it."""
    nearest = np.rint(np.float64(coordinate))
    return np.int64(nearest) + size // 2, np.float64(coordinate) - nearest


@_compiled
@no_type_check
def _fill(values, reach, height, offset, sharpness, decay):
    """Fill the middle of ``values`` with ``height`` · exp(k offset/σ²) exp(-½ k²/σ²), from k = 0 outwards.

    With a height of exp(-½ offset²/σ²) that is the Gaussian; ``sharpness`` is 1/σ² and ``decay`` exp(-½/σ²).
    """
    middle = len(values) // 2
    step = math.exp(offset * sharpness)
    forth, back = decay * step, decay / step
    decay *= decay
    up = down = height
    values[middle] = height
    for k in range(1, reach + 1):
        up *= forth
        down *= back
        values[middle + k] = up
        values[middle - k] = down
        forth *= decay
        back *= decay


@_compiled
@no_type_check
def _add_plane(grid, start, stride, rows, along_x, along_y, x, y, reach, weight):
    """Add weight · along_y ⊗ along_x about the point (x, y) of the plane that starts at a flat index."""
    middle = len(along_x) // 2
    length = _padded(2 * reach + 1)
    first = max(0, min(x - reach, stride - length))
    for row in range(max(y - reach, rows[0]), min(y + reach + 1, rows[1])):
        scale = repeat(weight * along_y[middle + row - y])
        at, values = start + row * stride + first, middle + first - x
        for step in range(0, length, WIDTH):
            store(grid, at + step, multiply_add(scale, load(along_x, values + step), load(grid, at + step)))


@_compiled
@no_type_check
def _spread(images, coordinates, weights, sigma, half_width, rows):
    """Add all Gaussians to the rows of images (image, y, x) that are asked for."""
    _, size, stride = images.shape
    grid = images.reshape(-1)
    along_x, along_y = _buffer(half_width.max(), images.dtype), _buffer(half_width.max(), images.dtype)
    width = sharpness = decay = 0.0
    for image in range(len(coordinates)):
        for g in range(len(weights)):
            if sigma[g] != width:
                width = np.float64(sigma[g])
                sharpness, decay = 1 / width**2, math.exp(-0.5 / width**2)
                along_x[:] = 0.0
            reach = half_width[g]
            x, x_offset = _place(coordinates[image, g, 0], size)
            y, y_offset = _place(coordinates[image, g, 1], size)
            if x + reach < 0 or x - reach >= size or y + reach < rows[0] or y - reach >= rows[1]:
                continue
            height = math.exp(-0.5 * (x_offset**2 + y_offset**2) * sharpness)
            _fill(along_x, reach, height, x_offset, sharpness, decay)
            _fill(along_y, reach, 1.0, y_offset, sharpness, decay)
            _add_plane(grid, image * size * stride, stride, rows, along_x, along_y, x, y, reach, weights[g])


@_compiled
@no_type_check
def _spread_volume(volume, coordinates, weights, sigma, half_width, planes):
    """Add all Gaussians to the planes of a volume (z, y, x) that are asked for."""
    _, size, stride = volume.shape
    grid = volume.reshape(-1)
    along_x, along_y = _buffer(half_width.max(), volume.dtype), _buffer(half_width.max(), volume.dtype)
    along_z = _buffer(half_width.max(), volume.dtype)
    middle = len(along_z) // 2
    width = sharpness = decay = 0.0
    for g in range(len(weights)):
        if sigma[g] != width:
            width = np.float64(sigma[g])
            sharpness, decay = 1 / width**2, math.exp(-0.5 / width**2)
            along_x[:] = 0.0
        reach = half_width[g]
        x, x_offset = _place(coordinates[g, 0], size)
        y, y_offset = _place(coordinates[g, 1], size)
        z, z_offset = _place(coordinates[g, 2], size)
        if x + reach < 0 or x - reach >= size or z + reach < planes[0] or z - reach >= planes[1]:
            continue
        height = math.exp(-0.5 * (x_offset**2 + y_offset**2 + z_offset**2) * sharpness)
        _fill(along_x, reach, height, x_offset, sharpness, decay)
        _fill(along_y, reach, 1.0, y_offset, sharpness, decay)
        _fill(along_z, reach, 1.0, z_offset, sharpness, decay)
        for plane in range(max(z - reach, planes[0]), min(z + reach + 1, planes[1])):
            weight = weights[g] * along_z[middle + plane - z]
            _add_plane(grid, plane * size * stride, stride, (0, size), along_x, along_y, x, y, reach, weight)


@_compiled
@no_type_check
def _read_plane(grid, start, stride, size, along_x, along_y, x, y, reach, offsets, steps, moments):
    """Sums over a patch of grid · along_y ⊗ along_x times 1, dx, dy and dx² + dy² (distances from the Gaussian).

    ``steps`` are the numbers of the grid points, 0 in the middle; ``moments`` is room for along_y times dy and dy².
    """
    middle = len(along_x) // 2
    length = _padded(2 * reach + 1)
    zero = repeat(grid.dtype.type(0))
    one = repeat(grid.dtype.type(1))
    x_shift, y_shift = repeat(grid.dtype.type(-offsets[0])), repeat(grid.dtype.type(-offsets[1]))
    for at in range(middle - reach, middle - reach + length, WIDTH):
        distance = multiply_add(one, load(steps, at), y_shift)
        linear = multiply_add(distance, load(along_y, at), zero)
        store(moments[0], at, linear)
        store(moments[1], at, multiply_add(distance, linear, zero))
    first = max(0, min(x - reach, stride - length))
    of_one, of_x, of_y, of_square = zero, zero, zero, zero
    for step in range(0, length, WIDTH):
        plain, linear, square = zero, zero, zero
        for row in range(max(y - reach, 0), min(y + reach + 1, size)):
            here = load(grid, start + row * stride + first + step)
            plain = multiply_add(here, repeat(along_y[middle + row - y]), plain)
            linear = multiply_add(here, repeat(moments[0, middle + row - y]), linear)
            square = multiply_add(here, repeat(moments[1, middle + row - y]), square)
        at = middle + first - x + step
        value, distance = load(along_x, at), multiply_add(one, load(steps, at), x_shift)
        part = multiply_add(plain, value, zero)
        of_one = multiply_add(one, part, of_one)
        of_y = multiply_add(linear, value, of_y)
        part = multiply_add(part, distance, zero)
        of_x = multiply_add(one, part, of_x)
        of_square = multiply_add(square, value, multiply_add(part, distance, of_square))
    return total(of_one), total(of_x), total(of_y), total(of_square)


@_compiled
@no_type_check
def _gather(slopes, coordinates, weights, sigma, half_width, gaussians, to_coordinates, to_weights, to_sigma):
    """Gradients of the Gaussians that are asked for, from those of images (image, y, x), per image."""
    _, size, stride = slopes.shape
    grid = slopes.reshape(-1)
    along_x, along_y = _buffer(half_width.max(), slopes.dtype), _buffer(half_width.max(), slopes.dtype)
    steps = np.arange(len(along_x)).astype(slopes.dtype) - len(along_x) // 2
    moments = np.zeros((2, len(along_x)), slopes.dtype)
    width = sharpness = decay = 0.0
    for image in range(len(coordinates)):
        for g in range(gaussians[0], gaussians[1]):
            if sigma[g] != width:
                width = np.float64(sigma[g])
                sharpness, decay = 1 / width**2, math.exp(-0.5 / width**2)
                along_x[:] = 0.0
            reach = half_width[g]
            x, x_offset = _place(coordinates[image, g, 0], size)
            y, y_offset = _place(coordinates[image, g, 1], size)
            if x + reach < 0 or x - reach >= size or y + reach < 0 or y - reach >= size:
                continue
            height = math.exp(-0.5 * (x_offset**2 + y_offset**2) * sharpness)
            _fill(along_x, reach, height, x_offset, sharpness, decay)
            _fill(along_y, reach, 1.0, y_offset, sharpness, decay)
            one, by_x, by_y, by_square = _read_plane(
                grid,
                image * size * stride,
                stride,
                size,
                along_x,
                along_y,
                x,
                y,
                reach,
                (x_offset, y_offset),
                steps,
                moments,
            )
            to_coordinates[image, g, 0] = by_x * weights[g] * sharpness
            to_coordinates[image, g, 1] = by_y * weights[g] * sharpness
            to_weights[image, g] = one
            to_sigma[image, g] = by_square * weights[g] * sharpness / width


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="spreading")


# A forked process has the pool's threads no more.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _cut(length: int, count: int) -> list[tuple[int, int]]:
    """Ranges of nearly equal length that cover ``range(length)``."""
    edges = [length * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _share(work: Callable[[slice, tuple[int, int]], None], n_images: int, n_items: int) -> None:
    """Do ``work`` on slices of images and ranges of their items, in as many threads as torch uses."""
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        work(slice(0, n_images), (0, n_items))
        return
    pieces = min(n_images, _PIECES * n_threads)
    images = [slice(*part) for part in _cut(n_images, pieces)]
    items = _cut(n_items, math.ceil(n_threads / pieces))
    pool = _pool(n_threads)
    for future in [pool.submit(work, part, some) for part in images for some in items]:
        future.result()


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def spread(
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    size: int,
    window: float,
) -> Float[Tensor, "image y x"]:
    """Images of sums of Gaussians: ``spreading_torch.spread``, compiled."""
    reach = half_widths(sigma, window)
    stride = max(size, int(_padded(2 * int(reach.max()) + 1)))
    images = coordinates.new_zeros(len(coordinates), size, stride)
    grid, at, *rest = _arrays(images, coordinates, weights, sigma, reach)
    _share(lambda part, rows: _spread(grid[part], at[part], *rest, rows), len(images), size)
    return images[..., :size]


def gather(
    slopes: Float[Tensor, "image y x"],
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    window: float,
) -> tuple[Float[Tensor, "image gaussian 2"], Float[Tensor, " gaussian"], Float[Tensor, " gaussian"]]:
    """Gradients of coordinates, weights and sigma from those of the images: ``spreading_torch.gather``, compiled."""
    reach = half_widths(sigma, window)
    missing = max(0, int(_padded(2 * int(reach.max()) + 1)) - slopes.shape[-1])
    if missing:
        slopes = torch.nn.functional.pad(slopes, (0, missing))
    results = [torch.zeros_like(coordinates, memory_format=torch.contiguous_format)]
    results += [coordinates.new_zeros(coordinates.shape[:2]) for _ in range(2)]
    grid, at, w, s, half, *gradients = _arrays(slopes, coordinates, weights, sigma, reach, *results)
    _share(
        lambda part, some: _gather(grid[part], at[part], w, s, half, some, *(array[part] for array in gradients)),
        len(coordinates),
        len(weights),
    )
    return results[0], results[1].sum(0), results[2].sum(0)


def spread_volume(
    coordinates: Float[Tensor, "gaussian 3"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    size: int,
    window: float,
) -> Float[Tensor, "z y x"]:
    """Volume of a sum of Gaussians: ``spreading_torch.spread_volume``, compiled."""
    reach = half_widths(sigma, window)
    stride = max(size, int(_padded(2 * int(reach.max()) + 1)))
    volume = coordinates.new_zeros(size, size, stride)
    grid, *rest = _arrays(volume, coordinates, weights, sigma, reach)
    _share(lambda _, planes: _spread_volume(grid, *rest, planes), 1, size)
    return volume[..., :size]
