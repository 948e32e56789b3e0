"""Terms of the objective; which of them are used, and with what weight, is decided in ``vae``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from cryosphere.conventions import CLASH_DISTANCE_A
from cryosphere.physics.clashes import squared_overlaps
from cryosphere.physics.compiled import in_parts, is_compiled

# Spread of contrasts that is always allowed for, relative to their mean.
_LEAST_CONTRAST_SPREAD = 0.05
# Å beyond the distance of a clash that residues are kept apart.
_CLASH_MARGIN = 0.3


def log_likelihood_ratio(
    overlap: Float[Tensor, "batch ..."], power: Float[Tensor, "batch ..."], contrast: ContrastPrior | None = None
) -> Float[Tensor, "batch ..."]:
    """Gaussian log-likelihood of images against pure noise, in nats, for unit white noise.

    Parameters
    ----------
    overlap, power : tensors
        Inner product of image and rendering, and squared norm of the rendering (both masked and filtered alike).
    contrast : ContrastPrior, optional
        The image is contrast × rendering + noise with a contrast a ~ N(mean, std²) that is integrated out:
        ``½ (overlap + m/s²)² / (power + 1/s²) - ½ m²/s² - ½ log(1 + s² power)``. Without one, the contrast a ≥ 0 is
        profiled: ``½ max(0, overlap)² / power``.
    """
    if contrast is None:
        return 0.5 * overlap.clamp_min(0.0) ** 2 / power.clamp_min(torch.finfo(power.dtype).tiny)
    shape = (-1, *[1] * (overlap.ndim - 1))
    mean, variance = contrast.mean.view(shape), contrast.std.view(shape) ** 2
    seen = 0.5 * (overlap + mean / variance) ** 2 / (power + 1 / variance)
    return seen - 0.5 * mean**2 / variance - 0.5 * torch.log1p(variance * power)


def expected_contrast(
    overlap: Float[Tensor, "batch ..."], power: Float[Tensor, "batch ..."], contrast: ContrastPrior | None = None
) -> Float[Tensor, "batch ..."]:
    """Contrast of images at known conformations, as :func:`log_likelihood_ratio` has it.

    Its posterior mean ``(overlap + m/s²) / (power + 1/s²)``; without a distribution of contrasts the best one that is
    not negative, ``max(0, overlap) / power``.
    """
    if contrast is None:
        return overlap.clamp_min(0.0) / power.clamp_min(torch.finfo(power.dtype).tiny)
    shape = (-1, *[1] * (overlap.ndim - 1))
    mean, precision = contrast.mean.view(shape), 1 / contrast.std.view(shape) ** 2
    return (overlap + mean * precision) / (power + precision)


@dataclass(frozen=True)
class ContrastPrior:
    """Gaussian distribution of the contrast of each image of a batch."""

    mean: Float[Tensor, " batch"]
    std: Float[Tensor, " batch"]

    def take(self, index: Tensor | slice) -> ContrastPrior:
        """That of some of the images."""
        return ContrastPrior(self.mean[index], self.std[index])

    def repeated(self, times: int) -> ContrastPrior:
        """With every image so many times in a row."""
        return ContrastPrior(self.mean.repeat_interleave(times), self.std.repeat_interleave(times))


def estimate_contrast(
    overlap: Float[Tensor, " image"], power: Float[Tensor, " image"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean and standard deviation of contrasts from images whose conformation is known, by moments.

    ``mean = Σ overlap / Σ power``, ``std² = Σ [(overlap - mean power)² - power] / Σ power²`` (the noise's share
    subtracted), at least 5 % of the mean. Both 0 if the images anticorrelate with the model.
    """
    mean = overlap.sum() / power.sum().clamp_min(torch.finfo(power.dtype).tiny)
    if mean <= 0:
        return torch.zeros_like(mean), torch.zeros_like(mean)
    excess = ((overlap - mean * power) ** 2 - power).sum() / (power**2).sum()
    return mean, torch.maximum(excess.clamp_min(0.0).sqrt(), _LEAST_CONTRAST_SPREAD * mean)


