"""Films: what is read back is what was written, whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.viewer.recording import Film, film_frames
from tests.viewer.films import read_film


def frame(number: int, height: int = 61, width: int = 83) -> np.ndarray:
    """A grey frame with a white column at ``8 * number``, RGBA."""
    image = np.full((height, width, 4), 60, dtype=np.uint8)
    image[:, 8 * number : 8 * number + 8] = 255
    return image


def film_of(path, count: int = 7, **options):
    film = Film(path, **options)
    for number in range(count):
        film.add(frame(number))
    return film.finish()


def column_of(image: np.ndarray) -> float:
    return float(np.average(np.arange(image.shape[1]), weights=(image[..., 0].mean(0) > 160)))


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "film"])
def test_frames_are_read_back_in_order(tmp_path, name):
    path = film_of(tmp_path / name, frames_per_second=10)
    images, _ = read_film(path)
    if name == "film":
        np.testing.assert_array_equal(images[3], frame(3)[:60, :82, :3])
    assert len(images) == 7
    assert images[0].shape == (60, 82, 3)
    np.testing.assert_allclose([column_of(image) for image in images], 8 * np.arange(7) + 3.5, atol=1.5)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_times_are_those_asked_for(tmp_path):
    assert read_film(film_of(tmp_path / "a.mp4", frames_per_second=20))[1]["fps"] == 20
    meta = read_film(film_of(tmp_path / "a.gif", frames_per_second=20))[1]
    assert (meta["duration"], meta["loop"]) == (50, 0)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "film"])
def test_an_older_film_is_kept_until_another_is_whole(tmp_path, name):
    path = film_of(tmp_path / name, count=3)
    with pytest.raises(InputError, match="exists and is kept"):
        Film(path)
    film = Film(path, overwrite=True)
    film.add(frame(0))
    film.abort()
    assert len(read_film(path)[0]) == 3
    assert [file.name for file in tmp_path.iterdir()] == [name]
    film_of(path, count=2, overwrite=True)
    assert len(read_film(path)[0]) == 2


def test_a_folder_that_is_no_film_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="did not make"):
        Film(tmp_path / "mine", overwrite=True)


@pytest.mark.parametrize("name", ["film.avi", "film.png"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.mp4 or \.gif"):
        Film(tmp_path / name)


def test_a_window_that_shrinks_is_told(tmp_path):
    film = Film(tmp_path / "film.gif")
    film.add(frame(0))
    film.add(frame(1, height=90, width=100))
    with pytest.raises(InputError, match="changed its size"):
        film.add(frame(1, height=30))
    film.abort()
    assert not list(tmp_path.iterdir())


def test_forth_and_back_shows_no_frame_twice_running():
    assert film_frames(4, False) == [0, 1, 2, 3]
    assert film_frames(4, True) == [0, 1, 2, 3, 2, 1]
    assert film_frames(1, True) == [0]
    assert film_frames(2, True) == [0, 1]
