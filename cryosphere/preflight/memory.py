"""What a run will take of memory, GPU memory and disk: counted from what the program allocates, before it does.

The counts are in :func:`requirements`; what the machine has is in ``training.memory``, and the two are compared in
``preflight.resources``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cryosphere.config import Config
from cryosphere.model.renderer import Renderer
from cryosphere.particles.prepared import StackOrder
from cryosphere.physics.gaussians import grid_size
from cryosphere.records import ParticleTable, Structure
from cryosphere.runs.grid import MOST_GRID_DIMENSIONS
from cryosphere.training.memory import conformation_bytes, image_bytes
from cryosphere.training.stages import n_own_samples

# Conformations that images are compared with in training, in judging models, and in the posterior, for one, two and
# more latent dimensions (``model.vae``, ``training.evidence``, ``inference.posterior``).
_TRAINING_NODES, _MANY_TRAINING_NODES = {1: 32, 2: 96}, 128
_JUDGED_NODES, _MANY_JUDGED_NODES = {1: 64, 2: 192}, 256
_POSTERIOR_NODES, _MANY_POSTERIOR_NODES, _ELBO_POSTERIOR_NODES = {1: 96, 2: 576}, 256, 64
# Images of a block, and values of these, at most (``training.stages``, ``training.marginal``); images from which the
# noise of an optics group is estimated (``particles.dataset``).
_BLOCK, _BLOCK_VALUES, _NOISE_SAMPLE = 1024, 10_000_000, 500
# Bytes for every pixel of images that are being read, whitened and prepared, and for those that are ready.
_READING, _READY = 22, 10
# Bytes of slices and of what is looked up for them (``model.renderer``, ``physics.slices``), and of patches of
# Gaussians (``physics.gaussians``).
_SLICE_BYTES, _PATCH_BYTES = 0.2e9, 0.1e9
# Libraries that are loaded only on the way, and memory that is given back too late; what compiling the loops takes, the
# first time on a machine, is not counted (some 0.5 GB).
_LATER_BYTES = 0.2e9
# Segments to begin with, at most, where their number is found (``model.division``).
_MOST_SEGMENTS = 24
# Numbers per image of the score features: 3 widths, 24 groups (``model.scores``).
_N_FEATURES = 3 * (12 * 24 + 1) + 9
# Largest image that the pixel encoder sees (``model.encoder``).
_ENCODED_BOX = 64
# Copies of the weights in a checkpoint: optimiser (3), best and rivals; checkpoints at a time: last, best, a new one.
_COPIES, _CHECKPOINTS = 8, 3


@dataclass(frozen=True)
class Workload:
    """What memory and disk depend on.

    Attributes
    ----------
    n_particles, box_size : int
    fine_size : int
        Edge of the grid on which Gaussians are spread.
    band : int
        Shells to which conformations are transformed.
    n_residues, n_segments, latent_dim : int
    motion : str
    batch_size, block : int
        Images of a step, and of a block.
    n_transformed, n_compared : int
        Conformations whose transforms are in memory together, and log-likelihoods that the posterior keeps for every
        image (none where each image has conformations of its own).
    n_parameters : int
        Of all networks and segments, free latents included.
    n_cached : int
        Score features kept for every particle (half precision).
    refines_poses : bool
    table_bytes, stack_bytes : int
        Of the particle table, and of the stack of prepared images (0: none).
    """

    n_particles: int
    box_size: int
    fine_size: int
    band: int
    n_residues: int
    n_segments: int
    latent_dim: int
    motion: str
    batch_size: int
    block: int
    n_transformed: int
    n_compared: int
    n_parameters: int
    n_cached: int
    refines_poses: bool
    table_bytes: int
    stack_bytes: int

    @classmethod
    def of(cls, config: Config, table: ParticleTable, structure: Structure) -> Workload:
        """Workload of a run; where training finds the latent dimension, as if it were two."""
        latent_dim = 2 if config.model.latent_dim == "auto" else config.model.latent_dim
        nodes = config.training.n_nodes or _TRAINING_NODES.get(latent_dim, _MANY_TRAINING_NODES)
        renderer = Renderer(structure, table.box_size, table.pixel_size, 0.5 * table.box_size * table.pixel_size)
        is_elbo = config.loss.objective == "elbo"
        level = renderer.level(n_conformations=nodes)
        compared = _n_compared(config, latent_dim)
        judged = 0 if is_elbo else max(nodes, _JUDGED_NODES.get(latent_dim, _MANY_JUDGED_NODES))
        pixels, n_segments = table.box_size**2, _n_segments(config)
        batch = min(config.training.batch_size, table.n_particles)
        fitting = batch if is_elbo else max(batch, min(_BLOCK, _BLOCK_VALUES // pixels))
        has_features = config.model.encoder == "score" and n_own_samples(config, latent_dim) > 0
        order = StackOrder.of(config.particles, table, mask_radius=0.0)
        return cls(
            n_particles=table.n_particles,
            box_size=table.box_size,
            fine_size=grid_size(table.box_size, table.pixel_size, float(structure.sigmas.min())),
            band=level.band,
            n_residues=structure.n_residues,
            n_segments=n_segments,
            latent_dim=latent_dim,
            motion=config.model.motion,
            batch_size=batch,
            block=min(fitting, table.n_particles),
            n_transformed=min(max(judged, compared), renderer.capacity(level)),
            n_compared=compared if is_elbo or latent_dim <= MOST_GRID_DIMENSIONS else 0,
            n_parameters=_n_parameters(config, table, structure.n_residues, n_segments, latent_dim),
            n_cached=_N_FEATURES if has_features and not is_elbo else 0,
            refines_poses=config.particles.refine_poses,
            table_bytes=sum(value.nbytes for value in vars(table).values() if isinstance(value, np.ndarray)),
            stack_bytes=0 if order is None else order.n_bytes,
        )


@dataclass(frozen=True)
class Requirements:
    """Bytes that a run takes, by what takes them, at the moment when it takes most.

    Attributes
    ----------
    ram, gpu, disk : dict
        ``gpu`` is empty where there is none.
    coordinates : float
        What coordinates of every particle would take on the disk, if they are exported.
    """

    ram: dict[str, float]
    gpu: dict[str, float]
    disk: dict[str, float]
    coordinates: float = field(default=0.0)


def requirements(work: Workload, device: str, resident: float) -> Requirements:
    """Memory and disk of a run.

    Parameters
    ----------
    work : Workload
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    resident : float
        Bytes that this process has already, with all libraries and inputs read.

    Notes
    -----
    Where the numbers come from, in bytes:

    - particles: corrections of poses (20 each), orders of an epoch and rows (40), score features (2 a number,
      ``training.encoding.FeatureCache``), rows of the prepared stack (300, ``particles.prepared.StackOrder``);
    - model: weights, gradients and Adam's two moments (16 a parameter);
    - images: 22 for every pixel of a block while it is read and prepared (``ParticleImages.batch``,
      ``Renderer.prepare``), 10 once it is; 20 for the images whose noise is estimated first;
    - transforms: complex numbers at (4 band + 1)² (2 band + 1) frequencies of every conformation
      (``physics.slices.SliceTable``), at most 4 GB (``model.renderer``), and the slices taken from them;
    - step: ``training.memory.image_bytes`` and ``conformation_bytes``, and patches of Gaussians;
    - posterior: a log-likelihood (4) of every particle at every conformation, twice if poses are refined.
    """
    pixels = work.box_size**2
    on_device = {"model": 16.0 * work.n_parameters}
    kept = {"program and inputs": resident + _LATER_BYTES, "particles": _particle_bytes(work)}
    transforms = 8.0 * work.n_transformed * (4 * work.band + 1) ** 2 * (2 * work.band + 1)
    slices = _SLICE_BYTES if work.n_transformed else 0.0
    each = image_bytes(work.box_size, work.fine_size, work.n_residues)
    each += conformation_bytes(work.n_residues, work.n_segments, work.motion)
    comparing = {"images": 1.0 * _READY * work.block * pixels, "transforms": transforms + slices}
    stepping = {"images": comparing["images"], "step": work.batch_size * each + _PATCH_BYTES}
    reading = {"images": 1.0 * _READING * max(work.block, min(_NOISE_SAMPLE, work.n_particles)) * pixels}
    posterior = {"posterior": 4.0 * work.n_particles * work.n_compared * (2 if work.refines_poses else 1)}
    if device == "cpu":
        phases = [reading, comparing, stepping, {**posterior, "transforms": transforms + slices}]
        ram, gpu = kept | on_device | _most(phases), {}
    else:
        ram = kept | _most([reading, posterior])
        gpu = on_device | _most([{"images": 1.0 * _READING * work.block * pixels}, comparing, stepping])
    return Requirements(ram, gpu, _disk(work), 12.0 * work.n_particles * work.n_residues)


def _most(phases: Iterable[dict[str, float]]) -> dict[str, float]:
    """The phase that takes most."""
    return max(phases, key=lambda phase: sum(phase.values()))


def _particle_bytes(work: Workload) -> float:
    stack = 300 if work.stack_bytes else 0
    return float(work.n_particles * (60 + 2 * work.n_cached + stack))


def _disk(work: Workload) -> dict[str, float]:
    latent = 4 * work.latent_dim * (2 + work.latent_dim)
    found = {
        "prepared images": float(work.stack_bytes),
        "posterior": float(work.n_particles * (16 + latent + 4 * work.n_compared)),
        "checkpoints": float(_CHECKPOINTS * (4 * _COPIES * work.n_parameters + 20 * work.n_particles)),
        "particle table": float(work.table_bytes),
    }
    return {name: value for name, value in found.items() if value}


def _n_compared(config: Config, latent_dim: int) -> int:
    """Conformations that the posterior compares every image with."""
    if config.inference.method == "encoder":
        return 0
    usual = _POSTERIOR_NODES.get(latent_dim, _MANY_POSTERIOR_NODES)
    return config.inference.n_conformations or (_ELBO_POSTERIOR_NODES if config.loss.objective == "elbo" else usual)


def _n_segments(config: Config) -> int:
    segments = config.segments
    if segments.regions:
        return sum(region.n_segments for region in segments.regions)
    return (segments.patches or _MOST_SEGMENTS) if segments.n_segments == "auto" else segments.n_segments


def _n_parameters(config: Config, table: ParticleTable, n_residues: int, n_segments: int, latent_dim: int) -> int:
    model = config.model
    numbers = n_segments * (7 if model.motion == "blended" else 6)
    inputs = _N_FEATURES if model.encoder == "score" else min(table.box_size, _ENCODED_BOX) ** 2
    encoder = _n_weights([inputs, *model.encoder_layers, 2 * latent_dim])
    if model.encoder == "free":
        encoder = 2 * table.n_particles * latent_dim
    segments = 6 * n_segments if config.segments.method == "chain" else n_residues * n_segments
    return _n_weights([latent_dim, *model.decoder_layers, numbers]) + numbers + encoder + segments


def _n_weights(sizes: list[int]) -> int:
    return sum((first + 1) * second for first, second in itertools.pairwise(sizes))
