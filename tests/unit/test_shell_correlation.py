"""Fourier shell correlation against sums over the full transform in numpy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from cryosphere.physics.shell_correlation import resolution_at, transform_correlation, volume_shells


@pytest.mark.parametrize("size", [36, 27])
def test_shell_correlation_is_that_of_numpy(size):
    """Of a blob in two lots of white noise, in shells where one or the other dominates."""
    rng = np.random.default_rng(0)
    blob = gaussian_filter(rng.normal(size=(size,) * 3), 2.0)
    first, second = (torch.tensor(blob + rng.normal(0, 0.05, blob.shape), dtype=torch.float32) for _ in range(2))
    curve = transform_correlation(torch.fft.rfftn(first), torch.fft.rfftn(second), volume_shells(size), size)
    assert len(curve) == size // 2
    k = np.fft.fftfreq(size, 1 / size)
    radius = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2)).astype(int)
    a, b = np.fft.fftn(first.numpy()), np.fft.fftn(second.numpy())
    for shell in range(size // 2):
        rows = radius == shell
        expected = (a[rows] * b[rows].conj()).real.sum() / np.sqrt(
            (abs(a[rows]) ** 2).sum() * (abs(b[rows]) ** 2).sum()
        )
        assert curve[shell] == pytest.approx(expected, abs=1e-4)


def test_resolution_is_where_the_curve_first_falls_under_the_threshold():
    frequency = np.arange(5) / 100
    assert resolution_at(0.5, frequency, np.array([1, 0.9, 0.7, 0.3, 0.6]), 6.0) == pytest.approx(40.0)
    assert resolution_at(0.1, frequency, np.array([1, 0.9, 0.7, 0.3, 0.6]), 6.0) == 6.0
    assert resolution_at(0.5, frequency, np.ones(5), 6.0) == 6.0
    assert resolution_at(0.5, frequency, np.array([1, 0.4, 0.7, 0.3, 0.6]), 6.0) == np.inf
