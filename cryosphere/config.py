"""The whole configuration: typed and strict, every key with its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cryosphere.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ParticlesConfig(_Section):
    """Where the images are."""

    file: Path = Field(strict=False, description="RELION STAR, or cryoSPARC .cs or .csg, with poses and CTF")
    datadir: Path | None = Field(
        None, strict=False, description="where to look for stacks that are neither beside the file nor in its project"
    )
    path_map: dict[str, str] = Field(
        default_factory=dict, description="beginnings of stack paths and what replaces them: {/old/folder: /new/folder}"
    )
    select: str | None = Field(
        None,
        description="only particles for which this holds: 'rlnLogLikeliContribution > 1e5 and rlnClassNumber == 1'",
    )
    index_file: Path | None = Field(
        None, strict=False, description="only these rows of file, from 0: text with one per line, or an integer .npy"
    )
    subset: Path | None = Field(
        None, strict=False, description="only images that this other STAR file has too (by rlnImageName)"
    )
    pixel_size: float | None = Field(
        None,
        gt=0,
        description="Å; images are cropped in Fourier space to these coarser pixels; null: theirs, or the "
        "coarsest of several",
    )
    stack: Literal["auto", "float16", "float32", "none"] = Field(
        "auto",
        description="number type in which prepared images are kept in the run folder; none: read from their files each "
        "time; auto: float16 if they are resampled (pixel_size, several pixel or box sizes), else none",
    )
    invert: bool = Field(False, description="true if protein is dark in the images (a .cs says so itself)")
    half_set: Literal[1, 2] | None = Field(
        None, description="train on one of two independent halves (those of the refinement, else random); null: on all"
    )
    refine_poses: bool = Field(False, description="refine small errors of rotation and shift, particle by particle")
    rotation_error: float = Field(
        3.0, gt=0, le=20, description="refine_poses: expected size (rms) of rotation errors, degrees"
    )
    shift_error: float = Field(1.0, gt=0, le=20, description="refine_poses: expected size (rms) of shift errors, Å")


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class StructureConfig(_Section):
    """The nominal structure and how it becomes Gaussians."""

    file: Path = Field(strict=False, description="PDB or mmCIF file (.gz too)")
    origin: Literal["auto", "center", "corner"] | Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
        "auto",
        description="where coordinate 0 lies: box center or box corner; auto looks at the centroid; or [x, y, z], "
        "where the box center lies, Å (init --map takes it from a map)",
    )
    gaussian_at: Literal["centroid", "calpha"] = Field(
        "centroid", description="centre of each residue's Gaussian: of its atoms' electrons, or Cα (C1′)"
    )
    sigma: float = Field(2.0, gt=0, le=20, description="width of each residue's Gaussian, Å")
    assembly: Annotated[str, BeforeValidator(_number_as_text)] | None = Field(
        None, description='biological assembly to make by symmetry, as "1"; null: the chains in the file'
    )
    ligands: Literal["auto", "all", "none"] = Field(
        "auto",
        description="auto: ligands, sugars and metal ions are Gaussians too, buffer molecules are not; all; or none",
    )
    min_plddt: Literal["auto"] | Annotated[float, Field(ge=0, le=100)] = Field(
        "auto",
        description="predicted models: residues of lower pLDDT are left out; auto: long runs under 50; 0: none",
    )


class RegionConfig(_Section):
    """A run of residues of one chain with its own segments; residues outside every region stay fixed."""

    chain: str = Field(description="chain name as in the file")
    first: int | None = Field(None, description="first residue number (default: start of the chain)")
    last: int | None = Field(None, description="last residue number (default: end of the chain)")
    n_segments: int = Field(ge=1, description="number of segments")
    starts: list[int] | None = Field(
        None, description="method chain: residue number at which each segment begins; default: even tiling"
    )
    prior_std: float | None = Field(None, gt=0, description="method chain: as segments.prior_std, for this region")


class SegmentsConfig(_Section):
    """How the structure divides into nearly rigid segments."""

    method: Literal["contacts", "pae", "chain"] = Field(
        "contacts",
        description="contacts: in space, by what touches; pae: that, weighed with pae_file; chain: along the chain",
    )
    n_segments: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="auto: as many as the images support (method chain: one per 35 residues); or a number"
    )
    patches: Annotated[int, Field(ge=2, le=200)] | None = Field(
        None, description="n_segments auto: pieces to begin with; null: one per 40 residues or so"
    )
    pae_file: Path | None = Field(
        None, strict=False, description="method pae: AlphaFold's predicted aligned error (JSON)"
    )
    regions: list[RegionConfig] = Field(
        default_factory=list, description="named regions, each with its own n_segments; the rest stays fixed"
    )
    temperature: float = Field(0.05, gt=0, description="method chain: softness of the segment boundaries (τ)")
    prior_std: float = Field(10.0, gt=0, description="method chain: prior std of segment centres and widths, residues")


class ModelConfig(_Section):
    """Latent space, encoder and decoder."""

    preset: Literal["default", "paper"] = Field("default", description="default, or the recipe of the paper")
    latent_dim: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        "auto", description="dimension of the latent space; auto: 1 or 2, as the images support"
    )
    encoder: Literal["score", "pixels", "free"] = Field(
        "score",
        description="score: MLP on the images' forces and torques; pixels: on centred, phase-flipped images; "
        "free: one latent per image (objective elbo)",
    )
    encoder_layers: list[Annotated[int, Field(ge=1)]] = Field(
        [256, 128], description="hidden layers of the encoder (used with objective elbo, or training.own_samples)"
    )
    decoder_layers: list[Annotated[int, Field(ge=1)]] = Field([48, 48], description="hidden layers of the decoder")
    motion: Literal["blended", "sequential"] = Field(
        "blended",
        description="blended: about each segment's own centre; sequential: in turn about the origin (paper)",
    )


class LossConfig(_Section):
    """What is minimised."""

    objective: Literal["marginal", "elbo"] = Field(
        "marginal",
        description="marginal: likelihood summed over conformations shared by the images; elbo: of the encoder's one",
    )
    data: Literal["gaussian", "correlation"] = Field(
        "gaussian", description="Gaussian log-likelihood, or correlation (objective elbo)"
    )
    contrast: Literal["marginal", "profiled"] = Field(
        "marginal",
        description="of each image: integrated over its distribution in the set, or the best (elbo always: the best)",
    )
    low_pass_resolution: float | None = Field(
        None, gt=0, description="Å; applied to image and prediction alike; null: none"
    )
    mask_radius: float | None = Field(None, gt=0, description="Å about the particle's centre; null: from the structure")
    kl_latent: float = Field(1.0, ge=0, description="objective elbo: weight of KL(z)")
    kl_segmentation: float = Field(1.0, ge=0, description="weight of the segmentation's KL terms")
    kl_schedule: Literal["warm_up", "paper"] = Field(
        "warm_up",
        description="objective elbo; warm_up: all linear to 1; paper: proportions cyclical, the others linear",
    )
    continuity: float = Field(100.0, ge=0, description="weight of changed consecutive distances, nats/Å²")
    clash: float = Field(
        100.0,
        ge=0,
        description="weight of overlaps under 4.3 Å beyond the nominal's, nats/Å² (data correlation: all under 4 Å)",
    )
    weight_decay: float = Field(0.0, ge=0, description="objective elbo: weight of the squared network weights")


class TrainingConfig(_Section):
    """How it is minimised."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: CUDA, else MPS, else CPU")
    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="passes over the images at full resolution, in one round, after some 50,000 images at coarser "
        "ones; null: 2 to 5 rounds of at least 24,000 images, until the held-out ones gain no more; 30 passes (elbo)",
    )
    batch_size: int = Field(32, ge=1, description="images per optimiser step")
    n_nodes: Annotated[int, Field(ge=4)] | None = Field(
        None,
        description="objective marginal: conformations shared by the images; null: 32, 96 and 128 for 1, 2, more"
        " dimensions",
    )
    own_samples: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="objective marginal: further conformations for each image, from the encoder; null: 0 up to 2 "
        "dimensions, else 4",
    )
    learning_rate: float = Field(3e-3, gt=0, description="encoder and decoder")
    segmentation_learning_rate: float = Field(3e-2, gt=0, description="segments")
    latent_learning_rate: float = Field(0.05, gt=0, description="latents of encoder: free, each seen once an epoch")
    lr_schedule: Literal["warm_up_cosine", "constant", "multi_step"] = Field(
        "warm_up_cosine", description="objective elbo; multi_step: divided by 10 at each of lr_milestones"
    )
    lr_milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.5, 0.75], description="objective elbo: fractions of the planned steps at which multi_step divides"
    )
    gradient_clip: float | None = Field(
        300.0, gt=0, description="largest gradient norm (objective marginal: of the decoder); null: none"
    )
    held_out: float = Field(0.05, ge=0, lt=0.9, description="share of images kept out of training")
    seed: int = Field(0, ge=0)
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="a checkpoint at least this often, and after every stage or epoch"
    )


