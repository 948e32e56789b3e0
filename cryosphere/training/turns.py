"""Search for a part of the structure that turns so far that small steps from the nominal structure never get there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.model.losses import ContrastPrior, log_likelihood_ratio
from cryosphere.model.renderer import Level, PreparedImages
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.motions import fit_rigid_motions, segment_centres
from cryosphere.physics.rotations import rotmat_to_quat, rotvec_to_rotmat
from cryosphere.records import SegmentMotions
from cryosphere.structure.contacts import divide_with_ligands
from cryosphere.training.imitation import learn_motions

# Numbers of parts into which the structure is cut, each part then being tried.
_PARTS = (2, 3, 4)
# Least share of the residues that a turning part has; the most is a half and a little.
_LEAST_PART, _MOST_PART = 0.08, 0.6
# Directions of the axis on a half sphere, angles of a full turn, and directions about the best in every finer round.
_AXES, _ANGLES, _NEAR_AXES = 20, 15, 8
_NEAR_DEG = (15.0, 6.0)
_IMAGES = 200
# Latents at which the decoder learns the turn.
_IMITATED = 256


@dataclass(frozen=True)
class Turn:
    """A part of the structure on a full turn about an axis, all angles equally likely.

    Attributes
    ----------
    residues : int tensor of shape (residue,)
        Rows of the part.
    axis, point : tensors of shape (3,)
        Direction, and a point (Å) on the axis, in the frame of the nominal structure.
    rotmat, translation : tensors of shape (3, 3) and (3,)
        Placement (Å) of the nominal structure that brings all but the part nearest to the fitted structure.
    evidence : float
        Mean log-likelihood ratio (nats) of the images.
    """

    residues: Int[Tensor, " chosen"]
    axis: Float[Tensor, " 3"]
    point: Float[Tensor, " 3"]
    rotmat: Float[Tensor, "3 3"]
    translation: Float[Tensor, " 3"]
    evidence: float = -math.inf

    def motions(self, angles: Float[Tensor, " state"]) -> tuple[Float[Tensor, "state 3 3"], Float[Tensor, "state 3"]]:
        """Rigid motion x → R x + translation (Å) of the part at some angles (rad)."""
        turn = self.rotmat @ rotvec_to_rotmat(angles[:, None] * self.axis)
        return turn, self.rotmat @ self.point + self.translation - turn @ self.point


@torch.no_grad()
def find_turn(model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"], level: Level) -> Turn | None:
    """Full turn of one part of the structure that explains some images best; None if it has no parts that could turn.

    Parts are those of the contact graph's first cuts. Each is turned about axes in all directions through the middle
    of the residues that touch the rest; the best is refined. The rest stays at the model's still structure.
    """
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _IMAGES)).astype(int))]
    batch = images.batch(rows).to(model.device)
    prepared, contrast = model.renderer.prepare(batch, level), model.contrast_prior(batch.optics_group)
    best: Turn | None = None
    still = model.decode(torch.zeros(1, model.latent_dim, device=model.device), still=True)
    for residues, point in _parts(model):
        rest = _without(residues, model.structure.n_residues)
        rotmat, translation = fit_rigid_motions(model.nominal_positions[rest], still[:, rest])
        for axis in _half_sphere(_AXES).to(model.device):
            turn = _measured(Turn(residues, axis, point, rotmat[0], translation[0]), model, prepared, contrast)
            best = turn if best is None or turn.evidence > best.evidence else best
    for spread in _NEAR_DEG if best else ():
        for axis in _near(best.axis, math.radians(spread), _NEAR_AXES):
            turn = _measured(replace(best, axis=axis), model, prepared, contrast)
            best = turn if turn.evidence > best.evidence else best
    return best


@torch.no_grad()
def start_turning(model: CryoSphere, turn: Turn, generator: torch.Generator) -> bool:
    """Teach a model's decoder the turn along its first latent dimension; False if its segments cannot make it."""
    latent = torch.randn(_IMITATED, model.latent_dim, generator=generator).to(model.device)
    rotmat, translation = turn.motions(2 * math.pi * (torch.special.ndtr(latent[:, 0]) - 0.5))
    weights = model.segment_weights()
    centres = segment_centres(model.nominal_positions, weights)
    inside = weights[turn.residues].sum(0) > 0.5 * weights.sum(0)
    if inside.all() or not inside.any():
        return False
    place = turn.rotmat.expand(len(latent), 3, 3)
    rotmats = torch.where(inside[:, None, None], rotmat[:, None], place[:, None])
    shifts = torch.where(inside[:, None], translation[:, None], turn.translation)
    moved = torch.einsum("bsij,sj->bsi", rotmats, centres) + shifts - centres
    learn_motions(model.decoder, latent, SegmentMotions(rotmat_to_quat(rotmats), moved))
    return True


