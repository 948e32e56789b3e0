"""Training on the marginal likelihood: ``train → _run_stage → _run_block → _step``, resumed bit for bit."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from cryosphere.inference.poses import refine_poses
from cryosphere.model.losses import ContrastPrior
from cryosphere.model.mixture import compare
from cryosphere.model.renderer import PreparedImages
from cryosphere.particles.loading import read_ahead
from cryosphere.records import ParticleBatch
from cryosphere.training.contrast import update_contrast
from cryosphere.training.encoding import FeatureCache, prepare_encoder, teach_encoder
from cryosphere.training.evidence import (
    LEAST_JUDGES,
    held_out_evidence,
    is_better,
    residual_noise,
    segment_support,
    still_evidence,
)
from cryosphere.training.order import TrainingOrder
from cryosphere.training.selection import ModelSelection, restored, snapshot
from cryosphere.training.stages import Stage, n_own_samples, plan, rate_factor
from cryosphere.training.steps import Division, Step
from cryosphere.training.trainer import Trainer, make_optimiser

# Held-out images that decide between models; training images stand in where none are held out.
_MOST_JUDGES = 1000
# Values of images held at a time.
_BLOCK_VALUES = 30_000_000
# Images after which held-out images are looked at again within a stage.
_RECORD_EVERY = 6000
# A round at full resolution is followed by another if it gained this share of all that the motion gains, and the motion
# gains anything.
_LEAST_GAIN = 0.001
# Nats by which an image tells the fitted structure from noise, under which coarse stages see more images, and how many
# times as many at most.
_ENOUGH_NATS, _MOST_PATIENCE = 4.0, 3.0
# Conformations of a step whose geometry is looked at, evenly spread over the latent.
_GEOMETRY_SAMPLE = 6
_TERMS = ("data", "kl_segmentation", "continuity", "clash", "total")


@dataclass(frozen=True)
class _Block:
    """This process's images of a block, ready to be compared, and the optics groups of all its images."""

    division: Division
    batch: ParticleBatch
    prepared: PreparedImages
    contrast: ContrastPrior | None
    optics_group: Int[Tensor, " image"]


@dataclass
class Progress:
    """Where training stands; with weights, optimiser and generator the whole state.

    ``stage`` counts finished stages, ``block`` the finished blocks of the running one, ``visits`` all images seen,
    ``sums`` the running stage's loss terms summed over images; ``epoch`` numbers the records of the metrics;
    ``best_loss`` is that of the running round at full resolution, ``has_converged`` whether the last one gained next to
    nothing; ``patience`` multiplies the images seen in coarse stages.
    """

    stage: int = 0
    block: int = 0
    visits: int = 0
    epoch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_epoch: int | None = None
    has_converged: bool = False
    patience: float = 1.0
    verdict: dict[str, Any] = field(default_factory=dict)


