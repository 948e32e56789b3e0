"""The prepared stack: what is in it, that nothing changes but speed, and when it is written anew or refused."""

from collections import namedtuple
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch
from scipy.ndimage import shift as move

from cryosphere.config import ParticlesConfig
from cryosphere.errors import ConfigError, InputError
from cryosphere.particles import prepared
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.prepared import DESCRIPTION, STACK, StackOrder, open_prepared, prepare
from cryosphere.particles.sampling import on_common_grid
from cryosphere.physics.noise import coloured_noise, coloured_spectrum
from tests.run_factory import particle_table

RADIUS = 24.0
ROWS = np.array([7, 0, 31, 2])


@pytest.fixture
def table(tmp_path):
    """40 images of 24 px with a blob at the particle's place, coloured noise of standard deviation 30, mean 100."""
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    shift = random.uniform(-9, 9, (40, 2))
    noise = coloured_noise((40, 24, 24), coloured_spectrum(24, 4.0, 5.0, 30.0), generator).numpy()
    images = 100 + 30 * noise + 80 * np.stack([blob(*(-xy), 24, 4.0) for xy in shift])
    with mrcfile.new(tmp_path / "particles.mrcs") as mrc:
        mrc.set_data(images.astype(np.float32))
    groups = np.repeat([0, 1], 20)
    return replace(particle_table(40, tmp_path), shift=shift, optics_group=groups, optics_group_names=("one", "two"))


