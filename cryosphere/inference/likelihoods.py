"""Log-likelihoods of many images at many conformations, within memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere import distributed
from cryosphere.model.losses import ContrastPrior, log_likelihood_ratio
from cryosphere.model.renderer import Level, PreparedImages
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.loading import read_ahead
from cryosphere.progress import Bar
from cryosphere.records import ParticleBatch

# Images and pixel values of a batch, at most: many, as the transforms of conformations are gone through for each.
_BATCH, _BATCH_VALUES = 1024, 10_000_000


def prepared_batches(
    model: CryoSphere,
    images: ParticleImages,
    rows: Int[np.ndarray, " image"],
    level: Level,
    bar: Bar | None = None,
) -> Iterator[tuple[slice, ParticleBatch, PreparedImages, ContrastPrior | None]]:
    """Some images, batch by batch: their places in ``rows``, they themselves, ready to be compared, and contrasts.

    The next batch is read meanwhile: poses of rows that have been given may be changed, noise spectra may not.
    """
    size = max(1, min(_BATCH, _BATCH_VALUES // level.size**2))
    parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    with closing(read_ahead(images, (rows[part] for part in parts), model.device, n_ahead=1)) as batches:
        for part, batch in zip(parts, batches, strict=True):
            yield part, batch, model.renderer.prepare(batch, level), model.contrast_prior(batch.optics_group)
            if bar is not None:
                bar.update(part.stop - part.start)


@torch.no_grad()
def log_likelihoods(
    model: CryoSphere,
    images: ParticleImages,
    rows: Int[np.ndarray, " image"],
    sites: Float[Tensor, "conformation residue 3"],
    level: Level,
    bar: Bar | None = None,
) -> Float[Tensor, "image conformation"]:
    """Log-likelihood ratio to pure noise (nats) of every image at every conformation, on the CPU.

    The images are gone through once for as many conformations as memory holds the transforms of. Several processes
    share the images, and each gets all values.

    Parameters
    ----------
    model : CryoSphere
    images : ParticleImages
    rows : int array of shape (image,)
    sites : tensor of shape (conformation, residue, 3)
        Å.
    level : Level
        Resolution to compare at.
    bar : Bar, optional
        Told of every image, once for each time.
    """
    own = rows[distributed.share(len(rows))]
    found = torch.empty(len(own), len(sites))
    for chunk in chunks(model, len(sites), level):
        table = model.renderer.table(sites[chunk], level)
        for part, _, prepared, contrast in prepared_batches(model, images, own, level, bar):
            overlap, power = model.renderer.overlaps(prepared, table)
            found[part, chunk] = log_likelihood_ratio(overlap, power, contrast).cpu()
    return distributed.gather(found)


def chunks(model: CryoSphere, count: int, level: Level) -> list[slice]:
    """Runs of conformations whose transforms memory holds together."""
    size = model.renderer.capacity(level)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
