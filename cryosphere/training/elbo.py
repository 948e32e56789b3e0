"""Training on the evidence lower bound: ``train → _run_epoch → _step``, resumed bit for bit."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from cryosphere import distributed
from cryosphere.model.encoder import FreeLatents
from cryosphere.particles.loading import read_ahead
from cryosphere.records import LossTerms, ParticleBatch
from cryosphere.training.order import TrainingOrder
from cryosphere.training.schedules import kl_weights, learning_rate_factor
from cryosphere.training.trainer import Trainer, make_optimiser

# Held-out images of a run with free latents take the best of this many training latents.
_FREE_CANDIDATES = 16
_USUAL_EPOCHS = 30
# Steps between looks at the loss, which wait for the device.
_STEPS_UNSEEN = 16
_TERMS = tuple(field.name for field in fields(LossTerms))
_TERM_LABELS = {
    "total": "loss",
    "data": "data",
    "kl_latent": "KL z",
    "kl_segmentation": "KL seg",
    "continuity": "cont",
    "clash": "clash",
}


@dataclass
class Progress:
    """Where training stands; together with weights, optimiser and generator it is the whole state.

    ``epoch`` counts finished epochs, ``step`` the finished steps of the one that is running, ``sums`` its loss terms
    summed over images.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    images: int = 0
    best_epoch: int | None = None
    best_loss: float | None = None