def _measured(turn: Turn, model: CryoSphere, prepared: PreparedImages, contrast: ContrastPrior | None) -> Turn:
    """The turn with its evidence."""
    angles = torch.arange(_ANGLES, device=model.device) * (2 * math.pi / _ANGLES)
    rotmat, translation = turn.motions(angles)
    sites = model.nominal_sites
    conformations = (sites @ turn.rotmat.T + turn.translation).repeat(_ANGLES, 1, 1)
    conformations[:, turn.residues] = sites[turn.residues] @ rotmat.transpose(1, 2) + translation[:, None]
    table = model.renderer.table(conformations, prepared.level)
    likelihood = log_likelihood_ratio(*model.renderer.overlaps(prepared, table), contrast)
    return replace(turn, evidence=float(torch.logsumexp(likelihood, dim=1).mean()) - math.log(_ANGLES))


def _parts(model: CryoSphere) -> list[tuple[Tensor, Tensor]]:
    """Rows of every part of the first cuts, and the middle (Å) of where it touches the rest."""
    graph, n_residues = model.segmentation.graph, model.structure.n_residues
    positions, found = model.nominal_positions.cpu().numpy(), {}
    for count in _PARTS:
        labels = divide_with_ligands(graph, model.segmentation.hosts, count, max(1, n_residues // 20))
        for part in range(labels.max() + 1):
            inside = labels == part
            if _LEAST_PART <= inside.mean() <= _MOST_PART:
                found.setdefault(inside.tobytes(), inside)
    parts = []
    for inside in found.values():
        others, own = (np.asarray(graph[:, rows].sum(1)).ravel() for rows in (~inside, inside))
        touching = np.where(inside, others, own)
        weights = touching if touching.sum() > 0 else inside.astype(float)
        point = weights @ positions / weights.sum()
        parts.append(
            (torch.from_numpy(np.flatnonzero(inside)).to(model.device), torch.tensor(point).to(model.nominal_positions))
        )
    return parts


def _without(residues: Tensor, n_residues: int) -> Tensor:
    rest = torch.ones(n_residues, dtype=torch.bool, device=residues.device)
    rest[residues] = False
    return torch.nonzero(rest)[:, 0]


def _half_sphere(count: int) -> Float[Tensor, "axis 3"]:
    """Directions spread evenly over a half sphere (Fibonacci's spiral)."""
    number = torch.arange(count) + 0.5
    z, longitude = 1 - number / count, number * math.pi * (1 + math.sqrt(5))
    radius = torch.sqrt(1 - z**2)
    return torch.stack([radius * torch.cos(longitude), radius * torch.sin(longitude), z], dim=1)


def _near(axis: Float[Tensor, " 3"], angle: float, count: int) -> Float[Tensor, "axis 3"]:
    """Directions at an angle (rad) from one, evenly about it."""
    other = torch.eye(3, device=axis.device)[axis.abs().argmin()]
    first = torch.linalg.cross(axis, other)
    first = first / first.norm()
    second = torch.linalg.cross(axis, first)
    turn = torch.arange(count, device=axis.device)[:, None] * (2 * math.pi / count)
    return math.cos(angle) * axis + math.sin(angle) * (torch.cos(turn) * first + torch.sin(turn) * second)
