"""Local refinement of placements: the structure climbs the gradient of the density that its electrons meet."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.rotations import rotvec_to_rotmat
from cryosphere.placement.ascent import climb
from cryosphere.placement.density import sample
from cryosphere.placement.poses import Placements

_STEP_PER_RESOLUTION = 0.1


def refine(
    volume: Float[Tensor, "z y x"],
    spacing: float,
    centred: Float[Tensor, "point 3"],
    weights: Float[Tensor, " point"],
    start: Placements,
    resolution: float,
    n_steps: int = 50,
) -> Placements:
    """Turn and move every placement to where the density at the structure's points is highest.

    A rigid body keeps the norm of its density, so that this is the maximum of the normalised correlation between map
    and structure, both smoothed by the filter of ``volume``.

    Parameters
    ----------
    volume : tensor of shape (z, y, x)
        Smoothed map, origin at voxel n // 2.
    spacing : float
        Å per voxel.
    centred, weights : tensors of shape (point, 3) and (point,)
        Structure about its centroid (Å), and its electrons.
    start : Placements
    resolution : float
        Å; the first steps are a tenth of it, the last a thousandth of it.
    n_steps : int
    """
    lever = math.sqrt(float((weights * centred.square().sum(1)).sum() / weights.sum()))
    share = weights / weights.sum()

    def met(parameters: Tensor) -> Float[Tensor, " placement"]:
        rotmat, position = _moved(start, parameters, lever)
        return sample(volume, torch.einsum("bij,pj->bpi", rotmat, centred) + position[:, None], spacing) @ share

    scale = volume.max()
    parameters = climb(
        lambda values, step: met(values).sum() / scale,
        torch.zeros(len(start), 6),
        _STEP_PER_RESOLUTION * resolution,
        n_steps,
    )
    return Placements(*_moved(start, parameters, lever), met(parameters))


def _moved(start: Placements, parameters: Tensor, lever: float) -> tuple[Tensor, Tensor]:
    """Rotations and positions after small turns (arc lengths at the radius of gyration) and shifts (Å)."""
    return rotvec_to_rotmat(parameters[:, :3] / lever) @ start.rotmat, start.position + parameters[:, 3:]
