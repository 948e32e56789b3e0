"""Central slices of oversampled volumes against direct projections."""

import pytest
import torch

from cryosphere.physics.fourier import image_to_fourier
from cryosphere.physics.gaussians import project, volume
from cryosphere.physics.rotations import random_rotmats
from cryosphere.physics.slices import band_points, conformation_table, take_slices, volume_table

BOX, PIXEL = 32, 3.0


def cloud(n_conformations=2, n_gaussians=40, reach=14.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    positions = reach * torch.randn(n_conformations, n_gaussians, 3, generator=generator).clamp(-1.6, 1.6)
    return positions, 1 + torch.rand(n_gaussians, generator=generator), torch.full((n_gaussians,), 2.0)


def relative_error(found, wanted):
    return float(((found - wanted).abs() ** 2).sum().sqrt() / (wanted.abs() ** 2).sum().sqrt())


def complex_slices(table, rotmat, points):
    values = take_slices(table, rotmat, points)
    return torch.complex(values[..., : table.n_volumes], values[..., table.n_volumes :])


@pytest.mark.parametrize(("box_size", "band"), [(BOX, 16), (BOX, 8), (33, 16), (33, 9)])
def test_slices_of_conformations_are_the_transforms_of_their_projections(box_size, band):
    positions, amplitudes, sigmas = cloud()
    rotmat = random_rotmats(5, torch.Generator().manual_seed(1)).float()
    table = conformation_table(positions, amplitudes, sigmas, box_size * PIXEL, band)
    index, points = band_points(box_size, band)
    found = complex_slices(table, rotmat, points)
    for number in range(2):
        images = project(positions[number].expand(5, -1, -1), amplitudes, sigmas, rotmat, box_size, PIXEL)
        wanted = image_to_fourier(images).flatten(1)[:, index] * PIXEL**2
        assert relative_error(found[..., number], wanted) < 0.03


def test_widths_on_both_sides_of_the_spreading_width_are_kept():
    positions, amplitudes, _ = cloud(1)
    sigmas = torch.linspace(1.5, 6.0, positions.shape[1])
    rotmat = random_rotmats(3, torch.Generator().manual_seed(2)).float()
    index, points = band_points(BOX, 8)
    found = complex_slices(conformation_table(positions, amplitudes, sigmas, BOX * PIXEL, 8), rotmat, points)[..., 0]
    images = project(positions.expand(3, -1, -1), amplitudes, sigmas, rotmat, BOX, PIXEL)
    assert relative_error(found, image_to_fourier(images).flatten(1)[:, index] * PIXEL**2) < 0.04


def test_slices_of_a_volume_equal_those_of_the_gaussians_it_samples():
    positions, amplitudes, _ = cloud(1)
    sigmas = torch.full((positions.shape[1],), 4.0)
    rotmat = random_rotmats(3, torch.Generator().manual_seed(3)).float()
    _, points = band_points(BOX, 10)
    grid = volume(positions[0], amplitudes, sigmas, BOX, PIXEL) * PIXEL**3
    found = complex_slices(volume_table(grid[None], 10), rotmat, points)
    wanted = complex_slices(conformation_table(positions, amplitudes, sigmas, BOX * PIXEL, 10), rotmat, points)
    assert relative_error(found, wanted) < 0.01


def test_points_stand_for_every_frequency_of_the_band_once_with_its_negative():
    index, points = band_points(16, 6)
    whole = {(int(x), int(y)) for x, y in points.tolist()}
    mirrored = {(-x, -y) for x, y in whole} - {(0, 0)}
    assert len(index) == len(whole) and not (whole - {(0, 0)}) & mirrored
    disc = {(x, y) for x in range(-8, 9) for y in range(-8, 9) if x * x + y * y <= 5.5**2}
    assert whole | mirrored == disc


def test_one_gaussian_gives_its_closed_form():
    centre, sigma, edge, band = torch.tensor([[[5.0, -7.0, 3.0]]]), 3.0, BOX * PIXEL, 12
    table = conformation_table(centre, torch.tensor([2.5]), torch.tensor([sigma]), edge, band)
    rotmat = random_rotmats(4, torch.Generator().manual_seed(4)).float()
    _, points = band_points(BOX, band)
    k = points / edge
    posed = torch.einsum("bij,j->bi", rotmat[:, :2], centre[0, 0])
    wanted = (
        2.5
        * torch.exp(-2 * torch.pi**2 * sigma**2 * (k**2).sum(1))
        * torch.exp(-2j * torch.pi * (posed @ k.T).to(torch.complex64))
    )
    assert relative_error(complex_slices(table, rotmat, points)[..., 0], wanted) < 0.02