class MarginalTrainer(Trainer):
    """Train a model on the marginal likelihood, stage by stage.

    In a block of images, conformations at latents spread over the prior are compared with every image; the gradient
    of ``log Σ_k π_k p(y | z_k)`` is then taken, image by image, at one conformation drawn with its posterior
    probability, which has that gradient as its expectation.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        judges = self.held_out_rows if len(self.held_out_rows) else self.training_rows
        spread = np.linspace(0, len(judges) - 1, min(len(judges), _MOST_JUDGES)).astype(int)
        self.judges = judges[np.unique(spread)]
        segments = self.config.segments
        divides = segments.n_segments == "auto" and not segments.regions and segments.method != "chain"
        self.stages = plan(self.config, len(self.training_rows), divides)
        self.progress = Progress()
        self.selection = ModelSelection(self.images, self.judges, self.training_rows, self.generator)
        self.best: dict[str, Any] | None = None
        self.features = FeatureCache(self.images.table.n_particles)
        self.order = TrainingOrder(self.images.table, self.training_rows, self.config.training.seed)
        self._last_saved = time.monotonic()

    def _visits(self) -> tuple[int, int]:
        return self.progress.visits, sum(self._visits_of(stage) for stage in self.stages)

    def _visits_of(self, stage: Stage) -> int:
        """Images to be seen in a stage: more in coarse ones where each image says little."""
        is_coarse = stage.kind != "still" and not stage.is_round
        return math.ceil(stage.visits * self.progress.patience) if is_coarse else stage.visits

    def _run(self, bar: tqdm) -> None:
        while self.progress.stage < len(self.stages):
            self._run_stage(self.stages[self.progress.stage], bar)
        if not self.progress.verdict:
            self._judge()

    def _judge(self) -> None:
        """Last words: what the held-out images say of the motion; without support the model is made still."""
        self.model.eval()
        self._refine_poses(None)
        with self.images.uncorrected():  # poses fitted to the moving model would speak for it
            enough = len(self.held_out_rows) >= LEAST_JUDGES
            verdict = segment_support(self.model, self.images, self.judges, enough)
        if verdict["motion"] == "not supported" or any(segment["is_stilled"] for segment in verdict["segments"]):
            self._refine_poses(None)  # those of a motion that is no more
        self.progress.verdict = verdict
        self.save()
        self.save(self.layout.best_checkpoint)

    def _run_stage(self, stage: Stage, bar: tqdm) -> None:
        bar.set_description(stage.name)
        if stage.is_optional and self.progress.has_converged:
            bar.update(self._visits_of(stage))
        elif stage.kind == "merge":
            self.selection.merge(stage, self.model)
        elif stage.kind == "refine":
            self._refine_noise_and_poses(stage.resolution)
        elif self.selection.skips(stage, self.model):
            bar.update(self._visits_of(stage))
        else:
            self._fit(stage, bar)
        self.progress.stage += 1
        self.progress.block = 0
        self.optimiser = None
        self.save()
        self._last_saved = time.monotonic()

    def _fit(self, stage: Stage, bar: tqdm) -> None:
        """Blocks of a stage, from the one where it stands; a record of the metrics at the end, or every epoch."""
        if self.progress.block == 0:
            if stage.is_round:
                self._begin_round(stage)
            started = self.selection.begin(stage, self.model)
            if started is None:
                bar.update(self._visits_of(stage))
                return
            self.model = started
        size = self._block_size(stage)
        n_blocks = math.ceil(self._visits_of(stage) / size)
        if self.optimiser is None:
            self.optimiser = self._make_optimiser(stage)
        self.model.train()
        blocks = self._blocks(stage, n_blocks)
        with closing(read_ahead(self.images, (own for _, own in blocks), self.model.device, n_ahead=1)) as batches:
            for rows, _ in blocks:
                started = time.monotonic()
                self._run_block(stage, n_blocks, rows, next(batches), bar)
                self.progress.seconds += time.monotonic() - started
                self.progress.block += 1
                if self.progress.block == n_blocks or self.progress.images >= _RECORD_EVERY:
                    self._record(stage)
                if time.monotonic() - self._last_saved > 60 * self.config.training.checkpoint_minutes:
                    self.save()
                    self._last_saved = time.monotonic()
        self.model = self.selection.end(stage, self.model)
        if stage.kind == "still":
            self._prepare_encoder()
            self._be_patient(stage)
            bar.total = self._visits()[1]
        elif stage.is_round:
            self._end_round(stage)

    def _begin_round(self, stage: Stage) -> None:
        """What the model is worth before a round, with the noise and poses of now."""
        level = self.model.level(stage.resolution)
        evidence = held_out_evidence(self.model.eval(), self.images, self.judges, level)
        self.best = snapshot(self.model)
        self.best["evidence"] = self.best["start"] = torch.from_numpy(evidence)
        self.progress.best_loss = -float(evidence.mean())

    def _end_round(self, stage: Stage) -> None:
        """Go on with the round's best model, and note whether the round was worth it."""
        self.model = restored(self.best, self.model)
        level = self.model.level(stage.resolution)
        still = still_evidence(self.model.eval(), self.images, self.judges, level)
        best, start = self.best["evidence"].numpy(), self.best["start"].numpy()
        gains_enough = (best - start).mean() > _LEAST_GAIN * (best - still).mean()
        self.progress.has_converged = not (gains_enough and is_better(best, still, still, share=0.0))

    def _be_patient(self, stage: Stage) -> None:
        """See more images in coarse stages where each one says little."""
        level = self.model.level(stage.resolution)
        told = float(still_evidence(self.model.eval(), self.images, self.judges, level).mean())
        self.progress.patience = float(np.clip(_ENOUGH_NATS / max(told, 1e-9), 1.0, _MOST_PATIENCE))

    def _prepare_encoder(self) -> None:
        """Let the encoder look from the fitted structure."""
        if n_own_samples(self.config, self.model.latent_dim) > 0:
            still = torch.zeros(1, self.model.latent_dim, device=self.model.device)
            with torch.no_grad():
                template = self.model.decode_sites(still, still=True)[0]
            prepare_encoder(self.model, self.images, self.training_rows, template)
            self.features.clear()

    def _run_block(self, stage: Stage, n_blocks: int, rows: np.ndarray, batch: ParticleBatch, bar: tqdm) -> None:
        """Compare a block of images with shared conformations, then take its optimiser steps.

        ``rows`` are those of all processes, ``batch`` has the images of this one.
        """
        division = Division(len(rows), self.config.training.batch_size)
        level = self.model.level(stage.resolution)
        with torch.no_grad():
            prepared = self.model.renderer.prepare(batch, level)
        contrast = self.model.contrast_prior(batch.optics_group)
        latent, marginal = None, 0.0
        if stage.kind != "still":
            group = torch.from_numpy(self.images.table.optics_group[rows]).to(self.model.device)
            block = _Block(division, batch, prepared, contrast, group)
            latent, marginal = self._draw(stage, block, self.progress.block / n_blocks)
        steps = division.steps()
        for number, step in enumerate(steps):
            self._set_rates(rate_factor((self.progress.block + number / len(steps)) / n_blocks))
            self._step(stage, step, prepared.take(step.own), latent, contrast and contrast.take(step.own))
            if latent is not None:
                latent = latent[step.n_images :]
            bar.update(step.n_images)
        self._settle_terms(self.progress.sums, lambda before: self._place(stage))
        self.progress.sums["marginal"] = self.progress.sums.get("marginal", 0.0) - marginal
        self.progress.images += len(rows)
        self.progress.visits += len(rows)
        self._show(stage, bar)

    def _draw(self, stage: Stage, block: _Block, fraction: float) -> tuple[Float[Tensor, "image latent"], float]:
        """Compare a block's images with conformations, and draw one latent for each with its posterior probability.

        The contrasts and the encoder learn from the comparison. Returns the latents of the images of all processes, and
        the sum of their marginal log-likelihoods (nats).
        """
        model, division = self.model, block.division
        n_own = n_own_samples(self.config, model.latent_dim)
        encoded = None
        if n_own > 0:
            with torch.no_grad():
                encoded = self.features.encode(model.encoder, block.batch).through(division.gather)
        count = max(4, round(stage.node_share * model.n_nodes))
        own = compare(
            model, block.prepared, count, self.generator, block.contrast, encoded, n_own, places=division.places
        )
        candidates = own.through(division.gather)
        marginal = float(candidates.marginal.sum())
        self._refuse_non_finite({"marginal": marginal}, self._place(stage))
        chosen = torch.multinomial(candidates.weights.cpu(), 1, generator=self.generator)[:, 0].to(model.device)
        update_contrast(model, block.optics_group, candidates)
        if encoded is not None:
            self._set_rates(rate_factor(fraction))
            taught = (model.encoder, self.features, block.batch, own, self.optimiser)
            teach_encoder(*taught, self.gradient_sum, division.n_images)
        return candidates.latent[torch.arange(len(chosen), device=model.device), chosen], marginal

    def _step(
        self,
        stage: Stage,
        step: Step,
        prepared: PreparedImages,
        latent: Float[Tensor, "image latent"] | None,
        contrast: ContrastPrior | None,
    ) -> None:
        """One optimiser step with this process's images at the latents of the whole step's, or at one structure."""
        model, config = self.model, self.config
        noise = model.segmentation.noise(self.generator)
        unique = model.nominal_positions.new_zeros(1, model.latent_dim)
        place = torch.zeros(step.n_images, dtype=torch.long, device=model.device)
        if latent is not None:
            unique, place = torch.unique(latent[: step.n_images], dim=0, return_inverse=True)
        place = place[step.place]
        some = torch.linspace(0, len(unique) - 1, min(len(unique), _GEOMETRY_SAMPLE)).long().to(model.device)

        def terms_of(part: slice) -> dict[str, Tensor]:
            weights = model.segmentation.weights(model.segmentation.sample(noise))
            conformations, sites = model.decode_with_sites(unique, weights, still=latent is None)
            continuity, clash = model.geometry(conformations[some])
            likelihood = model.log_likelihood(prepared.take(part), sites[place[part]], contrast and contrast.take(part))
            terms = {
                "data": -likelihood.mean(),
                "kl_segmentation": config.loss.kl_segmentation * sum(model.segmentation.kl()) / model.n_training,
                "continuity": stage.geometry * continuity,
                "clash": stage.geometry * clash,
            }
            return {**terms, "total": sum(terms.values())}

        moved = [*model.decoder.parameters(), *model.segmentation.parameters()]
        self._descend(moved, model.decoder.parameters(), terms_of, _TERMS, len(place), step.n_images)

    def _place(self, stage: Stage) -> str:
        return f"in stage '{stage.name}', block {self.progress.block + 1}"

    def _refine_noise_and_poses(self, resolution: float | None) -> None:
        self.model.eval()
        self.images.refine_noise(residual_noise(self.model, self.images, self.judges))
        self.features.clear()
        self._refine_poses(resolution)
        self.model = self.selection.equalised(self.model, resolution)

    def _refine_poses(self, resolution: float | None) -> None:
        if self.config.particles.refine_poses:
            refine_poses(self.model, self.images, resolution, self.config.particles, self.show_progress)

    def _block_size(self, stage: Stage) -> int:
        per_image = 3 * self.model.level(stage.resolution).size ** 2
        fitting = max(self.config.training.batch_size, _BLOCK_VALUES // per_image)
        return min(stage.block, fitting)

    def _blocks(self, stage: Stage, n_blocks: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of the blocks of a stage that are left, and of each those of this process."""
        visits, blocks = self._visits_of(stage), []
        place = self.progress.visits
        for block in range(self.progress.block, n_blocks):
            count = visits * (block + 1) // n_blocks - visits * block // n_blocks
            rows = self.order.take(place, count)
            blocks.append((rows, rows[Division(count, self.config.training.batch_size).places.numpy()]))
            place += count
        return blocks

    def _make_optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        training, model = self.config.training, self.model
        rates = {
            "decoder": training.learning_rate * stage.rate,
            "segmentation": 0.0 if stage.kind == "still" else training.segmentation_learning_rate * stage.segment_rate,
            "encoder": training.learning_rate,
        }
        return make_optimiser(model, rates)

    def _record(self, stage: Stage) -> None:
        """Append what the stage, or an epoch of it, came to."""
        progress = self.progress
        progress.epoch += 1
        self.model.eval()
        level = self.model.level(stage.resolution)
        measure = still_evidence if stage.kind == "still" else held_out_evidence
        evidence = measure(self.model, self.images, self.judges, level)
        self.model.train()
        loss = -float(evidence.mean())
        record = {
            "epoch": progress.epoch,
            "stage": stage.name,
            "resolution": round(self.model.renderer.edge / level.band, 2),
            "step": progress.visits,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "n_segments": self.model.segmentation.n_segments,
            "latent_dim": self.model.latent_dim,
            "train": {name: value / progress.images for name, value in progress.sums.items()},
            "held_out": {"marginal": loss} if len(self.held_out_rows) else None,
            "images_per_second": round(progress.images / max(progress.seconds, 1e-9), 1),
            "seconds": round(progress.seconds, 2),
        }
        progress.sums, progress.images, progress.seconds = {}, 0, 0.0
        self.metrics.append(record)
        if stage.is_round and loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, progress.epoch
            self.best = snapshot(self.model) | {"evidence": torch.from_numpy(evidence), "start": self.best["start"]}

    def _show(self, stage: Stage, bar: tqdm) -> None:
        sums, images = self.progress.sums, max(self.progress.images, 1)
        shown = {"segments": self.model.segmentation.n_segments, "d": self.model.latent_dim}
        for name, label in (("marginal", "-log p"), ("data", "data"), ("continuity", "cont"), ("clash", "clash")):
            if name in sums:
                shown[label] = f"{sums[name] / images:.4g}"
        bar.set_postfix(shown, refresh=False)

    def state(self) -> dict[str, Any]:
        """Everything that training depends on from here on."""
        return {
            **super().state(),
            "plan": [asdict(stage) for stage in self.stages],
            "best": self.best,
            "noise_power": self.images.noise_power,
            "pose_rotvec": self.images.pose_rotvec,
            "pose_shift": self.images.pose_shift,
            **self.selection.state(),
        }

    def _take_over(self, state: dict[str, Any]) -> None:
        if state.get("plan") != [asdict(stage) for stage in self.stages]:
            self._refuse_version()
        self.selection.load(state)
        self.best = state["best"]
        self.model = restored(state, self.model)
        if state["optimiser"] is not None:
            self.optimiser = self._make_optimiser(self.stages[self.progress.stage])
            self.optimiser.load_state_dict(state["optimiser"])
        self.images.noise_power = state["noise_power"]
        self.images.pose_rotvec, self.images.pose_shift = state["pose_rotvec"], state["pose_shift"]
