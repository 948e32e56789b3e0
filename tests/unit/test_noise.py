"""Noise spectra against numpy's Fourier transform: filters, coloured noise, and its estimate from the background."""

from __future__ import annotations

import json
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch

from cryosphere.errors import ConfigError
from cryosphere.io.structures import read_structure
from cryosphere.physics.noise import (
    apply_filter,
    coloured_noise,
    coloured_spectrum,
    radial_filter,
    radial_power,
    shell_index,
    whiten,
)
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.particles import simulate
from cryosphere.simulation.shipped_data import shipped_path

CORNER_RESOLUTION = 20.0


def _radius(box):
    """|k| in cycles per box over numpy's full Fourier image."""
    k = np.fft.fftfreq(box) * box
    return np.sqrt(k[:, None] ** 2 + k**2)


def _shell_means(power):
    """Means of a full Fourier image over shells |k| = r ± ½, corners in the last."""
    box = power.shape[-1]
    shell = np.minimum(np.floor(_radius(box) + 0.5).astype(int), box // 2)
    return np.array([power[shell == r].mean() for r in range(box // 2 + 1)])


def _beyond(box, radius):
    axis = torch.arange(box) - box // 2
    return axis[:, None] ** 2 + axis**2 >= radius**2


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("box", [16, 17])
def test_shells_and_filters_of_the_half_plane(box):
    half = _radius(box)[:, : box // 2 + 1]
    np.testing.assert_array_equal(shell_index(box), np.minimum(np.floor(half + 0.5), box // 2))
    # |k| itself is linear between shells; beyond Nyquist it stays at the last value
    ramp = torch.arange(box // 2 + 1, dtype=torch.float64)
    np.testing.assert_allclose(radial_filter(ramp, box), np.minimum(half, box // 2), atol=1e-12)


@pytest.mark.parametrize("box", [24, 25])
def test_filtering_is_a_product_in_fourier_space(box):
    images = torch.randn(3, box, box, generator=_generator(), dtype=torch.float64)
    values = torch.linspace(2, -1, box // 2 + 1, dtype=torch.float64) ** 2
    weights = np.interp(_radius(box), np.arange(box // 2 + 1), values)
    expected = np.fft.ifft2(np.fft.fft2(images.numpy()) * weights).real
    np.testing.assert_allclose(apply_filter(images, values), expected, atol=1e-12)


@pytest.mark.parametrize("box", [32, 33])
def test_coloured_spectrum_has_unit_variance_and_the_stated_fall(box):
    spectrum = coloured_spectrum(box, 2.5, 10.0, CORNER_RESOLUTION).numpy()
    k = np.arange(box // 2 + 1) / (box * 2.5)
    expected = 1 + 9 / (1 + (k * CORNER_RESOLUTION) ** 2) ** 2
    np.testing.assert_allclose(spectrum / spectrum[0], expected / 10, rtol=1e-12)
    assert np.interp(_radius(box), np.arange(box // 2 + 1), spectrum).mean() == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(coloured_spectrum(box, 2.5, 1.0, CORNER_RESOLUTION), 1.0)


@pytest.mark.parametrize("box", [32, 33])
def test_coloured_noise_has_its_spectrum(box):
    spectrum = coloured_spectrum(box, 2.5, 10.0, CORNER_RESOLUTION)
    images = coloured_noise((2000, box, box), spectrum, _generator()).numpy()
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(0) / box**2
    expected = _shell_means(np.interp(_radius(box), np.arange(box // 2 + 1), spectrum))
    # 2000 values at frequency 0 alone have a relative error of 3 %
    np.testing.assert_allclose(_shell_means(power), expected, rtol=0.08)
    assert images.std() == pytest.approx(1.0, rel=0.01)
    assert abs(images.mean()) < 0.01


def test_flat_spectrum_gives_the_same_white_noise_back():
    flat = coloured_noise((4, 20, 20), torch.ones(11), _generator(3))
    torch.testing.assert_close(flat, torch.randn(4, 20, 20, generator=_generator(3)))


@pytest.mark.parametrize("radius", [0.0, 0.4, 0.5])
def test_white_noise_is_its_variance_in_every_shell(radius):
    images = 2 * torch.randn(1000, 32, 32, generator=_generator()) + 100 * torch.rand(1000, 1, 1)
    power = radial_power(images, _beyond(32, radius * 32))
    assert power.shape == (17,)
    np.testing.assert_allclose(power[2:], 4.0, rtol=0.1)
    assert power[0] == power[1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("box", [64, 65])
@pytest.mark.parametrize(("radius", "tolerance"), [(0.4, 0.1), (0.5, 0.2)])
def test_steep_spectra_are_recovered_from_the_background(box, radius, tolerance, periodic):
    """Within 10 % beyond 0.4 box, 20 % in the corners; noise as simulated, or cut from a larger field as in life."""
    spectrum = coloured_spectrum(box, 1.5, 10.0, CORNER_RESOLUTION).float()
    assert spectrum[0] / spectrum[-1] > 9.9
    if periodic:
        images = coloured_noise((200, box, box), spectrum, _generator(1))
    else:
        finer = np.interp(np.arange(box + 1) / 2, np.arange(box // 2 + 1), spectrum).astype(np.float32)
        images = coloured_noise((200, 2 * box, 2 * box), torch.from_numpy(finer), _generator(1))[:, :box, :box]
    power = radial_power(images + 3, _beyond(box, radius * box))
    np.testing.assert_allclose(power[2:], spectrum[2:], rtol=tolerance)
    np.testing.assert_allclose(power[:2], spectrum[1], rtol=0.3)


def test_only_the_background_counts():
    spectrum = coloured_spectrum(32, 2.5, 10.0, CORNER_RESOLUTION).float()
    images = coloured_noise((20, 32, 32), spectrum, _generator())
    background = _beyond(32, 12)
    before = images.clone()
    power = radial_power(images, background)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    torch.testing.assert_close(radial_power(torch.where(background, images, 1e3), background), power)
    assert not torch.allclose(radial_power(images, _beyond(32, 8)), power)


def test_whitened_noise_is_white():
    spectrum = coloured_spectrum(32, 2.5, 50.0, CORNER_RESOLUTION)
    images = whiten(coloured_noise((1000, 32, 32), spectrum, _generator()), spectrum).numpy()
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(0) / 32**2
    np.testing.assert_allclose(_shell_means(power), 1.0, rtol=0.1)


def test_constant_images_have_no_power_and_no_background_is_refused():
    power = radial_power(torch.zeros(3, 16, 16), _beyond(16, 6))
    assert (power == 0).all()
    with pytest.raises(ConfigError, match="No pixel of the 16-pixel images is background"):
        radial_power(torch.zeros(3, 16, 16), torch.zeros(16, 16, dtype=torch.bool))


@pytest.mark.parametrize("box", [32, 33])
def test_simulated_sets_have_the_spectrum_that_they_state(tmp_path, box):
    structure = read_structure(shipped_path("adk/closed.cif"))
    still = Conformations(structure, structure.residue_positions[None], structure.atoms.positions[None], "nothing")
    settings = SimulationSettings(
        n_particles=300, box_size=box, pixel_size=3.0, snr=0.2, forward="residues", write_clean=True
    )
    simulate(still, settings, tmp_path / "white")
    simulate(still, replace(settings, noise="coloured", noise_ratio=20.0), tmp_path / "coloured")
    images, clean = (
        [mrcfile.read(tmp_path / kind / name).astype(float) for kind in ("white", "coloured")]
        for name in ("particles.mrcs", "truth/clean.mrcs")
    )
    np.testing.assert_array_equal(clean[0], clean[1])
    white, coloured = images[0] - clean[0], images[1] - clean[1]
    assert coloured.std() == pytest.approx(1.0, rel=0.02)
    assert clean[1].var() / coloured.var() == pytest.approx(0.2, rel=0.04)
    info = json.loads((tmp_path / "coloured" / "truth" / "info.json").read_text())
    spectrum, shells = np.array(info["noise_spectrum"]), np.arange(box // 2 + 1)
    fall = 1 + 19 / (1 + (shells / (box * 3.0) * CORNER_RESOLUTION) ** 2) ** 2
    np.testing.assert_allclose(spectrum / spectrum[0], fall / 20)
    # the numbers drawn are those of white noise; exactly these come back when the spectrum is divided out
    weights = np.interp(_radius(box), shells, spectrum) ** -0.5
    np.testing.assert_allclose(np.fft.ifft2(np.fft.fft2(coloured) * weights).real, white, atol=1e-4)
