"""The whole model: encoder, segmentation, decoder, renderer and the objective that trains them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryosphere.config import Config
from cryosphere.model import losses
from cryosphere.model.bodies import BodySegmentation
from cryosphere.model.decoder import Decoder
from cryosphere.model.deformation import residue_motions
from cryosphere.model.division import make_segmentation
from cryosphere.model.encoder import FreeLatents, PixelEncoder, ScoreEncoder
from cryosphere.model.renderer import Level, PreparedImages, Renderer
from cryosphere.model.scores import ScoreFeatures
from cryosphere.model.segmentation import Segmentation
from cryosphere.physics.motions import move_residues
from cryosphere.records import LossTerms, ParticleBatch, Structure
from cryosphere.structure.contacts import contact_graph, divide_with_ligands
from cryosphere.structure.ligands import find_hosts
from cryosphere.structure.sites import scattering_centres

# Room (Å) between the outermost residue of the nominal structure and the mask, for it to move into and for the CTF to
# spread it.
_MASK_MARGIN_A = 25.0
# Latent dimension where the configuration leaves it open and the objective does not choose it.
_USUAL_LATENT_DIM = 2
# Conformations shared by the images of a block, in 1, 2 and more latent dimensions.
_USUAL_NODES = {1: 32, 2: 96}
_MANY_NODES = 128
# Groups of residues whose forces and torques the score encoder sees.
_SCORE_GROUPS = 24
# Gaussians are cut at so many widths where gradients are taken.
_TRAINING_WINDOW = 3.0


@dataclass(frozen=True)
class Architecture:
    """What of a model's shape training decided: latent dimension and number of segments."""

    latent_dim: int
    n_segments: int


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
    architecture : Architecture, optional
        Of a model that is read back; by default what the configuration says, or what training starts with.
    segmentation : module, optional
        In place of the one the configuration asks for.
    n_groups : int
        Optics groups, each with its own distribution of contrasts (``contrast``, shape (group, 2): mean and standard
        deviation; NaN until it is known).
    score_groups : int tensor of shape (residue,), optional
        Group of every residue whose forces and torques the score encoder sees; by default the structure is divided.
    """

    def __init__(
        self,
        structure: Structure,
        n_particles: int,
        box_size: int,
        pixel_size: float,
        config: Config,
        architecture: Architecture | None = None,
        segmentation: Segmentation | BodySegmentation | None = None,
        n_groups: int = 1,
        score_groups: Int[Tensor, " residue"] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.structure = config, structure
        self.n_particles = self.n_training = n_particles
        self.box_size, self.pixel_size = box_size, pixel_size
        self.segmentation = segmentation or make_segmentation(
            structure, config.segments, architecture and architecture.n_segments
        )
        self.latent_dim = architecture.latent_dim if architecture else _first_latent_dim(config)
        self.decoder = Decoder(
            self.latent_dim,
            self.segmentation.n_segments,
            config.model.decoder_layers,
            free_rotation=config.model.motion == "blended",
        )
        self.mask_radius = config.loss.mask_radius or _mask_radius(structure, box_size, pixel_size)
        self.renderer = Renderer(structure, box_size, pixel_size, self.mask_radius, config.loss.low_pass_resolution)
        self.register_buffer("contrast", torch.full((n_groups, 2), torch.nan))
        self._add_constants(structure)
        self.encoder = self._make_encoder(score_groups)

    def with_shape(
        self, architecture: Architecture, segmentation: Segmentation | BodySegmentation | None = None
    ) -> CryoSphere:
        """An untrained model of the same inputs on the same device, of another shape."""
        inputs = self.structure, self.n_particles, self.box_size, self.pixel_size, self.config
        groups = self.encoder.features.groups if isinstance(self.encoder, ScoreEncoder) else None
        model = CryoSphere(*inputs, architecture, segmentation, len(self.contrast), groups).to(self.device)
        model.n_training = self.n_training
        return model

    def _make_encoder(self, groups: Int[Tensor, " residue"] | None) -> nn.Module:
        model = self.config.model
        if model.encoder == "free":
            return FreeLatents(self.n_particles, self.latent_dim)
        if model.encoder == "pixels":
            return PixelEncoder(self.box_size, self.pixel_size, self.mask_radius, model.encoder_layers, self.latent_dim)
        features = ScoreFeatures(
            self.renderer, self.nominal_sites, _score_groups(self.structure) if groups is None else groups
        )
        return ScoreEncoder(features, model.encoder_layers, self.latent_dim)

    @property
    def n_nodes(self) -> int:
        """Conformations that a block of images is compared with in training on the marginal likelihood."""
        return self.config.training.n_nodes or _USUAL_NODES.get(self.latent_dim, _MANY_NODES)

    def level(self, resolution: float | None = None) -> Level:
        """Level of a resolution (Å), by default the full one, as far as memory holds a block's conformations."""
        band = None if resolution is None else self.renderer.band_at(resolution)
        return self.renderer.level(band, self.n_nodes)

    @property
    def architecture(self) -> Architecture:
        """What a checkpoint keeps so that the model can be built again."""
        return Architecture(self.latent_dim, self.segmentation.n_segments)

    def _add_constants(self, structure: Structure) -> None:
        def constant(name: str, value: Tensor | None) -> None:
            self.register_buffer(name, value, persistent=False)

        nominal = torch.tensor(structure.residue_positions, dtype=torch.float32)
        bonds = torch.tensor(np.flatnonzero(structure.bonded), dtype=torch.long)
        constant("nominal_positions", nominal)
        centred = self.config.structure.gaussian_at == "centroid"
        sites = scattering_centres(structure) if centred else structure.residue_positions
        constant("nominal_sites", torch.tensor(sites, dtype=torch.float32))
        constant("bonds", bonds)
        constant("bond_lengths", torch.linalg.norm(nominal[bonds + 1] - nominal[bonds], dim=-1))

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.nominal_positions.device

    def segment_weights(self) -> Float[Tensor, "residue segment"]:
        """Assignment of residues to segments at the posterior mean, as every evaluation uses it."""
        return self.segmentation.weights(self.segmentation.mean())

    def motions(
        self,
        latent: Float[Tensor, "batch latent"],
        segment_weights: Float[Tensor, "residue segment"],
        still: bool = False,
    ) -> tuple[Float[Tensor, "batch residue 4"], Float[Tensor, "batch residue 3"]]:
        """Rigid motion (quaternion, translation in Å) of every residue at the given latents."""
        segment_motions = self.decoder(latent, still)
        return residue_motions(segment_motions, segment_weights, self.nominal_positions, self.config.model.motion)

    def decode(
        self,
        latent: Float[Tensor, "batch latent"],
        segment_weights: Float[Tensor, "residue segment"] | None = None,
        still: bool = False,
    ) -> Float[Tensor, "batch residue 3"]:
        """Residue positions (Å, model frame) at the given latents; posterior-mean segments unless given.

        ``still`` gives the structure moved by the shared motion alone, whatever the latent.
        """
        return self.decode_with_sites(latent, segment_weights, still)[0]

    def decode_sites(
        self,
        latent: Float[Tensor, "batch latent"],
        segment_weights: Float[Tensor, "residue segment"] | None = None,
        still: bool = False,
    ) -> Float[Tensor, "batch residue 3"]:
        """Centres of the residues' Gaussians (Å, model frame), from which images are rendered."""
        return self.decode_with_sites(latent, segment_weights, still)[1]

    def decode_with_sites(
        self,
        latent: Float[Tensor, "batch latent"],
        segment_weights: Float[Tensor, "residue segment"] | None = None,
        still: bool = False,
    ) -> tuple[Float[Tensor, "batch residue 3"], Float[Tensor, "batch residue 3"]]:
        """Residue positions and centres of their Gaussians, moved by the same motions."""
        weights = self.segment_weights() if segment_weights is None else segment_weights
        motions = self.motions(latent, weights, still)
        return move_residues(self.nominal_positions, *motions), move_residues(self.nominal_sites, *motions)

    def contrast_prior(self, optics_group: Int[Tensor, " batch"]) -> losses.ContrastPrior | None:
        """Distribution of the images' contrasts, of groups too small for one the mean of the others; None: profiled."""
        known = torch.isfinite(self.contrast).all(1)
        if self.config.loss.contrast == "profiled" or not known.any():
            return None
        usual = self.contrast[known].mean(0)
        values = torch.where(known[:, None], self.contrast, usual)[optics_group]
        return losses.ContrastPrior(values[:, 0], values[:, 1])

    def data_loss(self, batch: ParticleBatch, sites: Float[Tensor, "batch residue 3"]) -> Float[Tensor, " batch"]:
        """Data term of each image, Gaussians at ``sites`` (Å): minus log-likelihood ratio in nats or correlation."""
        prepared = self.renderer.prepare(batch)
        rendered = self.renderer.render(prepared, sites)
        if self.config.loss.data == "correlation":
            return -losses.correlation(prepared.images, rendered, prepared.level.mask)
        return -losses.log_likelihood_ratio(*_compare(prepared.images, rendered))

    def log_likelihood(
        self,
        prepared: PreparedImages,
        sites: Float[Tensor, "batch residue 3"],
        contrast: losses.ContrastPrior | None = None,
        window: float = _TRAINING_WINDOW,
    ) -> Float[Tensor, " batch"]:
        """Log-likelihood ratio (nats) of prepared images at one conformation each, or a whole number each."""
        rendered = self.renderer.render(prepared, sites, window)
        images = prepared.images.repeat_interleave(len(sites) // len(prepared.images), dim=0)
        return losses.log_likelihood_ratio(*_compare(images, rendered), contrast)

    def log_likelihoods(
        self, batch: ParticleBatch, sites: Float[Tensor, "conformation residue 3"], level: Level | None = None
    ) -> Float[Tensor, "batch conformation"]:
        """Log-likelihood ratio (nats, contrast profiled) of every image at the sites of every given conformation."""
        level = level or self.renderer.level()
        table = self.renderer.table(sites, level)
        return losses.log_likelihood_ratio(*self.renderer.overlaps(self.renderer.prepare(batch, level), table))

    def geometry(self, positions: Float[Tensor, "batch residue 3"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Weighted continuity and clash terms (nats per image) of conformations; ligands move with a residue and touch
        others, so that they do not clash."""
        config = self.config.loss
        clash = positions.new_zeros(())
        if config.clash > 0:
            chain = positions[:, : self.structure.n_polymer_residues]
            nominal = None if config.data == "correlation" else self.nominal_positions[: chain.shape[1]]
            clash = config.clash * losses.clash(chain, nominal)
        return config.continuity * losses.continuity(positions, self.bonds, self.bond_lengths), clash

    def kl_scales(self) -> tuple[float, float]:
        """Factors of KL(z) and KL(segmentation): 1 and 1 / training images in nats, 1 / P² for the correlation."""
        if self.config.loss.data == "correlation":
            return 1 / self.box_size**2, 1 / self.box_size**2
        return 1.0, 1 / self.n_training

    def loss(
        self,
        batch: ParticleBatch,
        weights: KLWeights,
        latent_noise: Float[Tensor, "batch latent"],
        segment_noise: Float[Tensor, ...],
    ) -> LossTerms:
        """Every term of the objective for a training batch.

        Latents and segments are drawn from their posteriors with given standard normal numbers, those of the segments
        from ``segmentation.noise``.
        """
        mean, log_std = self.encoder(batch)
        latent = mean + log_std.exp() * latent_noise.to(mean)
        segment_weights = self.segmentation.weights(self.segmentation.sample(segment_noise))
        decoded = self.decode_with_sites(latent, segment_weights)
        return self._terms(batch, *decoded, mean, log_std, weights)

    def held_out_loss(
        self, batch: ParticleBatch, mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
    ) -> LossTerms:
        """The same objective without sampling and with full KL weights, at given latent posteriors."""
        return self._terms(batch, *self.decode_with_sites(mean), mean, log_std, KLWeights(1.0, 1.0, 1.0))

    def _terms(self, batch, positions, sites, mean, log_std, weights: KLWeights) -> LossTerms:
        config = self.config.loss
        latent_scale, segmentation_scale = self.kl_scales()
        kl_segments, kl_proportions = self.segmentation.kl()
        continuity, clash = self.geometry(positions)
        terms = {
            "data": self.data_loss(batch, sites).mean(),
            "kl_latent": config.kl_latent
            * latent_scale
            * weights.latent
            * losses.kl_to_standard_normal(mean, log_std).mean(),
            "kl_segmentation": config.kl_segmentation
            * segmentation_scale
            * (weights.segments * kl_segments + weights.proportions * kl_proportions),
            "continuity": continuity,
            "clash": clash,
            "weight_decay": config.weight_decay * self._squared_weights()
            if config.weight_decay > 0
            else positions.new_zeros(()),
        }
        return LossTerms(**terms, total=sum(terms.values()))

    def _squared_weights(self) -> Tensor:
        networks = [self.decoder] + ([] if isinstance(self.encoder, FreeLatents) else [self.encoder])
        return sum(losses.squared_norm(p) for network in networks for p in network.parameters())


def _compare(
    images: Float[Tensor, "batch y x"], rendered: Float[Tensor, "batch y x"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Inner products of images with their renderings, and squared norms of the renderings."""
    return (images * rendered).sum((-2, -1)), (rendered**2).sum((-2, -1))


def _first_latent_dim(config: Config) -> int:
    """Latent dimension with which training starts."""
    if config.model.latent_dim != "auto":
        return config.model.latent_dim
    return 1 if config.loss.objective == "marginal" else _USUAL_LATENT_DIM


def _score_groups(structure: Structure) -> Int[Tensor, " residue"]:
    graph = contact_graph(structure.residue_positions, structure.bonded)
    least = max(1, structure.n_residues // (4 * _SCORE_GROUPS))
    return torch.from_numpy(divide_with_ligands(graph, find_hosts(structure), _SCORE_GROUPS, least))


def _mask_radius(structure: Structure, box_size: int, pixel_size: float) -> float:
    """Radius in Å that holds the structure and some room, within the box."""
    reach = float(np.linalg.norm(structure.residue_positions, axis=1).max()) + _MASK_MARGIN_A
    return min(reach, 0.5 * box_size * pixel_size)
