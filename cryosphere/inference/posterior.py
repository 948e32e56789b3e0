"""Posterior of the latent of every particle, from the trained model."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import logsumexp
from torch import Tensor

from cryosphere import distributed
from cryosphere.config import InferenceConfig
from cryosphere.errors import RunError
from cryosphere.inference.likelihoods import chunks, log_likelihoods, prepared_batches
from cryosphere.inference.poses import PosePrior, pose_freedom
from cryosphere.model.latents import prior_nodes
from cryosphere.model.mixture import Candidates, EncodedImages, compare
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.selection import training_rows
from cryosphere.progress import Bar
from cryosphere.records import Posterior
from cryosphere.runs.grid import MOST_GRID_DIMENSIONS, PosteriorGrid
from cryosphere.runs.run import Run
from cryosphere.runs.tables import load_posterior, save_posterior

_BATCH = 256
# Conformations that all images are compared with, in 1, 2 and more dimensions, and with objective elbo.
_USUAL_NODES = {1: 96, 2: 576}
_MANY_NODES, _ELBO_NODES = 256, 64
# Conformations from its own proposal for every image, where the latent has too many dimensions for a grid.
_OWN_SAMPLES = 32
# Encoded particles from which shared conformations are drawn.
_AGGREGATE_SAMPLE = 20_000


def ensure_posterior(run: Run, progress: bool = False) -> Run:
    """Compute and store the posterior of a run that has none of its present weights; needs the image stacks then."""
    if run.layout.posterior.exists() and load_posterior(run.layout.posterior)[1] == run.weights_hash():
        return run
    missing = [path for path in run.table.stack_paths if not path.exists()]
    if missing and run.open_prepared() is None:
        raise RunError(
            f"{run.folder}: has no posterior yet, and computing it needs the image stacks, of which "
            f"{len(missing)} are missing (first: {missing[0]})."
        )
    posterior = compute_posterior(run.model, run.open_images(), run.config.inference, progress=progress)
    if distributed.is_main():
        save_posterior(run.layout.posterior, posterior, run.weights_hash())
    distributed.wait()
    for name in ("posterior", "grid"):
        vars(run).pop(name, None)
    return run


def compute_posterior(
    model: CryoSphere, images: ParticleImages, config: InferenceConfig, seed: int = 0, progress: bool = False
) -> Posterior:
    """Posterior of every particle of a table.

    ``encoder``: q(z | image) as the encoder gives it. ``weights``: every image is compared with conformations at shared
    latents, spread evenly over the prior (for ``objective: elbo``: drawn from the encoder's or the free latents'
    aggregate posterior, which then is the prior). In more than two dimensions each image gets latents of its own from
    the encoder besides, with importance weights; mean and covariance then describe its posterior. With
    ``particles.refine_poses`` pose errors are integrated out (:func:`~cryosphere.inference.poses.pose_freedom`) in up
    to two dimensions; in more, and for ``encoder``, poses count as known.

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
    marginal = model.config.loss.objective == "marginal"
    with torch.no_grad():
        if config.method == "encoder":
            return _of_encoder(model, images, progress)
        if marginal and model.latent_dim > MOST_GRID_DIMENSIONS:
            return _of_own_samples(model, images, config.n_conformations or _MANY_NODES, seed, progress)
        if marginal:
            count = config.n_conformations or _USUAL_NODES[model.latent_dim]
            nodes = prior_nodes(count, model.latent_dim)
        else:
            nodes = _aggregate_draws(model, images, config.n_conformations or _ELBO_NODES, seed)
        return _of_shared_nodes(model, images, nodes, marginal, progress)


def _of_encoder(model: CryoSphere, images: ParticleImages, progress: bool) -> Posterior:
    mean, std = _encode(model, images, np.arange(images.table.n_particles), progress)
    unknown = torch.full((len(mean),), torch.nan)
    return _posterior(images, mean, torch.diag_embed(std**2), unknown, unknown, model.latent_dim)


def _encode(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " particle"], progress: bool
) -> tuple[Float[Tensor, "particle latent"], Float[Tensor, "particle latent"]]:
    """Mean and std of q(z | image), on the CPU; several processes share the images."""
    rows, latent_dim = rows[distributed.share(len(rows))], model.latent_dim
    means, stds = [torch.zeros(0, latent_dim)], [torch.zeros(0, latent_dim)]
    starts = range(0, len(rows), _BATCH)
    for start in Bar(starts, desc="encode", unit="batch", disable=not progress, leave=False):
        mean, log_std = model.encoder(images.batch(rows[start : start + _BATCH]).to(model.device))
        means.append(mean.cpu())
        stds.append(log_std.exp().cpu())
    return distributed.gather(torch.cat(means)), distributed.gather(torch.cat(stds))


def _aggregate_draws(model: CryoSphere, images: ParticleImages, count: int, seed: int) -> Float[Tensor, "node latent"]:
    """Draw latents from the aggregate of the training particles' posteriors (held-out free latents mean nothing)."""
    generator = torch.Generator().manual_seed(seed)
    rows, _ = training_rows(images.table, model.config)
    chosen = torch.randperm(len(rows), generator=generator)[:_AGGREGATE_SAMPLE].sort().values
    mean, std = _encode(model, images, rows[chosen.numpy()], progress=False)
    drawn = torch.randint(len(mean), (count,), generator=generator)
    return mean[drawn] + std[drawn] * torch.randn(count, mean.shape[1], generator=generator)


