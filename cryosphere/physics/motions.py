"""Rigid segment motions applied to residues: blended dual quaternions, or rotations in turn as in the paper."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from cryosphere.physics.compiled import in_parts, is_compiled
from cryosphere.physics.rotations import (
    normalise_quat,
    quat_multiply,
    quat_to_rotvec,
    rotvec_to_quat,
)
from cryosphere.records import SegmentMotions


def segment_centres(
    residue_positions: Float[Tensor, "residue 3"], segment_weights: Float[Tensor, "residue segment"]
) -> Float[Tensor, "segment 3"]:
    """Weighted mean position of every segment in Å; an empty segment sits at the origin."""
    total = segment_weights.sum(0)
    return segment_weights.T @ residue_positions / total.clamp_min(torch.finfo(total.dtype).eps)[:, None]


def _rotate(quat: Float[Tensor, "... 4"], vector: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """Rotate vectors by unit quaternions: v + 2 u × (u × v + w v)."""
    real, imaginary = quat[..., :1], quat[..., 1:].expand_as(vector)
    inner = torch.linalg.cross(imaginary, vector) + real * vector
    return vector + 2 * torch.linalg.cross(imaginary, inner)


def blended_motions(
    motions: SegmentMotions,
    segment_weights: Float[Tensor, "residue segment"],
    centres: Float[Tensor, "segment 3"],
) -> tuple[Float[Tensor, "batch residue 4"], Float[Tensor, "batch residue 3"]]:
    """Blend the segments' motions, each about the segment's own centre, into one rigid motion per residue.

    Parameters
    ----------
    motions : SegmentMotions
        A segment moves as ``x → R (x - centre) + centre + translation``.
    segment_weights : tensor of shape (residue, segment)
        Rows sum to 1, or to less: the remainder counts for staying at rest.
    centres : tensor of shape (segment, 3)
        Å.

    Returns
    -------
    quat, translation : tensors of shape (batch, residue, 4) and (batch, residue, 3)
        Every point of residue r moves as ``x → R_r x + translation_r``. Dual quaternion linear blending
        (Kavan et al., ACM Trans. Graph. 2008) with every quaternion on the hemisphere of the residue's dominant
        segment, so that nothing shrinks where segments meet.
    """
    quat = motions.rotation_quat
    displacement = centres + motions.translation - _rotate(quat, centres.expand_as(motions.translation))
    dual = 0.5 * quat_multiply(torch.cat([torch.zeros_like(displacement[..., :1]), displacement], dim=-1), quat)

    rest = 1 - segment_weights.sum(1)
    weights = torch.cat([segment_weights, rest[:, None]], dim=1)
    identity = torch.zeros_like(quat[:, :1])
    identity[..., 0] = 1.0
    quat = torch.cat([quat, identity], dim=1)
    dual = torch.cat([dual, torch.zeros_like(identity)], dim=1)

    dominant = quat.detach()[:, weights.argmax(1)]
    alignment = torch.einsum("bri,bsi->brs", dominant, quat.detach())
    signed = torch.where(alignment < 0, -weights, weights)
    real = torch.einsum("brs,bsi->bri", signed, quat)
    dual = torch.einsum("brs,bsi->bri", signed, dual)
    length = torch.linalg.norm(real, dim=-1, keepdim=True)
    real, dual = real / length, dual / length
    conjugate = torch.cat([real[..., :1], -real[..., 1:]], dim=-1)
    return real, 2 * quat_multiply(dual, conjugate)[..., 1:]


def sequential_motions(
    motions: SegmentMotions, segment_weights: Float[Tensor, "residue segment"]
) -> tuple[Float[Tensor, "batch residue 4"], Float[Tensor, "batch residue 3"]]:
    """Turn every residue by its share of each segment's rotation in turn about the origin, then translate.

    The motion of the paper (arXiv 2407.01574, section 3): for s = 1 … S rotate by the fraction w_rs of the angle
    of segment s, then add Σ_s w_rs t_s. Returns, like :func:`blended_motions`, one rigid motion per residue.
    """
    rotvec = quat_to_rotvec(motions.rotation_quat)
    turn = _Turn.apply if is_compiled(rotvec) else turn_in_sequence
    translation = torch.einsum("rs,bsi->bri", segment_weights, motions.translation)
    return turn(rotvec, segment_weights), translation


def turn_in_sequence(
    rotvec: Float[Tensor, "batch segment 3"], segment_weights: Float[Tensor, "residue segment"]
) -> Float[Tensor, "batch residue 4"]:
    """Product of the partial rotations w_rs · rotvec_s (rad, length up to π), the first segment's applied first."""
    batch, n_segments = rotvec.shape[:2]
    total = rotvec.new_zeros(batch, len(segment_weights), 4)
    total[..., 0] = 1.0
    for segment in range(n_segments):
        partial = rotvec_to_quat(segment_weights[:, segment, None] * rotvec[:, None, segment])
        total = quat_multiply(partial, total)
    return normalise_quat(total)


