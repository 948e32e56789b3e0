"""Images on another grid, against closed forms and SciPy."""

import numpy as np
import pytest
import torch
from scipy.signal import resample as scipy_resample

from cryosphere.physics.resampling import common_grid, resample, resampling_matrix

GRIDS = [
    (32, 1.5, 24, 2.0),
    (32, 1.5, 18, 2.5),
    (33, 1.5, 20, 2.1),
    (32, 1.5, 15, 3.1),
    (31, 2.0, 21, 2.9),
    (32, 2.0, 20, 2.0),
    (24, 2.0, 32, 1.4),
]


def axis(box_size, pixel_size):
    return (np.arange(box_size) - box_size // 2) * pixel_size


def resampled(function, grid):
    """A function sampled on the old grid and brought to the new one, and sampled there."""
    box, pixel, new_box, new_pixel = grid
    old, new = axis(box, pixel), axis(new_box, new_pixel)
    image = torch.from_numpy(function(old[None, :], old[:, None]))[None]
    return resample(image, resampling_matrix(*grid))[0].numpy(), function(new[None, :], new[:, None])


@pytest.mark.parametrize("grid", GRIDS)
def test_a_gaussian_keeps_its_grey_values_and_place(grid):
    width = 1.3 * max(grid[1], grid[3])

    def density(x, y):
        return 3.0 * np.exp(-((x - 1.7) ** 2 + (y + 2.3) ** 2) / (2 * width**2))

    found, expected = resampled(density, grid)
    # A Gaussian of 1.3 pixels has exp(-½ (1.3 π)²) = 2e-4 of its transform at Nyquist, where it is cut.
    assert found == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("cycles", [(2, 3), (-5, 1), (0, 9), (11, 0)])
def test_plane_waves_are_exact_below_nyquist_and_gone_beyond(grid, cycles):
    field, nyquist = grid[0] * grid[1], 0.5 / max(grid[1], grid[3])
    frequency = np.array(cycles) / field

    def wave(x, y):
        return np.cos(2 * np.pi * (frequency[0] * x + frequency[1] * y) + 0.4)

    found, expected = resampled(wave, grid)
    if np.abs(frequency).max() > nyquist:
        expected = np.zeros_like(expected)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("box", "new_box"), [(32, 21), (33, 21), (33, 20), (31, 45)])
def test_at_the_same_field_of_view_it_is_what_scipy_does(box, new_box):
    image = np.random.default_rng(0).normal(size=(box, box))
    expected = np.fft.ifftshift(image)
    for direction in (0, 1):
        spectrum = np.fft.fft(expected, axis=direction)
        if new_box % 2 == 0:  # where SciPy adds the two frequencies that fall on Nyquist, and we take their mean
            for frequency in (new_box // 2, box - new_box // 2):
                spectrum[(slice(None),) * direction + (frequency,)] = 0
        expected = scipy_resample(np.fft.ifft(spectrum, axis=direction).real, new_box, axis=direction)
    expected = np.fft.fftshift(expected)
    matrix = resampling_matrix(box, 1.0, new_box, box / new_box)
    found = resample(torch.from_numpy(image)[None], matrix)[0].numpy()
    if new_box % 2 == 0:
        spectrum = np.fft.fft2(found)
        spectrum[new_box // 2, :] = spectrum[:, new_box // 2] = 0
        found = np.fft.ifft2(spectrum).real
    assert found == pytest.approx(expected, abs=1e-10)


def test_on_nyquist_both_signs_are_averaged():
    n, m = 32, 16
    position = np.arange(n) - n // 2
    wave = np.cos(2 * np.pi * (m / 2) / n * position + 0.9)
    found = resampling_matrix(n, 1.0, m, 2.0).numpy() @ wave
    assert found == pytest.approx(0.5 * np.cos(0.9) * (-1.0) ** np.arange(m), abs=1e-12)


@pytest.mark.parametrize("box", [16, 17])
def test_the_same_grid_changes_nothing_and_the_same_pixels_are_cropped(box):
    assert resampling_matrix(box, 1.3, box, 1.3).numpy() == pytest.approx(np.eye(box), abs=1e-12)
    image = np.random.default_rng(1).normal(size=(box, box))
    found = resample(torch.from_numpy(image)[None], resampling_matrix(box, 1.3, 10, 1.3))[0].numpy()
    start = box // 2 - 5
    assert found == pytest.approx(image[start : start + 10, start : start + 10], abs=1e-12)


def test_outside_the_field_of_view_is_nothing():
    found = resampling_matrix(8, 1.0, 12, 1.0).numpy() @ np.ones(8)
    assert found == pytest.approx([0, 0, *[1] * 9, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("boxes", "pixels", "wanted", "expected"),
    [
        ([64, 64], [1.5, 1.5], None, (64, 1.5)),
        ([65], [1.5], None, (65, 1.5)),
        ([65], [1.5], 1.5, (65, 1.5)),
        ([64], [1.5], 2.0, (48, 2.0)),
        ([64], [1.5], 2.5, (38, 2.5)),
        ([256], [1.0605], 2.121, (128, 2.121)),
        ([256], [1.0605], 2.1215, (128, 2.1215)),
        ([64, 48], [1.5, 1.5], None, (48, 1.5)),
        ([64, 48], [1.5, 2.5], None, (38, 2.5)),
        ([64, 48], [1.5, 2.5], 3.0, (32, 3.0)),
    ],
)
def test_the_common_grid_has_the_coarsest_pixels_and_the_smallest_field(boxes, pixels, wanted, expected):
    assert common_grid(np.array(boxes), np.array(pixels), wanted) == expected
