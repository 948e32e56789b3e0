"""Distribution of the contrasts of the images, learned during training."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from cryosphere.model.losses import estimate_contrast, improve_contrast
from cryosphere.model.mixture import Candidates
from cryosphere.model.vae import CryoSphere

# Images of an optics group in a block from which its contrasts are learned, and the share of each update taken.
_LEAST_FOR_CONTRAST, _CONTRAST_STEP = 32, 0.2


@torch.no_grad()
def update_contrast(model: CryoSphere, optics_group: Int[Tensor, " batch"], candidates: Candidates) -> None:
    """Learn the distribution of contrasts of every optics group from a block of images compared with conformations.

    Moments at first, then steps of expectation-maximisation over conformation and contrast; groups with few images in
    the block are left as they are.
    """
    shared = slice(candidates.overlap.shape[1])
    weights = torch.softmax((candidates.log_likelihood + candidates.log_weight)[:, shared], dim=1)
    for number in torch.unique(optics_group).tolist():
        rows = optics_group == number
        if rows.sum() < _LEAST_FOR_CONTRAST:
            continue
        part = weights[rows], candidates.overlap[rows], candidates.power[rows]
        before = model.contrast[number]
        if torch.isfinite(before).all():
            found = improve_contrast(*part, before[0], before[1])
            model.contrast[number] = before + _CONTRAST_STEP * (found - before)
        else:
            found = torch.stack(estimate_contrast(*((part[0] * value).sum(1) for value in part[1:])))
            if found[0] > 0:
                model.contrast[number] = found
