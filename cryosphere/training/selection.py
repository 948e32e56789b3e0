"""Which model goes on: the contest of divisions and dimensions between the stages of a training run."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from cryosphere.model.bodies import BodySegmentation
from cryosphere.model.regrouping import shuffled_bodies, with_bodies
from cryosphere.model.vae import Architecture, CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.training.evidence import (
    Tried,
    candidate_bodies,
    held_out_evidence,
    simplest_good,
    still_evidence,
)
from cryosphere.training.folds import equalise, unfold
from cryosphere.training.parting import find_parting, with_parted_bodies
from cryosphere.training.stages import Stage
from cryosphere.training.turns import find_turn, start_turning

# Images from which the latent is laid out.
_MOST_LEARNERS = 1000
_KEPT = ("fork", "rivals", "candidates", "chosen", "tried")


class ModelSelection:
    """Keeps the models that are compared with each other, and says which one a stage starts from and leaves behind.

    Attributes
    ----------
    fork : dict, optional
        Snapshot of the model from which all rivals start.
    rivals : list of dict
        Snapshots of models that wait for the verdict, or of the one to return to.
    candidates : list of int tensors of shape (residue,)
        Divisions to be fitted, fewest bodies first; ``chosen`` is the one that was kept.
    tried : list of dict
        Everything that was compared (:class:`~cryosphere.training.evidence.Tried`).

    Parameters
    ----------
    images : ParticleImages
    judges, learners : int arrays of shape (image,)
        Rows whose likelihood decides, and rows that models may learn from.
    generator : torch.Generator
    """

    def __init__(
        self,
        images: ParticleImages,
        judges: Int[np.ndarray, " judge"],
        learners: Int[np.ndarray, " learner"],
        generator: torch.Generator,
    ) -> None:
        self.images, self.judges, self.learners, self.generator = images, judges, learners, generator
        self.fork: dict[str, Any] | None = None
        self.rivals: list[dict[str, Any]] = []
        self.candidates: list[torch.Tensor] = []
        self.chosen = 0
        self.tried: list[dict[str, Any]] = []

    def skips(self, stage: Stage, model: CryoSphere) -> bool:
        """Whether there is nothing to do in a stage."""
        if stage.kind == "bodies":
            return stage.candidate >= len(self.candidates)
        return stage.kind == "control" and model.segmentation.n_segments == 1

    def begin(self, stage: Stage, model: CryoSphere) -> CryoSphere | None:
        """The model that a stage trains, in place of the present one; None if there is nothing to train."""
        if stage.kind == "bodies":
            return self._from_fork(model, self.candidates[stage.candidate].numpy(), model.latent_dim)
        if stage.kind == "trial":
            return self._in_another_dimension(stage, model)
        if stage.kind == "turn":
            return self._turning(stage, model)
        if stage.kind == "unfold":
            return self._unfolded(model)
        if stage.kind == "control":
            self.rivals = [snapshot(model)]
            patches = restored(self.fork, model).segmentation
            labels = shuffled_bodies(model.segmentation, patches, self.generator)
            return self._from_fork(model, labels, model.latent_dim)
        if stage.is_fork:
            self.fork = snapshot(model)
        return self._with_fresh_borders(model) if stage.has_fresh_borders else model

    def end(self, stage: Stage, model: CryoSphere) -> CryoSphere:
        """The model that goes on after a stage."""
        if stage.kind == "trial":
            return self._settle("latent dimension", stage, model)
        if stage.kind == "control":
            return self._note_control(stage, model)
        if stage.kind == "turn":
            return self._settle("wide turn", stage, model)
        if stage.kind == "unfold":
            return self._settle("fold", stage, model, is_simplest=True)
        if stage.kind == "bodies":
            if stage.candidate == len(self.candidates) - 1:
                return self._settle("segments", stage, model)
            self.rivals.append(snapshot(model))
        return model

    def merge(self, stage: Stage, model: CryoSphere) -> None:
        """Name the divisions worth fitting; all start from the present model."""
        level = model.level(stage.resolution)
        candidates, tried = candidate_bodies(model, self.images, self.judges, level, self.generator)
        self.candidates = [torch.from_numpy(labels) for labels in candidates]
        self.tried += [asdict(item) for item in tried]
        self.fork = snapshot(model)

    def equalised(self, model: CryoSphere, resolution: float | None) -> CryoSphere:
        """The model with its latent laid out as densely as the images ask for, if held-out images gain by it."""
        level = model.level(resolution)
        some = self.learners[:: math.ceil(len(self.learners) / _MOST_LEARNERS)]
        other = restored(snapshot(model), model).eval()
        if not equalise(other, self.images, some, level):
            return model
        before, after = (held_out_evidence(one, self.images, self.judges, level).mean() for one in (model, other))
        return other if after > before else model

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in _KEPT}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        for name in _KEPT:
            setattr(self, name, state[name])

    def _from_fork(self, model: CryoSphere, labels: np.ndarray | None, latent_dim: int) -> CryoSphere:
        return with_bodies(restored(self.fork, model), labels, latent_dim, self.generator)

    def _in_another_dimension(self, stage: Stage, model: CryoSphere) -> CryoSphere:
        """A rival with one more latent dimension, which bodies follow by themselves if that explains the images better,
        and which is new to all of them otherwise."""
        self.rivals = [snapshot(model)]
        some = self.learners[:: math.ceil(len(self.learners) / _MOST_LEARNERS)]
        members = find_parting(model.eval(), self.images, some, model.level(stage.resolution))
        if members is not None:
            return with_parted_bodies(restored(self.rivals[0], model), members, self.generator)
        labels = self.candidates[self.chosen].numpy() if self.candidates else None
        return self._from_fork(model, labels, model.latent_dim + 1)

    def _with_fresh_borders(self, model: CryoSphere) -> CryoSphere:
        """Bodies as they are now with fresh borders, so that what drifted inside them is forgotten."""
        if not isinstance(model.segmentation, BodySegmentation):
            return model
        labels = model.segmentation.labels()
        if len(np.unique(labels[labels >= 0])) < model.segmentation.n_segments:
            return model
        return with_bodies(model, labels, model.latent_dim, self.generator)

    def _settle(self, what: str, stage: Stage, model: CryoSphere, is_simplest: bool = False) -> CryoSphere:
        """Of the rivals, simplest first, and the present model (before or after them), the first that is good."""
        models = [restored(rival, model) for rival in self.rivals]
        models.insert(0 if is_simplest else len(models), model)
        level = model.level(stage.resolution)
        evidences = [held_out_evidence(one.eval(), self.images, self.judges, level) for one in models]
        floor = still_evidence(models[0], self.images, self.judges, level)
        kept = simplest_good(evidences, floor, what)
        self._note(what, models, evidences, kept)
        self.rivals = []
        if what == "segments":
            self.chosen = kept
        return models[kept]

    def _turning(self, stage: Stage, model: CryoSphere) -> CryoSphere | None:
        """A rival in which one part of the structure is on a full turn, if it has a part that could be."""
        turn = find_turn(model.eval(), self.images, self.learners, model.level(stage.resolution))
        if turn is None:
            return None
        rival = restored(snapshot(model), model)
        if not start_turning(rival, turn, self.generator):
            return None
        self.rivals = [snapshot(model)]
        return rival

    def _unfolded(self, model: CryoSphere) -> CryoSphere | None:
        """A rival whose latent runs along the motion once, if the model's runs there and back."""
        rival = restored(snapshot(model), model).eval()
        if not unfold(rival):
            return None
        self.rivals = [snapshot(model)]
        return rival

    def _note_control(self, stage: Stage, control: CryoSphere) -> CryoSphere:
        """Note what shuffled segments came to, and go back to the found ones."""
        found = restored(self.rivals[0], control).eval()
        self.rivals = []
        level, models = control.level(stage.resolution), [control.eval(), found]
        evidences = [held_out_evidence(model, self.images, self.judges, level) for model in models]
        self._note("shuffling", models, evidences, kept=1)
        return found

    def _note(self, what: str, models: list[CryoSphere], evidences: list[np.ndarray], kept: int) -> None:
        best = evidences[int(np.argmax([evidence.mean() for evidence in evidences]))]
        for number, (model, evidence) in enumerate(zip(models, evidences, strict=True)):
            error = float((best - evidence).std() / math.sqrt(len(best)))
            shape = model.architecture
            tried = Tried(what, shape.latent_dim, shape.n_segments, float(evidence.mean()), error, 0.0, number == kept)
            self.tried.append(asdict(tried))


def snapshot(model: CryoSphere) -> dict[str, Any]:
    """Shape and weights of a model, copied."""
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return {"architecture": asdict(model.architecture), "model": weights}


def restored(kept: dict[str, Any], like: CryoSphere) -> CryoSphere:
    """A model with the shape and weights of a snapshot, of the same inputs and on the same device as another."""
    model = like.with_shape(Architecture(**kept["architecture"]))
    model.load_state_dict(kept["model"])
    return model
