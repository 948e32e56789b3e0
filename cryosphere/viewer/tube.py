"""The chain as a tube: a surface whose triangles are fixed once and whose vertices follow the residues."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from cryosphere.records import Structure

# Most residues for (rings per residue, sides), and the coarsest for all that have more: without a graphics card the
# time of a picture grows with the triangles.
_DETAIL = ((600, (6, 10)), (1200, (3, 6)), (4000, (2, 5)), (None, (2, 4)))
# Spheres of ligand groups and of residues without neighbours, in radii of the tube.
_SPHERE = 1.7
# Rings that round an end off: (radius, distance beyond the end) in radii of the tube, from the end to the tip.
_CAP = ((np.cos(np.pi / 6), 0.5), (0.5, np.sin(np.pi / 3)), (0.0, 1.0))
_TINY = 1e-12


class Tube:
    """Tube through Cα and C1′ of every chain, broken where the chain is; ligand groups are spheres.

    The centre line is a Catmull-Rom spline, which passes through every residue. Rings do not twist about it: their
    frames are transported by double reflection (Wang et al., ACM Trans. Graph. 27 (2008) 2).

    Parameters
    ----------
    structure : Structure
        Says which residues are neighbours, and what is a ligand.
    radius : float
        Å.
    detail : tuple of int, optional
        Rings per residue and sides; by default fewer for larger structures.

    Attributes
    ----------
    radius : float
        Å; may be changed.
    detail : tuple of int
        Rings per residue and sides.
    faces : int array of shape (face, 3)
        Vertices of every triangle, counter-clockwise from outside.
    vertex_residue : int array of shape (vertex,)
        Residue that a vertex belongs to.
    """

    def __init__(self, structure: Structure, radius: float = 1.0, detail: tuple[int, int] | None = None) -> None:
        self.radius, self.n_residues = radius, structure.n_residues
        self.detail = detail or next(known for most, known in _DETAIL if most is None or self.n_residues <= most)
        self._per_residue, self._sides = self.detail
        polymer = structure.n_polymer_residues
        cuts = np.flatnonzero(~structure.bonded[: max(polymer - 1, 0)]) + 1
        pieces = np.split(np.arange(polymer), cuts)
        self._lone = np.concatenate(
            [*(piece for piece in pieces if len(piece) == 1), np.arange(polymer, self.n_residues)]
        )
        self._lone = self._lone.astype(np.int64)
        self._make_samples([piece for piece in pieces if len(piece) > 1])
        turn = 2 * np.pi * np.arange(self._sides) / self._sides
        self._cosine, self._sine = np.cos(turn), np.sin(turn)
        self._ball, ball_faces = _ball()
        self._n_ring_vertices = len(self._ring_sample) * self._sides
        ring_residue = np.repeat(self._sample_residue[self._ring_sample], self._sides)
        self.vertex_residue = np.concatenate([ring_residue, np.repeat(self._lone, len(self._ball))]).astype(np.int32)
        offsets = self._n_ring_vertices + len(self._ball) * np.arange(len(self._lone))
        balls = (ball_faces + offsets[:, None, None]).reshape(-1, 3)
        self.faces = np.concatenate([self._ring_faces(), balls]).astype(np.int32)

    def _make_samples(self, pieces: list[np.ndarray]) -> None:
        """Where on the spline every ring lies: control points and weights of its centre and direction."""
        parts = [_samples(piece, self._per_residue) for piece in pieces]
        parts = parts or [_samples(np.zeros(0, dtype=np.int64), self._per_residue)]
        self._controls, self._at, self._along, self._sample_residue, self._at_residue = map(
            np.concatenate, zip(*parts, strict=True)
        )
        counts = [len(part[0]) for part in parts if len(part[0])]
        starts = np.cumsum([0, *counts])[:-1]
        self._starts = np.zeros(len(self._controls), dtype=bool)
        self._starts[starts] = True
        sample, scale, beyond, self._joined = [], [], [], []
        for start, count in zip(starts, counts, strict=True):
            n_cap = len(_CAP)
            sample += [start] * n_cap + list(range(start, start + count)) + [start + count - 1] * n_cap
            scale += [wide for wide, _ in _CAP[::-1]] + [1.0] * count + [wide for wide, _ in _CAP]
            beyond += [-far for _, far in _CAP[::-1]] + [0.0] * count + [far for _, far in _CAP]
            self._joined += [True] * (count + 2 * n_cap - 1) + [False]
        self._ring_sample = np.array(sample, dtype=np.int64)
        self._scale, self._beyond = np.array(scale), np.array(beyond)
        at_control = np.flatnonzero((self._scale == 1.0) & (self._at_residue[self._ring_sample] >= 0))
        self._residue_ring = np.full(self.n_residues, -1)
        self._residue_ring[self._at_residue[self._ring_sample[at_control]]] = at_control

    def _ring_faces(self) -> Int[np.ndarray, "face 3"]:
        """Two triangles for every side between a ring and the next of its piece."""
        ring = np.flatnonzero(self._joined)[:, None] * self._sides
        side = np.arange(self._sides)
        after = np.roll(side, -1)
        here, beside, above, across = ring + side, ring + after, ring + self._sides + side, ring + self._sides + after
        triangles = np.stack([np.stack([here, beside, across], -1), np.stack([here, across, above], -1)], axis=2)
        return triangles.reshape(-1, 3)

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""
        return len(self.vertex_residue)

    def vertices(self, positions: Float[np.ndarray, "residue 3"]) -> Float[np.ndarray, "vertex 3"]:
        """Vertices (float32, Å) for residues at these positions; finite for all finite positions."""
        points = np.asarray(positions, dtype=np.float64)
        vertices = np.empty((self.n_vertices, 3), dtype=np.float32)
        vertices[self._n_ring_vertices :] = (points[self._lone, None] + _SPHERE * self.radius * self._ball).reshape(
            -1, 3
        )
        if not len(self._ring_sample):
            return vertices
        controls = points[self._controls]
        centres = np.einsum("sc,scx->sx", self._at, controls)
        tangents = _directions(np.einsum("sc,scx->sx", self._along, controls))
        first, second = self._frames(centres, tangents)
        sample, wide = self._ring_sample, (self._scale * self.radius)[:, None]
        middles = (centres[sample] + tangents[sample] * (self._beyond * self.radius)[:, None]).astype(np.float32)
        first, second = (first[sample] * wide).astype(np.float32), (second[sample] * wide).astype(np.float32)
        rings = vertices[: self._n_ring_vertices].reshape(-1, self._sides, 3)
        for side, (cosine, sine) in enumerate(zip(self._cosine.tolist(), self._sine.tolist(), strict=True)):
            rings[:, side] = middles + cosine * first + sine * second
        return vertices

    def _frames(
        self, centres: Float[np.ndarray, "sample 3"], tangents: Float[np.ndarray, "sample 3"]
    ) -> tuple[Float[np.ndarray, "sample 3"], Float[np.ndarray, "sample 3"]]:
        """Two directions across the tube at every sample, which turn no more than the tube does.

        Any frames will do at first; transporting each to the next sample tells the angle between the two, and the sum
        of these angles turns all frames into transported ones.
        """
        first, second = across(tangents)
        before = tangents[:-1]
        step = np.diff(centres, axis=0)
        still = np.einsum("sx,sx->s", step, step) < _TINY
        step[still] = before[still]
        halfway = _reflected(first[:-1], step)
        carried = _reflected(halfway, tangents[1:] - _reflected(before, step))
        sine, cosine = np.einsum("sx,sx->s", carried, second[1:]), np.einsum("sx,sx->s", carried, first[1:])
        angles = np.concatenate([[0.0], np.arctan2(sine, cosine)])
        angles[self._starts] = 0.0
        turned = np.cumsum(angles)
        cosine, sine = np.cos(turned)[:, None], np.sin(turned)[:, None]
        return cosine * first + sine * second, cosine * second - sine * first

    def ring_centres(self, vertices: Float[np.ndarray, "vertex 3"]) -> Float[np.ndarray, "residue 3"]:
        """Where the residues are, read back from vertices: the mean of each residue's ring or sphere."""
        vertices = vertices.astype(np.float64)
        rings = vertices[: self._n_ring_vertices].reshape(-1, self._sides, 3).mean(1)
        centres = np.empty((self.n_residues, 3))
        in_ring = self._residue_ring >= 0
        centres[in_ring] = rings[self._residue_ring[in_ring]]
        centres[self._lone] = vertices[self._n_ring_vertices :].reshape(-1, len(self._ball), 3).mean(1)
        return centres

    def faces_of(self, shown: Bool[np.ndarray, " residue"]) -> Int[np.ndarray, "face 3"]:
        """Triangles between residues that are shown."""
        return self.faces if shown.all() else self.faces[shown[self.vertex_residue[self.faces]].all(1)]


