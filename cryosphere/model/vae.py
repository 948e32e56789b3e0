"""The whole model: encoder, segmentation, decoder, renderer and the objective that trains them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryosphere.config import Config
from cryosphere.model import losses
from cryosphere.model.decoder import Decoder
from cryosphere.model.deformation import residue_motions
from cryosphere.model.encoder import FreeLatents, PixelEncoder
from cryosphere.model.renderer import Renderer
from cryosphere.model.segmentation import Segmentation, regions_of
from cryosphere.physics.fourier import circular_mask, fourier_to_image, image_to_fourier, low_pass_filter
from cryosphere.physics.motions import move_residues
from cryosphere.records import LossTerms, ParticleBatch, Structure

# Room (Å) between the outermost residue of the nominal structure and the mask, for it to move into.
_MASK_MARGIN_A = 12.0


@dataclass(frozen=True)
class KLWeights:
    """Current weights of the KL terms, each between 0 and 1 before the configuration's factors."""

    latent: float
    segments: float
    proportions: float


class CryoSphere(nn.Module):
    """The generative model of the images with its encoder.

    Parameters
    ----------
    structure : Structure
        Nominal structure in the model frame.
    n_particles : int
        Rows of the particle table. ``n_training``, the images trained on, weighs the segmentation's KL; the
        trainer sets it when some are held out.
    box_size : int, pixels. pixel_size : float, Å.
    config : Config
    """

    def __init__(
        self, structure: Structure, n_particles: int, box_size: int, pixel_size: float, config: Config
    ) -> None:
        super().__init__()
        self.config = config
        self.n_training = n_particles
        self.box_size, self.pixel_size = box_size, pixel_size
        segments = config.segments
        self.segmentation = Segmentation(structure.n_residues, regions_of(structure, segments), segments.temperature)
        self.decoder = Decoder(
            config.model.latent_dim,
            self.segmentation.n_segments,
            config.model.decoder_layers,
            free_rotation=config.model.motion == "blended",
        )
        self.mask_radius = config.loss.mask_radius or _mask_radius(structure, box_size, pixel_size)
        if config.model.encoder == "free":
            self.encoder: nn.Module = FreeLatents(n_particles, config.model.latent_dim)
        else:
            self.encoder = PixelEncoder(
                box_size, pixel_size, self.mask_radius, config.model.encoder_layers, config.model.latent_dim
            )
        self.renderer = Renderer(structure, box_size, pixel_size)
        self._add_constants(structure)

    def _add_constants(self, structure: Structure) -> None:
        def constant(name: str, value: Tensor | None) -> None:
            self.register_buffer(name, value, persistent=False)

        nominal = torch.tensor(structure.residue_positions, dtype=torch.float32)
        bonds = torch.tensor(np.flatnonzero(structure.bonded), dtype=torch.long)
        constant("nominal_positions", nominal)
        constant("bonds", bonds)
        constant("bond_lengths", torch.linalg.norm(nominal[bonds + 1] - nominal[bonds], dim=-1))
        constant("mask", circular_mask(self.box_size, self.mask_radius / self.pixel_size))
        resolution = self.config.loss.low_pass_resolution
        low_pass = None if resolution is None else low_pass_filter(self.box_size, self.pixel_size, resolution)
        constant("low_pass", low_pass)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.nominal_positions.device

    def filter_images(self, images: Float[Tensor, "batch y x"]) -> Float[Tensor, "batch y x"]:
        """Low-pass and mask images; data and prediction both pass through here, and only here."""
        if self.low_pass is not None:
            images = fourier_to_image(image_to_fourier(images) * self.low_pass, self.box_size)
        return images * self.mask

    def segment_weights(self) -> Float[Tensor, "residue segment"]:
        """Assignment of residues to segments at the posterior mean, as every evaluation uses it."""
        return self.segmentation.weights(self.segmentation.mean())

    def motions(
        self, latent: Float[Tensor, "batch latent"], segment_weights: Float[Tensor, "residue segment"]
    ) -> tuple[Float[Tensor, "batch residue 4"], Float[Tensor, "batch residue 3"]]:
        """Rigid motion (quaternion, translation in Å) of every residue at the given latents."""
        return residue_motions(self.decoder(latent), segment_weights, self.nominal_positions, self.config.model.motion)

    def decode(
        self,
        latent: Float[Tensor, "batch latent"],
        segment_weights: Float[Tensor, "residue segment"] | None = None,
    ) -> Float[Tensor, "batch residue 3"]:
        """Residue positions (Å, model frame) at the given latents; posterior-mean segments unless given."""
        weights = self.segment_weights() if segment_weights is None else segment_weights
        return move_residues(self.nominal_positions, *self.motions(latent, weights))

    def data_loss(self, batch: ParticleBatch, positions: Float[Tensor, "batch residue 3"]) -> Float[Tensor, " batch"]:
        """Data term of each image: minus the log-likelihood ratio in nats, or minus the correlation."""
        rendered = self.filter_images(self.renderer(positions, batch.rotmat, batch.ctf))
        images = self.filter_images(batch.images)
        if self.config.loss.data == "correlation":
            return -losses.correlation(images, rendered, self.mask)
        return -losses.log_likelihood_ratio(images, rendered)

    def log_likelihoods(
        self, batch: ParticleBatch, conformations: Float[Tensor, "conformation residue 3"]
    ) -> Float[Tensor, "batch conformation"]:
        """Log-likelihood ratio (nats, contrast profiled) of every image of a batch at every given conformation."""
        n_images, n_conformations = len(batch.rows), len(conformations)
        positions = conformations.expand(n_images, -1, -1, -1).flatten(0, 1)
        rotmat = batch.rotmat.repeat_interleave(n_conformations, dim=0)
        rendered = self.renderer(positions, rotmat, batch.ctf, per_ctf=n_conformations)
        images = self.filter_images(batch.images).repeat_interleave(n_conformations, dim=0)
        return losses.log_likelihood_ratio(images, self.filter_images(rendered)).view(n_images, n_conformations)

    def kl_scales(self) -> tuple[float, float]:
        """Factors of KL(z) and KL(segmentation): 1 and 1 / training images in nats, 1 / P² for the correlation."""
        if self.config.loss.data == "correlation":
            return 1 / self.box_size**2, 1 / self.box_size**2
        return 1.0, 1 / self.n_training

    def loss(self, batch: ParticleBatch, weights: KLWeights, generator: torch.Generator) -> LossTerms:
        """Every term of the objective for a training batch, latents and segments sampled from their posteriors."""
        mean, log_std = self.encoder(batch)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
        latent = mean + log_std.exp() * noise
        segment_weights = self.segmentation.weights(self.segmentation.sample(generator))
        positions = self.decode(latent, segment_weights)
        return self._terms(batch, positions, mean, log_std, weights)

    def held_out_loss(
        self, batch: ParticleBatch, mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
    ) -> LossTerms:
        """The same objective without sampling and with full KL weights, at given latent posteriors."""
        return self._terms(batch, self.decode(mean), mean, log_std, KLWeights(1.0, 1.0, 1.0))

    def _terms(self, batch, positions, mean, log_std, weights: KLWeights) -> LossTerms:
        config = self.config.loss
        latent_scale, segmentation_scale = self.kl_scales()
        kl_segments, kl_proportions = self.segmentation.kl()
        terms = {
            "data": self.data_loss(batch, positions).mean(),
            "kl_latent": config.kl_latent
            * latent_scale
            * weights.latent
            * losses.kl_to_standard_normal(mean, log_std).mean(),
            "kl_segmentation": config.kl_segmentation
            * segmentation_scale
            * (weights.segments * kl_segments + weights.proportions * kl_proportions),
            "continuity": config.continuity * losses.continuity(positions, self.bonds, self.bond_lengths),
            "clash": config.clash * losses.clash(positions) if config.clash > 0 else positions.new_zeros(()),
            "weight_decay": config.weight_decay * self._squared_weights()
            if config.weight_decay > 0
            else positions.new_zeros(()),
        }
        return LossTerms(**terms, total=sum(terms.values()))

    def _squared_weights(self) -> Tensor:
        networks = [self.decoder] + ([] if isinstance(self.encoder, FreeLatents) else [self.encoder])
        return sum((p**2).sum() for network in networks for p in network.parameters())


def _mask_radius(structure: Structure, box_size: int, pixel_size: float) -> float:
    """Radius in Å that holds the structure and some room, within the box."""
    reach = float(np.linalg.norm(structure.residue_positions, axis=1).max()) + _MASK_MARGIN_A
    return min(reach, 0.5 * box_size * pixel_size)
