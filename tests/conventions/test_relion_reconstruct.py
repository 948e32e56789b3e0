"""Maps from images against ``relion_reconstruct`` on the same STAR files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryosphere.io.particles import read_particles
from cryosphere.io.star_rows import write_subset
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.backprojection import Backprojection

from ..particle_sets import swinging_arm, write_particle_set
from ..reference_files import reference_file
from . import relion

N_IMAGES = 1500


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """Noisy images of an arm in two positions, with CTF and shifts."""
    folder = tmp_path_factory.mktemp("arms") / "set"
    return write_particle_set(folder, N_IMAGES, box_size=32, snr=0.2, states=swinging_arm(2, 60.0))


def _theirs(star, output, *options):
    relion.require("relion_reconstruct")
    relion.run("relion_reconstruct", "--i", star.name, "--o", str(output), "--ctf", *options, cwd=star.parent)
    return relion.read_stack(output)


def _ours(star, weights, white=True):
    """Maps for columns of weights; ``white`` takes the noise for flat, as RELION does here."""
    table = read_particles(star)
    images = ParticleImages(table, 0.4 * table.box_size * table.pixel_size)
    if white:
        images.noise_power = torch.ones_like(images.noise_power)
    batch = images.batch(np.arange(table.n_particles))
    sums = Backprojection(weights.shape[1], table.box_size, table.pixel_size)
    sums.insert(batch.fourier, batch.rotmat, batch.ctf, batch.whitening, weights)
    return [sums.volume([number]).astype(np.float64) for number in range(weights.shape[1])]


def _density(positions, box_size, pixel_size=4.0, sigma=2.0):
    """Gaussians of one height at positions (Å), by their Fourier sum."""
    k = np.fft.fftfreq(box_size, pixel_size)
    waves = [np.exp(-2j * np.pi * k[:, None] * axis - 2 * (np.pi * sigma * k[:, None]) ** 2) for axis in positions.T]
    spectrum = np.einsum("zp,yp,xp->zyx", *waves[::-1], optimize=True)
    return np.fft.fftshift(np.fft.ifftn(spectrum).real)


@pytest.mark.parametrize("white", [True, False], ids=["flat", "whitened"])
def test_map_agrees_with_relion(two_states, tmp_path, white):
    theirs = _theirs(two_states / "particles.star", tmp_path / "theirs.mrc")
    (ours,) = _ours(two_states / "particles.star", np.ones((N_IMAGES, 1)), white)
    assert relion.shell_correlations(ours, theirs).min() >= 0.99
    assert relion.shell_correlations(ours[::-1, ::-1, ::-1], theirs).min() < 0.9


@pytest.mark.parametrize("state", ["open", "closed"])
def test_map_of_few_images_of_two_optics_groups_agrees_with_relion(tmp_path, state):
    """32 images, half of them with a phase plate; without RELION's own iterations, which change such a sparse map."""
    star = reference_file("relion_adk", f"adk_{state}_64_1p5_ctf.star")
    theirs = _theirs(star, tmp_path / "theirs.mrc", "--skip_gridding")
    (ours,) = _ours(star, np.ones((32, 1)))
    assert relion.shell_correlations(ours, theirs).min() >= 0.99
    assert (ours * theirs).sum() / (theirs**2).sum() == pytest.approx(1, abs=0.05)


def test_one_states_map_is_nearer_to_the_truth_than_the_mixed_sets(two_states, tmp_path):
    """The subset of a state in RELION; weights of 1 and 0 here; both give that state's map."""
    relion.require("relion_reconstruct")
    star, state = two_states / "particles.star", np.load(two_states / "truth" / "state.npy")
    coordinates = np.load(two_states / "truth" / "coordinates.npy")
    mixed = _theirs(star, tmp_path / "mixed.mrc")
    ours = _ours(star, np.eye(2)[state])
    for number in range(2):
        subset = two_states / f"state_{number}.star"  # beside the stack, as its paths are relative
        write_subset(star, np.flatnonzero(state == number), subset, overwrite=True)
        theirs = _theirs(subset, tmp_path / f"state_{number}.mrc")
        true = _density(coordinates[number], len(mixed))
        to_truth = [relion.shell_correlations(volume, true).mean() for volume in (mixed, theirs, ours[number])]
        assert min(to_truth[1:]) > to_truth[0] + 0.02, to_truth
        assert relion.shell_correlations(ours[number], theirs).min() >= 0.99
