"""MRC stacks and volumes, with mrcfile and real files of other programs as the other side."""

import os
import tracemalloc

import mrcfile
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io import mrc
from cryosphere.io.mrc import read_header, read_images, read_volume, write_stack, write_volume
from cryosphere.io.structures import read_structure


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_number_types_become_float32(tmp_path, make_stack, dtype):
    if dtype == np.uint16:
        images = np.arange(4 * 8 * 8, dtype=dtype).reshape(4, 8, 8) + 60000
        with mrcfile.new(tmp_path / "s.mrcs") as mrc:
            mrc.set_data(images)
    else:
        images = make_stack(tmp_path / "s.mrcs", dtype=dtype)
    read = read_images([tmp_path / "s.mrcs"], np.zeros(3, int), np.array([2, 0, 2]))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, images[[2, 0, 2]].astype(np.float32))


def test_images_of_several_stacks_in_the_order_asked_for(tmp_path, make_stack):
    first = make_stack(tmp_path / "a.mrcs", n_images=3)
    second = make_stack(tmp_path / "b.mrcs", n_images=5)
    stack_index, image_index = np.array([1, 0, 1, 0]), np.array([4, 2, 0, 0])
    read = read_images([tmp_path / "a.mrcs", tmp_path / "b.mrcs"], stack_index, image_index)
    np.testing.assert_array_equal(read, np.stack([second[4], first[2], second[0], first[0]]))


def all_images(path):
    return read_images([path], np.zeros(read_header(path).n_images, int), np.arange(read_header(path).n_images))


def test_images_that_are_asked_for_twice_come_twice(tmp_path, make_stack):
    images = make_stack(tmp_path / "s.mrcs", n_images=3)
    read = read_images([tmp_path / "s.mrcs"], np.zeros(4, int), np.array([1, 2, 1, 1]))
    np.testing.assert_array_equal(read, images[[1, 2, 1, 1]])


