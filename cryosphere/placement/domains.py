"""Domains of a placed structure, each refined as a rigid body of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from cryosphere.physics.rotations import rotvec_to_rotmat
from cryosphere.placement.ascent import climb
from cryosphere.placement.body import Body
from cryosphere.placement.density import FittingMap, sample
from cryosphere.placement.poses import Placements

# Correlation that a bond between two domains may cost when it is stretched by 1 Å.
_BOND_COST = 2e-3
# Residues of two domains overlap up to so many widths.
_REACH_WIDTHS = 4.0
_RESIDUE_SIGMA_A = 2.0
_COARSER = 2.5
_N_STEPS = 120
_STEP_PER_RESOLUTION = 0.1
# Pairs of residues that overlap are looked for again after so many steps.
_NEIGHBOUR_STEPS = 10


@dataclass(frozen=True)
class DomainMotions:
    """Motion of every domain after the rigid placement: x → rotmat (x - centre) + centre + shift (Å, model frame)."""

    rotmat: Float[Tensor, "domain 3 3"]
    centre: Float[Tensor, "domain 3"]
    shift: Float[Tensor, "domain 3"]

    @property
    def n_domains(self) -> int:
        """Number of domains."""
        return len(self.shift)

    @property
    def rotation_deg(self) -> list[float]:
        """Angle that every domain turned by."""
        cosine = 0.5 * (torch.einsum("dii->d", self.rotmat) - 1)
        return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).tolist()

    def moved(self, points: Float[Tensor, "point 3"], labels: Int[np.ndarray, " point"]) -> Float[Tensor, "point 3"]:
        """Move points with their domains."""
        rows = torch.as_tensor(labels)
        centred = points - self.centre[rows]
        return torch.einsum("pij,pj->pi", self.rotmat[rows], centred) + self.centre[rows] + self.shift[rows]


def refine_domains(
    grid: FittingMap,
    body: Body,
    placement: Placements,
    labels: Int[np.ndarray, " residue"],
    bonded: Bool[np.ndarray, " bond"],
    resolution: float,
) -> DomainMotions:
    """Turn and move domains so that residues and map correlate best, bonds between domains keeping their length.

    Both the density met and the overlap of domains with each other enter the correlation, so that two like domains
    do not fall into one place. A coarse map first, then one of ``resolution`` (Å).
    """
    points = placement.points(body.residues)[0]
    count = int(labels.max()) + 1
    rows = torch.as_tensor(labels)
    electrons = torch.zeros(count).index_add(0, rows, body.residue_electrons)
    centre = torch.zeros(count, 3).index_add(0, rows, body.residue_electrons[:, None] * points) / electrons[:, None]
    lever = torch.zeros(count).index_add(0, rows, (points - centre[rows]).square().sum(1))
    lever = (lever / torch.bincount(rows)).sqrt()[:, None].clamp_min(1.0)
    parameters = torch.zeros(count, 6)
    for level in (_COARSER * resolution, resolution):
        parameters = _climb(grid, body, points, labels, bonded, level, centre, lever, parameters)
    return DomainMotions(rotvec_to_rotmat(parameters[:, :3] / lever), centre, parameters[:, 3:])


def _climb(grid, body, points, labels, bonded, level, centre, lever, start) -> Tensor:
    """Gradient ascent of the correlation at one resolution; rotations are arc lengths at the domain's radius."""
    volume, weights = grid.low_passed(level), body.residue_electrons / body.residue_electrons.sum()
    width = math.hypot(_RESIDUE_SIGMA_A, 0.225 * level)
    bonds = torch.as_tensor(np.flatnonzero(bonded & (labels[1:] != labels[:-1])))
    lengths = (points[bonds + 1] - points[bonds]).norm(dim=1)
    own = _overlap(points, weights, _pairs(points, width, labels, across=False), width) + weights.square().sum()
    met = sample(volume, points[None], grid.spacing)[0] @ weights
    unit = met.abs() / (own + _overlap(points, weights, _pairs(points, width, labels, across=True), width)).sqrt()
    pairs = torch.empty(0, 2, dtype=torch.long)

    def objective(parameters: Tensor, step: int) -> Float[Tensor, ""]:
        nonlocal pairs
        motions = DomainMotions(rotvec_to_rotmat(parameters[:, :3] / lever), centre, parameters[:, 3:])
        moved = motions.moved(points, labels)
        if step % _NEIGHBOUR_STEPS == 0:
            pairs = _pairs(moved.detach(), width, labels, across=True)
        norm = (own + _overlap(moved, weights, pairs, width)).sqrt()
        score = (sample(volume, moved[None], grid.spacing)[0] @ weights) / norm / unit
        stretched = (moved[bonds + 1] - moved[bonds]).norm(dim=1) - lengths
        return score - _BOND_COST * stretched.square().sum()

    return climb(objective, start, _STEP_PER_RESOLUTION * level, _N_STEPS)


def _pairs(points: Tensor, width: float, labels: np.ndarray, across: bool) -> Int[Tensor, "pair 2"]:
    """Pairs of residues near enough to overlap, across domains or within them."""
    found = cKDTree(points.numpy()).query_pairs(_REACH_WIDTHS * width, output_type="ndarray")
    differ = labels[found[:, 0]] != labels[found[:, 1]]
    return torch.as_tensor(found[differ == across].astype(np.int64))


def _overlap(points: Tensor, weights: Tensor, pairs: Tensor, width: float) -> Float[Tensor, ""]:
    """2 Σ w w exp(-d² / 4 width²), what pairs of Gaussians add to the squared norm of the density."""
    first, second = pairs.T
    squared = (points[first] - points[second]).square().sum(1)
    return 2 * (weights[first] * weights[second] * torch.exp(-squared / (4 * width**2))).sum()
