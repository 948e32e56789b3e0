"""A latent of one dimension is laid out along the motion: once, and as densely as the images ask for."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from cryosphere.inference.likelihoods import log_likelihoods
from cryosphere.model.latents import prior_nodes
from cryosphere.model.renderer import Level
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.runs.grid import PosteriorGrid
from cryosphere.training.imitation import learn_motions

# Latents, spread evenly over the prior, at which conformations are looked at; those at which images are compared.
_SAMPLES, _NODES = 256, 96
# Standard deviation over which the density of the images along the latent is smoothed, as a share of the prior.
_SMOOTHING = 0.02
# Quantile of the latents that are left out, as no image is there or beyond.
_LEAST_QUANTILE = 1e-6
# Way along the main motion, in units of its range, from which a latent counts as folded: 1 is there, 2 there and back.
_LEAST_WAY = 1.5
# Mean distance of conformations that are neighbours in their order along the motion, in units of the largest between
# two, up to which they are the same motion twice; on a closed turn they are on opposite sides.
_MOST_APART = 0.15


@torch.no_grad()
def order_along_motion(
    model: CryoSphere, latent: Float[Tensor, "sample 1"]
) -> tuple[Int[Tensor, " sample"] | None, float]:
    """Order of conformations along their main motion, the first principal component.

    Parameters
    ----------
    model : CryoSphere
    latent : tensor of shape (sample, 1)
        In rising order.

    Returns
    -------
    order : int tensor of shape (sample,), or None
        Numbers of the latents, by rising place of their conformations; None where neighbours in that order are not
        alike, as on a closed turn.
    way : float
        Way along the motion from the first to the last latent, in units of its range.
    """
    moved = model.decode(latent).flatten(1)
    moved = moved - moved.mean(0)
    place = torch.linalg.eigh((moved @ moved.T).cpu()).eigenvectors[:, -1]
    way = float(place.diff().abs().sum() / (place.max() - place.min()).clamp_min(torch.finfo(place.dtype).tiny))
    order = place.argsort().to(latent.device)
    apart = torch.linalg.norm(moved[order].diff(dim=0), dim=1).mean() / torch.cdist(moved, moved).max()
    return (order if apart <= _MOST_APART else None), way


def unfold(model: CryoSphere) -> bool:
    """Teach a model's decoder its own conformations in their order along the motion; False if nothing is folded."""
    if model.latent_dim != 1:
        return False
    latent = prior_nodes(_SAMPLES, 1).to(model.device)
    order, way = order_along_motion(model, latent)
    if order is None or way < _LEAST_WAY:
        return False
    with torch.no_grad():
        motions = model.decoder(latent[order])
    learn_motions(model.decoder, latent, motions)
    return True


def equalise(model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"], level: Level) -> bool:
    """Teach a model's decoder its own conformations, along the motion, where some images' posteriors together become
    the prior: a step of expectation-maximisation of the prior, carried over to the decoder; False if the latent has
    more than one dimension."""
    if model.latent_dim != 1:
        return False
    nodes = prior_nodes(_NODES, 1)
    grid = PosteriorGrid(nodes.numpy(), dense=True)
    with torch.no_grad():
        likelihood = log_likelihoods(model, images, rows, model.decode_sites(nodes.to(model.device)), level)
    mass = grid.weights(likelihood.numpy()).mean(0)
    latent = torch.from_numpy(grid.latent).to(model.device)
    order, _ = order_along_motion(model, latent)
    if order is not None:
        latent, mass = latent[order], mass[order.cpu().numpy()]
    mass = torch.from_numpy(gaussian_filter1d(mass, _SMOOTHING * len(mass), mode="reflect"))
    quantile = torch.cumsum(mass, 0) - mass / 2
    seen = (quantile > _LEAST_QUANTILE) & (quantile < 1 - _LEAST_QUANTILE)
    with torch.no_grad():
        motions = model.decoder(latent[seen.to(model.device)])
    wanted = torch.special.ndtri(quantile[seen]).float()[:, None].to(model.device)
    learn_motions(model.decoder, wanted, motions)
    model.decoder.imitate(wanted, motions)
    return True
