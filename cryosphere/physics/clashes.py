"""Overlaps of residues that come too close, image by image, with their gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cryosphere.physics.compiled import in_parts, is_compiled

# What the nominal structure has of a pair is forgiven, and so much (Å) more.
_RIGID_TOLERANCE = 1e-3
# Largest number of distances that are held at a time.
_VALUES_PER_CHUNK = 4_000_000


def squared_overlaps(
    positions: Float[Tensor, "batch residue 3"], reach: float, nominal: Float[Tensor, "residue 3"] | None = None
) -> Float[Tensor, " batch"]:
    """Mean squared overlap (Å²) of the pairs of residues of each image that are too close, 0 without such pairs.

    Parameters
    ----------
    positions : tensor of shape (batch, residue, 3)
        Å. An image with positions that are not finite gives NaN.
    reach : float
        Å; a pair at least two apart in the list that is nearer overlaps by what is missing.
    nominal : tensor of shape (residue, 3), optional
        Å; no pair is asked to be farther apart than here.
    """
    return _SquaredOverlaps.apply(positions, reach, nominal)


class _SquaredOverlaps(torch.autograd.Function):
    """The gradient is found along with the values, from the same pairs."""

    @staticmethod
    def forward(ctx, positions, reach, nominal):
        """Values per image, gradient kept."""
        find = compiled_overlaps if is_compiled(positions) else all_pairs_overlaps
        values, gradient = find(positions.detach(), reach, nominal)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Scale the gradient of every image."""
        (gradient,) = ctx.saved_tensors
        return grad[:, None, None] * gradient, None, None


def all_pairs_overlaps(
    positions: Float[Tensor, "batch residue 3"], reach: float, nominal: Float[Tensor, "residue 3"] | None
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch residue 3"]]:
    """:func:`squared_overlaps` and their gradient from the distances of all pairs, on any device, without a sync."""
    batch, n_residues = positions.shape[:2]
    index = torch.arange(n_residues, device=positions.device)
    total, count = positions.new_zeros(batch), positions.new_zeros(batch)
    gradient = torch.zeros_like(positions)
    size = max(1, _VALUES_PER_CHUNK // max(1, batch * n_residues))
    for start in range(0, n_residues, size):
        rows = slice(start, start + size)
        step = positions[:, rows, None] - positions[:, None]
        distance = torch.linalg.norm(step, dim=-1)
        wanted, near = reach, distance < reach
        if nominal is not None:
            apart = torch.linalg.norm(nominal[rows, None] - nominal, dim=-1)
            wanted, near = apart.clamp_max(reach), near & (distance < apart - _RIGID_TOLERANCE)
        near = near & ((index[rows, None] - index).abs() >= 2)
        overlap = torch.where(near, wanted - distance, 0.0)
        total += overlap.square().sum((1, 2))
        count += near.sum((1, 2))
        pull = overlap / torch.where(distance > 0, distance, 1.0)
        gradient[:, rows] = -4 * (pull[..., None] * step).sum(2)
    count = count.clamp_min(1)  # of both orders of every pair, like the total; each position is in one of them
    never = 0 * positions.sum((1, 2))  # NaN where something is not finite
    return total / count + never, gradient / count[:, None, None] + never[:, None, None]


def compiled_overlaps(
    positions: Float[Tensor, "batch residue 3"], reach: float, nominal: Float[Tensor, "residue 3"] | None
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch residue 3"]]:
    """:func:`all_pairs_overlaps` from neighbouring cells alone, on the CPU."""
    from cryosphere.physics.clashes_numba import overlaps_in_cells

    points = positions.double().contiguous()
    values, gradient = points.new_empty(len(points)), torch.empty_like(points)
    apart = points.new_zeros(0, 3) if nominal is None else nominal.double().contiguous()
    arrays = (array.numpy() for array in (points, apart, values, gradient))
    in_parts(overlaps_in_cells, len(points), *arrays, reach, _RIGID_TOLERANCE, nominal is not None)
    return values.to(positions), gradient.to(positions)
