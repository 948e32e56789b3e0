"""Contrast of the images: its sign, asked before training, and its distribution, learned during it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from cryosphere.errors import ConfigError
from cryosphere.model.losses import estimate_contrast, improve_contrast
from cryosphere.model.mixture import Candidates
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages

_SAMPLE = 400
# The mean agreement must be this many standard errors from 0 for a verdict.
_SIGNIFICANT = 4.0
# Images of an optics group in a block from which its contrasts are learned, and the share of each update taken.
_LEAST_FOR_CONTRAST, _CONTRAST_STEP = 32, 0.2


@torch.no_grad()
def check_contrast(model: CryoSphere, images: ParticleImages, inverted: bool) -> str:
    """Compare evenly spread images with renderings of the nominal structure and say which sign they have.

    Each image gives y·x / |x| with x its rendering, which has mean 0 and unit variance in noise alone; the mean over
    images is tested against 0. The sign of the density and that of the CTF cannot be told apart: one verdict for both.

    Parameters
    ----------
    model : CryoSphere
    images : ParticleImages
        With the sign that the configuration declares.
    inverted : bool
        Whether that is ``particles.invert: true``.

    Returns
    -------
    str
        The verdict, one sentence.

    Raises
    ------
    ConfigError
        The images have the other sign than declared.
    """
    n_particles = images.table.n_particles
    rows = np.unique(np.linspace(0, n_particles - 1, min(n_particles, _SAMPLE)).astype(int))
    agreement = []
    for start in range(0, len(rows), 64):
        batch = images.batch(rows[start : start + 64]).to(model.device)
        nominal = model.nominal_sites.expand(len(batch.rows), -1, -1)
        prepared = model.renderer.prepare(batch)
        rendered = model.renderer.render(prepared, nominal)
        overlap = (prepared.images * rendered).sum((-2, -1))
        agreement.append(overlap / torch.linalg.norm(rendered.flatten(1), dim=1))
    values = torch.cat(agreement).cpu().double().numpy()
    error = max(values.std() / np.sqrt(len(values)), 1 / np.sqrt(len(values)))
    z = values.mean() / error
    if z < -_SIGNIFICANT:
        raise ConfigError(
            f"particles.invert: {str(inverted).lower()} gives images in which protein is dark (agreement with the "
            f"nominal structure {-z:.0f} standard errors below 0, over {len(values)} images); "
            f"set particles.invert: {str(not inverted).lower()}."
        )
    if z > _SIGNIFICANT:
        return f"Contrast: the images agree with the nominal structure in sign ({z:.0f} standard errors above 0)."
    return (
        f"Contrast: {len(values)} images do not tell whether protein is bright ({z:.1f} standard errors from 0); "
        "poses, the structure's place or its conformation may also be off. Bright is assumed"
        f"{' after particles.invert' if inverted else ''}."
    )


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
