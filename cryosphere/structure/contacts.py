"""Which residues touch, and how a structure falls apart where little holds it together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg
from scipy.spatial import cKDTree

# Contacts reach so far (Å) and weigh exp(-½ (distance / scale)²); a chain's bond adds its own weight.
_CONTACT_REACH_A = 12.0
_CONTACT_SCALE_A = 6.0
_BOND_WEIGHT = 2.0
# Predicted aligned error (Å) over which a contact's weight falls to 1/e.
_PAE_SCALE_A = 5.0
# Parts up to this many residues are cut with a dense eigenvalue problem, which takes long beside other work.
_DENSE_LIMIT = 40
# Relative error of eigenvalues of larger parts.
_EIGENVALUE_ERROR = 1e-9


def contact_graph(
    residue_positions: Float[np.ndarray, "residue 3"],
    bonded: Bool[np.ndarray, " bond"],
    predicted_error: Float[np.ndarray, "residue residue"] | None = None,
) -> sparse.csr_array:
    """Weights of the contacts between residues.

    Parameters
    ----------
    residue_positions : array of shape (residue, 3)
        Å.
    bonded : bool array of shape (residue - 1,)
        Whether residues i and i + 1 are neighbours in a chain.
    predicted_error : array of shape (residue, residue), optional
        AlphaFold's predicted aligned error in Å: contacts between residues whose mutual placement is unsure weigh
        less, ``exp(-PAE / 5 Å)`` with the mean of both directions.

    Returns
    -------
    symmetric sparse array of shape (residue, residue)
        ``exp(-½ (d / 6 Å)²)`` for residues closer than 12 Å, plus 2 for neighbours in a chain; zero diagonal.
    """
    n_residues = len(residue_positions)
    pairs = cKDTree(residue_positions).query_pairs(_CONTACT_REACH_A, output_type="ndarray")
    first, second = np.sort(pairs, axis=1).T
    distance = np.linalg.norm(residue_positions[first] - residue_positions[second], axis=1)
    bonds = np.flatnonzero(bonded)
    row, column = np.concatenate([first, bonds]), np.concatenate([second, bonds + 1])
    weight = np.concatenate([np.exp(-0.5 * (distance / _CONTACT_SCALE_A) ** 2), np.full(len(bonds), _BOND_WEIGHT)])
    if predicted_error is not None:
        mutual = 0.5 * (predicted_error[row, column] + predicted_error[column, row])
        weight = weight * np.exp(-mutual / _PAE_SCALE_A)
    upper = sparse.coo_array((weight, (row, column)), shape=(n_residues, n_residues)).tocsr()
    return (upper + upper.T).tocsr()


def divide(graph: sparse.csr_array, n_parts: int, least: int) -> Int[np.ndarray, " residue"]:
    """Cut a contact graph into parts, again and again where the cut is cheapest.

    Every cut is the one of least conductance along the second eigenvector of the normalised Laplacian (Shi & Malik,
    IEEE Trans. PAMI 2000); the next part to be cut is the one of the lowest conductance over the root of its size.

    Parameters
    ----------
    graph : sparse array of shape (residue, residue)
    n_parts : int
        Parts wanted; fewer come back if no part of twice ``least`` residues is left.
    least : int
        Smallest number of residues of a part.

    Returns
    -------
    int array of shape (residue,)
        Part of every residue, numbered by first residue.
    """
    parts = [np.arange(graph.shape[0])]
    cuts = [_cheapest_cut(graph, parts[0], least)]
    while len(parts) < n_parts:
        scores = [
            np.inf if cut is None else cut.conductance / np.sqrt(len(part))
            for cut, part in zip(cuts, parts, strict=True)
        ]
        chosen = int(np.argmin(scores))
        if cuts[chosen] is None:
            break
        for side in (cuts[chosen].first, cuts[chosen].second):
            parts.append(side)
            cuts.append(_cheapest_cut(graph, side, least))
        del parts[chosen], cuts[chosen]
    labels = np.empty(graph.shape[0], dtype=np.int64)
    for number, part in enumerate(sorted(parts, key=lambda part: int(part[0]))):
        labels[part] = number
    return labels


def divide_with_ligands(
    graph: sparse.csr_array, hosts: Int[np.ndarray, " residue"], n_parts: int, least: int
) -> Int[np.ndarray, " residue"]:
    """:func:`divide` the polymer residues; ligands go with their hosts (``ligands.find_hosts``)."""
    rows = np.flatnonzero(hosts == np.arange(len(hosts)))
    if len(rows) == len(hosts):
        return divide(graph, n_parts, least)
    labels = np.empty(len(hosts), dtype=np.int64)
    labels[rows] = divide(graph[rows][:, rows], n_parts, least)
    return labels[hosts]


def diffuse(
    graph: sparse.csr_array, labels: Int[np.ndarray, " residue"], steps: int = 3
) -> Float[np.ndarray, "residue part"]:
    """Shares of parts about every residue after some steps of a lazy random walk on the graph; rows sum to 1.

    Residues labelled -1 belong to no part and give none; their rows are 0.
    """
    inside = labels >= 0
    shares = np.zeros((len(labels), labels.max() + 1))
    shares[inside, labels[inside]] = 1.0
    degree = np.asarray(graph.sum(1)).ravel()
    step = sparse.diags_array(1 / np.maximum(degree, 1e-12)) @ graph
    for _ in range(steps):
        shares = 0.5 * shares + 0.5 * (step @ shares)
        shares[~inside] = 0.0
        total = shares.sum(1, keepdims=True)
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    alone = inside & (shares.sum(1) == 0)
    shares[alone, labels[alone]] = 1.0
    return shares


@dataclass(frozen=True)
class _Cut:
    conductance: float
    first: Int[np.ndarray, " first"]
    second: Int[np.ndarray, " second"]


def _cheapest_cut(graph: sparse.csr_array, rows: Int[np.ndarray, " residue"], least: int) -> _Cut | None:
    """Best cut of the subgraph of some residues along its Fiedler vector; None if it is too small for one."""
    count = len(rows)
    if count < 2 * least:
        return None
    part = graph[rows][:, rows]
    degree = np.asarray(part.sum(1)).ravel() + 1e-9
    order = np.argsort(_fiedler_vector(part, degree), kind="stable")
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    edges = sparse.triu(part).tocoo()
    low, high = np.minimum(place[edges.row], place[edges.col]), np.maximum(place[edges.row], place[edges.col])
    crossing = np.bincount(low, edges.data, count + 1) - np.bincount(high, edges.data, count + 1)
    severed = np.cumsum(crossing)[: count - 1]
    volume = np.cumsum(degree[order])[: count - 1]
    conductance = severed / np.minimum(volume, degree.sum() - volume)
    size = np.arange(1, count)
    conductance[(size < least) | (count - size < least)] = np.inf
    best = int(conductance.argmin())
    return _Cut(float(conductance[best]), rows[np.sort(order[: best + 1])], rows[np.sort(order[best + 1 :])])


def _fiedler_vector(part: sparse.csr_array, degree: Float[np.ndarray, " residue"]) -> Float[np.ndarray, " residue"]:
    """Second eigenvector of the random walk on a graph, its sign fixed."""
    root = sparse.diags_array(1 / np.sqrt(degree))
    similarity = root @ part @ root
    if len(degree) <= _DENSE_LIMIT:
        vector = np.linalg.eigh(similarity.toarray())[1][:, -2]
    else:
        start = np.sqrt(degree) + 1e-3 * np.arange(len(degree)) / len(degree)
        shifted = similarity + sparse.eye_array(len(degree))
        values, vectors = sparse_linalg.eigsh(shifted, k=2, which="LA", v0=start, tol=_EIGENVALUE_ERROR)
        vector = vectors[:, np.argsort(-values)[1]]
    vector = vector / np.sqrt(degree)
    return vector * np.sign(vector[np.abs(vector).argmax()])