class ElboTrainer(Trainer):
    """Train a model on the evidence lower bound (``loss.objective: elbo``), epoch by epoch."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        training = self.config.training
        self.batch_size = min(training.batch_size, len(self.training_rows))
        self.epochs = training.epochs or _USUAL_EPOCHS
        self.steps_per_epoch = math.ceil(len(self.training_rows) / self.batch_size)
        encoder = training.learning_rate
        if isinstance(self.model.encoder, FreeLatents):
            encoder = training.latent_learning_rate
        rates = {
            "decoder": training.learning_rate,
            "encoder": encoder,
            "segmentation": training.segmentation_learning_rate,
        }
        self.optimiser = make_optimiser(self.model, rates)
        self.order = TrainingOrder(self.images.table, self.training_rows, training.seed)
        self.progress = Progress()

    def _visits(self) -> tuple[int, int]:
        count = len(self.training_rows)
        return self.progress.epoch * count + self.progress.images, self.epochs * count

    def _run(self, bar: tqdm) -> None:
        while self.progress.epoch < self.epochs:
            self._run_epoch(bar)

    def _run_epoch(self, bar: tqdm) -> None:
        """One pass over the training rows, from the step where it stands, then the held-out loss and a checkpoint."""
        self.model.train()
        started = last_saved = time.monotonic()
        first_step = self.progress.step
        at_once = max(1, self.order.n_together // self.batch_size)
        first_read = first_step - first_step % at_once  # rounding depends on what is read together
        starts = range(first_read * self.batch_size, len(self.training_rows), self.batch_size)
        order = self._epoch_order()
        steps = [order[start : start + self.batch_size] for start in starts]
        own = [rows[distributed.share(len(rows))] for rows in steps]
        with closing(read_ahead(self.images, filter(len, own), self.model.device, at_once=at_once)) as batches:
            for step, (rows, mine) in enumerate(zip(steps, own, strict=True), start=first_read):
                batch = next(batches) if len(mine) else None
                if step < first_step:
                    continue
                self._step(rows, batch, bar)
                is_due = time.monotonic() - last_saved > 60 * self.config.training.checkpoint_minutes
                if is_due or self.progress.step % _STEPS_UNSEEN == 0:
                    self._show(bar)
                if is_due:
                    self.save()
                    last_saved = time.monotonic()
        self._show(bar)
        seconds = time.monotonic() - started
        n_images = sum(len(rows) for rows in steps[first_step - first_read :])
        images_per_second = n_images / max(seconds, 1e-9)
        self._finish_epoch(images_per_second, seconds)

    def _step(self, rows: np.ndarray, batch: ParticleBatch | None, bar: tqdm) -> None:
        """One optimiser step on some images, of which this process has its share, if any."""
        fraction = self._fraction()
        factor = learning_rate_factor(self.config.training.lr_schedule, fraction, self.config.training.lr_milestones)
        self._set_rates(factor)
        weights = kl_weights(self.config.loss.kl_schedule, fraction)
        latent_noise = torch.randn(len(rows), self.model.latent_dim, generator=self.generator)
        segment_noise = self.model.segmentation.noise(self.generator)
        latent_noise = latent_noise[distributed.share(len(rows))]

        def terms_of(part: slice) -> dict[str, torch.Tensor]:
            return self.model.loss(batch.take(part), weights, latent_noise[part], segment_noise).as_dict()

        parameters = list(self.model.parameters())
        self._descend(parameters, parameters, terms_of, _TERMS, len(latent_noise), len(rows))
        self.progress.images += len(rows)
        self.progress.step += 1
        bar.update(len(rows))

    def _fraction(self) -> float:
        """Share of the planned optimiser steps that is done."""
        done = self.progress.epoch * self.steps_per_epoch + self.progress.step
        return done / (self.epochs * self.steps_per_epoch)

    def _epoch_order(self) -> np.ndarray:
        """Training rows in the order of this epoch, a function of seed and epoch alone."""
        count = len(self.training_rows)
        return self.order.take(self.progress.epoch * count, count)

    def _show(self, bar: tqdm) -> None:
        """Add up the loss terms of the last steps, and show their means over the epoch so far."""
        sums = self.progress.sums
        epoch, step = self.progress.epoch + 1, self.progress.step
        self._settle_terms(sums, lambda before: f"at epoch {epoch}, step {step - before}")
        shown = {label: f"{sums[name] / self.progress.images:.4g}" for name, label in _TERM_LABELS.items()}
        bar.set_postfix(epoch=f"{self.progress.epoch + 1}/{self.epochs}", **shown, refresh=False)

    def _finish_epoch(self, images_per_second: float, seconds: float) -> None:
        progress = self.progress
        progress.epoch += 1
        held_out = self.held_out_terms()
        record = {
            "epoch": progress.epoch,
            "step": progress.epoch * self.steps_per_epoch,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "train": {name: value / progress.images for name, value in progress.sums.items()},
            "held_out": held_out,
            "images_per_second": round(images_per_second, 1),
            "seconds": round(seconds, 2),
        }
        progress.step, progress.sums, progress.images = 0, {}, 0
        is_best = held_out is not None and (progress.best_loss is None or held_out["total"] < progress.best_loss)
        if is_best:
            progress.best_epoch, progress.best_loss = progress.epoch, held_out["total"]
        self.metrics.append(record)
        if is_best:
            self.save(self.layout.best_checkpoint)
        self.save()

    @torch.no_grad()
    def held_out_terms(self) -> dict[str, float] | None:
        """Mean loss terms over the held-out images at full KL weights, without sampling; None if there are none."""
        if len(self.held_out_rows) == 0:
            return None
        self.model.eval()
        own = self.held_out_rows[distributed.share(len(self.held_out_rows))]
        parts = [own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size)]
        total = torch.zeros(len(_TERMS), device=self.model.device)
        with closing(read_ahead(self.images, parts, self.model.device)) as batches:
            for rows, batch in zip(parts, batches, strict=True):
                terms = self.model.held_out_loss(batch, *self._held_out_latents(batch)).as_dict()
                total += len(rows) * torch.stack([terms[name] for name in _TERMS])
        distributed.add_up([total])
        return dict(zip(_TERMS, (total / len(self.held_out_rows)).tolist(), strict=True))

    def _held_out_latents(self, batch: ParticleBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent posteriors of images that were not trained on."""
        if not isinstance(self.model.encoder, FreeLatents):
            return self.model.encoder(batch)
        count = min(_FREE_CANDIDATES, len(self.training_rows))
        chosen = self.training_rows[np.linspace(0, len(self.training_rows) - 1, count).astype(int)]
        mean, log_std = self.model.encoder.mean[chosen], self.model.encoder.log_std[chosen]
        best = self.model.log_likelihoods(batch, self.model.decode_sites(mean)).argmax(1)
        return mean[best], log_std[best]

    def _take_over(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])


def convergence(held_out_totals: list[float]) -> Literal["flattened", "falling", "rising"]:
    """Say how the held-out loss ends: still falling, flat, or rising again after its best epoch.

    It has flattened if the last quarter of epochs gained less than 1 % of all that was gained, and it rises if it has
    lost more than that share since its best. Values are medians of three epochs, so that one lucky epoch does not
    decide; under 8 epochs are taken as falling.
    """
    if len(held_out_totals) < 8:
        return "falling"
    totals = np.asarray(held_out_totals)
    smooth = np.array([np.median(totals[max(0, i - 1) : i + 2]) for i in range(len(totals))])
    gained = float(totals[0] - smooth.min())
    if smooth[-1] - smooth.min() > 0.01 * gained:
        return "rising"
    return "flattened" if smooth[int(0.75 * len(smooth))] - smooth[-1] < 0.01 * gained else "falling"
