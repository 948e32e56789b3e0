"""From one division into bodies to another: which bodies move as one, and a model that carries the motions over."""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.model.bodies import BodySegmentation
from cryosphere.model.vae import Architecture, CryoSphere
from cryosphere.physics.motions import fit_rigid_motions, segment_centres
from cryosphere.physics.rotations import rotmat_to_quat
from cryosphere.records import SegmentMotions

# Latents at which motions are compared, and at which a new decoder learns from the old one.
_COMPARED, _IMITATED = 16, 512
# Size of a new latent direction's effect at the start, relative to a fresh network's.
_NEW_DIRECTION = 0.3


class _Moments:
    """Sums over residues from which the residual of the best rigid motion follows (Kabsch, Acta Cryst. A 1976)."""

    def __init__(self, points: Float[Tensor, "residue 3"], moved: Float[Tensor, "state residue 3"]) -> None:
        self.count = float(len(points))
        self.first, self.second = points.sum(0), moved.sum(1)
        self.squares = (points**2).sum() + (moved**2).sum((1, 2))
        self.product = torch.einsum("ri,krj->kij", points, moved)

    def __add__(self, other: _Moments) -> _Moments:
        total = copy.copy(self)
        for name in ("count", "first", "second", "squares", "product"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def residual(self) -> float:
        """Sum of squared distances (Å²) that rigid motions leave, mean over states."""
        spread = self.squares - ((self.first**2).sum() + (self.second**2).sum(1)) / self.count
        covariance = self.product - torch.einsum("i,kj->kij", self.first, self.second) / self.count
        singular = torch.linalg.svdvals(covariance)
        singular[:, 2] *= torch.sign(torch.linalg.det(covariance))
        return float((spread - 2 * singular.sum(1)).clamp_min(0).mean())


@torch.no_grad()
def merging_path(model: CryoSphere, generator: torch.Generator) -> list[tuple[Int[np.ndarray, " residue"], float]]:
    """Merge bodies that move most nearly as one, step by step, from the model's bodies down to a single one.

    Returns
    -------
    list of (labels, rmsd)
        Bodies of every residue (-1 outside), from most bodies to one, and the root mean square displacement (Å, over
        all residues and the latent's prior) by which the last merging changed the conformations; 0 for the first.
    """
    labels = _without_gaps(model.segmentation.labels())
    latent = torch.randn(_COMPARED, model.latent_dim, generator=generator).to(model.device)
    moved = model.decode(latent).cpu().double()
    points = model.nominal_positions.cpu().double()
    bodies = [_Moments(points[rows], moved[:, rows]) for rows in _rows(labels)]
    own = [body.residual() for body in bodies]
    path = [(labels, 0.0)]
    costs = {(i, j): (bodies[i] + bodies[j]).residual() - own[i] - own[j] for i in range(len(bodies)) for j in range(i)}
    while len(costs) > 0:
        (kept, gone), cost = min(costs.items(), key=lambda item: item[1])
        bodies[kept] = bodies[kept] + bodies[gone]
        own[kept] = bodies[kept].residual()
        costs = {pair: value for pair, value in costs.items() if gone not in pair}
        for pair in [pair for pair in costs if kept in pair]:
            other = pair[0] if pair[1] == kept else pair[1]
            costs[pair] = (bodies[kept] + bodies[other]).residual() - own[kept] - own[other]
        labels = np.where(labels == gone, kept, labels)
        path.append((_without_gaps(labels), float(np.sqrt(max(cost, 0.0) / len(labels)))))
    return path


@torch.no_grad()
def with_bodies(
    model: CryoSphere,
    labels: Int[np.ndarray, " residue"] | None,
    latent_dim: int,
    generator: torch.Generator,
) -> CryoSphere:
    """A model with other bodies, or more latent dimensions, whose motions are as near to the old one's as can be.

    Parameters
    ----------
    model : CryoSphere
        With bodies in space.
    labels : int array of shape (residue,), optional
        New body of every residue; None keeps the bodies with their learned weights.
    latent_dim : int
        At least the model's; new directions begin with a small random effect.
    generator : torch.Generator
    """
    segmentation = copy.deepcopy(model.segmentation)
    if labels is not None:
        segmentation = BodySegmentation(segmentation.graph, labels, segmentation.hosts)
    shape = Architecture(latent_dim, segmentation.n_segments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        new = model.with_shape(shape, segmentation)
    new.contrast.copy_(model.contrast)
    if new.latent_dim == model.latent_dim:
        new.encoder.load_state_dict(model.encoder.state_dict())
    else:  # what the encoder looks from does not depend on the latent's dimension
        for (_, source), (_, target) in zip(model.encoder.named_buffers(), new.encoder.named_buffers(), strict=True):
            target.copy_(source)
    _copy_hidden_layers(model, new)
    latent = torch.randn(_IMITATED, latent_dim, generator=generator).to(model.device)
    if labels is None:
        motions = model.decoder(latent[:, : model.latent_dim])
    else:
        motions = _body_motions(model, labels, latent[:, : model.latent_dim])
    new.decoder.imitate(latent, motions)
    return new


def shuffled_bodies(
    bodies: BodySegmentation, patches: BodySegmentation, generator: torch.Generator
) -> Int[np.ndarray, " residue"]:
    """Deal out whole patches to bodies at random, as many to each as it has now; bodies without any are left out."""
    found, pieces = bodies.labels(), patches.labels()
    owners = np.array([np.bincount(found[rows]).argmax() for rows in _rows(_without_gaps(pieces))])
    dealt = owners[torch.randperm(len(owners), generator=generator).numpy()]
    return _without_gaps(np.where(pieces >= 0, dealt[_without_gaps(pieces)], -1))


def _body_motions(model: CryoSphere, labels: np.ndarray, latent: Tensor) -> SegmentMotions:
    """Rigid motions of bodies about their own centres that come nearest to a model's conformations."""
    moved, points = model.decode(latent), model.nominal_positions
    quats, translations = [], []
    for rows in _rows(labels):
        rotmat, translation = fit_rigid_motions(points[rows], moved[:, rows])
        centre = segment_centres(points[rows], torch.ones(len(rows), 1, device=points.device))[0]
        quats.append(rotmat_to_quat(rotmat))
        translations.append(rotmat @ centre + translation - centre)
    return SegmentMotions(torch.stack(quats, dim=1), torch.stack(translations, dim=1))


def _copy_hidden_layers(old: CryoSphere, new: CryoSphere) -> None:
    """Take over the decoder's hidden layers; a new latent direction keeps its random weights, made small."""
    for source, target in zip(old.decoder.network[:-1], new.decoder.network[:-1], strict=True):
        if isinstance(source, torch.nn.Linear):
            known = source.weight.shape[1]
            target.weight[:, known:] *= _NEW_DIRECTION
            target.weight[:, :known] = source.weight
            target.bias.copy_(source.bias)


def _rows(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == body) for body in range(labels.max() + 1)]


def _without_gaps(labels: Int[np.ndarray, " residue"]) -> Int[np.ndarray, " residue"]:
    """Bodies numbered by their first residue; -1 stays."""
    present, first = np.unique(labels[labels >= 0], return_index=True)
    rank = np.full(labels.max() + 2, -1)
    rank[present[np.argsort(first)]] = np.arange(len(present))
    return rank[labels]