def test_a_few_images_of_a_large_stack_take_little_memory(tmp_path):
    write_stack(tmp_path / "s.mrcs", [np.zeros((1, 64, 64))], n_images=1, pixel_size=1.0)
    with open(tmp_path / "s.mrcs", "r+b") as file:
        file.truncate(1024 + 4 * 64 * 64 * 1_000_000)  # 16 GB of holes
        file.seek(8)
        file.write(np.int32(1_000_000).tobytes())
    tracemalloc.start()
    read = read_images([tmp_path / "s.mrcs"], np.zeros(3, int), np.array([999_999, 5, 0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read.shape == (3, 64, 64) and peak < 5e6


def test_a_file_cut_short_after_its_header_was_read_is_named(tmp_path, make_stack, monkeypatch):
    make_stack(tmp_path / "s.mrcs")
    header = read_header(tmp_path / "s.mrcs")
    monkeypatch.setattr(mrc, "_known_header", lambda *_: header)
    os.truncate(tmp_path / "s.mrcs", 1024 + 3 * 8 * 8 * 4 + 5)
    assert read_images([tmp_path / "s.mrcs"], np.zeros(1, int), np.array([2])).shape == (1, 8, 8)
    with pytest.raises(InputError, match="ends before its image 4; copy it again"):
        read_images([tmp_path / "s.mrcs"], np.zeros(1, int), np.array([3]))


def test_single_image_file(tmp_path):
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    with mrcfile.new(tmp_path / "one.mrc") as mrc:
        mrc.set_data(image)
    np.testing.assert_array_equal(all_images(tmp_path / "one.mrc"), image[None])


def test_extended_header_and_big_endian(tmp_path):
    images = np.arange(2 * 36, dtype=">f4").reshape(2, 6, 6)
    with mrcfile.new(tmp_path / "s.mrcs") as mrc:
        mrc.set_data(images)
        mrc.set_extended_header(np.zeros(512, dtype="V1"))
    assert read_header(tmp_path / "s.mrcs").data_offset == 1536
    read = read_images([tmp_path / "s.mrcs"], np.zeros(2, int), np.arange(2))
    np.testing.assert_array_equal(read, images.astype("<f4"))


def test_old_file_without_identifier_is_read_and_noted(test_data):
    header = read_header(test_data / "stacks" / "relion31.mrcs")
    assert header.shape == (5, 256, 256)
    assert len(header.notes) == 1 and "identifier" in header.notes[0]
    stack = all_images(test_data / "stacks" / "relion31.mrcs")
    assert np.isfinite(stack).all() and 0.1 < stack.std() < 100


def test_bytes_after_the_last_image_are_noted(tmp_path, make_stack):
    images = make_stack(tmp_path / "s.mrcs")
    with open(tmp_path / "s.mrcs", "ab") as file:
        file.write(b"12345")
    assert "5 bytes after" in read_header(tmp_path / "s.mrcs").notes[0]
    np.testing.assert_array_equal(all_images(tmp_path / "s.mrcs"), images)


def test_written_stack_is_valid_and_complete(tmp_path, capsys):
    images = np.random.default_rng(0).normal(size=(7, 6, 6)).astype(np.float32) + 2
    batches = (images[start : start + 3] for start in range(0, 7, 3))
    write_stack(tmp_path / "s.mrcs", batches, n_images=7, pixel_size=1.25)
    assert mrcfile.validate(tmp_path / "s.mrcs"), capsys.readouterr().out
    with mrcfile.open(tmp_path / "s.mrcs") as mrc:
        np.testing.assert_array_equal(mrc.data, images)
        assert mrc.is_image_stack() and mrc.header.ispg == 0
        assert mrc.voxel_size.x == mrc.voxel_size.y == np.float32(1.25)
        assert mrc.header.dmin == images.min() and mrc.header.dmax == images.max()
        assert mrc.header.dmean == pytest.approx(images.mean(), rel=1e-6)
        assert mrc.header.rms == pytest.approx(images.std(), rel=1e-6)


def test_batches_are_taken_one_at_a_time(tmp_path):
    alive = []

    class Batch(np.ndarray):
        def __del__(self):
            alive.remove(id(self))

    def batches():
        for _ in range(20):
            assert len(alive) <= 3
            batch = np.zeros((2, 4, 4), np.float32).view(Batch)
            alive.append(id(batch))
            yield batch
            del batch

    write_stack(tmp_path / "s.mrcs", batches(), n_images=40, pixel_size=1.0)
    assert read_header(tmp_path / "s.mrcs").n_images == 40


@pytest.mark.parametrize(
    ("shapes", "n_images"),
    [([(2, 4, 4)], 3), ([(2, 4, 4), (1, 6, 6)], 3), ([(2, 4, 6)], 2), ([], 1)],
    ids=["too few", "two boxes", "not square", "none"],
)
def test_batches_that_do_not_fit_leave_nothing(tmp_path, shapes, n_images):
    with pytest.raises(ValueError):
        write_stack(tmp_path / "s.mrcs", [np.zeros(shape) for shape in shapes], n_images=n_images, pixel_size=1.0)
    assert list(tmp_path.iterdir()) == []


def test_equal_data_are_equal_files(tmp_path, monkeypatch):
    images = np.random.default_rng(0).normal(size=(3, 4, 4))
    for name in "ab":
        write_stack(tmp_path / f"{name}.mrcs", [images], n_images=3, pixel_size=1.0)
        write_volume(tmp_path / f"{name}.mrc", images, 1.0, (1.0, 2.0, 3.0))
    for suffix in ("mrcs", "mrc"):
        data = (tmp_path / f"a.{suffix}").read_bytes()
        assert data == (tmp_path / f"b.{suffix}").read_bytes()
        assert b"20" not in data[224:1024], "the labels hold a date"


def test_written_volume_has_its_place(tmp_path, capsys):
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    write_volume(tmp_path / "v.mrc", volume, 2.5, (-10.0, 5.0, 7.5))
    assert mrcfile.validate(tmp_path / "v.mrc"), capsys.readouterr().out
    with mrcfile.open(tmp_path / "v.mrc") as mrc:
        np.testing.assert_array_equal(mrc.data, volume)
        assert mrc.is_volume() and mrc.header.ispg == 1
        assert tuple(mrc.header.origin.tolist()) == (-10.0, 5.0, 7.5)
        np.testing.assert_allclose([mrc.voxel_size[axis] for axis in "xyz"], 2.5)
    with pytest.raises(InputError, match="--overwrite"):
        write_volume(tmp_path / "v.mrc", volume, 2.5)
    read = read_volume(tmp_path / "v.mrc")
    np.testing.assert_array_equal(read.volume, volume)
    np.testing.assert_array_equal(read.origin, [-10.0, 5.0, 7.5])


def test_real_map_lies_on_its_structure(test_data):
    """The density at the atoms is high where the header's origin is honoured, and not elsewhere."""
    density = read_volume(test_data / "structures" / "1ake.mrc")
    atoms = read_structure(test_data / "structures" / "pdb1ake.pdb").atoms.positions

    def mean_at_atoms(origin):
        index = np.round((atoms - origin) / density.pixel_size).astype(int)
        inside = ((index >= 0) & (index < np.array(density.volume.shape[::-1]))).all(axis=1)
        x, y, z = index[inside].T
        return density.volume[z, y, x].sum() / len(atoms)

    assert density.pixel_size == 2.0 and density.origin.tolist() == [-64.0] * 3
    here = mean_at_atoms(density.origin)
    assert here > 3 * density.volume.std()
    assert here > 2 * max(mean_at_atoms(density.origin + offset) for offset in (20.0, -20.0, 64.0))


def test_axis_order_and_start_indices(tmp_path):
    volume = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    with mrcfile.new(tmp_path / "v.mrc") as mrc:
        # Columns along z, rows along x, sections along y.
        mrc.set_data(np.ascontiguousarray(volume.transpose(1, 2, 0)))
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 1, 2
        mrc.header.mx, mrc.header.my, mrc.header.mz = 4, 3, 2
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = 30, 10, 20
        mrc.header.cella = (8.0, 6.0, 4.0)
    read = read_volume(tmp_path / "v.mrc")
    np.testing.assert_array_equal(read.volume, volume)
    # nxstart belongs to the columns (z), nystart to the rows (x), nzstart to the sections (y).
    np.testing.assert_array_equal(read.origin, [20.0, 40.0, 60.0])
