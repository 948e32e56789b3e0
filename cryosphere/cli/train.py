"""``cryosphere train``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from cryosphere.cli.choosing import choosing_options, choosing_overrides
from cryosphere.cli.paths import path_map_option
from cryosphere.errors import ConfigError


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "run_folder", type=click.Path(path_type=Path), required=True, help="Run folder to make."
)
@click.option("--resume", is_flag=True, help="Continue the run in the folder from its last checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace the run in the folder.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="In place of training.device.")
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="Share the images out to N GPUs of this machine (of several machines: torchrun).",
)
@choosing_options
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key; repeatable.")
@click.option(
    "--datadir",
    type=click.Path(path_type=Path),
    help="In place of particles.datadir, for images that have moved.",
)
@path_map_option
@click.option(
    "--half-sets",
    is_flag=True,
    help="Train on two independent halves (of the refinement, else random), into half1 and half2, and compare.",
)
@click.option("--no-check", is_flag=True, help="Do not compare images and structure first (`cryosphere check`).")
@click.option("--no-posterior", is_flag=True, help="Do not end with the posterior of every particle.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    config: Path,
    run_folder: Path,
    resume: bool,
    overwrite: bool,
    device: str | None,
    gpus: int | None,
    select: str | None,
    index_file: Path | None,
    subset: Path | None,
    overrides: tuple[str, ...],
    datadir: Path | None,
    path_map: dict[str, str],
    half_sets: bool,
    no_check: bool,
    no_posterior: bool,
    quiet: bool,
) -> None:
    """Learn segments and motions from the particle images that CONFIG names.

    With some of the particles, results are of these alone, in the order of the input file; their numbers in results
    are rows of the whole input file.

    \b
    Example:  cryosphere train config.yaml -o run1
              cryosphere train config.yaml -o run1 --select "rlnLogLikeliContribution > 1e5"
              cryosphere train config.yaml -o run2 --set segments.n_segments=8
              cryosphere train config.yaml -o run1 --resume
              cryosphere train config.yaml -o run1 --resume --path-map /old/project=/new/project
              cryosphere train config.yaml -o halves --half-sets
              cryosphere train config.yaml -o run1 --gpus 4
              torchrun --nnodes 2 --nproc-per-node 4 -m cryosphere train config.yaml -o run1
    """
    if resume and overwrite:
        raise click.UsageError("--resume continues a run, --overwrite replaces it: give one of them.")
    if half_sets and no_posterior:
        raise click.UsageError("--half-sets compares posteriors: leave --no-posterior out.")
    if gpus is not None and gpus > 1 and "WORLD_SIZE" not in os.environ:
        sys.exit(_on_gpus(gpus, device))
    from cryosphere import distributed
    from cryosphere.config_files import read_config
    from cryosphere.pipelines.checked_training import train

    overrides = (*choosing_overrides(select, index_file, subset), *overrides)
    if datadir is not None:
        overrides += (f"particles.datadir={json.dumps(os.path.abspath(datadir.expanduser()))}",)
    if path_map:
        overrides += (f"particles.path_map={json.dumps(path_map)}",)
    settings = read_config(config, overrides)
    shared = {
        "resume": resume,
        "overwrite": overwrite,
        "device": device,
        "check": not no_check,
        "show_progress": not quiet,
        "say": lambda sentence: click.echo(sentence, err=True),
    }
    if half_sets:
        from cryosphere.pipelines.half_sets import train_half_sets

        result = train_half_sets(settings, run_folder, **shared).sentence()
    else:
        result = str(train(settings, run_folder, posterior=not no_posterior, **shared).folder)
    if distributed.is_main():
        click.echo(result)


def _on_gpus(count: int, device: str | None) -> int:
    """Run this command again in one process for each GPU; its exit status."""
    import torch

    from cryosphere.distributed import launch

    if device in ("cpu", "mps"):
        raise ConfigError(f"--gpus {count}: not with --device {device}.")
    if torch.cuda.device_count() < count:
        raise ConfigError(f"--gpus {count}: {torch.cuda.device_count()} CUDA GPUs are here.")
    return launch(click.get_os_args(), count)
