import threading
from dataclasses import fields

import numpy as np
import pytest
import torch

from cryosphere.config_files import parse_config
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.loading import read_ahead
from cryosphere.training.train import load_inputs
from tests.particle_sets import configuration, write_particle_set

ROW_SETS = [np.array(rows) for rows in ([3, 1], [0], [5, 4, 2], [1, 1])]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = write_particle_set(tmp_path_factory.mktemp("data") / "set", 6)
    table, _ = load_inputs(parse_config(configuration(folder), folder))
    return ParticleImages(table, 30.0)


def loading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


@pytest.mark.parametrize("at_once", [1, 3, 10])
@pytest.mark.parametrize("n_ahead", [1, 3, 10])
def test_batches_are_those_read_one_by_one_in_order(images, n_ahead, at_once):
    found = list(read_ahead(images, ROW_SETS, n_ahead=n_ahead, at_once=at_once))
    assert len(found) == len(ROW_SETS)
    for batch, rows in zip(found, ROW_SETS, strict=True):
        expected = images.batch(rows)
        for field in fields(batch):
            one, other = getattr(batch, field.name), getattr(expected, field.name)
            if field.name == "ctf":
                one, other = one.defocus_u, other.defocus_u
            assert torch.equal(one, other) or (field.name == "fourier" and at_once > 1), field.name
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # rounding depends on how many there are
    assert loading_threads() == []


def test_no_more_is_read_than_may_wait(images):
    asked = []

    def row_sets():
        for rows in ROW_SETS * 10:
            asked.append(rows)
            yield rows

    batches = read_ahead(images, row_sets(), n_ahead=2)
    next(batches)
    batches.close()
    assert 1 <= len(asked) <= 4  # taken, two that wait, and one in the making
    assert loading_threads() == []


def test_what_goes_wrong_while_reading_is_raised_in_its_place(images):
    batches = read_ahead(images, [ROW_SETS[0], np.array([6])])
    assert next(batches).rows.tolist() == [3, 1]
    with pytest.raises(IndexError):
        next(batches)
    assert loading_threads() == []


def test_a_consumer_that_stops_ends_the_thread(images):
    def stop_early():
        for _ in read_ahead(images, ROW_SETS * 100, n_ahead=1):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        stop_early()
    assert loading_threads() == []


def test_nothing_to_read_is_nothing(images):
    assert list(read_ahead(images, [])) == []


def test_on_a_cpu_the_thread_gives_openmp_no_work(images):
    """More OpenMP threads than cores slow everything down: what torch computes stays with the caller's thread."""
    preparing, reading = set(), set()
    batch, pixels = images.batch, images.source.pixels

    def prepare(rows, given=None):
        preparing.add((threading.current_thread().name, type(given)))
        return batch(rows, given)

    def read(rows):
        reading.add(threading.current_thread().name)
        return pixels(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "batch", prepare)
        patch.setattr(images.source, "pixels", read)
        list(read_ahead(images, ROW_SETS))
    assert preparing == {(threading.current_thread().name, np.ndarray)}
    assert reading == {"read ahead"}
