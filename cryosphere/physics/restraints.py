"""Restraints on distances and signed volumes of points, and the least-squares fit of points to them.

Everything is a residual (value - target) / tolerance, so that half the sum of squares is minus a log-likelihood of
independent normal errors. Derivatives are analytic, in a sparse Jacobian, and the fit is Gauss-Newton with the
damping of Levenberg and Marquardt (Nocedal & Wright, Numerical Optimization, 2006, chapter 10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

# A step moves no point by more than this (Å), so that signed volumes keep their side.
_LONGEST_STEP = 1.0
# A fit has converged when no point moves by more than this (Å).
_SHORTEST_STEP = 1e-3
# Damping in units of the tether's weight; its factors after a step that failed and one that did not.
_FIRST_DAMPING, _MOST_DAMPING, _MORE_DAMPING, _LESS_DAMPING = 1.0, 1e9, 8.0, 0.25
_LEAST_DISTANCE = 1e-6


@dataclass(frozen=True)
class Distances:
    """Pairs of points that have a target distance (Å) with a tolerance (Å).

    ``at_least``: only what is shorter than the target counts.
    """

    points: Int[np.ndarray, "pair 2"]
    targets: Float[np.ndarray, " pair"]
    tolerances: Float[np.ndarray, " pair"]
    at_least: bool = False

    def take(self, chosen: Bool[np.ndarray, " pair"]) -> Distances:
        """Some of the pairs."""
        return Distances(self.points[chosen], self.targets[chosen], self.tolerances[chosen], self.at_least)


@dataclass(frozen=True)
class Volumes:
    """Quadruples (a, b, c, d) of points with a target of (b - a) · ((c - a) × (d - a)) and a tolerance, Å³.

    That is chirality or planarity where a is bonded to the others, and the sine of the torsion about b-c, times
    constants, where they are bonded in a row.
    """

    points: Int[np.ndarray, "quadruple 4"]
    targets: Float[np.ndarray, " quadruple"]
    tolerances: Float[np.ndarray, " quadruple"]

    def take(self, chosen: Bool[np.ndarray, " quadruple"]) -> Volumes:
        """Some of the quadruples."""
        return Volumes(self.points[chosen], self.targets[chosen], self.tolerances[chosen])


def distances(
    positions: Float[np.ndarray, "point 3"], pairs: Int[np.ndarray, "pair 2"]
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, "pair 2 3"]]:
    """Distances of pairs of points, and their derivatives by both points."""
    step = positions[pairs[:, 0]] - positions[pairs[:, 1]]
    length = np.sqrt(np.einsum("pi,pi->p", step, step))
    unit = step / np.maximum(length, _LEAST_DISTANCE)[:, None]
    return length, np.stack([unit, -unit], axis=1)


def volumes(
    positions: Float[np.ndarray, "point 3"], quadruples: Int[np.ndarray, "quadruple 4"]
) -> tuple[Float[np.ndarray, " quadruple"], Float[np.ndarray, "quadruple 4 3"]]:
    """Signed volumes (b - a) · ((c - a) × (d - a)) of quadruples, and their derivatives by the four points."""
    origin = positions[quadruples[:, 0]]
    b, c, d = (positions[quadruples[:, column]] - origin for column in (1, 2, 3))
    by_b, by_c, by_d = np.cross(c, d), np.cross(d, b), np.cross(b, c)
    value = np.einsum("qi,qi->q", b, by_b)
    return value, np.stack([-(by_b + by_c + by_d), by_b, by_c, by_d], axis=1)


def residuals(
    positions: Float[np.ndarray, "point 3"], terms: list[Distances | Volumes]
) -> tuple[Float[np.ndarray, " residual"], sparse.csr_array]:
    """Residuals of all terms and their Jacobian by the coordinates (point by point, x y z)."""
    values, blocks, columns = [], [], []
    for term in terms:
        if isinstance(term, Volumes):
            found, derivative = volumes(positions, term.points)
            value = (found - term.targets) / term.tolerances
        else:
            found, derivative = distances(positions, term.points)
            value = (found - term.targets) / term.tolerances
            if term.at_least:
                derivative = derivative * (value < 0)[:, None, None]
                value = np.minimum(value, 0.0)
        values.append(value)
        blocks.append((derivative / term.tolerances[:, None, None]).reshape(len(value), -1))
        columns.append((3 * term.points[:, :, None] + np.arange(3)).reshape(len(value), -1))
    widths = np.concatenate([np.full(len(block), block.shape[1]) for block in blocks])
    starts = np.concatenate([[0], np.cumsum(widths)])
    data = np.concatenate([block.ravel() for block in blocks])
    indices = np.concatenate([column.ravel() for column in columns])
    jacobian = sparse.csr_array((data, indices, starts), shape=(len(widths), positions.size))
    return np.concatenate(values), jacobian


def fit(
    positions: Float[np.ndarray, "point 3"],
    free: Bool[np.ndarray, " point"],
    terms: list[Distances | Volumes],
    tether: Float[np.ndarray, "point 3"],
    tether_tolerance: float,
    least_gain: float = 1e-4,
    most_steps: int = 30,
) -> Float[np.ndarray, "point 3"]:
    """Move free points so that the sum of squared residuals becomes least.

    Parameters
    ----------
    positions : array of shape (point, 3)
        Where to start, Å.
    free : bool array of shape (point,)
        Which points may move.
    terms : list of Distances and Volumes
        Terms without a free point have no say.
    tether, tether_tolerance : array of shape (point, 3), float
        Every free point is held to a place with this tolerance, Å.
    least_gain : float
        The fit ends when a step lowers the sum of squares by a smaller share.
    most_steps : int
        Steps at most.

    Returns
    -------
    array of shape (point, 3)
        Points that are not free are as they came.
    """
    rows = np.flatnonzero(free)
    if not len(rows):
        return positions.copy()
    terms = [term.take(free[term.points].any(1)) for term in terms]
    columns = (3 * rows[:, None] + np.arange(3)).ravel()
    weight = 1 / tether_tolerance**2

    def energy(points: np.ndarray, values: np.ndarray) -> float:
        return float(values @ values) + weight * float(((points[rows] - tether[rows]) ** 2).sum())

    current = positions.copy()
    values, jacobian = residuals(current, terms)
    best, damping = energy(current, values), _FIRST_DAMPING
    for _ in range(most_steps):
        part = jacobian[:, columns]
        normal = (part.T @ part).tocsc()
        slope = part.T @ values + weight * (current[rows] - tether[rows]).ravel()
        while damping < _MOST_DAMPING:
            step = _solve(normal, weight * (1 + damping), slope).reshape(-1, 3)
            longest = float(np.sqrt((step**2).sum(1).max()))
            trial = current.copy()
            trial[rows] -= step * min(1.0, _LONGEST_STEP / max(longest, _SHORTEST_STEP))
            trial_values, trial_jacobian = residuals(trial, terms)
            found = energy(trial, trial_values)
            if found < best:
                break
            damping *= _MORE_DAMPING
        else:
            break
        gain = (best - found) / best
        current, values, jacobian, best = trial, trial_values, trial_jacobian, found
        damping *= _LESS_DAMPING
        if longest < _SHORTEST_STEP or gain < least_gain:
            break
    return current


def _solve(normal: sparse.csc_array, diagonal: float, slope: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Solve (normal + diagonal · 1) x = slope, which is symmetric and positive definite."""
    shifted = normal + diagonal * sparse.eye_array(normal.shape[0], format="csc")
    factors = sparse_linalg.splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return factors.solve(slope)
