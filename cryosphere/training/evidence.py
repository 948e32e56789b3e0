"""What images that were not trained on say of a model: how many bodies, how many dimensions, is there motion at all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.inference.likelihoods import log_likelihoods, prepared_batches
from cryosphere.model.deformation import residue_motions
from cryosphere.model.latents import prior_nodes
from cryosphere.model.regrouping import merging_path, with_bodies
from cryosphere.model.renderer import Level
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.fourier import fourier_to_image
from cryosphere.physics.motions import move_residues
from cryosphere.physics.noise import shell_index
from cryosphere.physics.rotations import normalise_quat
from cryosphere.records import SegmentMotions

# Latents at which the marginal likelihood is summed, in 1, 2 and more dimensions.
_NODES = {1: 64, 2: 576}
_MANY_NODES = 256
# A simpler model is kept unless a richer one gains more than so many standard errors and this share of all that the
# motion gains: a richer one also makes up for what the Gaussians of residues are not.
_STANDARD_ERRORS = 2.0
_LEAST_SHARE = {"segments": 0.02, "latent dimension": 0.05, "wide turn": 0.10, "fold": 0.02}
# Shares of what the motion gains that merging bodies may cost before they are fitted.
_CANDIDATE_LOSSES = (0.10, 0.03, 0.01)
# Standard errors by which a segment's motion must be seen for "supported", and for "weak".
_SUPPORTED, _WEAK = 3.0, 2.0
# Nats that rounding may make of nothing.
_ROUNDING_NATS = 1e-4
# Images that a verdict needs.
LEAST_JUDGES = 50
# Resolution (Å) at which segments are judged one by one.
_SEGMENT_RESOLUTION = 14.0


@dataclass(frozen=True)
class Tried:
    """One model that was compared with others on held-out images.

    ``evidence`` is the mean log-likelihood (nats per image, against pure noise), ``standard_error`` that of the
    difference to the best, ``rmsd`` what the last merging changed (Å).
    """

    what: str
    latent_dim: int
    n_segments: int
    evidence: float
    standard_error: float
    rmsd: float
    chosen: bool


@torch.no_grad()
def marginal_evidence(
    model: CryoSphere,
    images: ParticleImages,
    rows: Int[np.ndarray, " image"],
    conformations: Float[Tensor, "conformation residue 3"],
    level: Level,
) -> Float[np.ndarray, " image"]:
    """Log of the mean likelihood (ratio to pure noise, nats) of each image over equally likely conformations."""
    likelihood = log_likelihoods(model, images, rows, conformations, level).double()
    return (torch.logsumexp(likelihood, dim=1) - math.log(len(conformations))).numpy()


def held_out_evidence(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"], level: Level
) -> Float[np.ndarray, " image"]:
    """Marginal log-likelihood of each image over the latent's prior."""
    return marginal_evidence(model, images, rows, _prior_conformations(model), level)


def still_evidence(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"], level: Level
) -> Float[np.ndarray, " image"]:
    """Log-likelihood of each image at one structure: every segment at its mean motion over the prior."""
    return marginal_evidence(
        model, images, rows, frozen_conformations(model, range(model.decoder.n_segments))[:1], level
    )


@torch.no_grad()
def _prior_conformations(model: CryoSphere) -> Float[Tensor, "conformation residue 3"]:
    return model.decode_sites(_nodes(model))


def _nodes(model: CryoSphere) -> Float[Tensor, "node latent"]:
    return prior_nodes(_NODES.get(model.latent_dim, _MANY_NODES), model.latent_dim).to(model.device)


def mean_motions(motions: SegmentMotions) -> SegmentMotions:
    """Mean motion of every segment over some conformations: mean translation, dominant quaternion (batch of 1)."""
    quat = motions.rotation_quat
    moment = torch.einsum("bsi,bsj->sij", quat, quat)
    dominant = torch.linalg.eigh(moment.cpu())[1][..., -1].to(quat.device)
    dominant = dominant * torch.where(dominant[:, :1] < 0, -1.0, 1.0)
    return SegmentMotions(normalise_quat(dominant)[None], motions.translation.mean(0, keepdim=True))


@torch.no_grad()
def frozen_conformations(model: CryoSphere, segments: Iterable[int]) -> Float[Tensor, "conformation residue 3"]:
    """Sites of conformations over the prior with some segments kept at their mean motion."""
    motions = model.decoder(_nodes(model))
    mean = mean_motions(motions)
    quat, translation = motions.rotation_quat.clone(), motions.translation.clone()
    chosen = list(segments)
    quat[:, chosen], translation[:, chosen] = mean.rotation_quat[:, chosen], mean.translation[:, chosen]
    moved = residue_motions(
        SegmentMotions(quat, translation), model.segment_weights(), model.nominal_positions, model.config.model.motion
    )
    return move_residues(model.nominal_sites, *moved)