class _Turn(torch.autograd.Function):
    """:func:`turn_in_sequence` on the CPU, compiled."""

    @staticmethod
    def forward(ctx, rotvec, segment_weights):
        """Unit quaternions of all residues."""
        from cryosphere.physics.motions_numba import turn

        quats = torch.empty(len(rotvec), len(segment_weights), 4, dtype=rotvec.dtype)
        ctx.save_for_backward(rotvec, segment_weights, quats)
        in_parts(turn, len(rotvec), *_in_blocks(rotvec, segment_weights), quats.numpy())
        return quats

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_quats):
        """Gradients with respect to rotation vectors and weights."""
        from cryosphere.physics.motions_numba import turn_gradient

        rotvec, segment_weights, quats = ctx.saved_tensors
        grad_rotvec = torch.empty(rotvec.shape, dtype=torch.float64)
        arrays = (quats.numpy(), grad_quats.contiguous().numpy(), grad_rotvec.numpy())
        parts = in_parts(turn_gradient, len(rotvec), *_in_blocks(rotvec, segment_weights), *arrays)
        grad_weights = torch.from_numpy(sum(parts))[:, : len(segment_weights)].T
        return grad_rotvec.to(rotvec), grad_weights.to(segment_weights)


def _in_blocks(rotvec: Tensor, segment_weights: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation vectors, weights by segment with zeros after the last residue, in double precision, and in which blocks
    of residues any weight is above 0."""
    from cryosphere.physics.motions_numba import BLOCK

    weights = pad(segment_weights.detach().T.double(), (0, -len(segment_weights) % BLOCK)).contiguous()
    active = (weights.unflatten(1, (-1, BLOCK)) != 0).any(2)
    return rotvec.detach().double().contiguous().numpy(), weights.numpy(), active.numpy()


def move_residues(
    residue_positions: Float[Tensor, "residue 3"],
    quat: Float[Tensor, "batch residue 4"],
    translation: Float[Tensor, "batch residue 3"],
) -> Float[Tensor, "batch residue 3"]:
    """Apply one rigid motion per residue to the nominal positions (Å)."""
    if is_compiled(quat) and not residue_positions.requires_grad:
        return _Move.apply(residue_positions, quat, translation)
    return _rotate(quat, residue_positions.expand_as(translation)) + translation


class _Move(torch.autograd.Function):
    """:func:`move_residues` on the CPU, compiled, for positions that are constants."""

    @staticmethod
    def forward(ctx, residue_positions, quat, translation):
        """Moved positions."""
        from cryosphere.physics.motions_numba import move

        quat = quat.contiguous()
        ctx.save_for_backward(residue_positions, quat)
        moved = torch.empty(translation.shape, dtype=translation.dtype)
        arrays = (residue_positions.contiguous(), quat, translation.contiguous(), moved)
        in_parts(move, len(quat), *(array.detach().numpy() for array in arrays))
        return moved

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_moved):
        """Gradients with respect to quaternions and translations."""
        from cryosphere.physics.motions_numba import move_gradient

        points, quat = ctx.saved_tensors
        grad_quat = torch.empty_like(quat)
        arrays = (points.contiguous(), quat, grad_moved.contiguous(), grad_quat)
        in_parts(move_gradient, len(quat), *(array.detach().numpy() for array in arrays))
        return None, grad_quat, grad_moved


def fit_rigid_motions(
    points: Float[Tensor, "residue 3"], moved: Float[Tensor, "state residue 3"]
) -> tuple[Float[Tensor, "state 3 3"], Float[Tensor, "state 3"]]:
    """Rotations and translations (Å) that bring points nearest to each of some states, x → R x + translation.

    Least squares by singular value decomposition, reflections excluded (Kabsch, Acta Cryst. A 1976).
    """
    first, second = points.mean(0), moved.mean(1)
    covariance = torch.einsum("ri,krj->kij", points - first, moved - second[:, None])
    left, _, right = torch.linalg.svd(covariance.cpu().double())  # some accelerators have no float64
    sign = torch.sign(torch.linalg.det(right.transpose(1, 2) @ left.transpose(1, 2)))
    left = torch.cat([left[..., :2], left[..., 2:] * sign[:, None, None]], dim=-1)
    rotmat = (right.transpose(1, 2) @ left.transpose(1, 2)).to(points)
    return rotmat, second - torch.einsum("kij,j->ki", rotmat, first)
