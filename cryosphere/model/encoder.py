"""From an image to its latent: an amortised network on pixels, or one free latent per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryosphere.model.networks import multilayer_perceptron
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import circular_mask, fourier_to_image, frequency_grid, image_to_fourier, resize
from cryosphere.records import ParticleBatch

# Images are Fourier-cropped to at most this many pixels before the network sees them.
_LARGEST_INPUT = 64


class PixelEncoder(nn.Module):
    """MLP on centred, CTF-phase-flipped, masked pixels → mean and log-std of q(z | image).

    Parameters
    ----------
    box_size : int, pixels. pixel_size : float, Å.
    mask_radius : float
        Å; what lies beyond is not seen.
    hidden : sequence of int
        Widths of the hidden layers.
    latent_dim : int
    """

    def __init__(
        self, box_size: int, pixel_size: float, mask_radius: float, hidden: Sequence[int], latent_dim: int
    ) -> None:
        super().__init__()
        self.box_size = box_size
        self.input_size = min(box_size, _LARGEST_INPUT - (box_size % 2))
        kx, ky = frequency_grid(box_size, pixel_size)
        coarse = pixel_size * box_size / self.input_size
        mask = circular_mask(self.input_size, mask_radius / coarse)
        self.register_buffer("kx", kx.contiguous(), persistent=False)
        self.register_buffer("ky", ky.contiguous(), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.network = multilayer_perceptron(self.input_size**2, hidden, 2 * latent_dim)

    def prepare(self, batch: ParticleBatch) -> Float[Tensor, "batch pixel"]:
        """What the network sees of the images: phases flipped, Fourier-cropped, masked, flattened."""
        ctf = contrast_transfer(self.kx, self.ky, batch.ctf)
        fourier = image_to_fourier(batch.images) * torch.sign(ctf)
        scale = self.input_size / self.box_size
        images = fourier_to_image(resize(fourier, self.input_size), self.input_size) * scale
        return (images * self.mask).flatten(1)

    def forward(self, batch: ParticleBatch) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-std of q(z | image)."""
        mean, log_std = self.network(self.prepare(batch)).chunk(2, dim=1)
        return mean, log_std


class FreeLatents(nn.Module):
    """One latent mean and log-std per particle, learned like any other parameter.

    Parameters
    ----------
    n_particles : int
        Rows of the particle table.
    latent_dim : int
    """

    def __init__(self, n_particles: int, latent_dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(0.1 * torch.randn(n_particles, latent_dim))
        self.log_std = nn.Parameter(torch.full((n_particles, latent_dim), -1.0))

    def forward(self, batch: ParticleBatch) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-std of the latents of the batch's rows."""
        return self.mean[batch.rows], self.log_std[batch.rows]
