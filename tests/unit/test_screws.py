"""Rigid motions and the screws of ensembles against constructed ones (rotations by scipy)."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryosphere.analysis.bodies import RigidMotions, Screw, fit_bodies
from cryosphere.analysis.segments import main_range

AXIS = np.array([0.48, 0.6, 0.64])
POINT = np.array([7.0, -3.0, 12.0])


def _screws(angles_deg, along):
    """Rotations about a line through POINT with a translation along it."""
    rotmat = Rotation.from_rotvec(np.radians(angles_deg)[:, None] * AXIS).as_matrix()
    return RigidMotions(rotmat, POINT - rotmat @ POINT + np.asarray(along)[:, None] * AXIS)


@pytest.mark.parametrize("limits", [(-30, 30), (0, 60), (-170, -110), (10, 14)])
def test_screw_is_the_one_that_was_put_in(limits):
    angles = np.linspace(*limits, 41)
    motions = _screws(angles, 0.02 * angles)
    weights = np.linspace(1, 2, 41) / np.linspace(1, 2, 41).sum()
    found = Screw.fit(motions, weights, centre=np.array([20.0, 5.0, 5.0]))
    assert found.axis == pytest.approx(AXIS, abs=1e-6)
    assert np.linalg.norm(np.cross(found.point - POINT, AXIS)) < 1e-4  # anywhere on the line
    assert np.degrees(found.angles(motions)) == pytest.approx(angles, abs=1e-5)
    assert found.translations(motions) == pytest.approx(0.02 * angles, abs=1e-5)


def test_angles_are_counted_from_the_nominal_structure_and_axes_point_one_way():
    still = RigidMotions(np.eye(3)[None], np.zeros((1, 3)))
    for sign in (1, -1):
        found = Screw.fit(_screws(sign * np.linspace(20, 50, 9), np.zeros(9)), np.full(9, 1 / 9), POINT + 10)
        assert found.axis[np.abs(found.axis).argmax()] > 0
        assert found.angles(still) == pytest.approx(0, abs=1e-7)
        assert found.translations(still) == pytest.approx(0, abs=1e-7)


def test_motion_seen_from_a_body_that_moves_along_is_that_relative_to_it():
    generator = np.random.default_rng(0)
    nominal = generator.normal(0, 10, (40, 3))
    carried = Rotation.random(6, rng=1).as_matrix()
    shift = generator.normal(0, 20, (6, 3))
    own = _screws(np.linspace(-40, 40, 6), np.zeros(6))
    states = np.repeat(nominal[None], 6, axis=0)
    states[:, 25:] = np.einsum("gij,rj->gri", own.rotmat, nominal[25:]) + own.translation[:, None]
    states = np.einsum("gij,grj->gri", carried, states) + shift[:, None]
    reference, moving = fit_bodies(states, nominal, [np.arange(25), np.arange(25, 40)])
    assert reference.rotmat == pytest.approx(carried, abs=1e-9)
    assert reference.translation == pytest.approx(shift, abs=1e-8)
    relative = moving.seen_from(reference)
    assert relative.rotmat == pytest.approx(own.rotmat, abs=1e-8)
    assert relative.translation == pytest.approx(own.translation, abs=1e-7)


def test_bodies_of_two_residues_only_shift():
    nominal = np.arange(9.0).reshape(3, 3)
    (found,) = fit_bodies(nominal[None] + [1, 2, 3], nominal, [np.array([0, 2])])
    assert found.rotmat[0].tolist() == np.eye(3).tolist()
    assert found.translation[0] == pytest.approx([1, 2, 3])


def test_main_range_is_that_of_weighted_vectors():
    steps = np.linspace(0, 10, 1001)
    vectors = steps[:, None] * [0.6, 0, -0.8]
    width, direction = main_range(vectors, np.full(1001, 1 / 1001))
    assert width == pytest.approx(9.0, abs=0.02)
    assert direction == pytest.approx([-0.6, 0, 0.8])
    assert main_range(np.ones((5, 3)), np.full(5, 0.2))[0] == 0