def blob(x, y, box, pixel_size, width=7.0):
    axis = (np.arange(box) - box // 2) * pixel_size
    return np.exp(-((axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * width**2))


def order_of(table, number_type="float32", invert=False):
    return StackOrder.of(ParticlesConfig(file="p.star", stack=number_type, invert=invert), table, RADIUS)


def prepared_in(folder, table, number_type="float32", **more):
    """Images read from a stack, and from their files."""
    images = ParticleImages(table, RADIUS)
    stack = prepare(order_of(table, number_type), images, folder, show_progress=False, **more)
    return ParticleImages(table, RADIUS, source=stack), images


@pytest.mark.parametrize(("number_type", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
@pytest.mark.parametrize("pixel_size", [None, 5.0])
def test_batches_are_the_same_with_and_without(table, tmp_path, number_type, tolerance, pixel_size):
    table = on_common_grid(table, pixel_size)
    with_stack, without = prepared_in(tmp_path / "prepared", table, number_type)
    assert torch.equal(with_stack.noise_power, without.noise_power)
    with_stack.pose_shift = without.pose_shift = torch.linspace(-2, 2, 80).view(40, 2)
    found, expected = with_stack.batch(ROWS), without.batch(ROWS)
    assert torch.allclose(found.images, expected.images, atol=tolerance)
    assert not torch.equal(found.images, expected.images)
    for name in ("rotmat", "whitening", "rows", "optics_group"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_the_stack_holds_normalised_images_centred_by_whole_pixels(table, tmp_path):
    prepared_in(tmp_path / "prepared", table, "float16")
    with mrcfile.open(tmp_path / "prepared" / STACK) as mrc:
        stack = np.array(mrc.data, dtype=np.float64)
        assert (int(mrc.header.mode), float(mrc.voxel_size.x)) == (12, 4.0)
    background = np.hypot(*np.meshgrid(*[4.0 * (np.arange(24) - 12)] * 2)) > 40
    assert stack[:, background].mean() == pytest.approx(0, abs=0.02)
    for group in (slice(20), slice(20, 40)):
        assert stack[group][:, background].std() == pytest.approx(1, abs=0.05)
    with mrcfile.open(table.stack_paths[0]) as mrc:
        pixels = np.array(mrc.data, dtype=np.float64)
    by = np.rint(table.shift / 4.0)
    moved = np.stack([move(image, (y, x), order=0, mode="grid-wrap") for image, (x, y) in zip(pixels, by, strict=True)])
    correlation = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(stack, moved, strict=True)]
    assert min(correlation) > 0.99999


@pytest.mark.parametrize("invert", [False, True])
def test_groups_of_different_sampling_become_comparable(tmp_path, invert):
    """The same blob and shifts in 24 px of 4 Å, 45 px of 3 Å and 40 px of 2.5 Å end as the blob on 24 px of 4 Å."""
    random, samplings = np.random.default_rng(1), [(24, 4.0), (45, 3.0), (40, 2.5)]
    shift = random.uniform(-20, 20, (12, 2))
    for number, (box, pixel_size) in enumerate(samplings):
        images = [(1 - 2 * invert) * blob(*(-xy), box, pixel_size) for xy in shift[4 * number : 4 * number + 4]]
        with mrcfile.new(tmp_path / f"{number}.mrcs") as mrc:
            mrc.set_data(np.array(images, dtype=np.float32))
    table = replace(
        particle_table(12, tmp_path),
        stack_paths=tuple(tmp_path / f"{number}.mrcs" for number in range(3)),
        stack_index=np.repeat(np.arange(3), 4),
        image_index=np.tile(np.arange(4), 3),
        shift=shift,
        optics_group=np.repeat(np.arange(3), 4),
        optics_group_names=("one", "two", "three"),
        group_box_size=np.array([box for box, _ in samplings]),
        group_pixel_size=np.array([pixel_size for _, pixel_size in samplings]),
        box_size=45,
        pixel_size=3.0,
    )
    table = on_common_grid(table)
    assert on_common_grid(table).notes == table.notes
    fine = on_common_grid(table.take(np.arange(4, 8)))
    assert (fine.box_size, fine.pixel_size, fine.group_box_size) == (45, 3.0, None)
    assert (table.box_size, table.pixel_size) == (24, 4.0)
    assert table.notes == ("Images of 24 px at 4 Å/px and 45 px at 3 Å/px and 40 px at 2.5 Å/px are brought to "
                           "24 px at 4 Å/px.",)  # fmt: skip
    images = ParticleImages(table, RADIUS, invert)
    images.noise_power = torch.ones_like(images.noise_power)
    found = images.batch(np.arange(12)).images.numpy()
    expected = blob(0, 0, 24, 4.0)
    background = images.background.numpy()
    for image in found:
        assert image - image[background].mean() == pytest.approx(expected - expected[background].mean(), abs=2e-3)
    one = images.batch(np.array([9, 1, 5])).images.numpy()
    assert one == pytest.approx(found[[9, 1, 5]], abs=1e-6)


def test_automatic_means_a_stack_where_images_are_resampled(table):
    assert order_of(table, "auto") is None
    assert order_of(table, "none") is None
    assert order_of(on_common_grid(table, 5.0), "auto").number_type == "float16"
    assert order_of(on_common_grid(table, 5.0), "none") is None


@pytest.mark.parametrize(("pixel_size", "words"), [(3.0, "finer than the 4 Å of the images"), (20.0, "a box of 4")])
def test_pixel_sizes_out_of_reach_are_refused(table, pixel_size, words):
    with pytest.raises(ConfigError, match=words):
        on_common_grid(table, pixel_size)


def test_a_stack_is_used_again_and_one_of_other_settings_or_images_is_not(table, tmp_path):
    folder, said = tmp_path / "prepared", []
    prepared_in(folder, table, say=said.append)
    assert said == [f"Preparing 40 images (24 px at 4 Å/px, float32) once: 0.09 MB in {folder}."]
    written = (folder / STACK).stat().st_mtime_ns
    prepared_in(folder, table, say=said.append)
    assert (len(said), (folder / STACK).stat().st_mtime_ns) == (1, written)

    others = {
        "number type": order_of(table, "float16"),
        "sign": order_of(table, invert=True),
        "mask": replace(order_of(table), mask_radius=20.0),
        "shift": order_of(replace(table, shift=table.shift + 0.1)),
        "rows": order_of(table.take(np.arange(0, 40, 2))),
        "grid": order_of(on_common_grid(table, 5.0)),
    }
    for name, order in others.items():
        assert open_prepared(folder, order) is None, name
    assert open_prepared(folder, order_of(replace(table, defocus_u=table.defocus_u + 1))) is not None

    prepared_in(folder, table, "float16", say=said.append)
    assert len(said) == 2
    assert open_prepared(folder, order_of(table, "float16")) is not None
    with mrcfile.open(table.stack_paths[0], mode="r+") as mrc:
        mrc.data[0] += 1
    assert open_prepared(folder, order_of(table, "float16")) is None
    table.stack_paths[0].unlink()
    assert open_prepared(folder, order_of(table, "float16")) is not None


def test_a_damaged_stack_is_not_used(table, tmp_path):
    folder = tmp_path / "prepared"
    prepared_in(folder, table)
    (folder / STACK).write_bytes((folder / STACK).read_bytes()[:-1])
    assert open_prepared(folder, order_of(table)) is None
    (folder / DESCRIPTION).write_text("{")
    assert open_prepared(folder, order_of(table)) is None


def test_an_interrupted_stack_leaves_nothing_and_what_a_kill_left_is_removed(table, tmp_path):
    folder, stray = tmp_path / "prepared", tmp_path / ".prepared.0a1b.partial"
    stray.mkdir()
    (stray / STACK).write_text("half a stack")
    images = ParticleImages(table, RADIUS)
    with mrcfile.open(table.stack_paths[0], mode="r+") as mrc:
        mrc.data[33, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"particles\.mrcs: image 34 \(row 33 of particles\.star, from 0\) has pixels"):
        prepare(order_of(table), images, folder, show_progress=False)
    assert not folder.exists()
    assert not stray.exists()
    assert not list(tmp_path.glob(".prepared*"))


def test_rows_with_the_same_image_share_it(table, tmp_path):
    rows = np.repeat(np.arange(20), 3)
    expanded = replace(table.take(rows), input_row=None, n_input=None)
    with_stack, without = prepared_in(tmp_path / "prepared", expanded)
    with mrcfile.open(tmp_path / "prepared" / STACK, header_only=True) as mrc:
        assert int(mrc.header.nz) == 20
    assert torch.allclose(with_stack.batch(ROWS).images, without.batch(ROWS).images, atol=1e-5)


def test_the_stack_of_another_run_is_linked(table, tmp_path):
    said = []
    prepared_in(tmp_path / "half1" / "prepared", table, say=said.append)
    prepared_in(tmp_path / "half2" / "prepared", table, shared=tmp_path / "half1" / "prepared", say=said.append)
    first, second = (tmp_path / name / "prepared" / STACK for name in ("half1", "half2"))
    assert len(said) == 1
    assert first.samefile(second)
    prepared_in(tmp_path / "half2" / "prepared", table, "float16", shared=tmp_path / "half1" / "prepared")
    assert not first.samefile(second)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(table, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 50_000, 50_000)
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda path: usage)
    sentence = (
        r"particles\.mrcs: the prepared images need 0\.09 MB, the disk has 0\.05 MB free; make room, choose "
        r"another -o, or set a coarser particles\.pixel_size, particles\.stack: float16, or particles\.stack: none\."
    )
    with pytest.raises(InputError, match=sentence):
        prepared_in(tmp_path / "run" / "prepared", table)
    assert not (tmp_path / "run").exists()
    prepared_in(tmp_path / "run" / "prepared", table, "float16")


def test_values_beyond_half_precision_stay_finite(table, tmp_path):
    with mrcfile.open(table.stack_paths[0], mode="r+") as mrc:
        mrc.data[5, 12, 12] = 3e7
    with_stack, _ = prepared_in(tmp_path / "prepared", table, "float16")
    assert torch.isfinite(with_stack.batch(np.array([5])).images).all()
