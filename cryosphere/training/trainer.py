"""What both trainers share: rows, optimiser steps, metrics, and checkpoints from which they continue bit for bit."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cryosphere import distributed
from cryosphere.config import Config
from cryosphere.config_files import dump_config
from cryosphere.errors import ConfigError, RunError
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.selection import training_rows
from cryosphere.runs.checkpoints import load_checkpoint, save_checkpoint
from cryosphere.runs.layout import RunLayout
from cryosphere.training.memory import images_at_a_time
from cryosphere.training.metrics import Metrics
from cryosphere.training.steps import GradientSum, TermsOf


class Trainer(ABC):
    """Trains a model on the rows that are not held out.

    ``progress`` is a dataclass of plain values; together with weights, optimiser and generator it is the whole state.

    Parameters
    ----------
    model : CryoSphere
        On the device to train on.
    images : ParticleImages
    config : Config
    layout : RunLayout
        Of a folder that exists.
    fingerprint : str
        Of the inputs, stored in every checkpoint.
    show_progress : bool
        Progress bar on stderr.
    say : callable
        Receives sentences meant for the user.
    """

    progress: Any
    optimiser: torch.optim.Optimizer | None = None

    def __init__(
        self,
        model: CryoSphere,
        images: ParticleImages,
        config: Config,
        layout: RunLayout,
        fingerprint: str,
        show_progress: bool = True,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.model, self.images, self.config, self.layout = model, images, config, layout
        self.fingerprint, self.show_progress = fingerprint, show_progress
        self.training_rows, self.held_out_rows = training_rows(images.table, config)
        model.n_training = len(self.training_rows)
        if config.training.batch_size < distributed.count():
            raise ConfigError(
                f"training.batch_size: {config.training.batch_size} images cannot be shared out to "
                f"{distributed.count()} processes; use fewer processes or a larger batch."
            )
        self.generator = torch.Generator().manual_seed(config.start_seed)
        self.metrics = Metrics(layout.metrics, layout.tensorboard if config.output.tensorboard else None)
        self.gradient_sum = GradientSum(say=say)
        self._unsettled: list[tuple[int, dict[str, Tensor]]] = []

    def train(self) -> Any:
        """Do what is left; returns the progress.

        Raises
        ------
        RunError
            A loss term is not finite; the last checkpoint is from before.
        """
        if distributed.is_main():
            self.metrics.open(self.progress.epoch)
        n_images = math.ceil(self.config.training.batch_size / distributed.count())
        fitting = images_at_a_time(self.model, n_images)
        if fitting < n_images:
            self.gradient_sum.at_a_time = fitting
        done, total = self._visits()
        with tqdm(
            total=total,
            initial=min(done, total),
            desc="train",
            unit="image",
            disable=not self.show_progress,
            mininterval=0.5 if sys.stderr.isatty() else 20.0,
            dynamic_ncols=True,
        ) as bar:
            self._run(bar)
        self.metrics.close()
        return self.progress

    @abstractmethod
    def _visits(self) -> tuple[int, int]:
        """Images seen, and to be seen in all."""

    @abstractmethod
    def _run(self, bar: tqdm) -> None:
        """Train from where the progress stands."""

    def _set_rates(self, factor: float) -> None:
        """Learning rates as a factor of each group's own."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _descend(
        self,
        parameters: Iterable[nn.Parameter],
        clipped: Iterable[nn.Parameter],
        terms_of: TermsOf,
        names: Sequence[str],
        n_own: int,
        n_images: int,
    ) -> None:
        """One optimiser step, with the gradient of some parameters clipped (see :class:`GradientSum`).

        Its mean loss terms wait, on the device, for :meth:`_settle_terms`.
        """
        terms = self.gradient_sum(parameters, terms_of, names, n_own, n_images)
        if self.config.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(clipped, self.config.training.gradient_clip)
        self.optimiser.step()
        self._unsettled.append((n_images, terms))

    def _settle_terms(self, sums: dict[str, float], place_of: Callable[[int], str]) -> None:
        """Add the loss terms of the steps since the last time to sums over images.

        ``place_of`` says in words where training was, so many steps before now.

        Raises
        ------
        RunError
            One is not finite.
        """
        if not self._unsettled:
            return
        names = list(self._unsettled[0][1])
        counts = [count for count, _ in self._unsettled]
        values = torch.stack([torch.stack([terms[name] for name in names]) for _, terms in self._unsettled]).tolist()
        self._unsettled.clear()
        for number, (n_images, step) in enumerate(zip(counts, values, strict=True), start=1):
            terms = dict(zip(names, step, strict=True))
            self._refuse_non_finite(terms, place_of(len(values) - number))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + n_images * value

    def _refuse_non_finite(self, terms: dict[str, float], place: str) -> None:
        """Stop if a loss term is not finite."""
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        if bad:
            raise RunError(
                f"training stopped {place}: {', '.join(bad)} is not finite; try a smaller training.learning_rate. "
                f"{self.layout.last_checkpoint} is from before."
            )

    def save(self, path: Path | None = None) -> None:
        """Write a checkpoint, by default the one to resume from."""
        if distributed.is_main():
            save_checkpoint(path or self.layout.last_checkpoint, self.state())

    def state(self) -> dict[str, Any]:
        """Everything that training depends on from here on."""
        return {
            "model": self.model.state_dict(),
            "architecture": asdict(self.model.architecture),
            "optimiser": self.optimiser and self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "config": dump_config(self.config),
            "fingerprint": self.fingerprint,
            **vars(self.progress),
        }

    def resume(self) -> None:
        """Continue from the run folder's last checkpoint.

        Raises
        ------
        RunError
            There is none, or it belongs to other inputs or to another version.
        """
        state = load_checkpoint(self.layout.last_checkpoint)
        if state.get("fingerprint") != self.fingerprint:
            raise RunError(
                f"{self.layout.last_checkpoint}: was made from other inputs than the particles and structure given now "
                "(their contents differ); resume with the same files, or train into a new folder."
            )
        if not vars(self.progress).keys() <= state.keys():
            self._refuse_version()
        self.progress = type(self.progress)(**{name: state[name] for name in vars(self.progress)})
        self.generator.set_state(state["generator"])
        self._take_over(state)
        if distributed.is_main():
            for stray in self.layout.last_checkpoint.parent.glob(".*.partial*"):
                stray.unlink()  # half-written when the run was killed

    def _refuse_version(self) -> NoReturn:
        raise RunError(
            f"{self.layout.last_checkpoint}: was made by another version of cryoSPHERE, which cannot be resumed; "
            "train into a new folder."
        )

    @abstractmethod
    def _take_over(self, state: dict[str, Any]) -> None:
        """Restore model, optimiser and whatever else :meth:`state` kept."""


def make_optimiser(model: CryoSphere, rates: dict[str, float]) -> torch.optim.Optimizer:
    """Adam with a rate each for the named parts of a model, noted as ``base_lr``."""
    return torch.optim.Adam(
        [
            {"params": list(getattr(model, name).parameters()), "lr": rate, "base_lr": rate}
            for name, rate in rates.items()
        ],
        fused=True,
    )
