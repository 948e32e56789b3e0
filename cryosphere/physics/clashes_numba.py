"""Compiled search for residues that come too close: the work of ``clashes`` on the CPU."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from cryosphere.physics.compiled import compiled

# Cells along an axis per cube root of the number of residues, at most: beyond, cells grow with the structure.
_CELLS_PER_RESIDUE = 2.0


@compiled
@no_type_check
def overlaps_in_cells(first, last, positions, nominal, values, gradient, reach, tolerance, forgive):
    """Mean squared overlap of images first … last - 1 and its gradient.

    Parameters
    ----------
    first, last : int
    positions : array of shape (image, residue, 3), Å
    nominal : array of shape (residue, 3), Å
        Looked at if ``forgive``, else there may be none.
    values, gradient : arrays of shape (image,) and (image, residue, 3)
        Written.
    reach, tolerance : float, Å
    forgive : bool
        Whether pairs may be as near as in ``nominal``.
    """
    for image in range(first, last):
        points = positions[image]
        slope = np.zeros_like(points)
        if np.isfinite(points).all():
            order, starts, n_cells, cells = _sort_into_cells(points, reach)
            total, count = _add_pairs(
                points[order], order, starts, n_cells, cells[order], nominal, slope, reach, tolerance, forgive
            )
            values[image] = total / max(count, 1)
            gradient[image] = slope / max(count, 1)
        else:
            values[image] = np.nan
            gradient[image] = np.nan


@compiled
@no_type_check
def _sort_into_cells(points, reach):
    """Points by cells of at least ``reach`` along each edge.

    Returns
    -------
    order, starts : arrays of shape (point,) and (cell + 1,)
        Points cell by cell, x fastest, and where every cell begins.
    n_cells : array of shape (3,)
        Along x, y, z.
    cells : array of shape (point, 3)
        Of every point.
    """
    n_points = len(points)
    most = _CELLS_PER_RESIDUE * n_points ** (1 / 3) + 1
    n_cells, cells = np.empty(3, np.int64), np.empty((n_points, 3), np.int64)
    for axis in range(3):
        low, high = points[:, axis].min(), points[:, axis].max()
        n_cells[axis] = int(max(1.0, min(most, (high - low) / (reach * (1 + 1e-9)))))
        scale = n_cells[axis] / (high - low) if n_cells[axis] > 1 else 0.0
        for point in range(n_points):
            cells[point, axis] = min(n_cells[axis] - 1, int((points[point, axis] - low) * scale))
    flat = (cells[:, 2] * n_cells[1] + cells[:, 1]) * n_cells[0] + cells[:, 0]
    starts = np.zeros(n_cells[0] * n_cells[1] * n_cells[2] + 1, np.int64)
    for cell in flat:
        starts[cell + 1] += 1
    starts = np.cumsum(starts)
    place, order = starts[:-1].copy(), np.empty(n_points, np.int64)
    for point in range(n_points):
        order[place[flat[point]]] = point
        place[flat[point]] += 1
    return order, starts, n_cells, cells


@compiled
@no_type_check
def _add_pairs(points, order, starts, n_cells, cells, nominal, slope, reach, tolerance, forgive):
    """Sum of squared overlaps and number of pairs; their gradient is added to ``slope``, in the order of the list."""
    total, count = 0.0, 0
    for one in range(len(points)):
        x, y, z = cells[one]
        for turn in range(5):  # this row of cells from here on, the next one, and three of the next layer
            row, layer = y + (0, 1, -1, 0, 1)[turn], z + (turn > 1)
            if not (0 <= row < n_cells[1] and layer < n_cells[2]):
                continue
            base = (layer * n_cells[1] + row) * n_cells[0]
            begin = one + 1 if turn == 0 else starts[base + max(x - 1, 0)]
            for other in range(begin, starts[base + min(x + 1, n_cells[0] - 1) + 1]):
                i, j = order[one], order[other]
                square = _square(points, one, other)
                if square >= reach * reach or abs(i - j) < 2:
                    continue
                distance, wanted = np.sqrt(square), reach
                if forgive:
                    apart = np.sqrt(_square(nominal, i, j))
                    if distance >= apart - tolerance:
                        continue
                    wanted = min(reach, apart)
                total += (wanted - distance) ** 2
                count += 1
                if distance > 0:
                    pull = -2 * (wanted - distance) / distance
                    for axis in range(3):
                        step = pull * (points[one, axis] - points[other, axis])
                        slope[i, axis] += step
                        slope[j, axis] -= step
    return total, count


@compiled
@no_type_check
def _square(points, one, other):
    """Squared distance of two points."""
    square = 0.0
    for axis in range(3):
        square += (points[one, axis] - points[other, axis]) ** 2
    return square
