"""Paths between two Cα traces that keep local distances.

First guess: as-rigid-as-possible interpolation (Alexa, Cohen-Or, Levin, SIGGRAPH 2000) on the graph of
contacts, which turns neighbourhoods instead of squeezing them. Then, per state, a distance-constrained
correction in the manner of elastic network interpolation (Kim, Jernigan, Chirikjian, Biophys. J. 83, 1620,
2002): every kept distance is to be the interpolation of its two end values; chain bonds are met exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu, spsolve
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryosphere.simulation.frames import nearest_rotmat

CONTACT_CUTOFF = 10.0
# Distance of Cα atoms that are not chain neighbours below which the correction pushes them apart, Å.
CLOSEST_APPROACH = 4.0
BOND_WEIGHT, NEAR_WEIGHT, CONTACT_WEIGHT, CLASH_WEIGHT = 100.0, 5.0, 0.3, 10.0
# Weight of a contact that only one of the ends has, or of a tie between unconnected parts, in the first
# guess.
LOOSE_WEIGHT = 0.01
_DAMPING = 0.05
_CORRECTION_STEPS = 8


@dataclass(frozen=True)
class _Pairs:
    """Pairs of points that hold a distance, with its value at both ends and its weight."""

    index: Int[np.ndarray, "pair 2"]
    first: Float[np.ndarray, " pair"]
    second: Float[np.ndarray, " pair"]
    weight: Float[np.ndarray, " pair"]

    def target(self, fraction: float) -> Float[np.ndarray, " pair"]:
        """Interpolated distances."""
        return (1 - fraction) * self.first + fraction * self.second


class TraceInterpolation:
    """Interpolation between two traces; ``guess`` is quick and local, ``refine`` meets the distances.

    Parameters
    ----------
    first, second : arrays of shape (point, 3)
        Matching Cα (C1′) positions in one frame, Å.
    bonded : bool array of shape (point - 1,)
        Chain neighbours.
    """

    def __init__(
        self,
        first: Float[np.ndarray, "point 3"],
        second: Float[np.ndarray, "point 3"],
        bonded: Bool[np.ndarray, " bond"],
    ):
        self.first, self.second = np.asarray(first, float), np.asarray(second, float)
        self._bonds = np.flatnonzero(bonded)[:, None] + np.array([0, 1])
        self._pairs = self._distance_pairs(bonded)
        self._bond_pairs = self._measure(self._bonds, np.ones(len(self._bonds)))
        self._edges, self._edge_weights = self._graph()
        self._rotvecs = self._local_rotvecs()
        self._solve = self._poisson_solver()
        moved = ((self.second - self.first) ** 2).sum(1)
        self._gauge = (1 / (1 + moved)) / (1 / (1 + moved)).sum()

    def guess(self, fraction: float) -> Float[np.ndarray, "point 3"]:
        """As-rigid-as-possible state: edges turn with their ends' neighbourhoods, interpolated there."""
        i, j = self._edges.T
        edge_first, edge_second = self.first[i] - self.first[j], self.second[i] - self.second[j]
        wanted = np.zeros_like(edge_first)
        for ends in (i, j):
            to_here = Rotation.from_rotvec(fraction * self._rotvecs[ends])
            back = Rotation.from_rotvec(self._rotvecs[ends]).inv()
            wanted += 0.5 * to_here.apply((1 - fraction) * edge_first + fraction * back.apply(edge_second))
        pull = self._edge_weights[:, None] * wanted
        right = np.zeros_like(self.first)
        np.add.at(right, i, pull)
        np.add.at(right, j, -pull)
        points = self._solve(right)
        straight = (1 - fraction) * self.first + fraction * self.second
        return points + self._gauge @ (straight - points)

    def refine(self, points: Float[np.ndarray, "point 3"], fraction: float) -> Float[np.ndarray, "point 3"]:
        """Correct a guess to the distances interpolated between the ends, chain bonds to 1e-5 Å."""
        target = self._pairs.target(fraction)
        for _ in range(_CORRECTION_STEPS):
            clashes = self._clashes(points)
            index = np.concatenate([self._pairs.index, clashes.index])
            weight = np.concatenate([self._pairs.weight, clashes.weight])
            wanted = np.concatenate([target, clashes.target(fraction)])
            jacobian, distance = _distance_jacobian(points, index)
            weighted = jacobian.T.multiply(weight)
            normal = (weighted @ jacobian + _DAMPING * sparse.identity(points.size)).tocsc()
            step = spsolve(normal, weighted @ (wanted - distance))
            points = points + step.reshape(-1, 3)
            if np.abs(step).max() < 1e-3:
                break
        return self._meet_bonds(points, fraction)

    def _meet_bonds(self, points, fraction):
        """Newton steps of least change onto the bond lengths."""
        if len(self._bonds) == 0:
            return points
        target = self._bond_pairs.target(fraction)
        for _ in range(20):
            jacobian, distance = _distance_jacobian(points, self._bonds)
            error = target - distance
            if np.abs(error).max() < 1e-5:
                break
            normal = (jacobian @ jacobian.T + 1e-9 * sparse.identity(len(error))).tocsc()
            points = points + (jacobian.T @ spsolve(normal, error)).reshape(-1, 3)
        return points

    def _measure(self, index, weight) -> _Pairs:
        first, second = (
            np.linalg.norm(ends[index[:, 0]] - ends[index[:, 1]], axis=1) for ends in (self.first, self.second)
        )
        return _Pairs(index, first, second, weight)

    def _contacts(self) -> tuple[Int[np.ndarray, "lasting 2"], Int[np.ndarray, "loose 2"]]:
        """Pairs within the cutoff in both ends, and those in one end only."""
        n = len(self.first)
        codes = []
        for ends in (self.first, self.second):
            pairs = cKDTree(ends).query_pairs(CONTACT_CUTOFF, output_type="ndarray")
            codes.append(pairs[:, 0].astype(np.int64) * n + pairs[:, 1])
        both, one = np.intersect1d(*codes), np.setxor1d(*codes)
        return np.stack(np.divmod(both, n), 1), np.stack(np.divmod(one, n), 1)

    def _distance_pairs(self, bonded) -> _Pairs:
        """Bonds, second and third neighbours along the chain, and lasting contacts."""
        stretch = np.concatenate([[0], np.cumsum(~np.asarray(bonded, bool))])
        near = []
        for apart in (2, 3):
            rows = np.flatnonzero(stretch[apart:] == stretch[:-apart])
            near.append(np.stack([rows, rows + apart], 1))
        near = np.concatenate(near)
        contacts, _ = self._contacts()
        span = contacts[:, 1] - contacts[:, 0]
        contacts = contacts[(span > 3) | (stretch[contacts[:, 0]] != stretch[contacts[:, 1]])]
        index = np.concatenate([self._bonds, near, contacts])
        sizes = [len(self._bonds), len(near), len(contacts)]
        return self._measure(index, np.repeat([BOND_WEIGHT, NEAR_WEIGHT, CONTACT_WEIGHT], sizes))

    def _graph(self) -> tuple[Int[np.ndarray, "edge 2"], Float[np.ndarray, " edge"]]:
        """Edges of the first guess: lasting contacts and bonds, weak ties else, one connected piece."""
        both, one = self._contacts()
        edges = np.concatenate([both, self._bonds, one])
        weights = np.repeat([1.0, 5.0, LOOSE_WEIGHT], [len(both), len(self._bonds), len(one)])
        n = len(self.first)
        matrix = sparse.coo_matrix((weights, edges.T), shape=(n, n))
        count, label = csgraph.connected_components(matrix, directed=False)
        ties = []
        for part in range(1, count):
            rest, here = np.flatnonzero(label < part), np.flatnonzero(label == part)
            distance, nearest = cKDTree(self.first[rest]).query(self.first[here])
            closest = np.argsort(distance)[:5]
            ties.append(np.stack([rest[nearest[closest]], here[closest]], 1))
        if ties:
            edges = np.concatenate([edges, *ties])
            weights = np.concatenate([weights, np.full(len(edges) - len(weights), LOOSE_WEIGHT)])
        return edges, weights

    def _local_rotvecs(self) -> Float[np.ndarray, "point 3"]:
        """Rotation of every neighbourhood from the first to the second end, continuous over the graph."""
        i, j = self._edges.T
        outer = np.einsum(
            "e,ei,ej->eij", self._edge_weights, self.second[i] - self.second[j], self.first[i] - self.first[j]
        )
        covariance = np.zeros((len(self.first), 3, 3))
        np.add.at(covariance, i, outer)
        np.add.at(covariance, j, outer)
        quats = Rotation.from_matrix(nearest_rotmat(covariance)).as_quat(canonical=True)
        matrix = sparse.coo_matrix((1 / self._edge_weights, self._edges.T), shape=(len(quats),) * 2).tocsr()
        root = int(np.argmax(quats[:, 3]))
        order, parent = csgraph.breadth_first_order(matrix, root, directed=False)
        for node in order[1:]:
            if quats[node] @ quats[parent[node]] < 0:
                quats[node] *= -1
        sine = np.linalg.norm(quats[:, :3], axis=1)
        angle = 2 * np.arctan2(sine, quats[:, 3])
        return quats[:, :3] * (angle / np.maximum(sine, 1e-12))[:, None]

    def _poisson_solver(self):
        """Solver of the graph's Laplacian with the first point held."""
        n = len(self.first)
        i, j = self._edges.T
        adjacency = sparse.coo_matrix((self._edge_weights, (i, j)), shape=(n, n))
        adjacency = adjacency + adjacency.T
        laplacian = sparse.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency
        factor = splu(laplacian.tocsc()[1:, 1:])

        def solve(right):
            return np.concatenate([np.zeros((1, 3)), factor.solve(np.ascontiguousarray(right[1:]))])

        return solve

    def _clashes(self, points) -> _Pairs:
        """Pairs too near each other that are no chain neighbours; the ends' distance is enough for them."""
        index = cKDTree(points).query_pairs(CLOSEST_APPROACH, output_type="ndarray")
        index = index[index[:, 1] - index[:, 0] > 2]
        pairs = self._measure(index, np.full(len(index), CLASH_WEIGHT))
        return _Pairs(
            index,
            np.minimum(pairs.first, CLOSEST_APPROACH),
            np.minimum(pairs.second, CLOSEST_APPROACH),
            pairs.weight,
        )


def _distance_jacobian(points, index):
    """Distances of pairs and their derivative, sparse (pair, 3 points)."""
    difference = points[index[:, 0]] - points[index[:, 1]]
    distance = np.linalg.norm(difference, axis=1)
    unit = difference / np.maximum(distance, 1e-9)[:, None]
    columns = (3 * index[:, :, None] + np.arange(3)).reshape(len(index), 6)
    values = np.concatenate([unit, -unit], axis=1)
    rows = np.repeat(np.arange(len(index)), 6)
    shape = (len(index), points.size)
    return sparse.csr_matrix((values.ravel(), (rows, columns.ravel())), shape=shape), distance
