"""The compiled loops of the training step against plain torch, and that against other people's code."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from cryosphere.model import losses
from cryosphere.physics import clashes, compiled, motions
from cryosphere.physics.rotations import normalise_quat, quat_to_rotvec

F64 = torch.float64
pytestmark = pytest.mark.skipif(not compiled.has_numba(), reason="numba is not installed")
seeds = st.integers(0, 2**31 - 1)


def overlaps_of_a_tree(positions, reach, nominal):
    """Mean squared overlap of every image from a k-d tree, and its gradient by torch."""
    values = []
    for image in positions:
        pairs = torch.from_numpy(cKDTree(image.detach().numpy()).query_pairs(reach, output_type="ndarray"))
        pairs = pairs[(pairs[:, 1] - pairs[:, 0]).abs() >= 2]
        distance = torch.linalg.norm(image[pairs[:, 0]] - image[pairs[:, 1]], dim=-1)
        wanted = torch.full_like(distance, reach)
        if nominal is not None:
            apart = torch.linalg.norm(nominal[pairs[:, 0]] - nominal[pairs[:, 1]], dim=-1)
            nearer = distance < apart - 1e-3
            distance, wanted = distance[nearer], apart[nearer].clamp_max(reach)
        values.append(((wanted - distance) ** 2).mean() if len(distance) else 0 * image.sum())
    values = torch.stack(values)
    return values.detach(), torch.autograd.grad(values.sum(), positions)[0]


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.3, 60.0), st.sampled_from([1, 2, 3, 65, 200]), st.booleans())
def test_overlaps_in_cells_are_those_of_all_pairs_and_of_a_tree(seed, spread, n_residues, forgive):
    generator = torch.Generator().manual_seed(seed)
    shape = torch.tensor([1.0, 0.1, 3.0], dtype=F64)
    positions = spread * shape * torch.randn(3, n_residues, 3, generator=generator, dtype=F64)
    nominal = positions[0] + torch.randn(n_residues, 3, generator=generator, dtype=F64) if forgive else None
    expected = overlaps_of_a_tree(positions.clone().requires_grad_(), 4.3, nominal)
    for find in (clashes.all_pairs_overlaps, clashes.compiled_overlaps):
        for found, wanted in zip(find(positions, 4.3, nominal), expected, strict=True):
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_all_pairs_in_several_pieces_are_the_same(monkeypatch):
    positions = 3 * torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    whole = clashes.all_pairs_overlaps(positions, 4.0, None)
    monkeypatch.setattr(clashes, "_VALUES_PER_CHUNK", 700)
    for part, all_at_once in zip(clashes.all_pairs_overlaps(positions, 4.0, None), whole, strict=True):
        assert torch.allclose(part, all_at_once)


@pytest.mark.parametrize("find", [clashes.all_pairs_overlaps, clashes.compiled_overlaps])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_is_not_finite_gives_nan_and_leaves_the_others_alone(find, value):
    positions = torch.randn(3, 20, 3, generator=torch.Generator().manual_seed(1))
    alone = find(positions[[0, 2]], 4.0, None)
    positions[1, 7, 2] = value
    for found, expected in zip(find(positions, 4.0, None), alone, strict=True):
        assert found[1].isnan().all()
        assert torch.allclose(found[[0, 2]], expected)


@pytest.mark.parametrize("find", [clashes.all_pairs_overlaps, clashes.compiled_overlaps])
def test_residues_on_one_spot_and_far_apart_are_found(find):
    positions = torch.zeros(1, 6, 3)
    positions[0, :3] = 1e7
    values, gradient = find(positions, 4.0, None)
    assert values.tolist() == [16.0]
    assert gradient.abs().max() == 0


def some_turns(seed, n_residues, n_segments, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    quat = normalise_quat(torch.randn(3, n_segments, 4, generator=generator, dtype=dtype))
    quat[0, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    quat[1, 0] = torch.tensor([0.0, 0.6, 0.0, -0.8])
    weights = torch.softmax(4 * torch.randn(n_residues, n_segments, generator=generator, dtype=dtype), 1)
    weights[: n_residues // 2, n_segments // 2] = 0.0  # whole blocks where nothing turns, and parts of one
    return quat_to_rotvec(quat).requires_grad_(), weights.requires_grad_()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1, 63, 64, 65, 150]), st.integers(1, 12))
def test_compiled_turns_are_those_of_torch_with_gradients(seed, n_residues, n_segments):
    inputs = some_turns(seed, n_residues, n_segments)
    found, expected = motions._Turn.apply(*inputs), motions.turn_in_sequence(*inputs)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    gradients = (torch.autograd.grad((value * weight).sum(), inputs) for value in (found, expected))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_compiled_turns_pass_gradcheck_and_are_exact_to_single_precision():
    rotvec, weights = some_turns(3, 5, 4)
    # perturbed numerically, the product leaves the unit sphere only in what normalisation takes away
    assert torch.autograd.gradcheck(motions._Turn.apply, (rotvec[1:].detach().requires_grad_(), weights))
    single = motions._Turn.apply(rotvec.float(), weights.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), motions.turn_in_sequence(rotvec, weights), rtol=0, atol=2e-7)


def test_compiled_moves_are_those_of_torch_with_gradients():
    generator = torch.Generator().manual_seed(4)
    points = 20 * torch.randn(70, 3, generator=generator, dtype=F64)
    quat = normalise_quat(torch.randn(3, 70, 4, generator=generator, dtype=F64)).requires_grad_()
    translation = torch.randn(3, 70, 3, generator=generator, dtype=F64, requires_grad=True)
    found = motions.move_residues(points, quat, translation)
    expected = motions.move_residues(points.clone().requires_grad_(), quat, translation)  # plain torch
    assert type(found.grad_fn) is not type(expected.grad_fn)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    weight = torch.randn(found.shape, generator=generator, dtype=F64)
    gradients = (torch.autograd.grad((value * weight).sum(), (quat, translation)) for value in (found, expected))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-11)
    few = (points[:3], quat[:2, :3].detach().requires_grad_(), translation[:2, :3].detach().requires_grad_())
    assert torch.autograd.gradcheck(motions.move_residues, few)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_compiled_correlation_is_that_of_torch_with_gradient(dtype):
    generator = torch.Generator().manual_seed(5)
    images, rendered = torch.randn(2, 4, 9, 9, generator=generator, dtype=dtype)
    images, rendered, mask = images + 0.3, 7 * rendered - 2, torch.rand(9, 9, generator=generator, dtype=dtype)
    rendered[1] = images[1]
    rendered[2] = 0.0
    results = []
    for constant in (True, False):  # images that need a gradient take the plain way
        rendered = rendered.detach().requires_grad_()
        value = losses.correlation(images.detach().requires_grad_(not constant), rendered, mask)
        weight = torch.linspace(1, 2, 4, dtype=dtype)
        results.append((value, torch.autograd.grad((weight * value).sum(), rendered)[0]))
    assert type(results[0][0].grad_fn) is not type(results[1][0].grad_fn)
    tolerance = 1e-12 if dtype is F64 else 1e-5
    some = [0, 1, 3]
    for found, expected in zip(*results, strict=True):
        assert torch.allclose(found[some], expected[some], rtol=tolerance, atol=tolerance)
    assert results[0][0][2] == results[1][0][2] == 0  # nothing rendered
    few = rendered[:2].detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: losses.correlation(images[:2].double(), y, mask.double()), few)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_parts_cover_all_images_once_in_order(n_threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    for n_images in (0, 1, 2, 7):
        seen = np.zeros(n_images, int)

        def mark(first, last, seen):
            seen[first:last] += 1
            return first, last

        parts = compiled.in_parts(mark, n_images, seen)
        assert (seen == 1).all()
        assert len(parts) == max(1, min(n_threads, n_images))
        assert [part[0] for part in parts[1:]] == [part[1] for part in parts[:-1]]


def test_what_a_part_raises_comes_back(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def refuse(first, last):
        if first:
            raise ValueError("second part")

    with pytest.raises(ValueError, match="second part"):
        compiled.in_parts(refuse, 4)
