"""Posterior of the latent of every particle, from the trained model."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from cryosphere.config import InferenceConfig
from cryosphere.errors import RunError
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.selection import split_held_out
from cryosphere.records import Posterior
from cryosphere.runs.run import Run
from cryosphere.runs.tables import load_posterior, save_posterior

_ENCODER_BATCH = 256
# Renderings made in one go when images are compared with shared conformations.
_RENDERINGS_PER_BATCH = 512
# Encoded particles from which the shared conformations are drawn.
_AGGREGATE_SAMPLE = 20_000


def ensure_posterior(run: Run, progress: bool = False) -> Run:
    """Compute and store the posterior of a run that has none of its present weights; needs the image stacks then."""
    if run.layout.posterior.exists() and load_posterior(run.layout.posterior)[1] == run.weights_hash():
        return run
    missing = [path for path in run.table.stack_paths if not path.exists()]
    if missing:
        raise RunError(
            f"{run.folder}: has no posterior yet, and computing it needs the image stacks, of which "
            f"{len(missing)} are missing (first: {missing[0]})."
        )
    images = ParticleImages(run.table, run.model.mask_radius, run.config.particles.invert)
    posterior = compute_posterior(run.model, images, run.config.inference, progress=progress)
    save_posterior(run.layout.posterior, posterior, run.weights_hash())
    vars(run).pop("posterior", None)
    return run


def compute_posterior(
    model: CryoSphere, images: ParticleImages, config: InferenceConfig, seed: int = 0, progress: bool = False
) -> Posterior:
    """Posterior of every particle of a table.

    ``encoder``: q(z | image) as the encoder gives it. ``weights``: conformations z_k are drawn from the aggregate
    posterior (the encoder's, or the free latents'), every image is compared with all of them, and mean and covariance
    are those of weights ∝ p(image | z_k): importance sampling with the aggregate posterior as prior and proposal.

    Parameters
    ----------
    model : CryoSphere
    images : ParticleImages
    config : InferenceConfig
    seed : int
        Of the draws; the same seed gives the same posterior.
    progress : bool
        Show a progress bar on stderr.
    """
    model.eval()
    n_particles = images.table.n_particles
    rows = np.arange(n_particles)
    with torch.no_grad():
        if config.method == "encoder":
            mean, std = _encode(model, images, rows, progress)
            covariance = torch.diag_embed(std**2)
            effective = torch.full((n_particles,), float("nan"))
        else:
            latent = _shared_latents(model, images, config.n_conformations, seed)
            mean, covariance, effective = _weigh(model, images, latent, progress)
    return Posterior(
        index=rows,
        mean=mean.numpy().astype(np.float32),
        covariance=covariance.numpy().astype(np.float32),
        effective_sample_size=effective.numpy().astype(np.float32),
    )


def _encode(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " particle"], progress: bool
) -> tuple[Float[Tensor, "particle latent"], Float[Tensor, "particle latent"]]:
    """Mean and std of q(z | image), on the CPU."""
    means, stds = [], []
    starts = range(0, len(rows), _ENCODER_BATCH)
    for start in tqdm(starts, desc="encode", unit="batch", disable=not progress, leave=False):
        mean, log_std = model.encoder(images.batch(rows[start : start + _ENCODER_BATCH]).to(model.device))
        means.append(mean.cpu())
        stds.append(log_std.exp().cpu())
    return torch.cat(means), torch.cat(stds)


def _shared_latents(
    model: CryoSphere, images: ParticleImages, count: int, seed: int
) -> Float[Tensor, "conformation latent"]:
    """Draw latents from the aggregate of the training particles' posteriors (held-out free latents mean nothing)."""
    generator = torch.Generator().manual_seed(seed)
    table, training = images.table, model.config.training
    rows, _ = split_held_out(table.stack_index, table.image_index, training.held_out, training.seed)
    chosen = torch.randperm(len(rows), generator=generator)[:_AGGREGATE_SAMPLE].sort().values
    mean, std = _encode(model, images, rows[chosen.numpy()], progress=False)
    drawn = torch.randint(len(mean), (count,), generator=generator)
    return mean[drawn] + std[drawn] * torch.randn(count, mean.shape[1], generator=generator)


def _weigh(
    model: CryoSphere, images: ParticleImages, latent: Float[Tensor, "conformation latent"], progress: bool
) -> tuple[Float[Tensor, "particle latent"], Float[Tensor, "particle latent latent"], Float[Tensor, " particle"]]:
    """Mean, covariance and effective sample size of the weights of every image over shared latents."""
    conformations = model.decode(latent.to(model.device))
    n_particles = images.table.n_particles
    mean = torch.empty(n_particles, latent.shape[1])
    covariance = torch.empty(n_particles, latent.shape[1], latent.shape[1])
    effective = torch.empty(n_particles)
    step = max(1, _RENDERINGS_PER_BATCH // len(latent))
    with tqdm(total=n_particles, desc="posterior", unit="image", disable=not progress) as bar:
        for start in range(0, n_particles, step):
            rows = np.arange(start, min(start + step, n_particles))
            batch = images.batch(rows).to(model.device)
            weights = torch.softmax(model.log_likelihoods(batch, conformations).cpu().double(), dim=1)
            centre = weights @ latent.double()
            offset = latent.double() - centre[:, None]
            mean[rows] = centre.float()
            covariance[rows] = torch.einsum("bk,bki,bkj->bij", weights, offset, offset).float()
            effective[rows] = (1 / (weights**2).sum(1)).float()
            bar.update(len(rows))
    return mean, covariance, effective
