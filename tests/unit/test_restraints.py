"""Restraints: derivatives against finite differences, fits against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from cryosphere.physics.restraints import Distances, Volumes, distances, fit, residuals, volumes


def _terms(points, generator):
    pairs = np.array([[0, 1], [1, 2], [2, 5], [3, 4]])
    quadruples = np.array([[0, 1, 2, 3], [2, 1, 4, 5], [5, 0, 3, 2]])
    targets = distances(points, pairs)[0]
    return [
        Distances(pairs, targets + generator.normal(size=4), np.full(4, 0.3)),
        Distances(pairs, targets + np.array([0.5, -0.5, 0.5, -0.5]), np.full(4, 0.7), at_least=True),
        Volumes(quadruples, generator.normal(size=3), np.full(3, 2.0)),
    ]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_jacobian_is_that_of_finite_differences(seed):
    generator = np.random.default_rng(seed)
    points = 3 * generator.normal(size=(6, 3))
    terms = _terms(points, generator)
    _, jacobian = residuals(points, terms)
    numeric = approx_fprime(points.ravel(), lambda x: residuals(x.reshape(-1, 3), terms)[0], 1e-7)
    assert jacobian.toarray() == pytest.approx(numeric, abs=2e-5)


def test_volume_is_six_times_that_of_the_tetrahedron_and_changes_sign_in_a_mirror():
    corners = np.array([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 4]]) + 7.0
    value, _ = volumes(corners, np.array([[0, 1, 2, 3], [0, 2, 1, 3]]))
    assert value == pytest.approx([24.0, -24.0])
    assert volumes(corners * [1, 1, -1], np.array([[0, 1, 2, 3]]))[0] == pytest.approx([-24.0])


def test_a_stretched_pair_meets_in_the_weighted_middle():
    """Two springs in a row: the point between has the mean of its targets weighted by the inverse variances."""
    points = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    term = Distances(np.array([[0, 1]]), np.array([1.0]), np.array([0.5]))
    moved = fit(points, np.array([False, True]), [term], points, tether_tolerance=1.0, least_gain=0.0)
    assert moved[0] == pytest.approx(points[0])
    assert moved[1] == pytest.approx([(1.0 / 0.25 + 3.0) / (1 / 0.25 + 1), 0, 0], abs=2e-3)


def test_contacts_push_apart_but_never_pull():
    term = Distances(np.array([[0, 1]]), np.array([2.8]), np.array([0.01]), at_least=True)
    free = np.array([True, True])
    near, far = np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.array([[0.0, 0, 0], [5.0, 0, 0]])
    pushed = fit(near, free, [term], near, 1.0, least_gain=0.0)
    assert np.linalg.norm(pushed[0] - pushed[1]) == pytest.approx(2.8, abs=1e-3)
    assert fit(far, free, [term], far, 1.0) == pytest.approx(far, abs=1e-9)


def test_a_fit_moves_nothing_that_is_not_free_and_not_its_input():
    generator = np.random.default_rng(0)
    points = 3 * generator.normal(size=(6, 3))
    before = points.copy()
    free = np.array([True, False, True, False, True, False])
    moved = fit(points, free, _terms(points, generator), points, 0.5)
    assert (points == before).all()
    assert (moved[~free] == before[~free]).all()
    assert np.abs(moved[free] - before[free]).min() > 1e-4
    assert (fit(points, np.zeros(6, dtype=bool), _terms(points, generator), points, 0.5) == before).all()
