"""Gradient ascent with Adam's steps, written out: ``torch.optim`` takes seconds to import, longer than it climbs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_MEAN_DECAY, _SQUARE_DECAY = 0.8, 0.95
_LAST_STEP = 0.01


def climb(
    objective: Callable[[Float[Tensor, "row six"], int], Float[Tensor, ""]],
    start: Float[Tensor, "row six"],
    step: float,
    n_steps: int,
) -> Float[Tensor, "row six"]:
    """Follow the gradient of an objective upwards (Kingma & Ba, ICLR 2015).

    Parameters
    ----------
    objective : callable
        (parameters, number of the step) → scalar.
    start : tensor
        First parameters.
    step : float
        Length of the first steps in every parameter; the last are a hundredth of it.
    n_steps : int
    """
    parameters = start.clone()
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    for number in range(n_steps):
        parameters.requires_grad_()
        (gradient,) = torch.autograd.grad(objective(parameters, number), parameters)
        mean = _MEAN_DECAY * mean + (1 - _MEAN_DECAY) * gradient
        square = _SQUARE_DECAY * square + (1 - _SQUARE_DECAY) * gradient**2
        unbiased = mean / (1 - _MEAN_DECAY ** (number + 1))
        scale = (square / (1 - _SQUARE_DECAY ** (number + 1))).sqrt() + 1e-12
        parameters = parameters.detach() + step * _LAST_STEP ** (number / n_steps) * unbiased / scale
    return parameters
