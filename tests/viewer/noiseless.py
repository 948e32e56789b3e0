"""A run with images that are made in numpy from its own conformations, without noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
from scipy.spatial.transform import Rotation

from cryosphere.analysis.analyze import analyze
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_table
from tests.run_factory import BOX_SIZE, PIXEL_SIZE, make_run

N = 40
GREY, OFFSET = 7.0, 100.0


def write_images(path, images):
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images.astype(np.float32))
        mrc.set_image_stack()
        mrc.voxel_size = PIXEL_SIZE


def posed_table(table, seed=0):
    """The table with random poses, shifts and defoci; protein is dark in every third image."""
    draw, n = np.random.default_rng(seed), table.n_particles
    return replace(
        table,
        rotmat=Rotation.random(n, random_state=seed).as_matrix(),
        shift=draw.uniform(-8, 8, (n, 2)),
        defocus_u=draw.uniform(5e3, 9e3, n),
        defocus_v=draw.uniform(5e3, 9e3, n),
        defocus_angle=draw.uniform(0, np.pi, n),
        sign=np.where(np.arange(n) % 3 == 0, -1.0, 1.0),
    )


def exact_image(table, row, sites, amplitudes, sigmas):
    """Projection of Gaussians times CTF (``conventions``) as Fourier sums over the whole plane, moved by -shift."""
    k = np.fft.fftfreq(BOX_SIZE, PIXEL_SIZE)
    ky, kx = k[:, None], k[None]
    squared = kx**2 + ky**2
    points = (sites @ table.rotmat[row].T)[:, :2] - table.shift[row]
    phase = np.exp(-2j * np.pi * (kx[..., None] * points[:, 0] + ky[..., None] * points[:, 1]))
    transform = (amplitudes * np.exp(-2 * np.pi**2 * sigmas**2 * squared[..., None]) * phase).sum(-1)
    volt = 1e3 * table.voltage_kv[row]
    wavelength = 12.2643247 / np.sqrt(volt * (1 + 0.978466e-6 * volt))
    u, v, angle = table.defocus_u[row], table.defocus_v[row], table.defocus_angle[row]
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (np.arctan2(ky, kx) - angle))
    cs = 1e7 * table.spherical_aberration_mm[row]
    chi = np.pi * wavelength * defocus * squared - 0.5 * np.pi * cs * wavelength**3 * squared**2
    ctf = np.sin(chi + np.arcsin(table.amplitude_contrast[row]))
    return np.fft.fftshift(np.fft.ifft2(transform * ctf).real) / PIXEL_SIZE**2


def make_noiseless_run(folder: Path) -> Path:
    """An analysed run whose images are those of each particle's conformation at its posterior mean."""
    run = make_run(folder, n_particles=N, shared=True)
    table = posed_table(run.table)
    save_table(run.layout.particles, table)
    run = Run.load(run.folder)
    sites, structure = run.decode_sites(run.posterior.mean), run.structure
    images = [exact_image(table, row, sites[row], structure.amplitudes, structure.sigmas) for row in range(N)]
    write_images(table.stack_paths[0], OFFSET + GREY * table.sign[:, None, None] * np.stack(images))
    analyze(run)
    return run.folder
