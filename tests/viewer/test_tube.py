"""The tube: where it passes, how it is closed, and that nothing breaks it."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from cryosphere.viewer.tube import Tube
from tests.structure_factory import chain_structure


def walk(count: int, seed: int = 0) -> np.ndarray:
    """A random walk in steps of 3.8 Å, far from the origin."""
    steps = np.random.default_rng(seed).normal(size=(count, 3))
    return 200 + np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def with_gaps(structure, *breaks: int, ligands: int = 0):
    """The same structure with bonds broken, and its last residues made ligands."""
    bonded, kinds = structure.bonded.copy(), structure.kinds.astype("<U8").copy()
    bonded[list(breaks)] = False
    if ligands:
        kinds[-ligands:] = "ligand"
        bonded[-ligands:] = False
    return replace(structure, bonded=bonded, kinds=kinds)


def edges_of(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


@pytest.mark.parametrize("detail", [(6, 10), (3, 6), (2, 4), (1, 3)])
def test_it_passes_through_every_residue(detail):
    positions = walk(60).astype(np.float32)
    tube = Tube(with_gaps(chain_structure(walk(60)), 9, 10, 30, ligands=5), 1.3, detail)
    np.testing.assert_allclose(tube.ring_centres(tube.vertices(positions)), positions, atol=1e-4)


def test_between_residues_it_follows_the_catmull_rom_spline():
    """Catmull-Rom is the cubic Hermite spline whose derivatives are half the difference of the neighbours."""
    positions, per_residue, sides = walk(12), 5, 8
    tube = Tube(chain_structure(positions), 1.0, (per_residue, sides))
    rings = tube.vertices(positions)[: tube.n_vertices].reshape(-1, sides, 3).mean(1)
    derivatives = np.gradient(positions, axis=0)
    spline = CubicHermiteSpline(np.arange(12), positions, derivatives)
    expected = spline(np.arange(11 * per_residue + 1) / per_residue)
    caps = (len(rings) - len(expected)) // 2
    np.testing.assert_allclose(rings[caps:-caps], expected, atol=1e-4)


def test_rings_are_round_and_across():
    positions = walk(30, seed=2)
    tube = Tube(chain_structure(positions), 1.5, (4, 8))
    rings = tube.vertices(positions).astype(float).reshape(-1, 8, 3)[3:-3]
    spokes = rings - rings.mean(1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(spokes, axis=2), 1.5, atol=1e-4)
    normals = np.cross(spokes[:, 0], spokes[:, 1])
    np.testing.assert_allclose(np.einsum("rsx,rx->rs", spokes, normals), 0, atol=1e-3)


def test_it_does_not_twist_in_a_plane():
    """In a plane, the direction out of the plane is transported onto itself, whatever the bends."""
    angle = np.linspace(0, 1.5 * np.pi, 25)
    positions = np.stack([30 * np.cos(angle), 20 * np.sin(2 * angle), np.full(25, 7.0)], axis=1)
    tube = Tube(chain_structure(positions), 1.0, (6, 8))
    rings = tube.vertices(positions).astype(float).reshape(-1, 8, 3)[3:-3]
    spokes = rings - rings.mean(1, keepdims=True)
    np.testing.assert_allclose(spokes[:, :, 2], np.tile(spokes[0, :, 2], (len(spokes), 1)), atol=1e-4)


def test_a_helix_twists_by_less_than_its_torsion():
    """A transported frame turns about the tangent by less than 1e-3 between close rings (Frenet's turns by torsion)."""
    angle = np.linspace(0, 6 * np.pi, 200)
    positions = np.stack([5 * np.cos(angle), 5 * np.sin(angle), 2 * angle], axis=1)
    tube = Tube(chain_structure(positions), 1.0, (4, 8))
    rings = tube.vertices(positions).astype(float).reshape(-1, 8, 3)[3:-3]
    spokes = rings - rings.mean(1, keepdims=True)
    tangents = np.gradient(rings.mean(1), axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    turned = np.einsum("rx,rx->r", np.cross(spokes[:-1, 0], spokes[1:, 0]), tangents[:-1])
    assert np.abs(turned).max() < 1e-3


def test_chain_breaks_leave_no_triangle_between_pieces():
    structure = with_gaps(chain_structure(walk(40)), 11, 25, ligands=3)
    tube = Tube(structure)
    piece = np.concatenate([[0], np.cumsum(~structure.bonded)])
    assert np.ptp(piece[tube.vertex_residue[tube.faces]], axis=1).max() == 0


def test_the_surface_is_closed_and_looks_outwards():
    positions = np.stack([3.8 * np.arange(20), np.zeros(20), np.zeros(20)], axis=1)
    tube = Tube(with_gaps(chain_structure(positions), 9, ligands=2), 1.0)
    vertices = tube.vertices(positions).astype(float)
    corners = vertices[tube.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = corners.mean(1) * [0, 1, 1]
    rings = np.abs(normals[:, 0]) < 1e-6
    assert (np.einsum("fx,fx->f", normals, axis)[rings] >= 0).all()
    edges = edges_of(tube.faces)
    forward = {tuple(edge) for edge in edges.tolist()}
    open_edges = {(a, b) for a, b in forward if (b, a) not in forward}
    # The only edges that no other triangle shares are those around the tips, which have no length.
    assert all(np.linalg.norm(vertices[a] - vertices[b]) < 1e-6 for a, b in open_edges)
    # The divergence theorem: a closed surface that looks outwards encloses its volume.
    volume = np.einsum("fx,fx->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.85 < volume / (np.pi * 3.8 * (9 + 7) + 2 * 4 / 3 * np.pi + 2 * 4 / 3 * np.pi * 1.7**3) < 1.0


@pytest.mark.parametrize(
    "positions",
    [
        np.zeros((10, 3)),
        np.repeat(walk(5), 2, axis=0),
        walk(10)[[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]],
        np.stack([np.zeros(10), np.zeros(10), -np.arange(10.0)], axis=1),
        1e12 * walk(10),
        1e-12 * walk(10),
        np.where(np.arange(10)[:, None] == 4, 1e9, walk(10)),
    ],
    ids=["one point", "pairs", "to and fro", "straight down", "huge", "tiny", "one far away"],
)
@pytest.mark.parametrize("cut", [(), (3,), tuple(range(9))])
def test_wild_positions_stay_finite(positions, cut):
    tube = Tube(with_gaps(chain_structure(walk(10)), *cut))
    vertices = tube.vertices(positions)
    assert vertices.dtype == np.float32
    assert np.isfinite(vertices).all()
    np.testing.assert_allclose(tube.ring_centres(vertices), positions, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_residues(count):
    positions = walk(count)
    tube = Tube(chain_structure(positions), 0.8)
    vertices = tube.vertices(positions)
    np.testing.assert_allclose(tube.ring_centres(vertices), positions, atol=1e-4)
    assert np.linalg.norm(vertices - positions.mean(0), axis=1).max() < 3.8 * count


def test_hidden_residues_have_no_triangles():
    tube = Tube(chain_structure(walk(30)))
    shown = np.arange(30) < 12
    assert set(tube.vertex_residue[tube.faces_of(shown)].ravel().tolist()) == set(range(12))
    assert len(tube.faces_of(~shown)) + len(tube.faces_of(shown)) < len(tube.faces)
    assert tube.faces_of(np.ones(30, bool)) is tube.faces


def test_a_turned_structure_has_the_turned_tube():
    positions = walk(25, seed=4)
    turn = Rotation.from_rotvec([0.4, -1.1, 2.0])
    tube = Tube(chain_structure(positions), 1.0, (3, 6))
    rings = tube.vertices(positions).astype(float).reshape(-1, 6, 3).mean(1)
    turned = tube.vertices(turn.apply(positions)).astype(float).reshape(-1, 6, 3).mean(1)
    np.testing.assert_allclose(turned, turn.apply(rings), atol=1e-3)


@pytest.mark.parametrize("count, seconds", [(1294, 0.05), (20_000, 0.4)])
def test_vertices_are_made_fast(count, seconds):
    """The bars are 10 and 100 ms; a busy machine gets more."""
    positions = walk(count)
    tube = Tube(chain_structure(positions))
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        tube.vertices(positions)
        spent.append(time.perf_counter() - start)
    assert min(spent) < seconds
