"""Local refinement of placements: the structure climbs the gradient of the density that its electrons meet."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.rotations import rotvec_to_rotmat
from cryosphere.placement.density import sample
from cryosphere.placement.poses import Placements

_FIRST_RATE = 0.1
_LAST_RATE = 1e-3


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
        Å; the first steps are a tenth of it, the last a thousandth.
    n_steps : int
    """
    lever = math.sqrt(float((weights * centred.square().sum(1)).sum() / weights.sum()))
    share = weights / weights.sum()
    parameters = torch.zeros(len(start), 6, requires_grad=True)
    optimiser = torch.optim.Adam([parameters], lr=1.0, betas=(0.8, 0.95))
    for step in range(n_steps + 1):
        rotmat, position = _moved(start, parameters, lever)
        points = torch.einsum("bij,pj->bpi", rotmat, centred) + position[:, None]
        score = sample(volume, points, spacing) @ share
        if step == n_steps:
            break
        optimiser.zero_grad()
        (-score.sum() / volume.max()).backward()
        rate = resolution * _FIRST_RATE * (_LAST_RATE / _FIRST_RATE) ** (step / n_steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    return Placements(rotmat.detach(), position.detach(), score.detach())


def _moved(start: Placements, parameters: Tensor, lever: float) -> tuple[Tensor, Tensor]:
    """Rotations and positions after small turns (arc lengths at the radius of gyration) and shifts (Å)."""
    return rotvec_to_rotmat(parameters[:, :3] / lever) @ start.rotmat, start.position + parameters[:, 3:]