def is_better(
    richer: Float[np.ndarray, " image"],
    simpler: Float[np.ndarray, " image"],
    floor: Float[np.ndarray, " image"],
    share: float,
) -> bool:
    """Whether a richer model explains held-out images better by enough: 2 standard errors, and a share of the gain.

    ``floor`` is the log-likelihood without motion, from which the simpler model's gain counts.
    """
    gain = richer - simpler
    least = share * max(float((simpler - floor).mean()), 0.0)
    return float(gain.mean()) > max(_STANDARD_ERRORS * float(gain.std()) / math.sqrt(len(gain)), least)


def candidate_bodies(
    model: CryoSphere,
    images: ParticleImages,
    rows: Int[np.ndarray, " image"],
    level: Level,
    generator: torch.Generator,
) -> tuple[list[Int[np.ndarray, " residue"]], list[Tried]]:
    """Merge patches that move as one, and name the divisions worth fitting.

    On the way from all patches to one body, every merging costs held-out images some of what the motion had gained
    them, much of which a fit wins back. Candidates are the fewest bodies that cost at most 10 %, 3 % and 1 %, those
    before the merging that changes the conformations most in proportion to the one before, and two bodies, as the costs
    say little where images are very noisy.

    Returns
    -------
    candidates : list of int arrays of shape (residue,)
        Body of every residue; fewest bodies first, without repeats.
    tried : list of Tried
        Numbers of bodies on the way, most first: every one up to 6, then every fourth.
    """
    floor = float(still_evidence(model, images, rows, level).mean())
    path = [step for step in merging_path(model, generator) if _worth_trying(int(step[0].max()) + 1)]
    evidences = []
    for labels, _ in path:
        merged = with_bodies(model, labels, model.latent_dim, generator).eval()
        evidences.append(held_out_evidence(merged, images, rows, level))
    means = np.array([evidence.mean() for evidence in evidences])
    best = int(means.argmax())
    gain = max(float(means[best]) - floor, 0.0)
    chosen = []
    for share in _CANDIDATE_LOSSES:
        number = int(np.flatnonzero(means >= means[best] - share * gain)[-1])
        if number not in chosen:
            chosen.append(number)
    jump = _before_the_jump([rmsd for _, rmsd in path])
    two = next((number for number, (labels, _) in enumerate(path) if labels.max() == 1), jump)
    chosen = sorted({*chosen, jump, two}, reverse=True)
    tried = [
        Tried(
            "merging",
            model.latent_dim,
            int(labels.max()) + 1,
            float(evidence.mean()),
            float((evidences[best] - evidence).std() / math.sqrt(len(rows))),
            rmsd,
            number in chosen,
        )
        for number, ((labels, rmsd), evidence) in enumerate(zip(path, evidences, strict=True))
    ]
    return [path[number][0] for number in chosen], tried


def _before_the_jump(rmsd: list[float]) -> int:
    """Place of the division before the merging whose change is the largest multiple of the preceding one's."""
    steps = np.maximum(np.array(rmsd), 1e-3)
    ratio = steps[2:] / steps[1:-1]
    return int(ratio.argmax()) + 1 if len(ratio) else 0


def _worth_trying(n_bodies: int) -> bool:
    return n_bodies <= 6 or n_bodies % 4 == 0


def simplest_good(evidences: list[Float[np.ndarray, " image"]], floor: Float[np.ndarray, " image"], what: str) -> int:
    """First of some models, simplest first, that none of the others is clearly better than (:func:`is_better`)."""
    for number, evidence in enumerate(evidences):
        if not any(is_better(other, evidence, floor, _LEAST_SHARE[what]) for other in evidences[number + 1 :]):
            return number
    return len(evidences) - 1


def segment_support(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"], can_judge: bool = True
) -> dict[str, Any]:
    """Judge the motion on held-out images: of the whole, and of every segment on its own.

    A segment's motion is judged by what the images lose if it is kept at its mean; the whole by what they lose if all
    are. Motions without support are stilled, one by one or as a whole, for an invented motion is worse than none; but
    not segments whose motions the images would miss together.

    Returns
    -------
    dict
        ``evidence`` of model, still structure and nominal structure (nats per image); ``gain`` and
        ``standard_errors`` of the motion; ``motion`` (``supported``, ``weak``, ``not supported``, or ``undecided``
        unless ``can_judge``, which then changes nothing); ``segments``: the same for each, and whether
        it ``is_stilled``.
    """
    level = model.level()
    segments = _still_unsupported(model, images, rows) if can_judge else []
    full = held_out_evidence(model, images, rows, level)
    still = still_evidence(model, images, rows, level)
    nominal = marginal_evidence(model, images, rows, model.nominal_sites[None], level)
    verdict = {
        "evidence": {name: float(e.mean()) for name, e in (("model", full), ("still", still), ("nominal", nominal))},
        **_support(full - still),
        "n_images": len(rows),
        "segments": segments,
    }
    if float(full.mean()) < _SUPPORTED * float(full.std()) / math.sqrt(len(full)):
        verdict["motion"] = "not supported"  # not even the structure is seen in the images
    if not can_judge:
        verdict["motion"] = "undecided"
    elif verdict["motion"] == "not supported":
        make_still(model)
    return verdict


