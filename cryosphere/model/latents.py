"""Latent points shared by all images: where the prior is sampled, and the density they were drawn with."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

# The outermost quantiles of a coordinate that nodes may have.
_LEAST_QUANTILE = 2e-4


def prior_nodes(count: int, latent_dim: int, generator: torch.Generator | None = None) -> Float[Tensor, "node latent"]:
    """Points spread evenly in the standard normal prior, each standing for the same share of it.

    In one dimension the quantiles of an even grid; in more, of a lattice with the powers of the generalised golden
    ratio as steps (Roberts, 2018: the R sequence), which fills space evenly at any count.

    Parameters
    ----------
    count, latent_dim : int
    generator : torch.Generator, optional
        Shifts the lattice at random (modulo 1), so that averages over its points are unbiased; without one it stays.

    Returns
    -------
    tensor of shape (node, latent)
    """
    shift = torch.full((latent_dim,), 0.5) if generator is None else torch.rand(latent_dim, generator=generator)
    number = torch.arange(count, dtype=torch.float64)
    if latent_dim == 1:
        quantile = ((number + shift) / count)[:, None]
    else:
        ratio = 2.0
        for _ in range(64):
            ratio = (1 + ratio) ** (1 / (latent_dim + 1))
        steps = torch.tensor([ratio ** -(axis + 1) for axis in range(latent_dim)], dtype=torch.float64)
        quantile = (number[:, None] * steps + shift) % 1
    return torch.special.ndtri(quantile.clamp(_LEAST_QUANTILE, 1 - _LEAST_QUANTILE)).float()


def log_normal(
    latent: Float[Tensor, "... latent"], mean: Tensor | float = 0.0, log_std: Tensor | float = 0.0
) -> Float[Tensor, ...]:
    """Log density of independent normal distributions, standard by default."""
    log_std = torch.as_tensor(log_std, dtype=latent.dtype, device=latent.device)
    scaled = (latent - mean) * torch.exp(-log_std)
    return (-0.5 * scaled**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
