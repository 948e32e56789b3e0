"""Small errors of rotation and shift, found particle by particle."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from cryosphere.config import ParticlesConfig
from cryosphere.model.latents import prior_nodes
from cryosphere.model.losses import ContrastPrior, log_likelihood_ratio
from cryosphere.model.renderer import Level, PreparedImages
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.fourier import fourier_to_image
from cryosphere.physics.rotations import rotmat_to_rotvec, rotvec_to_rotmat

_BATCH = 128
# Latents among which an image's conformation is chosen.
_NODES = {1: 32, 2: 128}
_MANY_NODES = 256
# Gauss-Newton steps, and the angle (rad) of the finite differences for rotations.
_STEPS = 2
_ANGLE = 5e-3
_WINDOW = 4.0


@torch.no_grad()
def refine_poses(
    model: CryoSphere, images: ParticleImages, level: Level, config: ParticlesConfig, progress: bool = False
) -> None:
    """Correct the poses of all particles by their posterior mode, and store the corrections in ``images``.

    For each image, at its most likely conformation, two Gauss-Newton steps in rotation vector (view frame) and shift
    on ``½ |y - a x(δ)|² + ½ δᵀ P⁻¹ δ``. The prior P has the configuration's rms errors, spread evenly over axes, and
    is centred on the poses of the table.

    Parameters
    ----------
    model : CryoSphere
    images : ParticleImages
        Its ``pose_rotvec`` and ``pose_shift`` are replaced.
    level : Level
        Resolution to compare at.
    config : ParticlesConfig
        ``rotation_error`` (degrees, rms of the total angle) and ``shift_error`` (Å, rms of the total shift).
    progress : bool
        Progress bar on stderr.
    """
    model.eval()
    angle = math.radians(config.rotation_error) / math.sqrt(3)
    precision = torch.tensor([angle**-2] * 3 + [2 / config.shift_error**2] * 2, device=model.device)
    latent = prior_nodes(_NODES.get(model.latent_dim, _MANY_NODES), model.latent_dim).to(model.device)
    conformations = model.decode_sites(latent)
    table = model.renderer.table(conformations, level)
    n_particles = images.table.n_particles
    with tqdm(total=n_particles * _STEPS, desc="poses", unit="image", disable=not progress, leave=False) as bar:
        for _ in range(_STEPS):
            for start in range(0, n_particles, _BATCH):
                rows = np.arange(start, min(start + _BATCH, n_particles))
                batch = images.batch(rows).to(model.device)
                prepared = model.renderer.prepare(batch, level)
                contrast = model.contrast_prior(batch.optics_group)
                best = log_likelihood_ratio(*model.renderer.overlaps(prepared, table), contrast).argmax(1)
                known = torch.cat([images.pose_rotvec[rows], images.pose_shift[rows]], dim=1).to(model.device)
                step = pose_step(model, prepared, conformations[best], contrast, known, precision).cpu()
                moved = rotvec_to_rotmat(step[:, :3]) @ rotvec_to_rotmat(images.pose_rotvec[rows])
                images.pose_rotvec[rows] = rotmat_to_rotvec(moved)
                images.pose_shift[rows] += step[:, 3:]
                bar.update(len(rows))


def pose_step(
    model: CryoSphere,
    prepared: PreparedImages,
    positions: Float[Tensor, "batch residue 3"],
    contrast: ContrastPrior | None,
    known: Float[Tensor, "batch 5"],
    precision: Float[Tensor, " 5"],
) -> Float[Tensor, "batch 5"]:
    """One Gauss-Newton step of rotation vector (rad, view frame) and shift (Å) of images at given conformations.

    ``known`` is the correction so far, ``precision`` the inverse variances of the prior about 0.
    """
    rendered = model.renderer.render(prepared, positions, _WINDOW)
    overlap, power = (prepared.images * rendered).sum((-2, -1)), rendered.square().sum((-2, -1))
    scale = overlap.clamp_min(0.0) / power.clamp_min(torch.finfo(power.dtype).tiny)
    if contrast is not None:
        weight = 1 / contrast.std**2
        scale = (overlap + contrast.mean * weight).clamp_min(0.0) / (power + weight)
    slopes = _rotation_slopes(model, prepared, positions, rendered) + _shift_slopes(model, prepared, positions)
    jacobian = torch.stack([(scale[:, None, None] * slope).flatten(1) for slope in slopes], dim=1)
    residual = (prepared.images - scale[:, None, None] * rendered).flatten(1)
    normal = jacobian @ jacobian.transpose(1, 2) + torch.diag(precision)
    slope = torch.einsum("bin,bn->bi", jacobian, residual) - precision * known
    limit = 3 / precision.sqrt()
    return torch.linalg.solve(normal, slope[..., None])[..., 0].clamp(-limit, limit)


def _rotation_slopes(model, prepared: PreparedImages, positions: Tensor, rendered: Tensor) -> list[Tensor]:
    """Derivatives of the rendering by small rotations about the view's axes, by forward differences."""
    slopes = []
    for axis in range(3):
        turn = rotvec_to_rotmat(_ANGLE * torch.eye(3, device=positions.device)[axis])
        turned = PreparedImages(prepared.images, turn @ prepared.rotmat, prepared.transfer, prepared.level)
        slopes.append((model.renderer.render(turned, positions, _WINDOW) - rendered) / _ANGLE)
    return slopes


def _shift_slopes(model, prepared: PreparedImages, positions: Tensor) -> list[Tensor]:
    """Derivatives of the rendering by the shift that centres the image: it moves against the shift."""
    level = prepared.level
    fourier = model.renderer.render_fourier(prepared, positions, _WINDOW)
    return [
        fourier_to_image(2j * math.pi * frequency * fourier, level.size) * level.mask
        for frequency in (level.kx, level.ky)
    ]
