"""Small errors of rotation and shift, found particle by particle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere import distributed
from cryosphere.config import ParticlesConfig
from cryosphere.inference.likelihoods import prepared_batches
from cryosphere.model.latents import prior_nodes
from cryosphere.model.losses import ContrastPrior, log_likelihood_ratio
from cryosphere.model.renderer import PreparedImages
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.fourier import fourier_to_image
from cryosphere.physics.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from cryosphere.physics.slices import SliceTable
from cryosphere.progress import Bar

# Latents among which an image's conformation is chosen.
_NODES = {1: 32, 2: 128}
_MANY_NODES = 256
# Gauss-Newton steps, and the angle (rad) of the finite differences for rotations.
_STEPS = 3
_ANGLE = 5e-3
_WINDOW = 4.0


@dataclass(frozen=True)
class PoseFreedom:
    """What small errors of its pose leave open for every image of a batch.

    About the present pose a conformation x gives the image ``a x + a J δ + noise`` with a correction δ (rotation
    vector in the view frame, rad; shift, Å) whose prior is normal. The derivatives J are those of the image's likeliest
    conformation (Gauss-Newton), an approximation that holds near it.

    Attributes
    ----------
    gain : tensor of shape (batch, conformation)
        Nats by which integrating over δ changes the log-likelihood: with the gradient g and curvature H of the log
        posterior of δ, ``½ gᵀ H⁻¹ g - ½ log |H P⁻¹| - ½ kᵀ P k`` for the prior's precision P and the correction so
        far, k.
    correction : tensor of shape (batch, conformation, 5)
        Mode of δ at every conformation.
    """

    gain: Float[Tensor, "batch conformation"]
    correction: Float[Tensor, "batch conformation 5"]


@dataclass(frozen=True)
class PosePrior:
    """Normal prior of pose errors: ``known`` corrections so far, ``precision`` its inverse variances about 0."""

    known: Float[Tensor, "batch 5"]
    precision: Float[Tensor, " 5"]

    @classmethod
    def of(cls, images: ParticleImages, rows: Int[np.ndarray, " batch"], config: ParticlesConfig, device) -> PosePrior:
        """Errors as large as the configuration says (rms of the totals), spread evenly over axes."""
        known = torch.cat([images.pose_rotvec[rows], images.pose_shift[rows]], dim=1)
        angle = math.radians(config.rotation_error) / math.sqrt(3)
        precision = torch.tensor([angle**-2] * 3 + [2 / config.shift_error**2] * 2)
        return cls(known.to(device), precision.to(device))


@torch.no_grad()
def refine_poses(
    model: CryoSphere,
    images: ParticleImages,
    resolution: float | None,
    config: ParticlesConfig,
    progress: bool = False,
) -> None:
    """Correct the poses of all particles by the mode of conformation and pose together, and store them in ``images``.

    Three Gauss-Newton steps; the prior of the errors is centred on the poses of the table.

    Parameters
    ----------
    model : CryoSphere
    images : ParticleImages
        Its ``pose_rotvec`` and ``pose_shift`` are replaced.
    resolution : float, optional
        Å, to compare at; by default the full one.
    config : ParticlesConfig
        ``rotation_error`` (degrees, rms of the total angle) and ``shift_error`` (Å, rms of the total shift).
    progress : bool
        Progress bar on stderr.
    """
    model.eval()
    latent = prior_nodes(_NODES.get(model.latent_dim, _MANY_NODES), model.latent_dim).to(model.device)
    sites = model.decode_sites(latent)
    band = None if resolution is None else model.renderer.band_at(resolution)
    level = model.renderer.level(band, len(sites))
    table = model.renderer.table(sites, level)
    everyone = np.arange(images.table.n_particles)[distributed.share(images.table.n_particles)]
    with Bar(total=len(everyone) * _STEPS, desc="poses", unit="image", disable=not progress, leave=False) as bar:
        for _ in range(_STEPS):
            for part, _, prepared, contrast in prepared_batches(model, images, everyone, level, bar):
                rows = everyone[part]
                likelihood = log_likelihood_ratio(*model.renderer.overlaps(prepared, table), contrast)
                prior = PosePrior.of(images, rows, config, model.device)
                freedom = pose_freedom(model, prepared, sites[likelihood.argmax(1)], table, contrast, prior)
                best = (likelihood + freedom.gain).argmax(1)
                step = freedom.correction[torch.arange(len(rows), device=best.device), best].cpu()
                moved = rotvec_to_rotmat(step[:, :3]) @ rotvec_to_rotmat(images.pose_rotvec[rows])
                images.pose_rotvec[rows] = rotmat_to_rotvec(moved)
                images.pose_shift[rows] += step[:, 3:]
    own = torch.from_numpy(everyone)
    images.pose_rotvec, images.pose_shift = (
        distributed.gather(values[own]) for values in (images.pose_rotvec, images.pose_shift)
    )


@torch.no_grad()
def pose_freedom(
    model: CryoSphere,
    prepared: PreparedImages,
    positions: Float[Tensor, "batch residue 3"],
    table: SliceTable,
    contrast: ContrastPrior | None,
    prior: PosePrior,
) -> PoseFreedom:
    """Expand the log-likelihoods of images at conformations in small corrections of their poses.

    Parameters
    ----------
    model : CryoSphere
    prepared : PreparedImages
        In their present poses.
    positions : tensor of shape (batch, residue, 3)
        The conformation (Å) at which each image's derivatives are taken, its likeliest.
    table : SliceTable
        Transforms of the conformations to compare with.
    contrast : ContrastPrior, optional
    prior : PosePrior
    """
    rendered = model.renderer.render(prepared, positions, _WINDOW)
    overlap, power = (prepared.images * rendered).sum((-2, -1)), rendered.square().sum((-2, -1))
    scale = overlap.clamp_min(0.0) / power.clamp_min(torch.finfo(power.dtype).tiny)
    if contrast is not None:
        weight = 1 / contrast.std**2
        scale = (overlap + contrast.mean * weight).clamp_min(0.0) / (power + weight)
    slopes = _rotation_slopes(model, prepared, positions, rendered) + _shift_slopes(model, prepared, positions)
    jacobian = scale[:, None, None, None] * torch.stack(slopes, dim=1)
    seen = (jacobian * prepared.images[:, None]).sum((-2, -1))
    expected, _ = model.renderer.inner_products(prepared, jacobian, table)
    gradient = seen[..., None] - scale[:, None, None] * expected - (prior.precision * prior.known)[..., None]
    flat = jacobian.flatten(2)
    normal = flat @ flat.transpose(1, 2) + torch.diag(prior.precision)
    correction = torch.linalg.solve(normal, gradient)
    occam = torch.logdet(normal) - prior.precision.log().sum() + (prior.precision * prior.known**2).sum(1)
    gain = 0.5 * ((gradient * correction).sum(1) - occam[:, None])
    limit = 3 / prior.precision.sqrt()
    return PoseFreedom(gain, correction.transpose(1, 2).clamp(-limit, limit))


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
