"""Spreading of Gaussians on CPUs, compiled by numba; ``spreading`` says what is computed.

A Gaussian's patch is never kept: its values along each axis are powers of one exponential times a table that Gaussians
of one width share, and its rows are added to the grid, or read from it, eight numbers at a time. Threads share out
images, or rows and Gaussians of them, so that every number is made by one thread in the Gaussians' order: results do
not depend on how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.compiled import compiled, cut, in_threads
from cryosphere.physics.spreading_lanes import WIDTH, load, powers, repeat, store, total
from cryosphere.physics.spreading_torch import half_widths

# Pieces of work per thread: when another program takes one core, the other cores take over what is left.
_PIECES = 4


_compiled = partial(compiled, may_reorder=False)


@_compiled
@no_type_check
def _padded(length):
    return (length + WIDTH - 1) // WIDTH * WIDTH


@_compiled
@no_type_check
def _place(coordinate, size):
    """Index of the nearest grid point, and the offset from it."""
    nearest = np.rint(np.float64(coordinate))
    return np.int64(nearest) + size // 2, np.float64(coordinate) - nearest


@_compiled
@no_type_check
def _table(reach, dtype):
    """Room for exp(-½ k²/σ²) with so many zeros on both sides that padded rows at the grid's edge stay within."""
    return np.zeros(2 * (reach + _padded(2 * reach + 1)) + 1, dtype)


