"""Pictures and numbers of particles, against images computed in numpy and read with mrcfile."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryosphere.errors import InputError, RunError
from cryosphere.export.particle_selection import RunColumns
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_table
from cryosphere.viewer.pictures import ParticlePictures
from tests.run_factory import BOX_SIZE, PIXEL_SIZE
from tests.viewer.noiseless import GREY, OFFSET, N, write_images


@pytest.fixture
def pictures(noiseless_folder):
    return ParticlePictures(RunColumns(Run.load(noiseless_folder)))


def centre_of_mass(image):
    rows, columns = np.indices(image.shape)
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def test_a_stored_image_is_that_of_the_file(pictures):
    table = pictures.run.table
    with mrcfile.open(table.stack_paths[0]) as mrc:
        images = mrc.data.copy()
    for row in (0, 1, N - 1):
        stored = pictures.stored(row)
        np.testing.assert_array_equal(stored.image, images[row])
        assert stored.pixel_size == PIXEL_SIZE and stored.is_bright == (row % 3 != 0)


def test_nothing_is_left_of_noiseless_images(pictures):
    for row in range(6):
        one = pictures.compare(row)
        assert one.correlation > 0.99
        assert one.contrast == pytest.approx(GREY, rel=0.01)
        assert np.std(one.residual) < 0.05 * np.std(one.image)
        np.testing.assert_allclose(one.image - one.projection, one.residual, atol=1e-4)
        assert one.pixel_size == PIXEL_SIZE and one.pose_correction == (0.0, 0.0, 0.0)


def test_another_conformation_leaves_more(pictures):
    run, row = pictures.run, 0
    far = int(np.abs(run.posterior.mean[:, 0] - run.posterior.mean[row, 0]).argmax())
    true = pictures.compare(row)
    run.posterior.mean[row] = run.posterior.mean[far]
    wrong = pictures.compare(row)
    assert wrong.correlation < true.correlation
    assert np.std(wrong.residual) > 2 * np.std(true.residual)


def test_centring_moves_a_blob_to_the_box_centre(pictures):
    table, (rows, columns) = pictures.run.table, np.indices((BOX_SIZE, BOX_SIZE))
    place = BOX_SIZE // 2 - table.shift / PIXEL_SIZE
    squared = (rows - place[:, 1, None, None]) ** 2 + (columns - place[:, 0, None, None]) ** 2
    blobs = table.sign[:, None, None] * np.exp(-squared / 4)
    folder = pictures.run.folder.parent / "blobs"
    shutil.copytree(pictures.run.folder, folder)
    write_images(folder / "blobs.mrcs", OFFSET + blobs)
    save_table(folder / "particles.npz", replace(table, stack_paths=(folder / "blobs.mrcs",)))
    moved = ParticlePictures(RunColumns(Run.load(folder)))
    for row in (0, 1, 2, 3):
        stored = table.sign[row] * (moved.stored(row).image - OFFSET)
        np.testing.assert_allclose(centre_of_mass(stored), place[row, ::-1], atol=0.05)
        image = moved.compare(row).image
        np.testing.assert_allclose(centre_of_mass(image), [BOX_SIZE // 2] * 2, atol=0.05)
        assert image.max() == pytest.approx(1.0, abs=0.15) and abs(np.median(image)) < 0.01


def test_low_pass_removes_what_is_finer(pictures):
    whole, coarse = pictures.compare(1), pictures.compare(1, 20.0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(BOX_SIZE, PIXEL_SIZE), np.fft.fftfreq(BOX_SIZE, PIXEL_SIZE)))
    shell = 1 / (BOX_SIZE * PIXEL_SIZE)
    for name in ("image", "projection", "residual"):
        before, after = (np.fft.fft2(getattr(one, name)) for one in (whole, coarse))
        fine, kept = frequency > 1 / 20 + 2 * shell, frequency < 1 / 20
        assert np.abs(after[fine]).max() < 1e-4 * np.abs(before).max()
        np.testing.assert_allclose(after[kept], before[kept], atol=1e-3 * np.abs(before).max())
    assert coarse.contrast == whole.contrast


def test_large_boxes_are_shown_on_fewer_pixels(pictures, monkeypatch):
    monkeypatch.setattr("cryosphere.model.renderer._TABLE_BYTES", 8 * 32 * 1050.0)
    one = pictures.compare(2)
    assert one.image.shape == (18, 18) and one.pixel_size == pytest.approx(BOX_SIZE * PIXEL_SIZE / 18)
    assert one.correlation > 0.99 and np.std(one.residual) < 0.07 * np.std(one.image)
    assert one.contrast == pytest.approx(GREY, rel=0.02)


def test_numbers_are_those_of_table_posterior_and_analysis(pictures):
    run = pictures.run
    with open(run.layout.analysis / "particles.csv") as file:
        rows = list(csv.DictReader(file))
    for row in (0, 5, N - 1):
        numbers = pictures.numbers(row)
        euler = Rotation.from_euler("ZYZ", numbers.angles_deg, degrees=True).as_matrix().T
        np.testing.assert_allclose(euler, run.table.rotmat[row], atol=1e-9)
        np.testing.assert_array_equal(numbers.shift, run.table.shift[row])
        assert numbers.image_name == f"{row + 1:06d}@{run.table.stack_paths[0]}"
        assert numbers.defocus_u == run.table.defocus_u[row] and numbers.input_row == row
        np.testing.assert_allclose(numbers.std, run.posterior.std[row])
        assert numbers.state == int(float(rows[row]["state"]))
        assert numbers.state_probability == pytest.approx(float(rows[row]["state_probability"]), rel=1e-4)
        lines = dict(numbers.lines())
        assert lines["image"] == rows[row]["image"]
        assert lines["z1"] == f"{float(rows[row]['z1']):.3f} ± {float(rows[row]['std(z1)']):.3f}"


def test_without_an_analysis_there_is_no_state(noiseless_folder, tmp_path):
    folder = shutil.copytree(noiseless_folder, tmp_path / "run", ignore=shutil.ignore_patterns("analysis"))
    numbers = ParticlePictures(RunColumns(Run.load(folder))).numbers(0)
    assert numbers.state is None and dict(numbers.lines())["state"] == "no analysis"


def test_missing_stacks_are_named_and_the_numbers_stay(noiseless_folder, tmp_path):
    folder = shutil.copytree(noiseless_folder, tmp_path / "run")
    table = Run.load(folder).table
    save_table(folder / "particles.npz", replace(table, stack_paths=(tmp_path / "gone.mrcs",)))
    pictures = ParticlePictures(RunColumns(Run.load(folder)))
    for ask in (pictures.stored, pictures.compare):
        with pytest.raises(RunError, match=r"gone\.mrcs: missing, so .* cannot be shown"):
            ask(0)
    with pytest.raises(RunError, match=r"gone\.mrcs: missing"):
        pictures.averages(np.arange(N))
    assert pictures.numbers(3).image_name.endswith("gone.mrcs")


def test_rows_are_those_of_the_posterior_where_particles_were_chosen(noiseless_folder, pictures, tmp_path):
    folder = shutil.copytree(noiseless_folder, tmp_path / "run")
    whole = Run.load(folder)
    chosen = np.arange(1, N, 2)
    table = whole.table.take(chosen)
    posterior = whole.posterior
    save_table(folder / "particles.npz", table)
    part = ParticlePictures(RunColumns(Run.load(folder)))
    per_particle = ("index", "mean", "covariance", "effective_sample_size", "log_evidence", "log_likelihood")
    part.run.posterior = replace(posterior, **{name: getattr(posterior, name)[chosen] for name in per_particle})
    part = ParticlePictures(part.columns)
    assert part.numbers(2).input_row == 5 and part.numbers(2).image_name.startswith("000006@")
    np.testing.assert_array_equal(part.stored(2).image, pictures.stored(5).image)
    assert part.compare(2).correlation > 0.99


def test_averages_of_noiseless_particles_are_the_models(pictures):
    averages = pictures.averages(np.arange(0, N, 2))
    views = averages.counts[0] > 0
    assert views.any() and averages.counts.sum() <= N / 2
    assert (averages.correlations(averages.model)[0, views] > 0.98).all()


def test_a_selection_that_shares_no_view_is_refused(pictures):
    run = pictures.run
    directions = run.table.rotmat[:, 2]
    averages = pictures.averages(np.arange(N))
    seen = (directions @ averages.direction.T).max(1)
    lonely = np.flatnonzero(seen < np.cos(np.radians(25)))
    assert len(lonely)
    with pytest.raises(InputError, match=f"None of the {len(lonely)} chosen particles looks along"):
        pictures.averages(lonely)
