"""Local frames of residues and least-squares superposition (numpy, float64)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def superposition(
    moving: Float[np.ndarray, "... point 3"],
    fixed: Float[np.ndarray, "*#batch point 3"],
    weights: Float[np.ndarray, "*#batch point"] | None = None,
) -> tuple[Float[np.ndarray, "... 3 3"], Float[np.ndarray, "... 3"]]:
    """Find the rigid motion that brings points onto others with the least squared distance.

    Parameters
    ----------
    moving, fixed : arrays of shape (..., point, 3)
        Matching points.
    weights : array of shape (..., point), optional
        Non-negative weights; equal by default.

    Returns
    -------
    rotmat, translation : arrays of shape (..., 3, 3) and (..., 3)
        ``rotmat @ r + translation`` brings ``moving`` onto ``fixed`` (Kabsch, Acta Cryst. A32, 922, 1976).
    """
    weights = np.ones(moving.shape[:-1]) if weights is None else np.broadcast_to(weights, moving.shape[:-1])
    weights = (weights / weights.sum(-1, keepdims=True))[..., None]
    fixed = np.broadcast_to(fixed, moving.shape)
    centre_moving, centre_fixed = (weights * moving).sum(-2), (weights * fixed).sum(-2)
    covariance = np.swapaxes(weights * (fixed - centre_fixed[..., None, :]), -1, -2) @ (
        moving - centre_moving[..., None, :]
    )
    rotmat = nearest_rotmat(covariance)
    return rotmat, centre_fixed - np.einsum("...ij,...j->...i", rotmat, centre_moving)


def nearest_rotmat(matrix: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 3 3"]:
    """Proper rotation R that maximises tr(Rᵀ M)."""
    left, _, right = np.linalg.svd(matrix)
    sign = np.sign(np.linalg.det(left @ right))
    left = left.copy()
    left[..., :, 2] *= np.where(sign == 0, 1.0, sign)[..., None]
    return left @ right


def rmsd(first: Float[np.ndarray, "... point 3"], second: Float[np.ndarray, "... point 3"]) -> np.ndarray | np.floating:
    """Root mean squared distance of matching points, without superposition (Å)."""
    return np.sqrt(((first - second) ** 2).sum(-1).mean(-1))


def frame_from_directions(
    first: Float[np.ndarray, "... 3"], second: Float[np.ndarray, "... 3"]
) -> Float[np.ndarray, "... 3 3"]:
    """Right-handed orthonormal frames (columns): along ``first``, towards ``second``, their product."""
    e1 = first / np.linalg.norm(first, axis=-1, keepdims=True)
    e2 = second - (second * e1).sum(-1, keepdims=True) * e1
    e2 = e2 / np.linalg.norm(e2, axis=-1, keepdims=True)
    return np.stack([e1, e2, np.cross(e1, e2)], axis=-1)


def trace_frames(
    positions: Float[np.ndarray, "state residue 3"], bonded: Bool[np.ndarray, " bond"]
) -> tuple[Float[np.ndarray, "state residue 3 3"], Bool[np.ndarray, " residue"]]:
    """Orient residues by the chain's trace: along (next - previous), towards the outside of the bend.

    Parameters
    ----------
    positions : array of shape (state, residue, 3)
        Cα (C1′) positions.
    bonded : bool array of shape (residue - 1,)
        Whether residues i and i + 1 are chain neighbours.

    Returns
    -------
    frames : array of shape (state, residue, 3, 3)
        Columns are the axes. The first and last residue of a stretch take their neighbour's axes.
    defined : bool array of shape (residue,)
        False where the stretch has fewer than three residues; the frame there is the identity.
    """
    n_states, n_residues = positions.shape[:2]
    frames = np.broadcast_to(np.eye(3), (n_states, n_residues, 3, 3)).copy()
    before, after = np.r_[False, bonded], np.r_[bonded, False]
    inner = np.flatnonzero(before & after)
    if inner.size:
        left, middle, right = positions[:, inner - 1], positions[:, inner], positions[:, inner + 1]
        frames[:, inner] = frame_from_directions(right - left, 2 * middle - left - right)
    is_inner = before & after
    starts = np.flatnonzero(~before & after & np.r_[is_inner[1:], False])
    ends = np.flatnonzero(before & ~after & np.r_[False, is_inner[:-1]])
    frames[:, starts], frames[:, ends] = frames[:, starts + 1], frames[:, ends - 1]
    defined = is_inner.copy()
    defined[starts] = defined[ends] = True
    return frames, defined
