"""Physics rather than code: gradients, invariances, and that every argument matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryosphere.model.losses import log_likelihood_ratio
from cryosphere.physics import rotations
from cryosphere.physics.ctf import contrast_transfer, electron_wavelength
from cryosphere.physics.fourier import fourier_to_image, frequency_grid, image_to_fourier, resize, translate
from cryosphere.physics.gaussians import project
from cryosphere.physics.motions import (
    blended_motions,
    move_residues,
    segment_centres,
    sequential_motions,
)
from cryosphere.records import CTFParameters, SegmentMotions

F64 = torch.float64
seeds = st.integers(0, 2**31 - 1)


def ctf_parameters(generator, count):
    u = torch.rand(9, count, generator=generator, dtype=F64)
    return CTFParameters(
        8000 + 9000 * u[0], 8000 + 9000 * u[1], 3 * u[2], u[3], 30 * u[4], 0.5 + u[5], 200 + 100 * u[6], 1 + u[7],
        0.05 + 0.05 * u[8], 1 + torch.rand(count, 6, generator=generator, dtype=F64),
    )  # fmt: skip


def model(generator, batch=2, n_residues=6):
    positions = 6 * torch.randn(batch, n_residues, 3, generator=generator, dtype=F64)
    amplitudes = 20 + 10 * torch.rand(n_residues, generator=generator, dtype=F64)
    sigmas = 2 + torch.rand(n_residues, generator=generator, dtype=F64)
    return positions, amplitudes, sigmas, rotations.random_rotmats(batch, generator)


def motions(generator, batch=2, n_segments=3):
    quat = torch.randn(batch, n_segments, 4, generator=generator, dtype=F64)
    return quat, torch.randn(batch, n_segments, 3, generator=generator, dtype=F64)


def moved(positions, quat, translation, weights, kind):
    segment = SegmentMotions(rotations.normalise_quat(quat), translation)
    if kind == "sequential":
        return move_residues(positions, *sequential_motions(segment, weights))
    return move_residues(positions, *blended_motions(segment, weights, segment_centres(positions, weights)))


def test_gradient_of_the_projection():
    arguments = [x.requires_grad_() for x in model(torch.Generator().manual_seed(1))]
    assert torch.autograd.gradcheck(lambda *a: project(*a, 12, 3.0), arguments)


@pytest.mark.parametrize("kind", ["blended", "sequential"])
def test_gradient_of_the_motion(kind):
    generator = torch.Generator().manual_seed(2)
    positions = 6 * torch.randn(5, 3, generator=generator, dtype=F64)
    weights = torch.softmax(torch.randn(5, 3, generator=generator, dtype=F64), 1)
    arguments = [x.requires_grad_() for x in (positions, *motions(generator), weights)]
    assert torch.autograd.gradcheck(lambda *a: moved(*a, kind), arguments)


def test_gradient_of_the_loss_through_ctf_and_projection():
    generator = torch.Generator().manual_seed(3)
    positions, amplitudes, sigmas, rotmat = model(generator)
    images = torch.randn(2, 12, 12, generator=generator, dtype=F64) + project(
        positions, amplitudes, sigmas, rotmat, 12, 3.0
    )
    transfer = contrast_transfer(*frequency_grid(12, 3.0, F64), ctf_parameters(generator, 2)).abs()
    arguments = [x.requires_grad_() for x in (positions, amplitudes, sigmas, rotmat)]

    def loss(*a):
        rendered = fourier_to_image(image_to_fourier(project(*a, 12, 3.0)) * transfer, 12)
        return log_likelihood_ratio((images * rendered).sum((-2, -1)), rendered.square().sum((-2, -1)))

    assert (loss(*arguments) > 0).all()
    assert torch.autograd.gradcheck(loss, arguments)


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from(["blended", "sequential"]))
def test_whole_body_motion_equals_pose_change(seed, kind):
    generator = torch.Generator().manual_seed(seed)
    positions, amplitudes, sigmas, rotmat = model(generator, batch=1)
    body = rotations.normalise_quat(torch.randn(1, 1, 4, generator=generator, dtype=F64))
    step = torch.randn(1, 1, 3, generator=generator, dtype=F64)
    weights = torch.ones(6, 1, dtype=F64)
    image = project(moved(positions[0], body, step, weights, kind), amplitudes, sigmas, rotmat, 112, 1.0)
    centre = positions.mean(1) if kind == "blended" else torch.zeros(1, 3, dtype=F64)
    turn = rotations.quat_to_rotmat(body[:, 0])
    posed = project(positions - centre[:, None], amplitudes, sigmas, rotmat @ turn, 112, 1.0)
    shift = (rotmat @ (centre + step[:, 0]).unsqueeze(-1))[:, :2, 0]
    difference = translate(posed, shift) - image
    assert torch.linalg.norm(difference) < 1e-5 * torch.linalg.norm(image)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_hard_segments_move_alike_in_both_ways(seed):
    generator = torch.Generator().manual_seed(seed)
    positions = 6 * torch.randn(6, 3, generator=generator, dtype=F64)
    weights = torch.eye(3, dtype=F64).repeat_interleave(2, 0)
    quat, translation = motions(generator)
    blended = moved(positions, quat, translation, weights, "blended")
    centres = segment_centres(positions, weights)
    turned = rotations.quat_to_rotmat(rotations.normalise_quat(quat))
    about_origin = translation + centres - torch.einsum("bsij,sj->bsi", turned, centres)
    assert torch.allclose(blended, moved(positions, quat, about_origin, weights, "sequential"), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_blending_is_rigid_per_residue_and_ignores_the_sign_of_quaternions(seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.softmax(torch.randn(6, 3, generator=generator, dtype=F64), 1)
    positions = 6 * torch.randn(6, 3, generator=generator, dtype=F64)
    quat, translation = motions(generator)
    flipped = quat * torch.tensor([1.0, -1.0, 1.0], dtype=F64)[:, None]
    same = moved(positions, flipped, translation, weights, "blended")
    assert torch.allclose(moved(positions, quat, translation, weights, "blended"), same, atol=1e-9)
    segment = SegmentMotions(rotations.normalise_quat(quat), translation)
    blended, _ = blended_motions(segment, weights, segment_centres(positions, weights))
    assert torch.allclose(torch.linalg.norm(blended, dim=-1), torch.ones(2, 6, dtype=F64))


@pytest.mark.parametrize("kind", ["blended", "sequential"])
def test_residues_without_a_segment_stay_and_identity_is_exact(kind):
    generator = torch.Generator().manual_seed(5)
    positions = 6 * torch.randn(6, 3, generator=generator, dtype=F64)
    quat, translation = motions(generator)
    weights = torch.zeros(6, 3, dtype=F64)
    weights[:3] = torch.eye(3, dtype=F64)
    result = moved(positions, quat, translation, weights, kind)
    assert torch.equal(result[:, 3:], positions[3:].expand(2, -1, -1))
    assert (result[:, :3] - positions[:3]).abs().min() > 1e-4
    identity = torch.tensor([1.0, 0, 0, 0], dtype=F64).expand(2, 3, 4)
    still = moved(positions, identity, torch.zeros_like(translation), weights, kind)
    assert torch.equal(still, positions.expand(2, -1, -1))


def test_a_turn_of_180_degrees_is_within_reach_and_finite():
    positions = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    quat = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]], dtype=F64, requires_grad=True)
    for kind in ("blended", "sequential"):
        result = moved(positions, quat, torch.zeros(1, 1, 3, dtype=F64), torch.ones(4, 1, dtype=F64), kind)
        centre = positions.mean(0) if kind == "blended" else torch.zeros(3, dtype=F64)
        expected = (positions - centre) * torch.tensor([-1.0, -1.0, 1.0], dtype=F64) + centre
        assert torch.allclose(result[0], expected, atol=1e-6)
        (gradient,) = torch.autograd.grad(result.sum(), quat)
        assert gradient.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([16, 17]))
def test_order_of_residues_and_batching_do_not_matter(seed, box_size):
    generator = torch.Generator().manual_seed(seed)
    positions, amplitudes, sigmas, rotmat = model(generator)
    images = project(positions, amplitudes, sigmas, rotmat, box_size, 3.0)
    order = torch.randperm(6, generator=generator)
    permuted = project(positions[:, order], amplitudes[order], sigmas[order], rotmat, box_size, 3.0)
    single = project(positions[1:], amplitudes, sigmas, rotmat[1:], box_size, 3.0)
    assert torch.allclose(images, permuted, atol=1e-10)
    assert torch.allclose(images[1:], single, atol=1e-10)


def test_every_argument_of_the_ctf_matters():
    generator = torch.Generator().manual_seed(6)
    parameters = ctf_parameters(generator, 1)
    grid = frequency_grid(16, 2.0, F64)
    reference = contrast_transfer(*grid, parameters)
    for name, value in vars(parameters).items():
        changed = CTFParameters(**{**vars(parameters), name: value * 1.1})
        assert (contrast_transfer(*grid, changed) - reference).abs().max() > 1e-5, name


def test_ctf_at_zero_frequency_is_the_amplitude_contrast_and_wavelength_is_the_textbook_one():
    zeros = torch.zeros(1, dtype=F64)
    one = torch.ones(1, dtype=F64)
    parameters = CTFParameters(1e4 * one, 1e4 * one, zeros, zeros, zeros, one, 300 * one, 2.7 * one, 0.1 * one)
    assert contrast_transfer(*frequency_grid(8, 1.0, F64), parameters)[0, 0, 0].item() == pytest.approx(0.1, abs=1e-12)
    # Reimer & Kohl, Transmission Electron Microscopy, table 1: 1.969 pm at 300 kV, 2.508 pm at 200 kV.
    assert electron_wavelength(300 * one).item() == pytest.approx(0.01969, abs=1e-5)
    assert electron_wavelength(200 * one).item() == pytest.approx(0.02508, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(-180, 180), st.floats(0, 180), st.floats(-180, 180))
def test_euler_angles_against_scipy_and_back(rot, tilt, psi):
    angles = torch.tensor(np.radians([rot, tilt, psi]))
    matrix = rotations.euler_to_rotmat(*angles)
    oracle = Rotation.from_euler("ZYZ", [rot, tilt, psi], degrees=True).as_matrix().T
    assert np.allclose(matrix.numpy(), oracle, atol=1e-12)
    again = rotations.euler_to_rotmat(*rotations.rotmat_to_euler(matrix))
    assert torch.allclose(again, matrix, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([16, 17]))
def test_translation_moves_a_gaussian_by_the_asked_pixels(seed, box_size):
    generator = torch.Generator().manual_seed(seed)
    step = 2 * torch.rand(1, 3, generator=generator, dtype=F64) - 1
    start = torch.zeros(1, 1, 3, dtype=F64)
    one, width, pose = torch.ones(1, dtype=F64), torch.tensor([1.3], dtype=F64), torch.eye(3, dtype=F64)[None]
    moved_image = translate(project(start, one, width, pose, box_size, 1.0), step[:, :2])
    direct = project(start + step[:, None], one, width, pose, box_size, 1.0)
    assert (moved_image - direct).abs().max() < 1e-3 * direct.max()


@pytest.mark.parametrize(("old", "new"), [(32, 16), (33, 17), (32, 17), (33, 16)])
def test_fourier_crop_keeps_the_origin_and_the_mean(old, new):
    position = torch.tensor([[[3.0, -2.0, 0.0]]], dtype=F64)
    one, width, pose = torch.ones(1, dtype=F64), torch.tensor([6.0], dtype=F64), torch.eye(3, dtype=F64)[None]
    large = project(position, one, width, pose, old, 1.5)
    small = fourier_to_image(resize(image_to_fourier(large), new), new) * (new / old) ** 2
    direct = project(position, one, width, pose, new, 1.5 * old / new)
    assert (small - direct).abs().max() < 2e-3 * direct.max()


def test_inputs_are_left_alone():
    arguments = model(torch.Generator().manual_seed(8))
    before = [x.clone() for x in arguments]
    project(*arguments, 16, 3.0)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))