@_compiled
@no_type_check
def _tabulate(table, reach, sharpness):
    """Fill the middle of a table of exp(-½ k²/σ²); ``sharpness`` is 1/σ²."""
    table[:] = 0.0
    decay = math.exp(-0.5 * sharpness)
    value = factor = 1.0
    for k in range(reach + 1):
        table[len(table) // 2 + k] = table[len(table) // 2 - k] = value
        factor = decay if k == 0 else factor * decay * decay
        value *= factor


@_compiled
@no_type_check
def _profile(values, table, first, length, offset, sharpness, height):
    """Fill ``values`` with height · exp((k - first) offset/σ²) exp(-½ k²/σ²) for k = first, first + 1, …

    With a height of exp(-½ offset²/σ² + first offset/σ²) that is the Gaussian.
    """
    dtype = values.dtype.type
    step = math.exp(offset * sharpness)
    factor = repeat(dtype(height)) * powers(dtype(step))
    stride = repeat(dtype(step**WIDTH))
    for at in range(0, length, WIDTH):
        store(values, at, factor * load(table, len(table) // 2 + first + at))
        factor = factor * stride


@_compiled
@no_type_check
def _add_plane(grid, start, stride, n_rows, length, along_x, along_y, first_row, weight):
    """Add weight · along_y ⊗ along_x to rows of a grid, from a flat index on."""
    for step in range(0, length, WIDTH):
        values = load(along_x, step)
        for row in range(n_rows):
            at = start + row * stride + step
            store(grid, at, load(grid, at) + repeat(weight * along_y[first_row + row]) * values)


@_compiled
@no_type_check
def _spread(images, coordinates, weights, sigma, half_width, n_columns, rows):
    """Add all Gaussians to the rows of images (image, y, x) that are asked for; columns beyond are padding."""
    _, height, stride = images.shape
    grid = images.reshape(-1)
    table = _table(half_width.max(), images.dtype)
    along_x, along_y = np.empty_like(table), np.empty_like(table)
    width = sharpness = 0.0
    for image in range(len(coordinates)):
        for g in range(len(weights)):
            reach = half_width[g]
            if sigma[g] != width:
                width, sharpness = np.float64(sigma[g]), 1 / np.float64(sigma[g]) ** 2
                _tabulate(table, reach, sharpness)
            x, x_offset = _place(coordinates[image, g, 0], n_columns)
            y, y_offset = _place(coordinates[image, g, 1], height)
            if x + reach < 0 or x - reach >= n_columns or y + reach < rows[0] or y - reach >= rows[1]:
                continue
            length = _padded(2 * reach + 1)
            left, top, bottom = (
                max(0, min(x - reach, stride - length)),
                max(y - reach, rows[0]),
                min(y + reach + 1, rows[1]),
            )
            exponent = -0.5 * (x_offset**2 + y_offset**2) + (left - x) * x_offset - reach * y_offset
            _profile(along_x, table, left - x, length, x_offset, sharpness, math.exp(exponent * sharpness))
            _profile(along_y, table, -reach, length, y_offset, sharpness, 1.0)
            start = (image * height + top) * stride + left
            _add_plane(grid, start, stride, bottom - top, length, along_x, along_y, top - y + reach, weights[g])


@_compiled
@no_type_check
def _spread_volume(volume, coordinates, weights, sigma, half_width, planes):
    """Add all Gaussians to the planes of a volume (z, y, x) that are asked for."""
    _, size, stride = volume.shape
    grid = volume.reshape(-1)
    table = _table(half_width.max(), volume.dtype)
    along_x, along_y, along_z = np.empty_like(table), np.empty_like(table), np.empty_like(table)
    width = sharpness = 0.0
    for g in range(len(weights)):
        reach = half_width[g]
        if sigma[g] != width:
            width, sharpness = np.float64(sigma[g]), 1 / np.float64(sigma[g]) ** 2
            _tabulate(table, reach, sharpness)
        x, x_offset = _place(coordinates[g, 0], size)
        y, y_offset = _place(coordinates[g, 1], size)
        z, z_offset = _place(coordinates[g, 2], size)
        if x + reach < 0 or x - reach >= size or z + reach < planes[0] or z - reach >= planes[1]:
            continue
        length = _padded(2 * reach + 1)
        left, top, bottom = max(0, min(x - reach, stride - length)), max(y - reach, 0), min(y + reach + 1, size)
        exponent = -0.5 * (x_offset**2 + y_offset**2 + z_offset**2)
        exponent += (left - x) * x_offset - reach * (y_offset + z_offset)
        _profile(along_x, table, left - x, length, x_offset, sharpness, math.exp(exponent * sharpness))
        _profile(along_y, table, -reach, length, y_offset, sharpness, 1.0)
        _profile(along_z, table, -reach, length, z_offset, sharpness, 1.0)
        for plane in range(max(z - reach, planes[0]), min(z + reach + 1, planes[1])):
            start, weight = (plane * size + top) * stride + left, weights[g] * along_z[plane - z + reach]
            _add_plane(grid, start, stride, bottom - top, length, along_x, along_y, top - y + reach, weight)


@_compiled
@no_type_check
def _read_plane(grid, start, stride, n_rows, length, along_x, x_distance, y_moments, first_row):
    """Sums over a patch of grid · along_y ⊗ along_x times 1, dx, dy and dx² + dy² (distances from the Gaussian).

    ``y_moments`` has along_y times 1, dy and dy².
    """
    zero = repeat(grid.dtype.type(0))
    of_one, of_x, of_y, of_square = zero, zero, zero, zero
    for step in range(0, length, WIDTH):
        plain, linear, square = zero, zero, zero
        for row in range(n_rows):
            here = load(grid, start + row * stride + step)
            plain = plain + here * repeat(y_moments[0, first_row + row])
            linear = linear + here * repeat(y_moments[1, first_row + row])
            square = square + here * repeat(y_moments[2, first_row + row])
        value, distance = load(along_x, step), load(x_distance, step)
        plain = plain * value
        of_one = of_one + plain
        of_x = of_x + plain * distance
        of_y = of_y + linear * value
        of_square = of_square + square * value + plain * distance * distance
    return total(of_one), total(of_x), total(of_y), total(of_square)


@_compiled
@no_type_check
def _distances(values, steps, first, length, offset):
    """Fill ``values`` with k - offset for k = first, first + 1, …; ``steps`` counts from its middle."""
    shift = repeat(values.dtype.type(-offset))
    for at in range(0, length, WIDTH):
        store(values, at, load(steps, len(steps) // 2 + first + at) + shift)


@_compiled
@no_type_check
def _add_moments(values, distances, length):
    """Fill ``values[1]`` and ``values[2]`` with ``values[0]`` times distances and their squares."""
    for at in range(0, length, WIDTH):
        distance = load(distances, at)
        linear = load(values[0], at) * distance
        store(values[1], at, linear)
        store(values[2], at, linear * distance)


@_compiled
@no_type_check
def _gather(
    slopes, coordinates, weights, sigma, half_width, n_columns, gaussians, to_coordinates, to_weights, to_sigma
):
    """Gradients of the Gaussians that are asked for, from those of images (image, y, x), per image."""
    _, height, stride = slopes.shape
    grid = slopes.reshape(-1)
    table = _table(half_width.max(), slopes.dtype)
    steps = np.arange(len(table)).astype(slopes.dtype) - slopes.dtype.type(len(table) // 2)
    along_x, distances, along_y = np.empty_like(table), np.empty_like(table), np.empty((3, len(table)), slopes.dtype)
    width = sharpness = 0.0
    for image in range(len(coordinates)):
        for g in range(gaussians[0], gaussians[1]):
            reach = half_width[g]
            if sigma[g] != width:
                width, sharpness = np.float64(sigma[g]), 1 / np.float64(sigma[g]) ** 2
                _tabulate(table, reach, sharpness)
            x, x_offset = _place(coordinates[image, g, 0], n_columns)
            y, y_offset = _place(coordinates[image, g, 1], height)
            if x + reach < 0 or x - reach >= n_columns or y + reach < 0 or y - reach >= height:
                continue
            length = _padded(2 * reach + 1)
            left, top, bottom = max(0, min(x - reach, stride - length)), max(y - reach, 0), min(y + reach + 1, height)
            exponent = -0.5 * (x_offset**2 + y_offset**2) + (left - x) * x_offset - reach * y_offset
            _profile(along_y[0], table, -reach, length, y_offset, sharpness, 1.0)
            _distances(distances, steps, -reach, length, y_offset)
            _add_moments(along_y, distances, length)
            _profile(along_x, table, left - x, length, x_offset, sharpness, math.exp(exponent * sharpness))
            _distances(distances, steps, left - x, length, x_offset)
            start = (image * height + top) * stride + left
            one, by_x, by_y, by_square = _read_plane(
                grid, start, stride, bottom - top, length, along_x, distances, along_y, top - y + reach
            )
            to_coordinates[image, g, 0] = by_x * weights[g] * sharpness
            to_coordinates[image, g, 1] = by_y * weights[g] * sharpness
            to_weights[image, g] = one
            to_sigma[image, g] = by_square * weights[g] * sharpness / width


def _share(work: Callable[[slice, tuple[int, int]], None], n_images: int, n_items: int) -> None:
    """Do ``work`` on slices of images and ranges of their items, in as many threads as torch uses."""
    n_threads = torch.get_num_threads()
    pieces = min(n_images, _PIECES * n_threads) if n_threads > 1 else 1
    images = [slice(*part) for part in cut(n_images, pieces)]
    items = cut(n_items, math.ceil(n_threads / pieces))
    in_threads([partial(work, part, some) for part in images for some in items])


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def spread(
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    height: int,
    width: int,
    window: float,
) -> Float[Tensor, "image y x"]:
    """Images of sums of Gaussians: ``spreading_torch.spread``, compiled."""
    reach = half_widths(sigma, window)
    stride = max(width, int(_padded(2 * int(reach.max()) + 1)))
    images = coordinates.new_zeros(len(coordinates), height, stride)
    grid, at, *rest = _arrays(images, coordinates, weights, sigma, reach)
    _share(lambda part, rows: _spread(grid[part], at[part], *rest, width, rows), len(images), height)
    return images[..., :width]


def gather(
    slopes: Float[Tensor, "image y x"],
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    window: float,
) -> tuple[Float[Tensor, "image gaussian 2"], Float[Tensor, " gaussian"], Float[Tensor, " gaussian"]]:
    """Gradients of coordinates, weights and sigma from those of the images: ``spreading_torch.gather``, compiled."""
    reach = half_widths(sigma, window)
    width = slopes.shape[-1]
    missing = max(0, int(_padded(2 * int(reach.max()) + 1)) - width)
    if missing:
        slopes = torch.nn.functional.pad(slopes, (0, missing))
    results = [torch.zeros_like(coordinates, memory_format=torch.contiguous_format)]
    results += [coordinates.new_zeros(coordinates.shape[:2]) for _ in range(2)]
    grid, at, w, s, half, *gradients = _arrays(slopes, coordinates, weights, sigma, reach, *results)
    _share(
        lambda part, some: _gather(
            grid[part], at[part], w, s, half, width, some, *(array[part] for array in gradients)
        ),
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
