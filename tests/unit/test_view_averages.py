"""Averages by view: where turned images and their groups must lie."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryosphere.preflight.picture import turned_in_plane, view_groups

SIZE = 32
POINTS = np.array([[6.0, 2.0, 3.0], [-3.0, 7.0, -1.0], [-8.0, -4.0, 0.0]])


def _image(rotmat):
    """Round spots where points land, origin at pixel SIZE // 2, in plain numpy."""
    place = (rotmat @ POINTS.T).T[:, :2] + SIZE // 2
    y, x = np.mgrid[:SIZE, :SIZE]
    return sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in place)


def test_images_turned_in_plane_lie_on_the_first():
    first = Rotation.from_euler("zyz", [20, 50, 80], degrees=True).as_matrix()
    turns = [Rotation.from_euler("z", angle, degrees=True).as_matrix() @ first for angle in (0, 35, 145, -90)]
    images = torch.tensor(np.stack([_image(turn) for turn in turns]), dtype=torch.float32)
    turned = turned_in_plane(images, torch.tensor(np.stack(turns), dtype=torch.float32)).numpy()
    expected = _image(first)
    for image in turned:
        assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.995
    assert np.corrcoef(images[2].numpy().ravel(), expected.ravel())[0, 1] < 0.9


def test_views_are_the_fullest_first_and_share_no_particle():
    generator = np.random.default_rng(0)
    tilt = np.concatenate([np.full(60, 0.0), np.full(30, 90.0), np.full(10, 180.0)])
    psi = generator.uniform(0, 360, 100)
    rotmat = Rotation.from_euler("zyz", np.column_stack([np.zeros(100), tilt, psi]), degrees=True).as_matrix()
    rotmat = torch.tensor(rotmat.transpose(0, 2, 1).copy(), dtype=torch.float32)
    groups = view_groups(rotmat, 2, 25.0)
    directions = rotmat[:, 2].numpy()
    sizes = [len(group) for group in groups]
    assert len(groups) == 2 and sizes == sorted(sizes, reverse=True)
    assert not set(groups[0]) & set(groups[1])
    for group in groups:
        assert (directions[group] @ directions[group[0]] > np.cos(np.radians(25))).all()
