"""A latent of one dimension that runs along the same motion and back is laid out along the motion, once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.model.latents import prior_nodes
from cryosphere.model.vae import CryoSphere
from cryosphere.training.imitation import learn_motions

# Latents, spread evenly over the prior, at which conformations are looked at.
_SAMPLES = 256
# Way along the main motion, in units of its range, from which a latent counts as folded: 1 is there, 2 there and back.
_LEAST_WAY = 1.5
# Mean distance of conformations that are neighbours in their order along the motion, in units of the largest between
# two, up to which they are the same motion twice; on a closed turn they are on opposite sides.
_MOST_APART = 0.15


@torch.no_grad()
def order_along_motion(model: CryoSphere) -> tuple[Float[Tensor, "sample 1"], Int[Tensor, " sample"]] | None:
    """Order of the conformations of a folded latent along their main motion; None if the latent is not folded.

    The main motion is the first principal component of the conformations at latents of equal prior mass.

    Returns
    -------
    latent : tensor of shape (sample, 1)
        In rising order.
    order : int tensor of shape (sample,)
        Numbers of the latents, by rising place of their conformations along the motion.
    """
    if model.latent_dim != 1:
        return None
    latent = prior_nodes(_SAMPLES, 1).to(model.device)
    moved = model.decode(latent).flatten(1)
    moved = moved - moved.mean(0)
    place = torch.linalg.eigh((moved @ moved.T).cpu()).eigenvectors[:, -1]  # on the first component
    order = place.argsort().to(latent.device)
    apart = torch.linalg.norm(moved[order].diff(dim=0), dim=1).mean() / torch.cdist(moved, moved).max()
    if place.diff().abs().sum() < _LEAST_WAY * (place.max() - place.min()) or apart > _MOST_APART:
        return None
    return latent, order


def unfold(model: CryoSphere) -> bool:
    """Teach a model's decoder its own conformations in their order along the motion; False if nothing is folded."""
    found = order_along_motion(model)
    if found is None:
        return False
    latent, order = found
    with torch.no_grad():
        motions = model.decoder(latent[order])
    learn_motions(model.decoder, latent, motions)
    return True
