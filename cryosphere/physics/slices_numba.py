"""Compiled slices: the work of ``slices`` on CPUs.

A slice is a sum over eight neighbours in a table far larger than any cache. The points of many images are therefore
taken in the order of the table's cells, cube by cube, so that what is read of it serves all images, and no slice is
ever written. What every number is does not depend on the images or threads that it is made with.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from cryosphere.physics.compiled import compiled
from cryosphere.physics.spreading_lanes import WIDTH, load, repeat, store

# Numbers of a cube of the table that stay in a core's cache.
_CUBE_NUMBERS = 65_000
# Complex numbers that come into the cache together.
_LINE = 8
_FLOAT = np.float32


@compiled
@no_type_check
def _row_end(reach, z, y):
    """Entries with x ≥ 0 that slices may need in a row of the table, given its indices: those within reach + 1."""
    room = (reach + 1) ** 2 - (z - reach) ** 2 - (y - reach) ** 2
    return 0 if room < 0 else min(reach, int(math.sqrt(room))) + 1


@compiled
@no_type_check
def write(first, last, spectra, factor, column, values):
    """Write spectra, times a factor along every axis, to columns of a table: ``slices._write``.

    Parameters
    ----------
    first, last : int
        Frequencies first … last - 1 along y are written.
    spectra : complex64 array of shape (volume, y, x, z)
        Frequencies along z in the transform's order.
    factor : complex64 array of shape (y,)
    column : int
        That of the first volume's real part.
    values : float32 array of shape (frequency, 2 * all volumes)
        Rows that no slice needs are left as they are.
    """
    count, n_y, n_x, n_z = spectra.shape
    n_volumes, reach = values.shape[1] // 2, n_x - 1
    for y in range(first, last):
        for near in range(0, n_y, _LINE):
            for z in range(near, min(near + _LINE, n_y)):
                along = factor[z] * factor[y]
                start, place = (z * n_y + y) * n_x, (z - reach) % n_z
                for x in range(_row_end(reach, z, y)):
                    scale = along * factor[reach + x]
                    for volume in range(count):
                        value = spectra[volume, y, x, place] * scale
                        values[start + x, column + volume] = value.real
                        values[start + x, n_volumes + column + volume] = value.imag


@compiled
@no_type_check
def locate(rotmat, image, points, point, middle):
    """Place of a point in the table, in entries along x, y and z, and the sign of the frequency found there; the
    table has frequency 0 at entry ``middle`` along y and z."""
    twice, kx, ky = _FLOAT(2.0), points[point, 0], points[point, 1]
    x = twice * (kx * rotmat[image, 0, 0] + ky * rotmat[image, 1, 0])
    y = twice * (kx * rotmat[image, 0, 1] + ky * rotmat[image, 1, 1])
    z = twice * (kx * rotmat[image, 0, 2] + ky * rotmat[image, 1, 2])
    sign = _FLOAT(-1.0) if x < 0 else _FLOAT(1.0)
    return sign * x, sign * y + _FLOAT(middle), sign * z + _FLOAT(middle), sign


@compiled
@no_type_check
def _sort(first, last, rotmat, points, reach, cells):
    """Order the points of some images by cubes of so many cells along an edge.

    Returns
    -------
    order : int64 array
        ``image * n_points + point``, cube by cube and ascending in each.
    starts : int64 array of shape (cube + 1,)
        Where cubes (z, y, x) start in it.
    """
    n_points, n_images = len(points), last - first
    side, depth = 2 * reach // cells + 1, reach // cells + 1
    cubes = np.empty(n_images * n_points, np.int32)
    starts = np.zeros(side * side * depth + 1, np.int64)
    for image in range(n_images):
        for point in range(n_points):
            x, y, z, _ = locate(rotmat, first + image, points, point, reach)
            if not (x < reach and 0 <= y < 2 * reach and 0 <= z < 2 * reach):
                raise ValueError("A slice leaves its table.")
            cube = (int(z) // cells * side + int(y) // cells) * depth + int(x) // cells
            cubes[image * n_points + point] = cube
            starts[cube + 1] += 1
    starts = np.cumsum(starts)
    place = starts[:-1].copy()
    order = np.empty(n_images * n_points, np.int64)
    for entry in range(len(order)):
        order[place[cubes[entry]]] = first * n_points + entry
        place[cubes[entry]] += 1
    return order, starts


@compiled
@no_type_check
def _interpolate(values, at, along, weights):
    """Weighted sum of the entries at the eight corners of a cell, eight volumes of each."""
    first = weights[0] * load(values, at) + weights[1] * load(values, at + along[0])
    second = weights[2] * load(values, at + along[1]) + weights[3] * load(values, at + along[1] + along[0])
    at += along[2]
    first = weights[4] * load(values, at) + first
    first = weights[5] * load(values, at + along[0]) + first
    second = weights[6] * load(values, at + along[1]) + second
    second = weights[7] * load(values, at + along[1] + along[0]) + second
    return first + second


@compiled
@no_type_check
def _corners(x, y, z):
    """Weights of a cell's corners, x fastest, at an offset from its first corner."""
    one = _FLOAT(1.0)
    a, b, c, d = (one - z) * (one - y), (one - z) * y, z * (one - y), z * y
    left = one - x
    return (
        repeat(a * left),
        repeat(a * x),
        repeat(b * left),
        repeat(b * x),
        repeat(c * left),
        repeat(c * x),
        repeat(d * left),
        repeat(d * x),
    )


