"""Rigid motions of parts of a structure: where each is in a conformation, and the screw that describes an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from cryosphere.physics.rotations import rotmat_to_rotvec
from cryosphere.simulation.frames import nearest_rotmat, superposition

# Fewer points than this do not fix a rotation.
POINTS_FOR_ROTATION = 3
# Singular values (of the largest) below which a point is left where it was.
_LEAST_SINGULAR = 1e-6


@dataclass(frozen=True)
class RigidMotions:
    """Rigid motions x → rotmat x + translation (Å), one for each conformation."""

    rotmat: Float[np.ndarray, "*conformation 3 3"]
    translation: Float[np.ndarray, "*conformation 3"]

    def apply(self, point: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "*conformation 3"]:
        """Where a point goes."""
        return self.rotmat @ point + self.translation

    def seen_from(self, reference: RigidMotions) -> RigidMotions:
        """These motions once the reference has been put back to its place."""
        back = np.swapaxes(reference.rotmat, -1, -2)
        offset = self.translation - reference.translation
        return RigidMotions(back @ self.rotmat, np.einsum("...ij,...j->...i", back, offset))


def fit_bodies(
    positions: Float[np.ndarray, "conformation residue 3"],
    nominal: Float[np.ndarray, "residue 3"],
    bodies: Sequence[Int[np.ndarray, " _"]],
) -> list[RigidMotions]:
    """Motion of every body from its place in the nominal structure, by least squares (Kabsch 1976).

    Bodies of fewer than three residues only shift.
    """
    motions = []
    for rows in bodies:
        start, moved = nominal[rows].astype(np.float64), positions[:, rows].astype(np.float64)
        if len(rows) >= POINTS_FOR_ROTATION:
            motions.append(RigidMotions(*superposition(np.broadcast_to(start, moved.shape), moved)))
        else:
            rotmat = np.broadcast_to(np.eye(3), (len(moved), 3, 3))
            motions.append(RigidMotions(rotmat, moved.mean(1) - start.mean(0)))
    return motions


def rotation_vectors(rotmat: Float[np.ndarray, "*conformation 3 3"]) -> Float[np.ndarray, "*conformation 3"]:
    """Rotation vectors (rad) of matrices."""
    return rotmat_to_rotvec(torch.from_numpy(np.ascontiguousarray(rotmat, dtype=np.float64))).numpy()


@dataclass(frozen=True)
class Screw:
    """The rotation about one axis, with a translation along it, that describes an ensemble of rigid motions best.

    Angles are signed about ``axis`` and, like translations, 0 in the nominal structure.

    Attributes
    ----------
    axis : array of shape (3,)
        Unit vector; its largest entry is positive.
    point : array of shape (3,)
        On the axis, Å.
    mean : RigidMotions
        Mean motion, from which turns are counted.
    """

    axis: Float[np.ndarray, " 3"]
    point: Float[np.ndarray, " 3"]
    mean: RigidMotions

    @classmethod
    def fit(
        cls,
        motions: RigidMotions,
        weights: Float[np.ndarray, " conformation"],
        centre: Float[np.ndarray, " 3"],
    ) -> Screw:
        """Fit a screw to weighted motions of a body.

        The axis is the principal direction of the rotation vectors about the mean orientation; the point is the one
        whose motion across the axis is least (Chasles' theorem, in the least-squares sense), near ``centre``.

        Parameters
        ----------
        motions : RigidMotions
        weights : array of shape (conformation,)
            Sum 1.
        centre : array of shape (3,)
            Middle of the body in the nominal structure, Å.
        """
        rotmat = nearest_rotmat(np.einsum("g,gij->ij", weights, motions.rotmat))
        turns = motions.rotmat @ rotmat.T
        vectors = rotation_vectors(turns)
        axis = np.linalg.eigh(np.einsum("g,gi,gj->ij", weights, vectors, vectors))[1][:, -1]
        axis = axis * np.where(axis[np.abs(axis).argmax()] < 0, -1, 1)
        # translation = point + turn (start - point) across the axis, where the mean motion brings the origin to start
        middle = weights @ motions.apply(centre)
        arm = -rotmat @ centre
        across = np.eye(3) - np.outer(axis, axis)
        design = np.concatenate([np.broadcast_to(across, turns.shape), across @ turns], axis=2)
        target = (motions.translation - middle - turns @ arm) @ across
        root = np.sqrt(weights)
        system = (root[:, None, None] * design).reshape(-1, 6), (root[:, None] * target).reshape(-1)
        change = np.linalg.lstsq(*system, rcond=_LEAST_SINGULAR)[0]
        point, arm = middle + change[:3], arm + change[3:]
        return cls(axis, point, RigidMotions(rotmat, point + arm))

    @property
    def mean_motions(self) -> RigidMotions:
        """The mean motion as that of one conformation."""
        return RigidMotions(self.mean.rotmat[None], self.mean.translation[None])

    def angles(self, motions: RigidMotions) -> Float[np.ndarray, " conformation"]:
        """Rotation about the axis (rad)."""
        nominal = rotation_vectors(self.mean.rotmat.T) @ self.axis
        return rotation_vectors(_about(motions, self.mean).rotmat) @ self.axis - nominal

    def translations(self, motions: RigidMotions) -> Float[np.ndarray, " conformation"]:
        """Translation along the axis (Å)."""
        return self._along(motions) - self._along(RigidMotions(np.eye(3)[None], np.zeros((1, 3))))

    def _along(self, motions: RigidMotions) -> Float[np.ndarray, " conformation"]:
        return (_about(motions, self.mean).apply(self.point) - self.point) @ self.axis


def _about(motions: RigidMotions, mean: RigidMotions) -> RigidMotions:
    """What follows the mean motion to give each motion."""
    rotmat = motions.rotmat @ mean.rotmat.T
    return RigidMotions(rotmat, motions.translation - rotmat @ mean.translation)
