"""Central slices of oversampled volumes against direct projections."""

import pytest
import torch

from cryosphere.physics import slices
from cryosphere.physics.fourier import image_to_fourier
from cryosphere.physics.gaussians import project, volume
from cryosphere.physics.rotations import random_rotmats
from cryosphere.physics.slices import (
    band_points,
    by_neighbourhood,
    conformation_table,
    contract_slices,
    take_slices,
    volume_table,
)

BOX, PIXEL = 32, 3.0


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    """Both ways that tables and contractions are made on the CPU."""
    if request.param == "torch":
        monkeypatch.setattr(slices, "is_compiled", lambda tensor: False)
    else:
        pytest.importorskip("numba")
    return request.param


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
def test_slices_of_conformations_are_the_transforms_of_their_projections(box_size, band, way):
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


def test_one_gaussian_gives_its_closed_form(way):
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


def contraction(n_volumes, n_seen, box_size, band, n_images=7):
    """A table of many conformations, and what its slices in some poses are contracted with."""
    generator = torch.Generator().manual_seed(n_volumes)
    positions, amplitudes, sigmas = cloud(n_volumes, 12)
    table = conformation_table(positions, amplitudes, sigmas, box_size * PIXEL, band)
    _, points = band_points(box_size, band)
    seen = torch.randn(n_images, n_seen, len(points), dtype=torch.complex64, generator=generator)
    weight = torch.rand(n_images, len(points), generator=generator)
    return table, random_rotmats(n_images, generator).float(), points, seen, weight


@pytest.mark.parametrize(
    ("n_volumes", "n_seen", "box_size", "band"), [(1, 1, 33, 16), (9, 3, BOX, 16), (40, 2, BOX, 7)]
)
def test_contractions_are_sums_over_the_points_of_slices(n_volumes, n_seen, box_size, band, way, monkeypatch):
    table, rotmat, points, seen, weight = contraction(n_volumes, n_seen, box_size, band)
    monkeypatch.setattr(slices, "_SLICE_VALUES", 4 * len(points) * n_volumes)  # some images at a time
    inputs = [tensor.clone() for tensor in (table.values, rotmat, points, seen, weight)]
    overlap, power, middle = contract_slices(table, rotmat, points, seen, weight)
    found = complex_slices(table, rotmat, points).to(torch.complex128)
    wanted = torch.einsum("inp,ipk->ink", seen.conj().to(found.dtype), found).real
    assert relative_error(overlap, wanted) < 1e-5
    assert relative_error(power, torch.einsum("ip,ipk->ik", weight.double(), found.abs() ** 2)) < 1e-5
    assert relative_error(middle, found[..., n_volumes // 2]) < 1e-6
    for before, after in zip(inputs, (table.values, rotmat, points, seen, weight), strict=True):
        assert torch.equal(before.nan_to_num(), after.nan_to_num())


def test_compiled_contractions_do_not_depend_on_the_images_beside_them_nor_on_threads():
    pytest.importorskip("numba")
    table, *arguments = contraction(9, 2, BOX, 12)
    rotmat, points, seen, weight = arguments
    together = contract_slices(table, *arguments)
    alone = [contract_slices(table, rotmat[[i]], points, seen[[i]], weight[[i]]) for i in range(len(rotmat))]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    in_threads = contract_slices(table, *arguments)
    torch.set_num_threads(n_threads)
    for one, other, parts in zip(together, in_threads, zip(*alone, strict=True), strict=True):
        assert torch.equal(one, torch.cat(parts)) and torch.equal(one, other)


@pytest.mark.parametrize("factor", [2.0, float("nan")])
def test_compiled_slices_that_leave_the_table_are_refused(factor):
    pytest.importorskip("numba")
    table, rotmat, points, seen, weight = contraction(2, 1, BOX, 8)
    with pytest.raises(ValueError, match="leaves its table"):
        contract_slices(table, factor * rotmat, points, seen, weight)


def test_points_of_a_neighbourhood_follow_each_other():
    _, points = band_points(64, 32)
    order = by_neighbourhood(points)
    assert torch.equal(order.sort().values, torch.arange(len(points)))
    steps = (points[order][1:] - points[order][:-1]).norm(dim=1)
    assert steps.mean() < 3  # 16 points of a square by rows: 12 steps of 1, three of √10, then on to the next
