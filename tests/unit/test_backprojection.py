"""Maps from images that are exact Fourier sums over points, made in numpy alone."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryosphere.physics.backprojection import Backprojection
from cryosphere.records import CTFParameters

PIXEL, SIGMA = 2.0, 2.4
# Å; no mirror plane, no symmetry.
POINTS = np.array([[9.0, -5.0, 2.0], [-8.0, 3.0, 7.0], [2.0, 10.0, -6.0], [-4.0, -7.0, -9.0]])
ELECTRONS = np.array([5.0, 3.0, 2.0, 4.0])


def _ctf(rng, count):
    u, v = rng.uniform(8000, 16000, (2, count))
    columns = {
        "defocus_u": u,
        "defocus_v": v,
        "defocus_angle": rng.uniform(0, np.pi, count),
        "phase_shift": np.zeros(count),
        "b_factor": np.zeros(count),
        "scale": np.ones(count),
        "voltage_kv": np.full(count, 300.0),
        "spherical_aberration_mm": np.full(count, 2.7),
        "amplitude_contrast": np.full(count, 0.1),
    }
    return CTFParameters(**{name: torch.tensor(value, dtype=torch.float32) for name, value in columns.items()})


def _transfer(ctf, kx, ky):
    """The CTF as the page on conventions has it, in double precision."""
    value = {name: column.double().numpy()[:, None, None] for name, column in vars(ctf).items() if column is not None}
    volt = 1e3 * value["voltage_kv"]
    wavelength = 12.2643247 / np.sqrt(volt * (1 + 0.978466e-6 * volt))
    along = np.cos(2 * (np.arctan2(ky, kx) - value["defocus_angle"]))
    defocus = 0.5 * (value["defocus_u"] + value["defocus_v"] + (value["defocus_u"] - value["defocus_v"]) * along)
    k2 = kx**2 + ky**2
    phase = np.pi * wavelength * defocus * k2 - 0.5 * np.pi * 2.7e7 * wavelength**3 * k2**2
    return np.sin(phase + np.arcsin(0.1))


def _images(rng, count, box_size, points=POINTS):
    """Whitened half transforms of Gaussians at points seen from all sides, with the CTF, and what goes with them."""
    rotmat = Rotation.random(count, random_state=rng).as_matrix()
    ctf = _ctf(rng, count)
    kx, ky = np.fft.rfftfreq(box_size, PIXEL)[None], np.fft.fftfreq(box_size, PIXEL)[:, None]
    seen = np.einsum("bij,pj->bpi", rotmat, points)
    angle = -2 * np.pi * (seen[..., 0, None, None] * kx + seen[..., 1, None, None] * ky)
    clean = (ELECTRONS[:, None, None] * np.exp(1j * angle)).sum(1) * np.exp(-2 * (np.pi * SIGMA) ** 2 * (kx**2 + ky**2))
    whitening = np.broadcast_to(np.linspace(2, 1, box_size // 2 + 1), (count, box_size // 2 + 1))
    shell = np.rint(np.hypot(kx, ky) * box_size * PIXEL).astype(int).clip(max=box_size // 2)
    fourier = clean * _transfer(ctf, kx, ky) * whitening[:, shell]
    tensors = (fourier.astype(np.complex64), rotmat.astype(np.float32))
    return *(torch.from_numpy(value) for value in tensors), ctf, torch.tensor(whitening, dtype=torch.float32)


def _density(box_size, points=POINTS):
    """Gaussians at the points, per pixel column of one voxel: summed along z they give the images."""
    z, y, x = (np.indices((box_size,) * 3) - box_size // 2) * PIXEL
    squares = [(x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2 for p in points]
    height = PIXEL**3 / (2 * np.pi * SIGMA**2) ** 1.5
    return sum(e * height * np.exp(-0.5 * s / SIGMA**2) for e, s in zip(ELECTRONS, squares, strict=True))


def _correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def _take(images, rows):
    fourier, rotmat, ctf, whitening = images
    columns = {name: value[rows] for name, value in vars(ctf).items() if value is not None}
    return fourier[rows], rotmat[rows], CTFParameters(**columns), whitening[rows]


@pytest.mark.parametrize("box_size", [32, 33])
def test_points_come_back_in_place_in_height_and_in_their_hand(box_size):
    images = _images(np.random.default_rng(1), 1500, box_size)
    sums = Backprojection(1, box_size, PIXEL)
    sums.insert(*images, np.ones((1500, 1)))
    volume, true = sums.volume([0]), _density(box_size)
    assert volume.dtype == np.float32
    assert _correlation(volume, true) > 0.998
    assert (volume * true).sum() / (true**2).sum() == pytest.approx(1.0, abs=0.02)
    for wrong in (_density(box_size, -POINTS), _density(box_size, POINTS + PIXEL / 2), -true):
        assert _correlation(volume, wrong) < 0.96
    inside = true > 0.5 * true.max()
    z, y, x = np.argwhere(inside).T
    brightest = np.argmax(volume[inside])
    found = (np.array([x, y, z])[:, brightest] - box_size // 2) * PIXEL
    assert np.abs(found - POINTS[0]).max() <= 0.5 * PIXEL


def test_a_weight_of_two_is_an_image_twice():
    images, rng = _images(np.random.default_rng(2), 60, 16), np.random.default_rng(3)
    weights = rng.integers(0, 3, (60, 1)).astype(float)
    twice = np.repeat(np.arange(60), weights[:, 0].astype(int))
    weighted, repeated = Backprojection(1, 16, PIXEL), Backprojection(1, 16, PIXEL)
    weighted.insert(*images, weights)
    repeated.insert(*_take(images, twice), np.ones((len(twice), 1)))
    np.testing.assert_allclose(weighted.sums, repeated.sums, rtol=1e-5, atol=1e-5 * np.abs(weighted.sums).max())


def test_several_maps_at_once_are_each_alone_and_halves_add_up():
    images, rng = _images(np.random.default_rng(4), 80, 20), np.random.default_rng(5)
    weights = rng.uniform(0, 1, (80, 3)) * (rng.random((80, 3)) > 0.4)
    together = Backprojection(3, 20, PIXEL)
    together.insert(*images, weights)
    for number in range(3):
        alone = Backprojection(1, 20, PIXEL)
        alone.insert(*images, weights[:, [number]])
        np.testing.assert_allclose(together.sums[number], alone.sums[0], rtol=1e-4, atol=1e-5)
    both = Backprojection(1, 20, PIXEL)
    both.insert(*images, weights[:, :2].sum(1, keepdims=True))
    np.testing.assert_allclose(together.volume([0, 1]), both.volume([0]), atol=1e-4)


def test_results_do_not_depend_on_threads():
    images, found, before = _images(np.random.default_rng(6), 50, 24), [], torch.get_num_threads()
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            sums = Backprojection(2, 24, PIXEL)
            sums.insert(*images, np.random.default_rng(7).random((50, 2)))
            found.append(sums.sums)
    finally:
        torch.set_num_threads(before)
    assert found[0].any()
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_power_counts_every_frequency_of_the_full_transform_once():
    """Σ over the fine grid of what one image gives is Σ C² w² over its full transform below Nyquist."""
    box_size = 20
    images = _images(np.random.default_rng(8), 1, box_size)
    sums = Backprojection(1, box_size, PIXEL)
    sums.insert(*images, np.ones((1, 1)))
    k = np.fft.fftfreq(box_size, PIXEL)
    radius = np.hypot(k, k[:, None]) * box_size * PIXEL
    whitening = np.linspace(2, 1, box_size // 2 + 1)[np.rint(radius).astype(int).clip(max=box_size // 2)]
    square = (_transfer(images[2], k[None], k[:, None])[0] * whitening) ** 2
    assert 2 * sums.sums[0, :, 2].sum(dtype=np.float64) == pytest.approx(square[2 * radius < box_size].sum(), rel=1e-4)


def test_images_without_weight_are_not_there():
    images = _images(np.random.default_rng(10), 12, 16)
    sums = Backprojection(1, 16, PIXEL)
    sums.insert(*images, np.zeros((12, 1)))
    assert not sums.sums.any()
    assert np.isfinite(sums.volume([0])).all() and not sums.volume([0]).any()
