"""Our image formation against RELION itself and against exact Fourier sums in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import fourier_to_image, frequency_grid, image_to_fourier, translate
from cryosphere.physics.gaussians import project, volume
from cryosphere.physics.rotations import euler_to_rotmat
from cryosphere.records import CTFParameters

from . import relion

BOX, PIXEL = 64, 1.5


def gaussian_model(rng, sigma_per_pixel):
    """120 Gaussians within 22 Å with widths spread by 10 % about the wanted one."""
    positions = rng.normal(size=(120, 3))
    positions *= 22 * rng.uniform(0, 1, (120, 1)) ** (1 / 3) / np.linalg.norm(positions, axis=1, keepdims=True)
    return positions, rng.uniform(20, 90, 120), sigma_per_pixel * PIXEL * rng.uniform(1.0, 1.1, 120)


def tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def our_images(positions, amplitudes, sigmas, rows, optics):
    """Posed, shifted, CTF-applied images through the package's physics."""
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(relion.PARTICLE_COLUMNS[:-1])}
    rotmat = euler_to_rotmat(*(tensor(np.radians(columns[f"rlnAngle{name}"])) for name in ("Rot", "Tilt", "Psi")))
    group = columns["rlnOpticsGroup"].astype(int) - 1
    ctf = CTFParameters(
        defocus_u=tensor(columns["rlnDefocusU"]),
        defocus_v=tensor(columns["rlnDefocusV"]),
        defocus_angle=tensor(np.radians(columns["rlnDefocusAngle"])),
        phase_shift=tensor(np.radians(columns["rlnPhaseShift"])),
        b_factor=tensor(columns["rlnCtfBfactor"]),
        scale=tensor(columns["rlnCtfScalefactor"]),
        voltage_kv=tensor([optics[g][2] for g in group]),
        spherical_aberration_mm=tensor([optics[g][3] for g in group]),
        amplitude_contrast=tensor([optics[g][4] for g in group]),
    )
    images = project(
        tensor(positions).expand(len(rows), -1, -1), tensor(amplitudes), tensor(sigmas), rotmat, BOX, PIXEL
    )
    shift = tensor(np.column_stack([columns["rlnOriginXAngst"], columns["rlnOriginYAngst"]]) / PIXEL)
    transfer = contrast_transfer(*frequency_grid(BOX, PIXEL, torch.float64), ctf)
    return fourier_to_image(image_to_fourier(translate(images, -shift)) * transfer, BOX).numpy()


@pytest.mark.parametrize("sigma_per_pixel", [0.57, 1.3])
def test_images_equal_those_of_relion_project(tmp_path: Path, sigma_per_pixel):
    relion.require("relion_project")
    rng = np.random.default_rng(3)
    model = gaussian_model(rng, sigma_per_pixel)
    density = volume(tensor(model[0]), tensor(model[1]), tensor(model[2]), BOX, PIXEL).numpy()
    relion.write_map(tmp_path / "map.mrc", density, PIXEL)
    rows, optics = relion.random_particles(rng, 24), relion.optics_groups(BOX, PIXEL)
    relion.write_star(tmp_path / "in.star", optics, rows)
    relion.run(
        *"relion_project --i map.mrc --o out --ang in.star --ctf --pad 4".split(), "--angpix", str(PIXEL), cwd=tmp_path
    )
    theirs = relion.read_stack(tmp_path / "out.mrcs") * PIXEL
    ours = our_images(*model, rows, optics)
    correlation, scale, shells = relion.compare_below_nyquist(ours, theirs)
    assert correlation >= 0.999
    assert abs(scale - 1) <= 0.01
    assert shells.min() >= 0.99


@pytest.mark.parametrize("box_size", [48, 47])
@pytest.mark.parametrize("sigma_per_pixel", [0.3, 0.57, 1.3])
def test_projection_equals_the_exact_fourier_sum(box_size, sigma_per_pixel):
    rng = np.random.default_rng(5)
    positions, amplitudes, sigmas = gaussian_model(rng, sigma_per_pixel)
    rotmat = euler_to_rotmat(*tensor(rng.uniform(0, 3, (3, 4))))
    images = project(
        tensor(positions).expand(4, -1, -1), tensor(amplitudes), tensor(sigmas), rotmat, box_size, PIXEL
    ).numpy()
    k = np.fft.fftfreq(box_size, PIXEL)
    posed = np.einsum("bij,rj->bri", rotmat.numpy(), positions)
    phase = (
        -2j
        * np.pi
        * (posed[:, :, 0, None, None] * k[None, None, None, :] + posed[:, :, 1, None, None] * k[None, None, :, None])
    )
    decay = np.exp(-2 * np.pi**2 * sigmas[:, None, None] ** 2 * (k[:, None] ** 2 + k[None, :] ** 2))
    spectrum = (amplitudes[:, None, None] * decay * np.exp(phase)).sum(1)
    exact = np.fft.fftshift(np.fft.ifft2(spectrum).real, axes=(-2, -1)) / PIXEL**2
    correlation, scale, shells = relion.compare_below_nyquist(images, exact)
    assert correlation >= 0.9999
    assert abs(scale - 1) <= 1e-3
    assert shells.min() >= 0.999


def test_our_map_survives_projection_and_reconstruction_by_relion(tmp_path: Path):
    relion.require("relion_reconstruct")
    rng = np.random.default_rng(7)
    model = gaussian_model(rng, 0.9)
    density = volume(tensor(model[0]), tensor(model[1]), tensor(model[2]), BOX, PIXEL).numpy()
    relion.write_map(tmp_path / "map.mrc", density, PIXEL)
    rows = [[*row[:3], 0, 0, *row[5:]] for row in relion.random_particles(rng, 1500)]
    relion.write_star(tmp_path / "in.star", relion.optics_groups(BOX, PIXEL), rows)
    angpix = ("--angpix", str(PIXEL))
    relion.run(*"relion_project --i map.mrc --o images --ang in.star".split(), *angpix, cwd=tmp_path)
    relion.run(*"relion_reconstruct --i images.star --o back.mrc".split(), *angpix, cwd=tmp_path)
    back = relion.read_stack(tmp_path / "back.mrc")
    a, b = np.fft.fftn(density), np.fft.fftn(back)
    k = np.fft.fftfreq(BOX) * BOX
    radius = np.round(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2)).astype(int)
    for shell in range(1, int(0.9 * BOX / 2) + 1):
        x, y = a[radius == shell], b[radius == shell]
        fsc = np.real(np.vdot(x, y)) / np.sqrt(np.vdot(x, x).real * np.vdot(y, y).real)
        assert fsc >= 0.99, f"FSC {fsc:.4f} in shell {shell}"


def test_volume_integrates_to_its_projection():
    rng = np.random.default_rng(9)
    positions, amplitudes, sigmas = (tensor(values) for values in gaussian_model(rng, 0.57))
    identity = torch.eye(3, dtype=torch.float64)[None]
    image = project(positions[None], amplitudes, sigmas, identity, BOX, PIXEL)[0]
    summed = volume(positions, amplitudes, sigmas, BOX, PIXEL).sum(0) * PIXEL
    assert torch.allclose(summed, image, atol=1e-3 * float(image.abs().max()))
