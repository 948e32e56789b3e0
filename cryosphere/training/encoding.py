"""What the score encoder needs before and while it learns: its template, the features' scale, and each image once."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.model.encoder import ScoreEncoder
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.records import ParticleBatch

_SAMPLE, _BATCH = 512, 64


@torch.no_grad()
def prepare_encoder(
    model: CryoSphere,
    images: ParticleImages,
    rows: Int[np.ndarray, " image"],
    template: Float[Tensor, "residue 3"],
) -> None:
    """Give a score encoder its template (Å) and the mean and spread of its features over some images."""
    if not isinstance(model.encoder, ScoreEncoder):
        return
    model.encoder.features.set_template(template)
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int))]
    found = [
        model.encoder.features(images.batch(chosen[start : start + _BATCH]).to(model.device))
        for start in range(0, len(chosen), _BATCH)
    ]
    features = torch.cat(found)
    if len(features) > 1:
        model.encoder.set_statistics(features)


class FeatureCache:
    """Score features of every image, computed when first asked for; half precision in memory.

    They depend on the template, noise spectra and poses: :meth:`clear` when one of these has changed.
    """

    def __init__(self, n_particles: int) -> None:
        self.n_particles = n_particles
        self._values: Tensor | None = None
        self._known = torch.zeros(n_particles, dtype=torch.bool)

    def clear(self) -> None:
        """Forget everything."""
        self._known[:] = False

    def encode(
        self, encoder: ScoreEncoder, batch: ParticleBatch
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-std of q(z | image) of a batch."""
        rows = batch.rows.cpu()
        if not self._known[rows].all():
            with torch.no_grad():
                found = encoder.features(batch)
            if self._values is None:
                self._values = torch.zeros(self.n_particles, found.shape[1], dtype=torch.float16)
            self._values[rows] = found.cpu().half()
            self._known[rows] = True
        return encoder.from_features(self._values[rows].to(batch.images))
