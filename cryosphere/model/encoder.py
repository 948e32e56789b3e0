"""From an image to its latent: a network on scores or on pixels, or one free latent per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryosphere.model.networks import multilayer_perceptron
from cryosphere.model.scores import ScoreFeatures
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import circular_mask, frequency_grid, resize
from cryosphere.records import ParticleBatch

# Images are Fourier-cropped to at most this many pixels before the network sees them.
_LARGEST_INPUT = 64
# Posterior log-stds of the score encoder stay between these; the prior's is 0.
_LOG_STD_RANGE = (-6.0, 1.0)
# Features that vary less over the sample are constants to the score encoder.
_LEAST_STD = 1e-6


class ScoreEncoder(nn.Module):
    """MLP on standardised score features → mean and log-std of q(z | image).

    Features depend on the images and on the template only, not on what is learned: compute them once with
    ``features`` and pass them to :meth:`from_features`.

    Parameters
    ----------
    features : ScoreFeatures
    hidden : sequence of int
        Widths of the hidden layers.
    latent_dim : int
    """

    def __init__(self, features: ScoreFeatures, hidden: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("feature_mean", torch.zeros(features.n_features))
        self.register_buffer("feature_std", torch.ones(features.n_features))
        self.network = multilayer_perceptron(features.n_features, hidden, 2 * latent_dim)

    def set_statistics(self, features: Float[Tensor, "sample feature"]) -> None:
        """Standardise by the mean and standard deviation over a sample of images (two at least) from now on."""
        std, mean = torch.std_mean(features, dim=0)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(torch.where(std > _LEAST_STD, std, 1.0))

    def from_features(
        self, features: Float[Tensor, "batch feature"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-std of q(z | image) from the images' features."""
        mean, raw = self.network((features - self.feature_mean) / self.feature_std).chunk(2, dim=1)
        low, high = _LOG_STD_RANGE
        middle, reach = 0.5 * (high + low), 0.5 * (high - low)
        return mean, middle + reach * torch.tanh((raw - middle) / reach)

    def forward(self, batch: ParticleBatch) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-std of q(z | image)."""
        return self.from_features(self.features(batch))


class PixelEncoder(nn.Module):
    """MLP on centred, CTF-phase-flipped pixels within a mask → mean and log-std of q(z | image).

    Parameters
    ----------
    box_size : int, pixels. pixel_size : float, Å.
    mask_radius : float
        Å; what lies beyond its soft edge is not seen.
    hidden : sequence of int
        Widths of the hidden layers.
    latent_dim : int
    """

    def __init__(
        self, box_size: int, pixel_size: float, mask_radius: float, hidden: Sequence[int], latent_dim: int
    ) -> None:
        super().__init__()
        self.input_size = min(box_size, _LARGEST_INPUT - (box_size % 2))
        coarse = pixel_size * box_size / self.input_size
        kx, ky = frequency_grid(self.input_size, coarse)
        mask = torch.fft.ifftshift(circular_mask(self.input_size, mask_radius / coarse)).flatten()
        inside = torch.nonzero(mask).flatten()
        self.register_buffer("kx", kx.contiguous(), persistent=False)
        self.register_buffer("ky", ky.contiguous(), persistent=False)
        self.register_buffer("inside", inside, persistent=False)
        self.register_buffer("mask", mask[inside] * (self.input_size / box_size), persistent=False)
        self.network = multilayer_perceptron(self.input_size**2, hidden, 2 * latent_dim)
        # drawn as for the whole square, of which the pixels outside would bring nothing
        self.network[0] = _with_inputs(self.network[0], inside)

    def prepare(self, batch: ParticleBatch) -> Float[Tensor, "batch pixel"]:
        """What the network sees of the images: Fourier-cropped, phases flipped, the pixels within the mask."""
        ctf = contrast_transfer(self.kx, self.ky, batch.ctf)
        fourier = resize(batch.fourier, self.input_size) * torch.sign(ctf)
        images = torch.fft.irfft2(fourier, s=(self.input_size, self.input_size))
        return images.flatten(1).index_select(1, self.inside) * self.mask

    def forward(self, batch: ParticleBatch) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-std of q(z | image)."""
        mean, log_std = self.network(self.prepare(batch)).chunk(2, dim=1)
        return mean, log_std


def _with_inputs(layer: nn.Linear, inputs: Int[Tensor, " input"]) -> nn.Linear:
    """A layer with some inputs of another and their weights."""
    part = nn.utils.skip_init(nn.Linear, len(inputs), layer.out_features)
    with torch.no_grad():
        part.weight.copy_(layer.weight[:, inputs])
        part.bias.copy_(layer.bias)
    return part


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