def improve_contrast(
    weights: Float[Tensor, "image conformation"],
    overlap: Float[Tensor, "image conformation"],
    power: Float[Tensor, "image conformation"],
    mean: Float[Tensor, ""],
    std: Float[Tensor, ""],
) -> Float[Tensor, " 2"]:
    """One step of expectation-maximisation for mean and standard deviation of the contrasts.

    Given a conformation, an image's contrast is normal with variance ``v = 1 / (power + 1/std²)`` and mean
    ``v (overlap + mean/std²)``; ``weights`` are the conformations' posterior probabilities. The spread stays at least
    5 % of the mean.
    """
    variance = 1 / (power + 1 / std**2)
    expected = variance * (overlap + mean / std**2)
    new = (weights * expected).sum(1).mean()
    square = (weights * (expected**2 + variance)).sum(1).mean() - new**2
    new = new.clamp_min(torch.finfo(new.dtype).tiny)
    return torch.stack([new, torch.maximum(square.clamp_min(0.0).sqrt(), _LEAST_CONTRAST_SPREAD * new)])


def correlation(
    images: Float[Tensor, "batch y x"], rendered: Float[Tensor, "batch y x"], mask: Float[Tensor, "y x"]
) -> Float[Tensor, " batch"]:
    """Normalised correlation of each image with its rendering inside a soft mask (weighted means removed)."""
    weight = (mask / mask.sum()).flatten().to(images.dtype)
    images, rendered = images.flatten(1), rendered.flatten(1)
    if is_compiled(rendered) and not images.requires_grad and not weight.requires_grad:
        return _Correlation.apply(images, rendered, weight)
    image, prediction = (stack - (stack @ weight)[:, None] for stack in (images, rendered))
    covariance = (weight * image * prediction).sum(1)
    variance = (weight * image**2).sum(1) * (weight * prediction**2).sum(1)
    return covariance / torch.sqrt(variance.clamp_min(torch.finfo(variance.dtype).tiny))


class _Correlation(torch.autograd.Function):
    """:func:`correlation` of rows of pixels on the CPU, compiled, for images that are constants."""

    @staticmethod
    def forward(ctx, images, rendered, weight):
        """Correlation of each row."""
        from cryosphere.model.losses_numba import correlate

        images, rendered = images.contiguous(), rendered.contiguous()
        values, parts = rendered.new_empty(len(images)), rendered.new_empty(len(images), 3)
        arrays = (array.detach().numpy() for array in (images, rendered, weight))
        least = torch.finfo(rendered.dtype).tiny
        in_parts(correlate, len(images), *arrays, least, values.numpy(), parts.numpy())
        ctx.save_for_backward(images, rendered, weight, parts)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_values):
        """Gradient with respect to the renderings."""
        from cryosphere.model.losses_numba import correlate_gradient

        gradient = torch.empty_like(ctx.saved_tensors[1])
        arrays = (*ctx.saved_tensors, grad_values.contiguous(), gradient)
        in_parts(correlate_gradient, len(gradient), *(array.detach().numpy() for array in arrays))
        return None, gradient, None


def squared_norm(weights: Float[Tensor, ...]) -> Float[Tensor, ""]:
    """Sum of squares; its gradient takes one pass over the weights, as there are millions of them."""
    return _SquaredNorm.apply(weights)


class _SquaredNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights):
        ctx.save_for_backward(weights)
        flat = weights.flatten()
        return torch.dot(flat, flat)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_value):
        (weights,) = ctx.saved_tensors
        return 2 * grad_value * weights


def kl_to_standard_normal(
    mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    """KL(N(mean, std²) ‖ N(0, 1)) of each image in nats."""
    return 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(1)


def continuity(
    positions: Float[Tensor, "batch residue 3"],
    bonds: Int[Tensor, " bond"],
    nominal_lengths: Float[Tensor, " bond"],
) -> Float[Tensor, ""]:
    """Mean squared change (Å²) of the distances between residues ``bonds`` and ``bonds + 1``."""
    if len(bonds) == 0:
        return positions.new_zeros(())
    steps = positions.index_select(1, bonds + 1) - positions.index_select(1, bonds)
    lengths = torch.linalg.norm(steps, dim=-1)
    return ((lengths - nominal_lengths) ** 2).mean()


def clash(
    positions: Float[Tensor, "batch residue 3"], nominal: Float[Tensor, "residue 3"] | None = None
) -> Float[Tensor, ""]:
    """Squared overlap (Å²) of residues closer than 4 Å and at least two apart in the list.

    Per image the mean over its clashing pairs, 0 if it has none; then the mean over images. Positions that are not
    finite give NaN. With the ``nominal`` positions, the distance asked for is 4.3 Å, so that what is left of an overlap
    stays above 4 Å, but never more than the pair has there.
    """
    reach = CLASH_DISTANCE_A if nominal is None else CLASH_DISTANCE_A + _CLASH_MARGIN
    return squared_overlaps(positions, reach, nominal).mean()
