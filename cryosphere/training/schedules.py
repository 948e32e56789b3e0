"""Weights and learning rates as pure functions of the fraction of planned optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from cryosphere.model.vae import KLWeights

_WARM_UP = 0.05
_FINAL_RATE = 0.05


def linear_ramp(fraction: float, end: float = 0.5) -> float:
    """0 at the start, 1 from ``end`` of training on."""
    return min(1.0, fraction / end)


def cyclical_ramp(fraction: float, cycles: int = 5) -> float:
    """In each of ``cycles`` equal cycles, rise linearly to 1 in the first half and stay (Fu et al., NAACL 2019)."""
    within = (fraction * cycles) % 1.0 if fraction < 1 else 1.0
    return min(1.0, 2 * within)


def kl_weights(schedule: Literal["warm_up", "paper"], fraction: float) -> KLWeights:
    """KL weights: all linear to 1 at half of training; in the paper's schedule the proportions are cyclical."""
    ramp = linear_ramp(fraction)
    return KLWeights(ramp, ramp, cyclical_ramp(fraction) if schedule == "paper" else ramp)


def learning_rate_factor(
    schedule: Literal["warm_up_cosine", "constant", "multi_step"], fraction: float, milestones: Sequence[float]
) -> float:
    """Factor of the configured learning rates.

    ``warm_up_cosine``: linear from 0 over the first 5 % of steps, then a cosine down to 5 %; ``multi_step``: divided
    by 10 at each milestone.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "multi_step":
        return 0.1 ** sum(fraction >= milestone for milestone in milestones)
    warm_up = min(1.0, (fraction + 1e-3) / _WARM_UP)
    return warm_up * (_FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * fraction)))
