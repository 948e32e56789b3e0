"""Aberrations against RELION 3.1: relion_project for what the CTF has, relion_reconstruct for the rest.

``relion_project`` applies even Zernike terms, and the magnification matrix to the CTF but not to the projection; beam
tilt and odd Zernike terms it ignores. ``relion_reconstruct --ctf`` takes all of them off the images.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryosphere.io.star import read_particles
from cryosphere.particles.aberrations import AberrationCorrection
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.aberrations import undistort
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import fourier_to_image, frequency_grid, image_to_fourier
from cryosphere.physics.gaussians import project, volume
from cryosphere.physics.rotations import euler_to_rotmat

from . import relion

BOX, PIXEL = 40, 1.5
MAGNIFICATION = np.array([[1.02, 0.015], [-0.01, 0.985]])
BEAM_TILT = (2.5, -1.8)
ODD = (0.0, 0.0, 60.0, 0.0, 0.0, -90.0, 500.0)
EVEN = (0.1, 3.0, -2.0, 4.0, 10.0, -20.0, 30.0, 15.0, -9.0)
TILT_CELLS = dict(zip(("rlnBeamTiltX", "rlnBeamTiltY"), BEAM_TILT, strict=True))
ODD_CELLS = {"rlnOddZernike": "[" + ",".join(map(str, ODD)) + "]"}
EVEN_CELLS = {"rlnEvenZernike": "[" + ",".join(map(str, EVEN)) + "]"}
MAGNIFICATION_CELLS = {f"rlnMagMat{i}{j}": MAGNIFICATION[i, j] for i in (0, 1) for j in (0, 1)}
# A CTF that is near 1 everywhere: 90° phase plate, hardly any defocus.
FLAT_CTF = (500.0, 500.0, 0.0, 90.0, 0.0, 1.0)


def write_star(path: Path, cells: dict, rows: list[list]) -> Path:
    """A 3.1 file whose optics table has the cells in every group."""
    optics = [group + list(cells.values()) for group in relion.optics_groups(BOX, PIXEL)]
    relion.write_star(path, optics, rows, extra_optics_columns=tuple(cells))
    return path


def write_stack(path: Path, images: np.ndarray) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images.astype(np.float32))
        mrc.set_image_stack()
        mrc.voxel_size = PIXEL


def gaussian_model(rng):
    """60 narrow Gaussians within 15 Å."""
    positions = rng.normal(size=(60, 3))
    positions *= 15 * rng.uniform(0, 1, (60, 1)) ** (1 / 3) / np.linalg.norm(positions, axis=1, keepdims=True)
    return tuple(torch.from_numpy(v) for v in (positions, rng.uniform(20, 90, 60), np.full(60, 0.9)))


def rotmats(rows):
    return euler_to_rotmat(*torch.from_numpy(np.radians(np.array([row[:3] for row in rows], dtype=float)).T))


def closed_form(model, rows, matrix, phase, transfer):
    """Images whose transform at k is P(Mk) CTF(Mk) exp(i phase(Mk)), shifted; sums over Gaussians in numpy."""
    positions, amplitudes, sigmas = (values.numpy() for values in model)
    kx0, ky0 = np.meshgrid(np.fft.rfftfreq(BOX, PIXEL), np.fft.fftfreq(BOX, PIXEL))
    kx, ky = matrix[0, 0] * kx0 + matrix[0, 1] * ky0, matrix[1, 0] * kx0 + matrix[1, 1] * ky0
    decay = amplitudes[:, None, None] * np.exp(-2 * np.pi**2 * sigmas[:, None, None] ** 2 * (kx**2 + ky**2))
    images = []
    for row, rotmat in zip(rows, rotmats(rows).numpy(), strict=True):
        x, y = (positions @ rotmat.T)[:, :2].T[..., None, None]
        spectrum = (decay * np.exp(-2j * np.pi * (x * kx + y * ky))).sum(0)
        spectrum *= transfer(kx, ky, row) * np.exp(1j * phase(kx, ky, row))
        spectrum *= np.exp(2j * np.pi * (kx0 * row[3] + ky0 * row[4]))
        images.append(np.fft.fftshift(np.fft.irfft2(spectrum, s=(BOX, BOX))) / PIXEL**2)
    return np.array(images)


def wavelength(voltage_kv):
    volt = 1e3 * voltage_kv
    return 12.2643247 / np.sqrt(volt * (1 + 0.978466e-6 * volt))


def odd_phase(kx, ky, row):
    """Beam tilt and odd terms, written out: coma, r³ sin 3θ, r³ cos 3θ, r⁵ sin 5θ."""
    group = relion.optics_groups(BOX, PIXEL)[int(row[11]) - 1]
    r2 = kx**2 + ky**2
    scale = 2 * np.pi * 1e7 * group[3] * wavelength(group[2]) ** 2 * 1e-3
    coma = -scale * r2 * (BEAM_TILT[0] * kx + BEAM_TILT[1] * ky)
    trefoil = ODD[2] * (3 * kx**2 * ky - ky**3) + ODD[5] * (kx**3 - 3 * kx * ky**2)
    return coma + trefoil + ODD[6] * (5 * kx**4 * ky - 10 * kx**2 * ky**3 + ky**5)


def no_phase(kx, ky, row):
    return np.zeros_like(kx)


def no_ctf(kx, ky, row):
    return np.ones_like(kx)


def projected(tmp_path, model, cells, rows):
    """Images that relion_project makes with the CTF."""
    relion.write_map(tmp_path / "map.mrc", volume(*model, BOX, PIXEL).numpy(), PIXEL)
    write_star(tmp_path / "in.star", cells, rows)
    command = "relion_project --i map.mrc --o images --ang in.star --ctf --pad 4 --angpix"
    relion.run(*command.split(), str(PIXEL), cwd=tmp_path)
    return relion.read_stack(tmp_path / "images.mrcs") * PIXEL


def rendered(model, rows, ctf, matrix=None):
    """Our images with the CTF at frequencies that went through a matrix, and shifts."""
    kx, ky = frequency_grid(BOX, PIXEL, torch.float64)
    images = project(model[0].expand(len(rows), -1, -1), *model[1:], rotmats(rows), BOX, PIXEL)
    x, y = torch.tensor([row[3:5] for row in rows], dtype=torch.float64).T[..., None, None]
    fourier = image_to_fourier(images) * torch.exp(2j * torch.pi * (kx * x + ky * y))
    if matrix is not None:
        kx, ky = matrix[0, 0] * kx + matrix[0, 1] * ky, matrix[1, 0] * kx + matrix[1, 1] * ky
    return fourier_to_image(fourier * contrast_transfer(kx, ky, ctf), BOX).numpy()


def read_ctf(path):
    table = read_particles(path)
    return table.ctf_parameters(np.arange(table.n_particles), dtype=torch.float64)


def test_even_terms_as_relion_project_has_them(tmp_path):
    relion.require("relion_project")
    rng = np.random.default_rng(11)
    model, rows = gaussian_model(rng), relion.random_particles(rng, 8)
    theirs = projected(tmp_path, model, EVEN_CELLS, rows)
    ctf = read_ctf(tmp_path / "in.star")
    correlation, scale, shells = relion.compare_below_nyquist(rendered(model, rows, ctf), theirs)
    assert correlation >= 0.9999 and abs(scale - 1) <= 0.01 and shells.min() >= 0.999
    opposite = replace(ctf, even_zernike=-ctf.even_zernike)
    for other in (opposite, replace(ctf, even_zernike=None)):
        assert relion.compare_below_nyquist(rendered(model, rows, other), theirs)[0] < 0.9


def test_ctf_is_evaluated_in_undistorted_frequencies(tmp_path):
    relion.require("relion_project")
    rng = np.random.default_rng(12)
    model, rows = gaussian_model(rng), relion.random_particles(rng, 8)
    theirs = projected(tmp_path, model, MAGNIFICATION_CELLS, rows)
    ctf = read_ctf(tmp_path / "in.star")
    correlation, _, shells = relion.compare_below_nyquist(rendered(model, rows, ctf, MAGNIFICATION), theirs)
    assert correlation >= 0.9999 and shells.min() >= 0.999
    for other in (MAGNIFICATION.T, np.eye(2)):
        assert relion.compare_below_nyquist(rendered(model, rows, ctf, other), theirs)[0] < 0.995


def reconstructed(tmp_path, cells, rows, images, *options):
    """What relion_reconstruct makes of images."""
    write_stack(tmp_path / "images.mrcs", images)
    write_star(tmp_path / "r.star", cells, rows)
    relion.run(*"relion_reconstruct --i r.star --o r.mrc --ctf".split(), *options, cwd=tmp_path)
    return relion.read_stack(tmp_path / "r.mrc")


@pytest.mark.parametrize("cells", [TILT_CELLS, ODD_CELLS, TILT_CELLS | ODD_CELLS], ids=["tilt", "odd", "both"])
def test_odd_phases_as_relion_takes_them_off(tmp_path, cells):
    relion.require("relion_reconstruct")
    rng = np.random.default_rng(13)
    axis = np.arange(BOX) - BOX // 2
    image = rng.normal(size=(BOX, BOX)) * np.exp(-(axis**2 + axis[:, None] ** 2) / (2 * 5.0**2))
    kx, ky = frequency_grid(BOX, PIXEL, torch.float64)
    inside = torch.sqrt(kx**2 + ky**2) < 0.44 / PIXEL
    image = fourier_to_image(image_to_fourier(torch.from_numpy(image)) * inside, BOX).numpy()
    rows = [[0, 0, 0, 0, 0, *FLAT_CTF, 1, "1@images.mrcs"]]
    theirs = reconstructed(tmp_path, cells, rows, image[None], "--refdim", "2", "--pad", "4")
    table = read_particles(tmp_path / "r.star")
    transfer = contrast_transfer(kx, ky, table.ctf_parameters(np.arange(1), dtype=torch.float64))
    theirs = fourier_to_image(image_to_fourier(torch.from_numpy(theirs)) * transfer, BOX).numpy()
    ours = AberrationCorrection(table).correct(torch.from_numpy(image)[None], np.zeros(1, int)).numpy()
    correlation, _, shells = relion.compare_below_nyquist(ours, theirs, 0.85)
    # What is missing is RELION's interpolation: it is the same without any aberration.
    assert correlation >= 0.999 and shells.min() >= 0.99
    assert relion.compare_below_nyquist(image[None], theirs, 0.85)[0] < 0.9


def test_magnification_as_relion_reconstruct_takes_it_off(tmp_path):
    relion.require("relion_reconstruct")
    rng = np.random.default_rng(14)
    model = gaussian_model(rng)
    rows = [[*row[:3], 0, 0, *FLAT_CTF, 1, row[-1]] for row in relion.random_particles(rng, 150)]
    raw = closed_form(model, rows, MAGNIFICATION, no_phase, no_ctf)
    ours = undistort(torch.from_numpy(raw), torch.from_numpy(MAGNIFICATION)).numpy()
    other_way = {f"rlnMagMat{i}{j}": MAGNIFICATION[j, i] for i in (0, 1) for j in (0, 1)}
    inputs = ((MAGNIFICATION_CELLS, raw), ({}, ours), (other_way, raw))
    theirs, same, transposed = (
        reconstructed(tmp_path, cells, rows, images, "--skip_gridding") for cells, images in inputs
    )
    frequency = np.fft.fftfreq(BOX)
    radius = np.sqrt(frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + frequency**2)

    def correlation(a, b):
        x, y = (np.fft.fftn(volume)[(radius > 0.15) & (radius < 0.42)] for volume in (a, b))
        return np.vdot(x, y).real / np.sqrt(np.vdot(x, x).real * np.vdot(y, y).real)

    assert correlation(same, theirs) >= 0.999
    assert correlation(transposed, theirs) < 0.998


def test_reading_undoes_all_of_it(tmp_path):
    rng = np.random.default_rng(15)
    model, rows = gaussian_model(rng), relion.random_particles(rng, 6, shift=3.0)
    cells = TILT_CELLS | ODD_CELLS | MAGNIFICATION_CELLS
    write_star(tmp_path / "p.star", cells, rows)
    write_stack(tmp_path / "images.mrcs", closed_form(model, rows, MAGNIFICATION, odd_phase, no_ctf))
    images = ParticleImages(read_particles(tmp_path / "p.star"), 30.0)
    images.noise_power = torch.ones_like(images.noise_power)
    centred = [[*row[:3], 0, 0, *row[5:]] for row in rows]
    expected = closed_form(model, centred, np.eye(2), no_phase, no_ctf)
    correlation, scale, shells = relion.compare_below_nyquist(
        images.batch(np.arange(6)).images.double().numpy(), expected
    )
    assert correlation >= 0.9999 and abs(scale - 1) < 1e-3 and shells.min() >= 0.998
