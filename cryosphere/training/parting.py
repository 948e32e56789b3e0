"""A start in one more latent dimension: bodies that moved together along one direction move each by itself.

One latent direction can follow two independent motions only by giving each image a compromise between them, from which
small steps do not lead to two directions. Letting some bodies follow a direction of their own, along which they move as
they did, does.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cryosphere.model.deformation import residue_motions
from cryosphere.model.latents import prior_nodes
from cryosphere.model.regrouping import with_bodies
from cryosphere.model.renderer import Level
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.motions import move_residues
from cryosphere.records import SegmentMotions
from cryosphere.training.evidence import held_out_evidence, marginal_evidence
from cryosphere.training.imitation import learn_motions

# Conformations with which partings are compared, latents at which a decoder learns the best one, and bodies that are
# tried, those that move most.
_COMPARED, _IMITATED, _MOST_TRIED = 144, 512, 12


@torch.no_grad()
def parted_motions(
    model: CryoSphere, members: Bool[Tensor, " segment"], latent: Float[Tensor, "sample latent"]
) -> SegmentMotions:
    """Motions of bodies of which some follow a further latent direction, as they follow the model's first one.

    Parameters
    ----------
    model : CryoSphere
    members : bool tensor of shape (segment,)
        Bodies that follow the further direction.
    latent : float tensor of shape (sample, latent dimension of the model + 1)
    """
    known = model.latent_dim
    stay = model.decoder(latent[:, :known])
    leave = model.decoder(torch.cat([latent[:, known:], latent[:, 1:known]], dim=1))
    chosen = members[None, :, None].to(latent.device)
    return SegmentMotions(
        torch.where(chosen, leave.rotation_quat, stay.rotation_quat),
        torch.where(chosen, leave.translation, stay.translation),
    )


@torch.no_grad()
def find_parting(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"], level: Level
) -> Bool[Tensor, " segment"] | None:
    """Bodies that had better follow a direction of their own, as some images have it; None if none of them.

    Bodies leave one after the other, those that move most first, as long as the images become more likely.

    Parameters
    ----------
    model : CryoSphere
        In evaluation mode.
    images : ParticleImages
    rows : int array of shape (image,)
        Images that decide.
    level : Level
        Resolution of the comparison.
    """
    weights = model.segment_weights()
    latent = prior_nodes(_COMPARED, model.latent_dim + 1).to(model.device)

    def evidence(members: Tensor) -> float:
        motions = parted_motions(model, members, latent)
        moved = residue_motions(motions, weights, model.nominal_positions, model.config.model.motion)
        sites = move_residues(model.nominal_sites, *moved)
        return float(marginal_evidence(model, images, rows, sites, level).mean())

    spread = model.decode(prior_nodes(16, model.latent_dim).to(model.device)).var(0).sum(-1)
    moves = (spread[:, None] * weights).sum(0)
    members = torch.zeros(len(moves), dtype=torch.bool)
    best = float(held_out_evidence(model, images, rows, level).mean())
    for body in moves.argsort(descending=True)[:_MOST_TRIED].tolist():
        more = members.clone()
        more[body] = True
        if not more.all() and (found := evidence(more)) > best:
            members, best = more, found
    return members if members.any() else None


def with_parted_bodies(model: CryoSphere, members: Bool[Tensor, " segment"], generator: torch.Generator) -> CryoSphere:
    """A model with one more latent dimension, which some bodies follow (see :func:`parted_motions`)."""
    new = with_bodies(model, None, model.latent_dim + 1, generator)
    latent = torch.randn(_IMITATED, new.latent_dim, generator=generator).to(model.device)
    motions = parted_motions(model, members, latent)
    new.decoder.imitate(latent, motions)
    learn_motions(new.decoder, latent, motions)
    return new