@compiled
@no_type_check
def _add_points(order, start, values, reach, rotmat, points, given, sums, row):
    """Add what the points of one image in a cube give to its sums (1 + n, volume); where the next image starts."""
    n_points, n_given, n_volumes = len(points), given.shape[2], len(row) // 2 - WIDTH
    image, place, middle = order[start] // n_points, start, n_volumes // 2
    along = (2 * n_volumes, 2 * n_volumes * (reach + 1), 2 * n_volumes * (reach + 1) * (2 * reach + 1))
    while place < len(order) and order[place] < (image + 1) * n_points:
        point = order[place] - image * n_points
        x, y, z, sign = locate(rotmat, image, points, point, reach)
        near = (int(x), int(y), int(z))
        weights = _corners(x - _FLOAT(near[0]), y - _FLOAT(near[1]), z - _FLOAT(near[2]))
        at = near[2] * along[2] + near[1] * along[1] + near[0] * along[0]
        share = repeat(given[image, point, 0].real)
        for volume in range(0, n_volumes, WIDTH):
            re = _interpolate(values, at + volume, along, weights)
            im = _interpolate(values, at + n_volumes + volume, along, weights)
            store(row, volume, re)
            store(row, n_volumes + WIDTH + volume, im)
            store(sums, volume, share * (re * re + im * im) + load(sums, volume))
            for number in range(1, n_given):
                to, factor = number * (n_volumes + WIDTH) + volume, given[image, point, number]
                part = repeat(factor.real) * re + load(sums, to)
                store(sums, to, repeat(sign * factor.imag) * im + part)
        given[image, point, 0] = complex(row[middle], sign * row[n_volumes + WIDTH + middle])
        place += 1
    return place


@compiled
@no_type_check
def contract(first, last, values, reach, rotmat, points, given, totals):
    """Contract slices of some images: ``slices.contract_slices``.

    Parameters
    ----------
    first, last : int
        Images first … last - 1 are worked on.
    values : float32 array of shape (frequency, 2 * volume)
    reach : int
        Largest index along x.
    rotmat, points : float32 arrays of shape (image, 3, 3) and (point, 2)
    given : complex64 array of shape (image, point, 1 + n)
        What is multiplied with the slices' squares (real) and with the slices; the former is replaced by the slice of
        the middle volume.
    totals : float32 array of shape (image, 1 + n, volume)
        Where the sums over points are added.
    """
    n_volumes, n_given, n_points = values.shape[1] // 2, given.shape[2], len(points)
    cells = max(1, int((_CUBE_NUMBERS / values.shape[1]) ** (1 / 3)) - 1)
    order, starts = _sort(first, last, rotmat, points, reach, cells)
    stride = n_volumes + WIDTH  # eight volumes at a time reach beyond the last
    row, sums = np.empty(2 * stride, np.float32), np.empty(n_given * stride, np.float32)
    flat = values.reshape(-1)
    for cube in range(len(starts) - 1):
        place, stop = starts[cube], starts[cube + 1]
        while place < stop:
            image = order[place] // n_points
            sums[:] = 0
            place = _add_points(order[:stop], place, flat, reach, rotmat, points, given, sums, row)
            for number in range(n_given):
                for volume in range(n_volumes):
                    totals[image, number, volume] += sums[number * stride + volume]