def _samples(rows: Int[np.ndarray, " residue"], per_residue: int) -> tuple[np.ndarray, ...]:
    """Points of the spline through one piece of chain: control points (sample, 4), weights of the point and of its
    derivative, the nearest residue, and the residue that a point is at (-1 between residues)."""
    n_rows = len(rows)
    count = max((n_rows - 1) * per_residue + 1, 0) if n_rows else 0
    number = np.arange(count)
    interval = np.minimum(number // per_residue, max(n_rows - 2, 0))
    t = (number - interval * per_residue) / per_residue
    at = 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], -1)
    along = 0.5 * np.stack([-1 + 4 * t - 3 * t**2, -10 * t + 9 * t**2, 1 + 8 * t - 9 * t**2, 3 * t**2 - 2 * t], -1)
    for weights in (at, along):
        # Beyond an end lies the mirror image of the last residue but one: 2 p_end - p_next.
        for end, is_end in ((0, interval == 0), (3, interval == n_rows - 2)):
            near, far = (1, 2) if end == 0 else (2, 1)
            weights[is_end, near] += 2 * weights[is_end, end]
            weights[is_end, far] -= weights[is_end, end]
            weights[is_end, end] = 0.0
    neighbours = np.clip(interval[:, None] + np.arange(-1, 3), 0, max(n_rows - 1, 0))
    nearest = (
        rows[np.minimum((2 * number + per_residue - 1) // (2 * per_residue), max(n_rows - 1, 0))] if n_rows else rows
    )
    at_residue = np.where(number % per_residue == 0, nearest, -1)
    return (rows[neighbours] if n_rows else neighbours), at, along, nearest, at_residue


def _directions(vectors: Float[np.ndarray, "sample 3"]) -> Float[np.ndarray, "sample 3"]:
    """Unit vectors; a vector without length gets the direction of the last one before it that has one."""
    scale = np.abs(vectors).max(1)
    good = np.flatnonzero(scale > _TINY)
    if not len(good):
        return np.broadcast_to([0.0, 0.0, 1.0], vectors.shape).copy()
    if len(good) < len(vectors):
        before = np.searchsorted(good, np.arange(len(vectors)), side="right") - 1
        vectors, scale = vectors[good[before.clip(0)]], scale[good[before.clip(0)]]
    unit = vectors / scale[:, None]
    return unit / np.sqrt(np.einsum("sx,sx->s", unit, unit))[:, None]


def across(tangents: Float[np.ndarray, "sample 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors that make a right-handed frame with each (Duff et al., J. Comput. Graph. Tech. 6 (2017) 1)."""
    x, y, z = tangents.T
    sign = np.copysign(1.0, z)
    a = -1.0 / (sign + z)
    b = x * y * a
    first = np.stack([1.0 + sign * x**2 * a, sign * b, -sign * x], axis=-1)
    return first, np.stack([b, sign + y**2 * a, -y], axis=-1)


def _reflected(
    vectors: Float[np.ndarray, "sample 3"], normals: Float[np.ndarray, "sample 3"]
) -> Float[np.ndarray, "sample 3"]:
    """Vectors reflected in planes; a normal of no length leaves a vector as it is."""
    squared = np.einsum("sx,sx->s", normals, normals)
    along = 2 * np.einsum("sx,sx->s", vectors, normals) / np.maximum(squared, _TINY)
    return vectors - along[:, None] * normals


def _ball() -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
    """A sphere of radius 1 about the origin: an octahedron with every edge halved, its mean exactly at the origin."""
    corners = [np.array(axis) * sign for axis in np.eye(3) for sign in (1.0, -1.0)]
    points = {tuple(corner): row for row, corner in enumerate(corners)}

    def row_of(point: np.ndarray) -> int:
        return points.setdefault(tuple((point / np.linalg.norm(point)).round(12)), len(points))

    faces = []
    for x in (0, 1):
        for y in (2, 3):
            for z in (4, 5):
                a, b, c = (x, y, z) if (x + y + z) % 2 == 0 else (x, z, y)
                ab, bc, ca = (row_of(corners[i] + corners[j]) for i, j in ((a, b), (b, c), (c, a)))
                faces += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.array(list(points)), np.array(faces)