def _still_unsupported(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"]
) -> list[dict[str, Any]]:
    """Support of every segment's motion at coarse resolution; motions without any are stilled, the least supported
    first, as long as the images do not miss all that are stilled together, at full resolution either."""
    levels = [model.level(_SEGMENT_RESOLUTION), model.level()]
    moving = [held_out_evidence(model, images, rows, level) for level in levels]

    def support(number: int, at: int) -> dict[str, Any]:
        frozen = marginal_evidence(model, images, rows, frozen_conformations(model, [number]), levels[at])
        return _support(moving[at] - frozen)

    names = model.segmentation.names
    segments = [{"name": name, **support(number, 0), "is_stilled": False} for number, name in enumerate(names)]
    for number in sorted(range(len(segments)), key=lambda number: segments[number]["standard_errors"]):
        if segments[number]["motion"] == "not supported" and all(
            support(number, at)["motion"] == "not supported" for at in range(len(levels))
        ):
            make_still(model, [number])
            segments[number]["is_stilled"] = True
    return segments


def _support(gain: Float[np.ndarray, " image"]) -> dict[str, Any]:
    error = max(float(gain.std()) / math.sqrt(len(gain)), _ROUNDING_NATS)
    z = float(gain.mean()) / error
    word = "supported" if z > _SUPPORTED else "weak" if z > _WEAK else "not supported"
    return {"gain": float(gain.mean()), "standard_errors": round(z, 2), "motion": word}


@torch.no_grad()
def make_still(model: CryoSphere, segments: Iterable[int] | None = None) -> None:
    """Give some segments, by default all, the same motion at every latent: their mean over the prior."""
    decoder = model.decoder
    mean = mean_motions(decoder(_nodes(model)))
    offset = mean.translation.new_tensor([1.0, 0.0, 0.0, 0.0])
    wanted = torch.cat([mean.translation[0], mean.rotation_quat[0] - offset], dim=-1) / decoder.unit
    numbers = wanted.shape[1]
    for segment in range(decoder.n_segments) if segments is None else segments:
        rows = slice(segment * numbers, (segment + 1) * numbers)
        decoder.network[-1].weight[rows] = 0.0
        decoder.network[-1].bias[rows] = 0.0
        decoder.static[rows] = wanted[segment]


@torch.no_grad()
def residual_noise(
    model: CryoSphere, images: ParticleImages, rows: Int[np.ndarray, " image"]
) -> Float[Tensor, "group shell"]:
    """Power that is left per shell in whitened images after each one's most likely conformation, 1 for noise alone.

    NaN for optics groups that have fewer than 32 of the given rows.
    """
    sites = model.decode_sites(_nodes(model))
    best = log_likelihoods(model, images, rows, sites, model.level()).argmax(1).to(model.device)
    shells = shell_index(model.box_size).flatten()
    total = torch.zeros(len(images.noise_power), images.noise_power.shape[1], dtype=torch.float64)
    count = torch.zeros(len(images.noise_power), dtype=torch.long)
    weight = torch.full((model.box_size // 2 + 1,), 2.0)
    weight[0] = 1.0
    weight = weight.expand(model.box_size, -1).flatten().double()
    whole = model.renderer.level()
    for part, batch, prepared, _ in prepared_batches(model, images, rows, whole):
        rendered = model.renderer.render_fourier(prepared, sites[best[part]])
        seen = fourier_to_image(rendered, model.box_size) * whole.mask
        overlap, power = (prepared.images * seen).sum((-2, -1)), seen.square().sum((-2, -1))
        scale = (overlap / power.clamp_min(1e-30)).clamp_min(0.0)
        residual = batch.fourier - scale[:, None, None] * rendered
        squares = (residual.abs() ** 2 / model.box_size**2).flatten(1).cpu().double() * weight
        for group in torch.unique(batch.optics_group).tolist():
            chosen = squares[batch.optics_group.cpu() == group]
            total[group] += torch.zeros_like(total[group]).index_add(0, shells, chosen.sum(0))
            count[group] += len(chosen)
    members = torch.zeros(total.shape[1], dtype=torch.float64).index_add(0, shells, weight)
    power = total / members / count.clamp_min(1)[:, None]
    power[:, 0] = power[:, 1]
    return torch.where(count[:, None] >= 32, power, torch.nan).float()
