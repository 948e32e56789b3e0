"""Segments that move together, merged, and compared with the true rigid bodies."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from cryosphere.simulation.frames import superposition

# Segments move together if moving them as one costs less than this, or than this share of the largest such cost.
LEAST_RELATIVE_MOTION_A = 0.5
SHARE_OF_LARGEST = 0.2


def merge_segments(
    labels: Int[np.ndarray, " residue"],
    nominal: Float[np.ndarray, "residue 3"],
    conformations: Float[np.ndarray, "conformation residue 3"],
) -> Int[np.ndarray, " residue"]:
    """Merge segments that move as one rigid body over an ensemble.

    The cost of a merger is the root mean squared residual (Å) that is left when the nominal residues of both are
    superposed together on every conformation, beyond what is left when they are superposed separately. The cheapest
    pair is merged as long as its cost is below the larger of 0.5 Å and a fifth of the largest cost at the start.

    Parameters
    ----------
    labels : int array of shape (residue,)
        Segment of every residue; residues of no segment (-1) count as one segment.
    nominal : array of shape (residue, 3)
        Å.
    conformations : array of shape (conformation, residue, 3)
        Å; some tens suffice.

    Returns
    -------
    int array of shape (residue,)
        Body of every residue, from 0 in the order of appearance.
    """
    parts = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    squares = [_residual_squares(part, nominal, conformations) for part in parts]
    costs = {
        (i, j): _merger_cost(parts[i], parts[j], squares[i] + squares[j], nominal, conformations)
        for j in range(len(parts))
        for i in range(j)
    }
    limit = max(LEAST_RELATIVE_MOTION_A, SHARE_OF_LARGEST * max(costs.values(), default=0.0))
    alive = set(range(len(parts)))
    while costs:
        (i, j), cost = min(costs.items(), key=lambda item: (item[1], item[0]))
        if cost >= limit:
            break
        parts.append(np.sort(np.concatenate([parts[i], parts[j]])))
        squares.append(_residual_squares(parts[-1], nominal, conformations))
        alive -= {i, j}
        costs = {pair: value for pair, value in costs.items() if not {i, j} & set(pair)}
        new = len(parts) - 1
        for k in alive:
            costs[k, new] = _merger_cost(parts[k], parts[new], squares[k] + squares[new], nominal, conformations)
        alive.add(new)
    bodies = np.empty(len(labels), dtype=np.int64)
    for number, part in enumerate(sorted((parts[k] for k in alive), key=lambda rows: rows[0])):
        bodies[part] = number
    return bodies


def _residual_squares(rows, nominal, conformations) -> float:
    """Sum of squared residuals (Å²) after superposing nominal residues on each conformation, mean over these."""
    target = np.asarray(conformations[:, rows], dtype=np.float64)
    start = np.broadcast_to(nominal[rows], target.shape)
    rotmat, translation = superposition(start, target)
    moved = np.einsum("cij,crj->cri", rotmat, start) + translation[:, None]
    return float(((moved - target) ** 2).sum((1, 2)).mean())


def _merger_cost(first, second, separate: float, nominal, conformations) -> float:
    together = np.concatenate([first, second])
    excess = _residual_squares(together, nominal, conformations) - separate
    return float(np.sqrt(max(excess, 0.0) / len(together)))


def body_agreement(found: Int[np.ndarray, " residue"], bodies: list[list[int]]) -> float:
    """Adjusted Rand index of found bodies against the true ones, over the residues that the true bodies name."""
    rows = np.concatenate([np.asarray(body, dtype=np.int64) for body in bodies])
    truth = np.repeat(np.arange(len(bodies)), [len(body) for body in bodies])
    return rand_index(truth, found[rows])


def rand_index(first: Int[np.ndarray, " residue"], second: Int[np.ndarray, " residue"]) -> float:
    """Adjusted Rand index of two divisions: 1 if they are the same, 0 on average for random ones."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first, second))