def _of_shared_nodes(
    model: CryoSphere, images: ParticleImages, nodes: Float[Tensor, "node latent"], dense: bool, progress: bool
) -> Posterior:
    """Log-likelihoods of all images at shared nodes, and the moments of the posteriors they give."""
    level, sites = model.level(), model.decode_sites(nodes.to(model.device))
    rows = np.arange(images.table.n_particles)
    parts = chunks(model, len(sites), level)
    has_poses = model.config.particles.refine_poses
    n_visits = len(rows) * len(parts) * (2 if has_poses else 1)
    with Bar(total=n_visits, desc="posterior", unit="image", disable=not progress) as bar:
        likelihood = log_likelihoods(model, images, rows, sites, level, bar)
        if has_poses:
            likelihood += _pose_gain(model, images, sites, likelihood.argmax(1), level, bar)
    likelihood = likelihood.numpy()
    grid = PosteriorGrid(nodes.numpy(), dense)
    parts = [_moments(grid, likelihood[start : start + _BATCH]) for start in range(0, len(likelihood), _BATCH)]
    mean, covariance, effective, evidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Posterior(
        index=images.table.input_rows,
        mean=mean.astype(np.float32),
        covariance=covariance.astype(np.float32),
        effective_sample_size=effective.astype(np.float32),
        log_evidence=evidence.astype(np.float32),
        nodes=nodes.numpy().astype(np.float32),
        log_likelihood=likelihood,
    )


def _pose_gain(model, images, sites, about, level, bar) -> Float[Tensor, "image conformation"]:
    """What integrating over small pose errors changes of the log-likelihoods, on the CPU."""
    own = distributed.share(len(about))
    rows, about = np.arange(len(about))[own], about[own]
    gain = torch.empty(len(about), len(sites))
    for chunk in chunks(model, len(sites), level):
        table = model.renderer.table(sites[chunk], level)
        for part, _, prepared, contrast in prepared_batches(model, images, rows, level, bar):
            prior = PosePrior.of(images, rows[part], model.config.particles, model.device)
            positions = sites[about[part].to(model.device)]
            gain[part, chunk] = pose_freedom(model, prepared, positions, table, contrast, prior).gain.cpu()
    return distributed.gather(gain)


def _moments(grid: PosteriorGrid, likelihood: Float[np.ndarray, "particle node"]) -> tuple[np.ndarray, ...]:
    """Mean, covariance, effective sample size and log-evidence on a grid."""
    weights = grid.weights(likelihood)
    latent = grid.latent.astype(np.float64)
    mean = weights @ latent
    second = np.einsum("bq,qi,qj->bij", weights, latent, latent, optimize=True)
    covariance = second - mean[:, :, None] * mean[:, None, :]
    return mean, covariance, 1 / (weights**2).sum(1), logsumexp(grid.log_weights(likelihood), axis=1)


def _of_own_samples(model: CryoSphere, images: ParticleImages, count: int, seed: int, progress: bool) -> Posterior:
    """Importance weights over shared latents and each image's own from its proposal.

    Images come in lots with draws of their own, which the processes share.
    """
    level = model.renderer.level(n_conformations=max(count, model.n_nodes))
    rows, latent_dim = np.arange(images.table.n_particles), model.latent_dim
    starts = range(0, len(rows), _BATCH)[distributed.share(math.ceil(len(rows) / _BATCH))]
    shapes = ((latent_dim,), (latent_dim, latent_dim), (), ())
    parts: list[tuple[Tensor, ...]] = [tuple(torch.zeros(0, *shape, dtype=torch.float64) for shape in shapes)]
    with Bar(total=len(starts) * _BATCH, desc="posterior", unit="image", disable=not progress) as bar:
        for start in starts:
            generator = torch.Generator().manual_seed(seed + start)
            for _, batch, prepared, contrast in prepared_batches(
                model, images, rows[start : start + _BATCH], level, bar
            ):
                encoded = EncodedImages(*model.encoder(batch))
                parts.append(_gaussian(compare(model, prepared, count, generator, contrast, encoded, _OWN_SAMPLES)))
    found = (distributed.gather(torch.cat(part)) for part in zip(*parts, strict=True))
    return _posterior(images, *found, latent_dim)


def _gaussian(candidates: Candidates) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, covariance, effective sample size and log-evidence of weighted candidates, on the CPU."""
    weights, latent = candidates.weights.cpu().double(), candidates.latent.cpu().double()
    mean = torch.einsum("bk,bki->bi", weights, latent)
    offset = latent - mean[:, None]
    covariance = torch.einsum("bk,bki,bkj->bij", weights, offset, offset)
    return mean, covariance, 1 / (weights**2).sum(1), candidates.marginal.cpu()


def _posterior(
    images: ParticleImages, mean: Tensor, covariance: Tensor, effective: Tensor, evidence: Tensor, latent_dim: int
) -> Posterior:
    """A posterior without shared nodes."""
    return Posterior(
        index=images.table.input_rows,
        mean=mean.numpy().astype(np.float32),
        covariance=covariance.numpy().astype(np.float32),
        effective_sample_size=effective.numpy().astype(np.float32),
        log_evidence=evidence.numpy().astype(np.float32),
        nodes=np.zeros((0, latent_dim), np.float32),
        log_likelihood=np.zeros((len(mean), 0), np.float32),
    )
