"""Rotations in every form the package needs; the only module that knows ``pytorch3d.transforms``.

All functions act on leading batch dimensions. Quaternions have the real part first. Matrices act on column vectors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pytorch3d import transforms
from torch import Tensor


def euler_to_rotmat(
    rot: Float[Tensor, ...], tilt: Float[Tensor, ...], psi: Float[Tensor, ...]
) -> Float[Tensor, "... 3 3"]:
    """Turn RELION's Euler angles into its pose matrix A.

    Parameters
    ----------
    rot, tilt, psi : tensors of shape (...)
        ``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi`` in radians.

    Returns
    -------
    Tensor of shape (..., 3, 3)
        A with ``A r`` the model point r in the frame of the image (RELION ``Euler_angles2matrix``):
        ``A = (Rz(rot) Ry(tilt) Rz(psi))ᵀ``.
    """
    return transforms.euler_angles_to_matrix(torch.stack([rot, tilt, psi], dim=-1), "ZYZ").transpose(-1, -2)


def rotmat_to_euler(
    rotmat: Float[Tensor, "... 3 3"],
) -> tuple[Float[Tensor, ...], Float[Tensor, ...], Float[Tensor, ...]]:
    """Turn pose matrices A back into RELION's (rot, tilt, psi) in radians, tilt in [0, π].

    Written out rather than taken from ``matrix_to_euler_angles``, which has no answer at tilt 0 and π:
    there psi is 0 and rot carries the whole turn.
    """
    sin_tilt = torch.linalg.norm(rotmat[..., 2, :2], dim=-1)
    tilt = torch.atan2(sin_tilt, rotmat[..., 2, 2])
    polar = sin_tilt < 1e-6
    rot = torch.where(
        polar,
        torch.atan2(-rotmat[..., 1, 0], rotmat[..., 1, 1]),
        torch.atan2(rotmat[..., 2, 1], rotmat[..., 2, 0]),
    )
    psi = torch.where(polar, torch.zeros_like(rot), torch.atan2(rotmat[..., 1, 2], -rotmat[..., 0, 2]))
    return rot, tilt, psi


def rotmat_to_rotvec(rotmat: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    """Matrices → rotation vectors (radians)."""
    return transforms.matrix_to_axis_angle(rotmat)


def rotvec_to_quat(rotvec: Float[Tensor, "... 3"]) -> Float[Tensor, "... 4"]:
    """Rotation vectors (radians) → unit quaternions."""
    return transforms.axis_angle_to_quaternion(rotvec)


def quat_to_rotvec(quat: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3"]:
    """Unit quaternions → rotation vectors (radians), angle in [0, π]."""
    return transforms.quaternion_to_axis_angle(transforms.standardize_quaternion(quat))


def rotvec_to_rotmat(rotvec: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """Rotation vector (rad) to rotation matrix."""
    return quat_to_rotmat(rotvec_to_quat(rotvec))


def rotmat_to_quat(rotmat: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 4"]:
    """Rotation matrix to unit quaternion, real part first and not negative."""
    return transforms.standardize_quaternion(transforms.matrix_to_quaternion(rotmat))


def quat_to_rotmat(quat: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3 3"]:
    """Quaternions of any positive length → matrices."""
    return transforms.quaternion_to_matrix(quat)


def quat_multiply(left: Float[Tensor, "... 4"], right: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Hamilton product: the rotation ``right`` followed by ``left``. The sign is not standardised."""
    return transforms.quaternion_raw_multiply(left, right)


def normalise_quat(quat: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Divide quaternions by their length; zero length is a programming error and gives NaN."""
    return quat / torch.linalg.norm(quat, dim=-1, keepdim=True)


def random_rotmats(
    count: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "count 3 3"]:
    """Draw rotations uniformly on SO(3) (normalised 4-D Gaussian vectors; Shoemake 1992)."""
    quat = torch.randn(count, 4, generator=generator, dtype=dtype)
    return quat_to_rotmat(normalise_quat(quat))
