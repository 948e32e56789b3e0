"""Contact graphs and the parts they fall into."""

import json

import numpy as np
import pytest

from cryosphere.io.pae import read_predicted_error
from cryosphere.structure.contacts import contact_graph, diffuse, divide
from tests.structure_factory import chain_structure

STRUCTURE = chain_structure(np.zeros((80, 3)))


def two_blobs(n=40, apart=60.0, seed=0):
    generator = np.random.default_rng(seed)
    blob = generator.normal(size=(2, n, 3)) * 6
    blob[1, :, 0] += apart
    return blob.reshape(-1, 3), np.ones(2 * n - 1, dtype=bool)


def test_weights_are_those_of_the_formula():
    positions = np.array([[0.0, 0, 0], [4, 0, 0], [0, 9, 0], [40, 0, 0]])
    graph = contact_graph(positions, np.array([True, False, True])).toarray()
    assert graph[0, 1] == pytest.approx(np.exp(-0.5 * (4 / 6) ** 2) + 2)
    assert graph[0, 2] == pytest.approx(np.exp(-0.5 * (9 / 6) ** 2))
    assert graph[2, 3] == pytest.approx(2)
    assert graph[0, 3] == 0 and np.all(graph == graph.T) and np.all(np.diag(graph) == 0)


def test_two_blobs_on_a_string_are_cut_at_the_string():
    positions, bonded = two_blobs()
    labels = divide(contact_graph(positions, bonded), 2, 5)
    assert labels.tolist() == [0] * 40 + [1] * 40


def test_chains_that_touch_stay_together_though_apart_in_sequence():
    positions, _ = two_blobs()
    order = np.r_[0:20, 40:60, 20:40, 60:80]
    bonded = np.ones(79, dtype=bool)
    bonded[[19, 39, 59]] = False
    labels = divide(contact_graph(positions[order], bonded), 2, 5)
    assert labels.tolist() == [0] * 20 + [1] * 20 + [0] * 20 + [1] * 20


def test_parts_have_their_least_size_and_large_graphs_are_cut_too():
    generator = np.random.default_rng(1)
    walk = np.cumsum(generator.normal(size=(800, 3)) * 2.2, axis=0)
    labels = divide(contact_graph(walk, np.ones(799, dtype=bool)), 12, 20)
    assert labels.max() == 11 and np.bincount(labels).min() >= 20
    assert np.all(np.diff(np.unique(labels, return_index=True)[1]) > 0)


def test_no_part_smaller_than_asked_for_even_if_fewer_come_back():
    positions, bonded = two_blobs(n=6)
    assert divide(contact_graph(positions, bonded), 9, 5).max() == 1


def test_diffusion_keeps_the_middle_and_mixes_the_border():
    line = np.column_stack([np.arange(30) * 3.8, np.zeros(30), np.zeros(30)])
    shares = diffuse(contact_graph(line, np.ones(29, dtype=bool)), np.repeat([0, 1, -1], [12, 12, 6]))
    assert np.allclose(shares[:24].sum(1), 1) and np.all(shares[24:] == 0)
    assert shares[0, 0] == 1 and 0.5 < shares[11, 0] < 0.9


def test_predicted_error_parts_what_merely_touches(tmp_path):
    positions, bonded = two_blobs(apart=12.0)
    error = np.full((80, 80), 1.0)
    error[:40, 40:] = error[40:, :40] = 25.0
    (tmp_path / "pae.json").write_text(json.dumps([{"predicted_aligned_error": error.tolist()}]))
    read = read_predicted_error(tmp_path / "pae.json", STRUCTURE)
    labels = divide(contact_graph(positions, bonded, read), 2, 5)
    assert labels.tolist() == [0] * 40 + [1] * 40
