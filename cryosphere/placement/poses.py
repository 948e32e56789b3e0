"""Where a structure may lie in a map, many at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.physics.rotations import quat_to_rotmat


@dataclass(frozen=True)
class Placements:
    """Rigid placements of a centred structure: a point x lies at ``rotmat x + position`` (Å) of the model frame.

    ``score`` is the density met by the structure's electrons, per unit of weight, in the map that was searched.
    """

    rotmat: Float[Tensor, "placement 3 3"]
    position: Float[Tensor, "placement 3"]
    score: Float[Tensor, " placement"]

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: Int[Tensor, " chosen"] | list[int]) -> Placements:
        """Some of them, in the order of ``rows``."""
        return Placements(self.rotmat[rows], self.position[rows], self.score[rows])

    def points(self, centred: Float[Tensor, "point 3"]) -> Float[Tensor, "placement point 3"]:
        """Every placement of centred points."""
        return torch.einsum("bij,pj->bpi", self.rotmat, centred) + self.position[:, None]

    def distinct(self, most: int, radius_of_gyration: float, least_distance: float) -> Placements:
        """The best ones that differ from each other by at least so much (Å, root mean square over the structure)."""
        kept: list[int] = []
        for row in torch.argsort(self.score, descending=True).tolist():
            if len(kept) == most:
                break
            if not kept or float(self.distances(row, kept, radius_of_gyration).min()) >= least_distance:
                kept.append(row)
        return self.take(kept)

    def distances(self, row: int, others: list[int], radius_of_gyration: float) -> Float[Tensor, " other"]:
        """Root mean square displacement (Å) between one placement and others, for a body of equal moments."""
        turn = torch.einsum("bij,ij->b", self.rotmat[others], self.rotmat[row])  # trace of R_other R_rowᵀ
        turned = 2 * radius_of_gyration**2 * (1 - (turn / 3).clamp(max=1.0))
        moved = (self.position[others] - self.position[row]).square().sum(1)
        return torch.sqrt(turned + moved)


def joined(parts: list[Placements]) -> Placements:
    """One list of several."""
    return Placements(*(torch.cat([getattr(part, name) for part in parts]) for name in ("rotmat", "position", "score")))


def uniform_rotations(count: int) -> Float[Tensor, "rotation 3 3"]:
    """Rotations spread evenly over SO(3) (super-Fibonacci spirals; Alexa, CVPR 2022)."""
    phi, psi = math.sqrt(2.0), 1.533751168755204288118041
    place = np.arange(count) + 0.5
    inner, outer = np.sqrt(place / count), np.sqrt(1 - place / count)
    alpha, beta = 2 * np.pi * place / phi, 2 * np.pi * place / psi
    quat = np.stack([inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=1)
    return quat_to_rotmat(torch.tensor(quat)).float()