class InferenceConfig(_Section):
    """The posterior of every particle after training."""

    method: Literal["weights", "encoder"] = Field(
        "weights",
        description="weights: likelihood of each image over conformations shared by all; encoder: q(z|image)",
    )
    n_conformations: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="conformations that every image is compared with; null: 96, 576 and 256 for 1, 2, more dimensions; "
        "64 with objective elbo",
    )


class OutputConfig(_Section):
    """What a run writes besides its results."""

    tensorboard: bool = Field(True, description="write TensorBoard events if tensorboard is installed")


PAPER_PRESET: dict[str, dict[str, Any]] = {
    "structure": {"gaussian_at": "calpha"},
    "segments": {"method": "chain"},
    "model": {
        "latent_dim": 8,
        "encoder": "pixels",
        "encoder_layers": [512, 256, 64, 64],
        "decoder_layers": [512, 512],
        "motion": "sequential",
    },
    "loss": {
        "objective": "elbo",
        "data": "correlation",
        "kl_schedule": "paper",
        "continuity": 0.1,
        "clash": 0.1,
        "weight_decay": 1e-6,
    },
    "training": {
        "epochs": 300,
        "batch_size": 128,
        "learning_rate": 3e-5,
        "segmentation_learning_rate": 3e-4,
        "lr_schedule": "constant",
        "gradient_clip": None,
    },
    "inference": {"method": "encoder"},
}
"""Defaults that ``model.preset: paper`` puts in place of the usual ones (METHOD: arXiv 2407.01574)."""


