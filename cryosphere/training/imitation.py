"""A decoder learns given motions by heart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.model.decoder import Decoder
from cryosphere.records import SegmentMotions

# Steps and rate, and what a rotation counts in Å per unit.
_STEPS, _RATE, _ARM_A = 600, 2e-2, 30.0


@torch.enable_grad()
def learn_motions(decoder: Decoder, latent: Float[Tensor, "sample latent"], motions: SegmentMotions) -> None:
    """Train all layers of a decoder on motions wanted at some latents."""
    optimiser = torch.optim.Adam(decoder.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        found = decoder(latent)
        turned = 1 - (found.rotation_quat * motions.rotation_quat).sum(-1) ** 2
        moved = (found.translation - motions.translation).square().sum(-1)
        loss = (_ARM_A**2 * turned + moved).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
