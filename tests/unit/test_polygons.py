"""Polygons: which points are inside (matplotlib says the same), and what is no polygon."""

import numpy as np
import pytest
from matplotlib.path import Path as MatplotlibPath
from sklearn.datasets import make_moons

from cryosphere.errors import InputError
from cryosphere.io.polygons import inside_polygon, read_polygon


def test_points_of_simple_polygons_are_those_of_matplotlib():
    points = make_moons(4000, noise=0.3, random_state=1)[0]
    generator = np.random.default_rng(2)
    for n_corners in (3, 4, 9, 40):
        angles = np.sort(generator.uniform(0, 2 * np.pi, n_corners))
        radius = generator.uniform(0.3, 2.0, n_corners)
        star = np.column_stack([0.5 + radius * np.cos(angles), 0.25 + radius * np.sin(angles)])
        for polygon in (star, star[::-1]):
            inside = inside_polygon(points, polygon)
            assert (
                inside == MatplotlibPath(np.vstack([polygon, polygon[:1]]), closed=True).contains_points(points)
            ).all()
        assert 50 < inside.sum() < 4000


def test_a_polygon_that_crosses_itself_has_its_doubly_wound_part_outside():
    tips = np.exp(2j * np.pi * np.arange(5) * 2 / 5 + 0.5j * np.pi)
    pentagram = np.column_stack([tips.real, tips.imag])
    inside = inside_polygon(np.array([[0.0, 0.0], [0.0, 0.8], [0.0, -0.9], [0.1, 0.6]]), pentagram)
    assert inside.tolist() == [False, True, False, True]


def test_neighbouring_polygons_share_no_point_and_leave_none_out():
    points = np.stack(np.meshgrid(np.arange(-1, 6), np.arange(-1, 6)), axis=-1).reshape(-1, 2).astype(float)
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    tiles = [inside_polygon(points, square + np.array([x, y])) for x in (0, 2) for y in (0, 2)]
    inner = (points >= 0).all(1) & (points < 4).all(1)
    assert (np.sum(tiles, axis=0) == inner).all()


def test_points_without_a_number_are_outside():
    square = np.array([[0.0, 0.0], [2.0, 0.5], [2.0, 2.0], [0.0, 2.0]])
    points = np.array([[1.0, 1.0], [np.nan, 1.0], [1.0, np.nan], [-np.inf, 1.0], [1.0, np.inf]])
    assert inside_polygon(points, square).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    "text",
    [
        "0,0\n1,0\n1,1\n",
        "pc1,pc2\n0,0\n1,0\n1,1\n0,0\n",
        "\ufeffpc1;pc2\r\n0;0\r\n1;0\r\n1;1\r\n",
        "# drawn by hand\n0 0\n\n1\t0  # right\n1  , 1",
    ],
)
def test_files_of_polygons(tmp_path, text):
    path = tmp_path / "mon polygone é.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_polygon(path).tolist() == [[0, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,0\n1,1\n", "has 2 corners, a polygon has 3 or more"),
        ("0,0\n1,1\n0,0\n", "has 2 corners"),
        ("", "has 0 corners"),
        ("x,y\nx,y\n", "line 2: expected two finite numbers, x,y, found 'x,y'"),
        ("0,0\n1,0\n1\n", "line 3: expected two finite numbers"),
        ("0,0\n1,0\n1,nan\n", "line 3: expected two finite numbers"),
        ("0,0\n1,0,2\n1,1\n", "line 2: expected two finite numbers"),
    ],
)
def test_what_is_no_polygon_names_the_line(tmp_path, text, words):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_polygon(tmp_path / "p.csv")


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such file; a polygon is a text file"):
        read_polygon(tmp_path / "none.csv")
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_polygon(tmp_path / "p.npy")
