"""Fourier shell correlation against sums over the full transform in numpy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from cryosphere.physics.shell_correlation import (
    resolution_at,
    transform_correlation,
    volume_shells,
    weigh_shells,
    wiener_weights,
)


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


@pytest.mark.parametrize("size", [24, 21])
def test_weighed_shells_are_those_of_numpy(size):
    volume = np.random.default_rng(1).normal(size=(size,) * 3).astype(np.float32)
    weights = np.linspace(1, 0.1, size // 2)
    k = np.fft.fftfreq(size, 1 / size)
    radius = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2)).astype(int)
    expected = np.fft.ifftn(np.fft.fftn(volume) * weights[radius.clip(max=size // 2 - 1)]).real
    np.testing.assert_allclose(weigh_shells(volume, weights), expected, atol=1e-5)


def test_wiener_weights_give_the_least_error():
    """Signal of variance s under noise of variance 1 in each half: s / (s + ½) of the sum's half is best."""
    signal = np.linspace(4, 1, 30)
    assert wiener_weights(signal / (signal + 1))[2:-2] == pytest.approx((signal / (signal + 0.5))[2:-2], abs=1e-3)
    jumping = wiener_weights(np.array([1, 0.9, 0.2, 0.8, -0.3, 0.4]))
    assert (np.diff(jumping) <= 0).all() and jumping.min() > 0
