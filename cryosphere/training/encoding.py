"""How an encoder learns: its template, the scale of its features, each image once, and its steps."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryosphere.model.encoder import ScoreEncoder
from cryosphere.model.mixture import Candidates, EncodedImages
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.records import ParticleBatch
from cryosphere.training.steps import GradientSum

_SAMPLE, _BATCH = 512, 64
# Steps of the encoder in every block of images, and the norm at which their gradients are cut.
_STEPS, _CLIP = 8, 10.0


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

    def encode(self, encoder: nn.Module, batch: ParticleBatch) -> EncodedImages:
        """q(z | image) of a batch; only a score encoder has features to keep."""
        if not isinstance(encoder, ScoreEncoder):
            return EncodedImages(*encoder(batch))
        rows = batch.rows.cpu()
        if not self._known[rows].all():
            with torch.no_grad():
                found = encoder.features(batch)
            if self._values is None:
                self._values = torch.zeros(self.n_particles, found.shape[1], dtype=torch.float16)
            self._values[rows] = found.cpu().half()
            self._known[rows] = True
        return EncodedImages(*encoder.from_features(self._values[rows].to(batch.rotmat)))


def teach_encoder(
    encoder: nn.Module,
    features: FeatureCache,
    batch: ParticleBatch,
    candidates: Candidates,
    optimiser: torch.optim.Optimizer,
    gradient_sum: GradientSum,
    n_images: int,
) -> None:
    """Steps of an encoder towards the weights of the candidates: the cross-entropy of q(z | image) to them.

    ``batch`` and ``candidates`` are this process's part of ``n_images``.
    """

    def terms_of(part: slice) -> dict[str, Tensor]:
        proposals = features.encode(encoder, batch.take(part))
        cross_entropy = -(candidates.weights[part] * proposals.log_density(candidates.latent[part])).sum(1)
        return {"total": cross_entropy.mean()}

    parameters = list(encoder.parameters())
    optimiser.zero_grad(set_to_none=True)
    for _ in range(_STEPS):
        gradient_sum(parameters, terms_of, ("total",), len(batch.rows), n_images)
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
