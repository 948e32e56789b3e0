"""Scores as pure functions of numpy arrays; definitions as the project's METHOD page and CryoBench have them.

Coordinates are in Å and are compared without superposition: poses fix the frame.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from cryosphere.conventions import CLASH_DISTANCE_A

# Å; consecutive Cα distances that differ more than this from the nominal structure's count as broken.
CHANGED_BOND_A = 0.4


def per_image_rmsd(
    predicted: Float[np.ndarray, "#image residue 3"], true: Float[np.ndarray, "#image residue 3"]
) -> Float[np.ndarray, " any"]:
    """RMSD of every image's structure from its true one, Å, without superposition."""
    difference = np.asarray(predicted, dtype=np.float64) - true
    return np.sqrt((difference**2).sum(-1).mean(-1))


def ensemble_accuracy(pairwise: Float[np.ndarray, "predicted true"]) -> float:
    """SAC: mean over predicted models of the least RMSD to a true model."""
    return float(pairwise.min(1).mean())


def ensemble_coverage(pairwise: Float[np.ndarray, "predicted true"]) -> float:
    """Mean over true models of the least RMSD to a predicted model."""
    return float(pairwise.min(0).mean())


def local_flexibility(true_rmsf: Float[np.ndarray, " residue"], predicted_rmsf: Float[np.ndarray, " residue"]) -> float:
    """LFC: mean absolute difference of the RMSF per residue, Å."""
    return float(np.abs(true_rmsf - predicted_rmsf).mean())


def shell_index(box_size: int) -> Int[np.ndarray, "z y half"]:
    """Shell i with i - 1 ≤ r < i of every voxel of a half Fourier volume (r in frequency steps)."""
    full, half = np.fft.fftfreq(box_size, d=1 / box_size), np.fft.rfftfreq(box_size, d=1 / box_size)
    radius = np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)
    return np.floor(radius).astype(np.int64) + 1


def fourier_volume(volume: Float[np.ndarray, "z y x"]) -> np.ndarray:
    """Half Fourier transform of a cubic volume, of shape (z, y, x // 2 + 1)."""
    from scipy.fft import rfftn

    return rfftn(np.asarray(volume, dtype=np.float32))


def fourier_shell_correlation(
    first: np.ndarray, second: np.ndarray, shells: Int[np.ndarray, "z y half"] | None = None
) -> Float[np.ndarray, " shell"]:
    """Fourier shell correlation of two half Fourier volumes for the shells 0 … D/2 - 1.

    Parameters
    ----------
    first, second : complex arrays of shape (z, y, x // 2 + 1)
        As :func:`fourier_volume` gives them; D = len(first).
    shells : int array, optional
        As :func:`shell_index` gives it, to save time.

    Returns
    -------
    array of shape (D // 2,)
        Entry i is the correlation over i - 1 ≤ r < i (CryoBench); entry 0 is 1 by definition; 0 where a volume has
        nothing.
    """
    box_size = len(first)
    shells = shell_index(box_size) if shells is None else shells
    twice = np.full(first.shape[2], 2.0)
    twice[0] = 1.0
    if box_size % 2 == 0:
        twice[-1] = 1.0
    wanted = shells < box_size // 2
    where, weight = shells[wanted], np.broadcast_to(twice, first.shape)[wanted]
    a, b = first[wanted], second[wanted]

    def total(values):
        return np.bincount(where, weight * values, minlength=box_size // 2)[: box_size // 2]

    cross = total(a.real.astype(np.float64) * b.real + a.imag.astype(np.float64) * b.imag)
    norm = np.sqrt(total(np.abs(a).astype(np.float64) ** 2) * total(np.abs(b).astype(np.float64) ** 2))
    curve = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    curve[0] = 1.0
    return curve


def fsc_area(curve: Float[np.ndarray, " shell"], box_size: int) -> float:
    """Area (trapezoids) under |FSC| over x_i = i / D, i = 0 … D/2 - 1; at most 63/128 = 0.4922 for D = 128."""
    return float(np.trapezoid(np.abs(curve), dx=1 / box_size))


def changed_bonds(
    positions: Float[np.ndarray, "model residue 3"],
    nominal: Float[np.ndarray, "residue 3"],
    bonded: Bool[np.ndarray, " bond"],
) -> Float[np.ndarray, " model"]:
    """Share of consecutive Cα distances that differ by more than 0.4 Å from the nominal structure's."""
    bonds = np.flatnonzero(bonded)
    if not len(bonds):
        return np.zeros(len(positions))

    def lengths(points):
        return np.linalg.norm(points[..., bonds + 1, :] - points[..., bonds, :], axis=-1)

    return (np.abs(lengths(positions) - lengths(nominal)) > CHANGED_BOND_A).mean(1)


def clashes_per_1000(
    positions: Float[np.ndarray, "model residue 3"], bonded: Bool[np.ndarray, " bond"]
) -> Float[np.ndarray, " model"]:
    """Pairs of residues under 4 Å that are no chain neighbours, per 1000 residues."""
    from scipy.spatial import cKDTree

    rates = []
    for points in positions:
        pairs = cKDTree(points).query_pairs(CLASH_DISTANCE_A, output_type="ndarray")
        neighbours = (pairs[:, 1] - pairs[:, 0] == 1) & bonded[np.minimum(pairs[:, 0], len(bonded) - 1)]
        rates.append(1000 * (~neighbours).sum() / len(points))
    return np.array(rates)


def population_divergence(
    true: Float[np.ndarray, " state"], predicted: Float[np.ndarray, " state"], n_particles: int
) -> float:
    """KL(true ‖ predicted) in nats, the predicted populations with one half count added to every state."""
    smoothed = (predicted * n_particles + 0.5) / (n_particles + 0.5 * len(predicted))
    there = true > 0
    return float((true[there] * np.log(true[there] / smoothed[there])).sum())


def earth_movers_distance(
    true: Float[np.ndarray, " state"],
    predicted: Float[np.ndarray, " state"],
    distance: Float[np.ndarray, "state state"],
) -> float:
    """Least mean distance (Å) by which populations must be moved to become the true ones (a linear program)."""
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    count = len(true)
    ones = np.ones((1, count))
    identity = eye_array(count)
    # The last condition follows from the others.
    matrix = vstack([kron(identity, ones), kron(ones, identity)]).tocsr()[:-1]
    amounts = np.concatenate([predicted / predicted.sum(), true / true.sum()])[:-1]
    result = linprog(distance.ravel(), A_eq=matrix, b_eq=amounts, bounds=(0, None), method="highs")
    return float(result.fun)
