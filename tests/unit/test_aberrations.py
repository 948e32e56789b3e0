"""Aberrations beyond defocus: RELION's Zernike numbering, closed forms, and what reading undoes."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from cryosphere.particles.aberrations import AberrationCorrection
from cryosphere.physics.aberrations import (
    antisymmetric_phase,
    demodulate,
    even_order,
    odd_order,
    symmetric_phase,
    undistort,
    undistorted_shift,
    zernike,
)
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import frequency_grid
from cryosphere.records import CTFParameters, ParticleTable
from cryosphere.runs.tables import load_table, save_table

F64 = torch.float64
MAGNIFICATION = np.array([[1.02, 0.015], [-0.01, 0.985]])


def test_order_of_coefficients():
    odd = [(-1, 1), (1, 1), (-3, 3), (-1, 3), (1, 3), (3, 3), (-5, 5), (-3, 5)]
    even = [(0, 0), (-2, 2), (0, 2), (2, 2), (-4, 4), (-2, 4), (0, 4), (2, 4), (4, 4), (-6, 6)]
    assert [odd_order(index) for index in range(8)] == odd
    assert [even_order(index) for index in range(10)] == even


def test_polynomials_in_x_and_y():
    x, y = (grid.clone() for grid in frequency_grid(9, 1.7, F64))
    r2 = x**2 + y**2
    closed_forms = {
        (0, 0): torch.ones_like(x),
        (1, 1): x,
        (-1, 1): y,
        (-2, 2): 2 * x * y,
        (0, 2): 2 * r2 - 1,
        (2, 2): x**2 - y**2,
        (1, 3): (3 * r2 - 2) * x,
        (-3, 3): 3 * x**2 * y - y**3,
        (3, 3): x**3 - 3 * x * y**2,
        (0, 4): 6 * r2**2 - 6 * r2 + 1,
        (2, 4): (4 * r2 - 3) * (x**2 - y**2),
    }
    for (m, n), expected in closed_forms.items():
        torch.testing.assert_close(zernike(m, n, x, y), expected, msg=f"Z({m}, {n})")


def test_beam_tilt_is_coma():
    kx, ky = frequency_grid(8, 1.0, F64)
    tilt, aberration, wavelength = (torch.tensor(v, dtype=F64) for v in ([[1e-3, -2e-3]], [2.7], [0.02]))
    phase = antisymmetric_phase(kx, ky, torch.zeros(1, 0, dtype=F64), tilt, aberration, wavelength)
    expected = -2 * np.pi * 2.7e7 * 0.02**2 * (kx**2 + ky**2) * (1e-3 * kx - 2e-3 * ky)
    torch.testing.assert_close(phase[0], expected)


def test_even_terms_shift_the_sine_of_their_images_only():
    kx, ky = frequency_grid(8, 2.0, F64)
    one = torch.ones(2, dtype=F64)
    plain = CTFParameters(9e3 * one, 8e3 * one, 0.3 * one, 0 * one, 0 * one, one, 300 * one, 2.7 * one, 0.1 * one)
    even = torch.zeros(2, 4, dtype=F64)
    even[1] = torch.tensor([0.4, 3.0, -2.0, 1.0])
    aberrated = contrast_transfer(kx, ky, replace(plain, even_zernike=even))
    reference = contrast_transfer(kx, ky, plain)
    torch.testing.assert_close(aberrated[0], reference[0])
    angle = torch.asin(torch.tensor(0.1, dtype=F64))
    # At frequency 0 the terms are 0.4 (piston) and +2 (the -1 of 2r² - 1).
    torch.testing.assert_close(aberrated[1, 0, 0], torch.sin(angle - 0.4 - 2.0))
    torch.testing.assert_close(symmetric_phase(kx, ky, even)[1, 0, 0], torch.tensor(2.4, dtype=F64))


def test_ctf_parameters_move_with_and_without_even_terms():
    one = torch.ones(1)
    plain = CTFParameters(*[one] * 9)
    assert plain.to(F64).even_zernike is None and plain.to(F64).scale.dtype == F64
    assert replace(plain, even_zernike=torch.ones(1, 4)).to(F64).even_zernike.dtype == F64


def gaussian_image(size, centre, width, matrix):
    """A Gaussian blob sampled at coordinates that went through a matrix."""
    axis = np.arange(size) - size // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    x, y = matrix[0, 0] * x + matrix[0, 1] * y - centre[0], matrix[1, 0] * x + matrix[1, 1] * y - centre[1]
    return np.exp(-(x**2 + y**2) / (2 * width**2))


@pytest.mark.parametrize("size", [48, 47])
def test_undistort_moves_points_by_the_closed_form(size):
    plain = gaussian_image(size, (9.0, -7.0), 1.6, np.eye(2))
    # F(k) = P(Mk) is the image p(M⁻ᵀ x) / det M.
    distorted = gaussian_image(size, (9.0, -7.0), 1.6, np.linalg.inv(MAGNIFICATION).T) / np.linalg.det(MAGNIFICATION)
    restored = undistort(torch.from_numpy(distorted)[None], torch.from_numpy(MAGNIFICATION))[0].numpy()
    assert np.abs(distorted - plain).max() > 0.1
    assert np.abs(restored - plain).max() < 1e-4


def test_undistort_by_the_identity_changes_nothing():
    images = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(1), dtype=F64)
    torch.testing.assert_close(undistort(images, torch.eye(2, dtype=F64)), images)


def test_undistorted_shift_is_the_inverse_transpose():
    shift = torch.tensor([[3.0, -2.0]], dtype=F64)
    expected = np.linalg.inv(MAGNIFICATION).T @ shift[0].numpy()
    found = undistorted_shift(shift, torch.from_numpy(MAGNIFICATION)[None])
    np.testing.assert_allclose(found[0], expected)


def test_demodulation_keeps_the_power():
    images = torch.randn(3, 33, 33, generator=torch.Generator().manual_seed(2), dtype=F64)
    kx, ky = frequency_grid(33, 1.5, F64)
    changed = demodulate(images, 300 * (kx**2 + ky**2) * (kx - 0.3 * ky))
    assert (changed - images).abs().max() > 0.1
    torch.testing.assert_close((changed**2).sum((1, 2)), (images**2).sum((1, 2)))


@pytest.fixture
def table(tmp_path, make_stack):
    """Four particles in two optics groups without aberrations."""
    make_stack(tmp_path / "stack.mrcs", box_size=16)
    ctf = {f.name: np.ones(4) for f in fields(CTFParameters) if f.name != "even_zernike"}
    return ParticleTable(
        source=tmp_path / "p.star",
        stack_paths=(tmp_path / "stack.mrcs",),
        stack_index=np.zeros(4, dtype=int),
        image_index=np.arange(4),
        rotmat=np.tile(np.eye(3), (4, 1, 1)),
        shift=np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0], [2.0, 2.0]]),
        optics_group=np.array([0, 1, 0, 1]),
        optics_group_names=("one", "two"),
        box_size=16,
        pixel_size=1.5,
        **ctf | {"voltage_kv": np.full(4, 300.0), "spherical_aberration_mm": np.array([2.7, 1.4, 2.7, 1.4])},
    )


def test_tables_without_aberrations_are_read_as_they_are(table):
    correction = AberrationCorrection(table)
    images = torch.randn(4, 16, 16)
    assert correction.correct(images, table.optics_group) is images
    np.testing.assert_array_equal(correction.shift(table.shift, table.optics_group), table.shift.astype(np.float32))


def test_only_groups_with_aberrations_are_corrected(table):
    images = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(3))
    kept = images.clone()
    tilted = AberrationCorrection(replace(table, group_beam_tilt=np.array([[0.0, 0.0], [5e-3, -3e-3]])))
    corrected = tilted.correct(images, table.optics_group)
    torch.testing.assert_close(corrected[[0, 2]], images[[0, 2]])
    assert (corrected[[1, 3]] - images[[1, 3]]).abs().max() > 0.1
    stretched = AberrationCorrection(replace(table, group_magnification=np.stack([MAGNIFICATION, np.eye(2)])))
    corrected = stretched.correct(images, table.optics_group)
    torch.testing.assert_close(corrected[[1, 3]], images[[1, 3]])
    assert (corrected[0] - images[0]).abs().max() > 0.1 and torch.equal(images, kept)
    shift = stretched.shift(table.shift, table.optics_group)
    np.testing.assert_allclose(shift[[1, 3]], table.shift[[1, 3]], rtol=1e-6)
    np.testing.assert_allclose(shift[0], np.linalg.inv(MAGNIFICATION).T @ table.shift[0], rtol=1e-6)


def test_tables_of_runs_keep_aberrations(table, tmp_path):
    changed = replace(
        table,
        group_beam_tilt=np.array([[0.0, 0.0], [5e-3, -3e-3]]),
        group_even_zernike=np.array([[0.0, 0.0], [0.1, 2.0]]),
        group_magnification=np.stack([MAGNIFICATION, np.eye(2)]),
    )
    save_table(tmp_path / "table.npz", changed)
    found = load_table(tmp_path / "table.npz")
    for name in ("group_beam_tilt", "group_even_zernike", "group_magnification"):
        np.testing.assert_array_equal(getattr(found, name), getattr(changed, name))
    assert found.group_odd_zernike is None and found.group_box_size is None


def test_even_terms_reach_the_ctf_of_their_group(table):
    even = replace(table, group_even_zernike=np.array([[0.0, 0.0], [0.1, 2.0]]))
    np.testing.assert_allclose(even.ctf_parameters(np.array([1, 2])).even_zernike, [[0.1, 2.0], [0.0, 0.0]])
    assert table.ctf_parameters(np.array([1, 2])).even_zernike is None
