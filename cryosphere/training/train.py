"""From a configuration to a finished run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from cryosphere import distributed
from cryosphere.config import Config, choose_device
from cryosphere.config_files import dump_config, parse_config, read_config
from cryosphere.errors import RunError
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.io.atomic import atomic_output
from cryosphere.io.folders import atomic_folder
from cryosphere.io.particles import read_particles
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.chosen import chosen_particles
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.prepared import StackOrder, open_prepared, prepare
from cryosphere.records import ParticleTable, Structure
from cryosphere.runs.checkpoints import input_fingerprint
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.run import Run
from cryosphere.runs.tables import read_metrics, save_table
from cryosphere.runs.versions import package_versions
from cryosphere.structure.nominal import read_nominal
from cryosphere.training.advice import describe_convergence
from cryosphere.training.elbo import ElboTrainer
from cryosphere.training.encoding import prepare_encoder
from cryosphere.training.marginal import MarginalTrainer
from cryosphere.training.trainer import Trainer

Check = Callable[[Config, ParticleTable, Structure, Callable[[str], None]], dict[str, Any]]
# Under so many particles the user is told what to expect.
_FEW_PARTICLES = 500


def train(
    config: Config | Path | str | dict,
    run_folder: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    posterior: bool = True,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda sentence: None,
    stack_of: Path | None = None,
    check: Check | None = None,
) -> Run:
    """Train a model and write the run folder; several processes (``torchrun``) share the images.

    Parameters
    ----------
    config : Config, path of a YAML file, or mapping of sections
        Paths in a mapping are relative to the current folder.
    run_folder : path
        Made by this call; must not exist unless ``resume`` or ``overwrite``.
    resume : bool
        Continue the run in the folder from its last checkpoint (exactly, on the same CPU); a finished run trains no
        more. The configuration must be the one the run was started with.
    overwrite : bool
        Remove a run that is in the way. Folders that are not runs are never removed.
    device : str, optional
        ``auto``, ``cpu``, ``cuda`` or ``mps`` in place of ``training.device``.
    posterior : bool
        Whether to end with the posterior of every particle.
    show_progress : bool
        Progress bars on stderr.
    say : callable
        Receives each sentence meant for the user.
    stack_of : Path, optional
        Folder of another run, whose prepared stack is linked instead of written again if it fits.
    check : callable, optional
        Called with configuration, particle table, placed structure and ``say`` before anything is made; refuses
        inputs that do not belong together by an error (``preflight.check.quick_check``). What it returns is kept in
        the run folder.

    Raises
    ------
    InputError, ConfigError, RunError
        Inputs, configuration or folder cannot be used, or the loss was not finite.
    """
    config = _as_config(config)
    distributed.join(device or config.training.device)
    if not distributed.is_main():
        show_progress, say = False, lambda sentence: None
    chosen_device = choose_device(device or config.training.device)
    layout = RunLayout(Path(run_folder))
    _check_folder(layout, config, resume, overwrite)
    table, structure = load_inputs(config)
    for note in (*table.notes, *structure.notes):
        say(note)
    fingerprint = input_fingerprint(table, config.structure.file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.start_seed)
        n_groups = len(table.optics_group_names)
        model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config, n_groups=n_groups)
    images = ParticleImages(table, model.mask_radius, config.particles.invert)
    order = StackOrder.of(config.particles, table, model.mask_radius)
    if order is not None and open_prepared(layout.prepared, order) is None:
        order.check_disk(layout.prepared)  # said before hours of work, not after
    model.to(chosen_device)
    findings = check(config, table, structure, say) if check is not None and not resume else None
    kind = MarginalTrainer if config.loss.objective == "marginal" else ElboTrainer
    trainer = kind(model, images, config, layout, fingerprint, show_progress, say)
    if isinstance(trainer, ElboTrainer):
        prepare_encoder(model, images, trainer.training_rows, model.nominal_sites)
    if resume:
        trainer.resume()
    distributed.wait()  # all have seen the folder as it was
    if distributed.is_main():
        if resume:
            _write_inputs(layout, config, table)
        else:
            _make_folder(layout, config, table, findings, overwrite)
            trainer.save()
        if order is not None:
            shared = None if stack_of is None else RunLayout(Path(stack_of)).prepared
            prepare(order, images, layout.prepared, shared=shared, show_progress=show_progress, say=say)
    distributed.wait()
    if order is not None:
        images.source = open_prepared(layout.prepared, order)
    _announce(trainer, chosen_device, say)
    trainer.train()
    distributed.wait()  # for the files of the first process
    _summarise(trainer, say)
    run = Run.load(layout.folder, chosen_device)
    if posterior:
        ensure_posterior(run, progress=show_progress)
    return run


def load_inputs(config: Config) -> tuple[ParticleTable, Structure]:
    """Read the particle table and the nominal structure, placed in the model frame."""
    table = chosen_particles(
        read_particles(config.particles.file, config.particles.datadir, config.particles.path_map),
        select=config.particles.select,
        index_file=config.particles.index_file,
        subset=config.particles.subset,
        pixel_size=config.particles.pixel_size,
    )
    return table, read_nominal(config.structure, table)


def _as_config(config: Config | Path | str | dict) -> Config:
    if isinstance(config, Config):
        return config
    if isinstance(config, dict):
        return parse_config(config, Path.cwd())
    return read_config(Path(config))


def _check_folder(layout: RunLayout, config: Config, resume: bool, overwrite: bool) -> None:
    folder = layout.folder
    if resume:
        if not layout.config.exists():
            raise RunError(f"{folder}: no run to resume here (no {layout.config.name}).")
        _check_same_config(layout, config)
    elif folder.is_dir() and any(folder.iterdir()):  # said before hours of reading, not after
        if not layout.particles.exists():
            raise RunError(f"{folder}: exists and is not a run folder, so it is not touched; choose another -o.")
        if not overwrite:
            raise RunError(f"{folder}: exists; pass --resume to continue it, --overwrite to replace it, or another -o.")


def _check_same_config(layout: RunLayout, config: Config) -> None:
    """Refuse to resume with other settings; where the files lie, and the device, may change."""
    free = {
        ("particles", "file"),
        ("particles", "datadir"),
        ("particles", "path_map"),
        ("particles", "index_file"),
        ("particles", "subset"),
        ("particles", "stack"),
        ("structure", "file"),
        ("segments", "pae_file"),
        ("training", "device"),
    }
    stored, given = (yaml.safe_load(text) for text in (layout.config.read_text(), dump_config(config)))
    for section, keys in given.items():
        for key, value in keys.items():
            before = stored.get(section, {}).get(key)
            if (section, key) not in free and before != value:
                raise RunError(
                    f"{layout.folder}: was started with {section}.{key} = {before!r}, now it is {value!r}; "
                    "resume with the same configuration, or train into a new folder."
                )


def _make_folder(
    layout: RunLayout, config: Config, table: ParticleTable, findings: dict[str, Any] | None, overwrite: bool
) -> None:
    """Make the run folder with everything but results; it appears under its name only when complete."""
    with atomic_folder(layout.folder, marker=layout.particles.name, overwrite=overwrite) as temporary:
        new = RunLayout(temporary)
        new.structure.mkdir()
        _write_inputs(new, config, table)
        new.versions.write_text(json.dumps(package_versions(), indent=2) + "\n", encoding="utf-8")
        if findings is not None:
            new.check.write_text(json.dumps(findings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_inputs(layout: RunLayout, config: Config, table: ParticleTable) -> None:
    """Write what a run folder keeps of its inputs; a resumed run writes it again, for files that have moved."""
    with atomic_output(layout.structure / config.structure.file.name, overwrite=True) as temporary:
        shutil.copyfile(config.structure.file, temporary)
    if config.segments.pae_file is not None:
        with atomic_output(layout.structure / config.segments.pae_file.name, overwrite=True) as temporary:
            shutil.copyfile(config.segments.pae_file, temporary)
    save_table(layout.particles, table)
    with atomic_output(layout.config, overwrite=True) as temporary:
        temporary.write_text(dump_config(config))


def _announce(trainer: Trainer, device: str, say: Callable[[str], None]) -> None:
    table, config, model = trainer.images.table, trainer.config, trainer.model
    say(
        f"{table.n_particles} particles of {table.box_size} px at {table.pixel_size:.4g} Å/px; "
        f"{len(model.nominal_positions)} residues in {model.segmentation.n_segments} segments"
        f"{' to begin with' if config.segments.n_segments == 'auto' else ''}; "
        f"latent dimension {model.latent_dim}{' or more' if config.model.latent_dim == 'auto' else ''}; "
        f"device {device}{f', {distributed.count()} processes' if distributed.count() > 1 else ''}."
    )
    n_training = len(trainer.training_rows)
    if isinstance(trainer, ElboTrainer) and n_training < config.training.batch_size:
        say(
            f"Only {n_training} particles to train on: "
            f"the batch shrinks from {config.training.batch_size} to {n_training}."
        )
    if table.n_particles < _FEW_PARTICLES:
        say(
            f"{table.n_particles} particles are few: expect the mean structure and large motions at most, and treat "
            "segment boundaries with care."
        )
    if isinstance(trainer, MarginalTrainer):
        finest = model.renderer.edge / model.level().band
        if model.level().band < model.renderer.full_band:
            say(f"Images are compared down to {finest:.1f} Å: more would take over 4 GB of memory at this box.")
        if len(trainer.held_out_rows) == 0:
            say("No images are held out: models are compared on training images, and the motion is not judged.")
        if trainer.progress.stage == len(trainer.stages):
            say("Training is finished.")
        elif trainer.progress.visits:
            say(f"Resuming in stage {trainer.progress.stage + 1} of {len(trainer.stages)}.")
    elif trainer.progress.epoch or trainer.progress.step:
        say(f"Resuming after epoch {trainer.progress.epoch}, step {trainer.progress.step}.")


def _summarise(trainer: Trainer, say: Callable[[str], None]) -> None:
    if isinstance(trainer, MarginalTrainer):
        for line in describe_training(trainer.selection.tried, trainer.progress.verdict):
            say(line)
        return
    progress = trainer.progress
    if progress.best_epoch is None:
        say(f"Trained {progress.epoch} epochs; no images were held out, so the last epoch is used.")
        return
    say(describe_convergence(read_metrics(trainer.layout.metrics), progress.best_epoch))


def describe_training(tried: list[dict], verdict: dict) -> list[str]:
    """Lines for the user: the table of what was tried, and what held-out images say of the motion."""
    lines = []
    starts = [item for item in tried if item["what"] == "wide turn"]
    if starts:
        small, wide = (item["evidence"] for item in starts)
        lines.append(
            f"Start: {'a full turn of one part' if starts[1]['chosen'] else 'small motions'} "
            f"(held-out images, nats per image: small motions {small:.3f}, a full turn {wide:.3f})."
        )
    folds = [item for item in tried if item["what"] == "fold"]
    if folds:
        straight, folded = (item["evidence"] for item in folds)
        lines.append(
            f"The latent ran along the motion and back; {'now' if folds[0]['chosen'] else 'not'} laid out along it "
            f"(held-out images, nats per image: there and back {folded:.3f}, laid out {straight:.3f})."
        )
    for what in ("merging", "segments", "latent dimension", "shuffling"):
        rows = [item for item in tried if item["what"] == what]
        if not rows:
            continue
        lines.append(f"Tried ({what}), on held-out images:")
        lines.append("  segments  dimension  nats/image  ± (to best)  merged (Å rms)")
        for item in rows:
            lines.append(
                f"  {item['n_segments']:8d}  {item['latent_dim']:9d}  {item['evidence']:10.3f}  "
                f"{item['standard_error']:11.3f}  {item['rmsd']:14.2f}{'  chosen' if item['chosen'] else ''}"
            )
    if verdict:
        evidence = verdict["evidence"]
        lines.append(
            f"Held-out images ({verdict['n_images']}), nats per image against pure noise: nominal structure "
            f"{evidence['nominal']:.3f}, one fitted structure {evidence['still']:.3f}, with motion "
            f"{evidence['model']:.3f}."
        )
        if verdict["motion"] == "undecided":
            lines.append("Whether this motion is real, too few images were held out to say: nothing was judged.")
        elif verdict["motion"] == "not supported":
            lines.append(
                "No motion found: the images do not tell the moving model from one fitted structure, which is kept."
            )
        else:
            lines.append(f"Motion: {verdict['motion']} ({verdict['standard_errors']:.1f} standard errors).")
            for segment in verdict["segments"]:
                words = f"motion {segment['motion']} ({segment['standard_errors']:.1f} standard errors)"
                words += ", stilled" if segment["is_stilled"] else ""
                lines.append(f"  {segment['name']}: {words}")
    return lines