class Config(_Section):
    """A training run, from its inputs to its results. Every key but the two files has a default."""

    particles: ParticlesConfig
    structure: StructureConfig
    segments: SegmentsConfig = SegmentsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    output: OutputConfig = OutputConfig()

    @property
    def start_seed(self) -> int:
        """Seed of the first weights and of all that training draws; the second half set starts from others."""
        return self.training.seed + (self.particles.half_set == 2)

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        merged = {section: given for section, given in values.items() if given is not None}
        model = merged.get("model")
        preset = model.get("preset") if isinstance(model, dict) else getattr(model, "preset", None)
        if preset != "paper":
            return merged
        for section, defaults in PAPER_PRESET.items():
            given = merged.get(section)
            if given is None or isinstance(given, dict):
                merged[section] = {**defaults, **(given or {})}
        return merged

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        elbo = self.loss.objective == "elbo"
        for wrong, sentence in (
            (self.model.encoder == "free" and not elbo, "model.encoder 'free' needs loss.objective 'elbo'"),
            (self.particles.refine_poses and elbo, "particles.refine_poses needs loss.objective 'marginal'"),
            (self.loss.data == "correlation" and not elbo, "loss.data 'correlation' needs loss.objective 'elbo'"),
            (
                self.model.motion == "sequential" and not elbo,
                "model.motion 'sequential' (the paper's) needs loss.objective 'elbo'",
            ),
            (
                self.inference.method == "encoder"
                and not elbo
                and (
                    self.training.own_samples == 0
                    or (self.training.own_samples is None and self.model.latent_dim in ("auto", 1, 2))
                ),
                "inference.method 'encoder' needs an encoder that was trained: loss.objective 'elbo', or "
                "training.own_samples above 0, or more than 2 latent dimensions",
            ),
            (
                (self.segments.method == "pae") != (self.segments.pae_file is not None),
                "segments.method 'pae' and segments.pae_file go together: give both or neither",
            ),
            (
                bool(self.segments.regions) and self.segments.n_segments != "auto",
                "segments.n_segments is for the whole assembly; with segments.regions each region has its own",
            ),
        ):
            if wrong:
                raise ValueError(sentence)
        if self.model.encoder == "free" and self.training.held_out > 0 and self.inference.method == "encoder":
            raise ValueError(
                "model.encoder 'free' has no latent for held-out images: use inference.method 'weights' "
                "or training.held_out 0"
            )
        return self


def choose_device(name: str) -> str:
    """Resolve ``auto`` and refuse a device that is not there (ConfigError)."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name, False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise ConfigError(f"device {name!r} is not available here; available: {there} (or auto).")
    return name
