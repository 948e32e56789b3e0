"""Compiled insertion of slices: the inner loop of ``backprojection``.

A slice adds to eight neighbours in a table far larger than any cache, and its next point to others. The points of many
images are therefore taken in the order of the table's cells, cube by cube. An entry is three numbers, so that two
neighbours along x are changed together, eight numbers at a time. Threads own planes of the table: what every number is
does not depend on how many there are.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from cryosphere.physics.compiled import compiled
from cryosphere.physics.slices_numba import locate
from cryosphere.physics.spreading_lanes import WIDTH, load, repeat, store

# Numbers of an entry: real and imaginary part of the values, and their power.
ENTRY = 3
# Entries by which tables reach beyond the slices: eight numbers at a time from the corner of a cell on stay within.
_MARGIN = 3
# Numbers of a cube of all tables that stay in a core's cache.
_CUBE_NUMBERS = 50_000
_FLOAT = np.float32


@compiled
@no_type_check
def row_starts(reach):
    """Where every row (z, y) of entries x ≥ 0 starts in a table of those within reach + 3 of the origin.

    Returns
    -------
    starts : int64 array of shape (2 * reach + 3, 2 * reach + 3)
        Indices of z and y are those of the frequency plus reach + 1.
    total : int
        Entries of the table.
    """
    side = 2 * reach + 3
    starts, total = np.empty((side, side), np.int64), 0
    for z in range(side):
        for y in range(side):
            starts[z, y] = total
            room = (reach + _MARGIN) ** 2 - (z - reach - 1) ** 2 - (y - reach - 1) ** 2
            total += 0 if room < 0 else int(math.sqrt(room)) + 1
    return starts, total


def cube_cells(n_tables: int) -> int:
    """Cells along an edge of a cube, at least 8."""
    return max(8, int((_CUBE_NUMBERS / (ENTRY * n_tables)) ** (1 / 3)))


@compiled
@no_type_check
def sort_points(rotmat, points, reach, cells):
    """Order the points of images by cubes of so many cells along an edge.

    Returns
    -------
    order : int64 array
        ``image * n_points + point``, cube by cube and ascending in each.
    layers : int64 array of shape (layer + 1,)
        Where the cubes of every layer along z start in it.
    """
    n_points, middle = len(points), reach + 1
    side, depth = (2 * reach + 2) // cells + 1, reach // cells + 1
    cubes = np.empty(len(rotmat) * n_points, np.int32)
    starts = np.zeros(side * side * depth + 1, np.int64)
    for image in range(len(rotmat)):
        for point in range(n_points):
            x, y, z, _ = locate(rotmat, image, points, point, middle)
            if not (x < reach and 1 <= y < 2 * reach + 1 and 1 <= z < 2 * reach + 1):
                raise ValueError("A slice leaves its table.")
            cube = (int(z) // cells * side + int(y) // cells) * depth + int(x) // cells
            cubes[image * n_points + point] = cube
            starts[cube + 1] += 1
    starts = np.cumsum(starts)
    place = starts[:-1].copy()
    order = np.empty(len(cubes), np.int64)
    for entry in range(len(cubes)):
        order[place[cubes[entry]]] = entry
        place[cubes[entry]] += 1
    return order, starts[:: side * depth].copy()


@compiled
@no_type_check
def _add_plane(sums, starts, offsets, shares, first, stop, plane, row, near, height, above, right, pair):
    """Add a value, given for both neighbours along x, to the four corners on one plane, in some tables."""
    one = _FLOAT(1.0)
    left, beside = load(pair, 0), load(pair, WIDTH)
    for up in range(2):
        weight = height * (above if up else one - above)
        start = ENTRY * (starts[plane, row + up] + near)
        both = repeat(weight * (one - right)) * left + repeat(weight * right) * beside
        for k in range(first, stop):
            at = offsets[k] + start
            store(sums, at, repeat(shares[k]) * both + load(sums, at))


@compiled
@no_type_check
def insert(order, bottom, top, sums, starts, rotmat, points, values, powers, owners, offsets, shares):
    """Add points to planes bottom … top - 1 of tables, in the order given; others of their corners are left out.

    Parameters
    ----------
    order : int64 array
        Points that may reach these planes (:func:`sort_points`).
    bottom, top : int
    sums : flat float32 array
        Tables of (frequency, 3) one after the other; frequencies are twice as dense as those of the images.
    starts : int64 array of shape (z, y)
        :func:`row_starts`.
    rotmat, points : float32 arrays of shape (image, 3, 3) and (point, 2)
    values, powers : complex64 and float32 arrays of shape (image, point)
    owners : int64 array of shape (image + 1,)
        Where every image's tables start in the following two.
    offsets, shares : int64 and float32 arrays
        Where these tables start in ``sums``, and the image's weight in them.
    """
    one, n_points, middle = _FLOAT(1.0), len(points), len(starts) // 2
    pair = np.zeros(2 * WIDTH, np.float32)
    for entry in order:
        image = entry // n_points
        point = entry - image * n_points
        x, y, z, sign = locate(rotmat, image, points, point, middle)
        near, row, plane = int(x), int(y), int(z)
        right, above, over = x - _FLOAT(near), y - _FLOAT(row), z - _FLOAT(plane)
        value, power = values[image, point], powers[image, point]
        pair[0] = pair[WIDTH + ENTRY] = value.real
        pair[1] = pair[WIDTH + ENTRY + 1] = sign * value.imag
        pair[2] = pair[WIDTH + ENTRY + 2] = power
        tables = offsets, shares, owners[image], owners[image + 1]
        if bottom <= plane < top:
            _add_plane(sums, starts, *tables, plane, row, near, one - over, above, right, pair)
        if bottom <= plane + 1 < top:
            _add_plane(sums, starts, *tables, plane + 1, row, near, over, above, right, pair)


@compiled
@no_type_check
def _sum_at(sums, tables, starts, reach, z, y, x):
    """Sums of some tables together at a frequency (indices along z and y those of a transform of 2 · reach)."""
    z = z if z < reach else z - 2 * reach
    y = y if y < reach else y - 2 * reach
    re, im, power = _FLOAT(0.0), _FLOAT(0.0), _FLOAT(0.0)
    at, opposite = starts[z + reach + 1, y + reach + 1] + x, starts[reach + 1 - z, reach + 1 - y]
    for table in tables:
        re += sums[table, at, 0]
        im += sums[table, at, 1]
        power += sums[table, at, 2]
        if x == 0:  # here complex conjugates are entries too
            re += sums[table, opposite, 0]
            im -= sums[table, opposite, 1]
            power += sums[table, opposite, 2]
    return re, im, power


@compiled
@no_type_check
def _square(reach, z, y, x):
    z = z if z < reach else z - 2 * reach
    y = y if y < reach else y - 2 * reach
    return z * z + y * y + x * x


@compiled
@no_type_check
def mean_power(sums, tables, starts, reach, n_shells):
    """Mean power of some tables together in shells of two entries' width, within ``reach``."""
    total, count = np.zeros(n_shells), np.zeros(n_shells)
    for z in range(2 * reach):
        for y in range(2 * reach):
            for x in range(reach):
                square = _square(reach, z, y, x)
                if square >= reach * reach:
                    break
                shell = int(0.5 * math.sqrt(square) + 0.5)
                twice = 1.0 if x == 0 else 2.0
                total[shell] += twice * _sum_at(sums, tables, starts, reach, z, y, x)[2]
                count[shell] += twice
    return total / np.maximum(count, 1.0)


@compiled
@no_type_check
def divide(first, sums, tables, starts, reach, prior, planes):
    """Fill planes of constant x from ``first`` on, of shape (x, 2 · reach, 2 · reach), with values over powers, to
    which ``prior`` of every shell is added."""
    planes[:] = 0.0
    for z in range(2 * reach):
        for y in range(2 * reach):
            for x in range(first, first + len(planes)):
                square = _square(reach, z, y, x)
                if square >= reach * reach:
                    break
                shell = int(0.5 * math.sqrt(square) + 0.5)
                re, im, power = _sum_at(sums, tables, starts, reach, z, y, x)
                divisor = power + prior[shell]
                planes[x - first, z, y] = complex(re / divisor, im / divisor)
