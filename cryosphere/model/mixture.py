"""The marginal likelihood of images over latents, by importance weights over shared and own conformations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.model.latents import log_normal, prior_nodes
from cryosphere.model.losses import ContrastPrior, log_likelihood_ratio
from cryosphere.model.renderer import PreparedImages
from cryosphere.model.vae import CryoSphere

# Pixels of own renderings made in one go.
_OWN_VALUES = 4_000_000


@dataclass(frozen=True)
class Candidates:
    """Latents with which images are compared, and what each counts.

    Attributes
    ----------
    latent : tensor of shape (batch, candidate, latent)
        An expanded view where all are shared.
    log_likelihood, log_weight : tensors of shape (batch, candidate)
        Of the image at the latent (nats), and log of prior over proposal density over the number of candidates, so
        that ``logsumexp(log_likelihood + log_weight)`` estimates the marginal log-likelihood.
    overlap, power : tensors of shape (batch, shared)
        Of the shared candidates, which come first (see ``Renderer.overlaps``).
    """

    latent: Float[Tensor, "batch candidate latent"]
    log_likelihood: Float[Tensor, "batch candidate"]
    log_weight: Float[Tensor, "batch candidate"]
    overlap: Float[Tensor, "batch shared"]
    power: Float[Tensor, "batch shared"]

    def through(self, function: Callable[[Tensor], Tensor]) -> Candidates:
        """With every tensor, whose first axis are the images, replaced by a function of it."""
        return Candidates(**{name: function(value) for name, value in vars(self).items()})

    @property
    def marginal(self) -> Float[Tensor, " batch"]:
        """Log marginal likelihood ratio of every image, nats."""
        return torch.logsumexp(self.log_likelihood + self.log_weight, dim=1)

    @property
    def weights(self) -> Float[Tensor, "batch candidate"]:
        """Posterior probability of every candidate; rows sum to 1."""
        return torch.softmax(self.log_likelihood + self.log_weight, dim=1)


@dataclass(frozen=True)
class EncodedImages:
    """Gaussian proposals q(z | image) of the images of a batch."""

    mean: Float[Tensor, "batch latent"]
    log_std: Float[Tensor, "batch latent"]

    def log_density(self, latent: Float[Tensor, "batch candidate latent"]) -> Float[Tensor, "batch candidate"]:
        """Log q of each image's own proposal at its candidates."""
        return log_normal(latent, self.mean[:, None], self.log_std[:, None])

    def aggregate_log_density(self, latent: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """Log of the mean of all images' proposals."""
        parts = [
            torch.logsumexp(log_normal(chunk[:, None], self.mean, self.log_std), dim=1) for chunk in latent.split(256)
        ]
        return torch.cat(parts) - math.log(len(self.mean))

    def through(self, function: Callable[[Tensor], Tensor]) -> EncodedImages:
        """With both tensors, whose first axis are the images, replaced by a function of them."""
        return EncodedImages(function(self.mean), function(self.log_std))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """One draw from the proposal of each given image."""
        noise = torch.randn(len(rows), self.mean.shape[1], generator=generator).to(self.mean.device)
        return self.mean[rows] + self.log_std[rows].exp() * noise


@torch.no_grad()
def compare(
    model: CryoSphere,
    prepared: PreparedImages,
    n_shared: int,
    generator: torch.Generator,
    contrast: ContrastPrior | None = None,
    encoded: EncodedImages | None = None,
    n_own: int = 0,
    places: Int[Tensor, " batch"] | None = None,
) -> Candidates:
    """Compare images with conformations at shared latents and, given an encoder's proposals, at some of their own.

    Without proposals the shared latents are spread evenly over the prior. With them half of the shared ones are drawn
    from the proposals of all images together, and each image gets ``n_own`` more from its own; every candidate then
    weighs prior / mixture of the densities that candidates of that image come from (the balance heuristic of
    Veach & Guibas, SIGGRAPH 1995), so that the estimate is right whatever the encoder proposes. The proposals may be
    those of a larger set, in which the images have the given ``places``: what is drawn is then the same for every part
    of it.
    """
    n_images = len(prepared.images)
    n_drawn = 0 if encoded is None else n_shared // 2
    shared = prior_nodes(n_shared - n_drawn, model.latent_dim, generator).to(model.nominal_positions)
    if encoded is not None:
        rows = torch.randint(len(encoded.mean), (n_drawn,), generator=generator).to(model.device)
        shared = torch.cat([shared, encoded.draw(rows, generator)])
    table = model.renderer.table(model.decode_sites(shared), prepared.level)
    overlap, power = model.renderer.overlaps(prepared, table)
    likelihood = log_likelihood_ratio(overlap, power, contrast)
    latent = shared.expand(n_images, -1, -1)
    if encoded is None:
        return Candidates(latent, likelihood, torch.full_like(likelihood, -math.log(n_shared)), overlap, power)
    places = torch.arange(n_images, device=model.device) if places is None else places.to(model.device)
    if n_own > 0:
        rows = torch.arange(len(encoded.mean), device=model.device).repeat_interleave(n_own)
        own = encoded.draw(rows, generator).unflatten(0, (-1, n_own))[places].flatten(0, 1)
        found = _own_log_likelihood(model, prepared, own, contrast, n_own)
        latent = torch.cat([latent, own.view(n_images, n_own, -1)], dim=1)
        likelihood = torch.cat([likelihood, found], dim=1)
    weight = _balance(latent, shared, encoded, places, n_drawn, n_own)
    return Candidates(latent, likelihood, weight, overlap, power)


def _own_log_likelihood(model, prepared, own, contrast, n_own: int) -> Float[Tensor, "batch own"]:
    """Log-likelihood of every image at its own latents, some images at a time."""
    step = max(1, _OWN_VALUES // (n_own * prepared.level.size**2))
    parts = []
    for start in range(0, len(prepared.images), step):
        some = slice(start, start + step)
        sites = model.decode_sites(own[start * n_own : (start + step) * n_own])
        prior = contrast and contrast.take(some).repeated(n_own)
        parts.append(model.log_likelihood(prepared.take(some), sites, prior))
    return torch.cat(parts).view(-1, n_own)


def _balance(
    latent, shared, encoded: EncodedImages, places: Tensor, n_drawn: int, n_own: int
) -> Float[Tensor, "batch candidate"]:
    """Log of prior / mixture density / number of candidates."""
    n_shared, total = len(shared), len(shared) + n_own
    prior = log_normal(latent)
    flat = latent[:, n_shared:].flatten(0, 1)
    aggregate = torch.cat(
        [
            encoded.aggregate_log_density(shared).expand(len(latent), -1),
            encoded.aggregate_log_density(flat).view(len(latent), n_own) if n_own else prior[:, :0],
        ],
        dim=1,
    )
    parts = [prior + math.log((n_shared - n_drawn) / total), aggregate + math.log(max(n_drawn, 1) / total)]
    if n_own > 0:
        of_images = encoded.through(lambda values: values[places])
        parts.append(of_images.log_density(latent) + math.log(n_own / total))
    return prior - torch.logsumexp(torch.stack(parts), dim=0) - math.log(total)
