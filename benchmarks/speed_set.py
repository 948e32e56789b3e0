"""The synthetic set of the speed benchmark: a chain folded into helices, random poses, and a stack of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryosphere.io.mrc import write_stack
from cryosphere.records import Atoms, ParticleTable, Structure

# Residues of a helix, its rise and turn per residue, and the distance between neighbouring helices (Å).
HELIX, RISE_A, TURN, APART_A, HELIX_RADIUS_A = 20, 1.5, np.radians(100.0), 9.5, 2.3
AMPLITUDE, SIGMA_A = 54.0, 2.0


def make_structure(n_residues: int) -> Structure:
    """A globular chain: helices up and down, side by side along a snake through a lattice, centred."""
    index = np.arange(n_residues)
    helix, within = index // HELIX, index % HELIX
    side = int(np.ceil(np.cbrt(n_residues / HELIX * RISE_A * HELIX / APART_A)))
    layer, place = helix // side**2, helix % side**2
    row, column = place // side, place % side
    column = np.where(row % 2 == 0, column, side - 1 - column)
    along = np.where(helix % 2 == 0, within, HELIX - 1 - within) * RISE_A
    positions = np.column_stack([column * APART_A, row * APART_A, along + layer * (HELIX * RISE_A + 5.0)])
    positions[:, 0] += HELIX_RADIUS_A * np.cos(TURN * within)
    positions[:, 1] += HELIX_RADIUS_A * np.sin(TURN * within)
    blank = np.full(n_residues, "")
    atoms = Atoms(np.zeros((0, 3)), np.array([], str), np.array([], str), np.zeros(0), np.zeros(0, int))
    return Structure(
        source="made",
        chain_ids=np.full(n_residues, "A"),
        residue_numbers=index + 1,
        insertion_codes=blank,
        residue_names=np.full(n_residues, "ALA"),
        kinds=np.full(n_residues, "protein"),
        residue_positions=positions - positions.mean(0),
        amplitudes=np.full(n_residues, AMPLITUDE),
        sigmas=np.full(n_residues, SIGMA_A),
        bonded=np.ones(n_residues - 1, bool),
        atoms=atoms,
        frame_shift=np.zeros(3),
    )


def make_table(folder: Path, n_particles: int, box_size: int, pixel_size: float) -> ParticleTable:
    """A table with random poses, shifts and defocus, and its stack of white noise in ``folder``."""
    rng = np.random.default_rng(0)
    path = folder / f"noise_{box_size}_{n_particles}.mrcs"
    batches = (rng.standard_normal((1, box_size, box_size), np.float32) for _ in range(n_particles))
    write_stack(path, batches, n_images=n_particles, pixel_size=pixel_size, overwrite=True)
    rotmat = np.linalg.qr(rng.standard_normal((n_particles, 3, 3)))[0]
    rotmat[:, :, 2] *= np.linalg.det(rotmat)[:, None]
    column = np.ones(n_particles)
    return ParticleTable(
        source=folder / "particles.star",
        stack_paths=(path,),
        stack_index=np.zeros(n_particles, dtype=np.int64),
        image_index=np.arange(n_particles),
        rotmat=rotmat,
        shift=rng.normal(0, 3, (n_particles, 2)),
        defocus_u=rng.uniform(1e4, 2e4, n_particles),
        defocus_v=rng.uniform(1e4, 2e4, n_particles),
        defocus_angle=rng.uniform(0, np.pi, n_particles),
        phase_shift=0 * column,
        b_factor=0 * column,
        scale=column,
        voltage_kv=300 * column,
        spherical_aberration_mm=2.7 * column,
        amplitude_contrast=0.1 * column,
        optics_group=np.zeros(n_particles, dtype=np.int64),
        optics_group_names=("group",),
        box_size=box_size,
        pixel_size=pixel_size,
    )
