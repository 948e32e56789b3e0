"""``cryosphere train``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "run_folder", type=click.Path(path_type=Path), required=True, help="Run folder to make."
)
@click.option("--resume", is_flag=True, help="Continue the run in the folder from its last checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace the run in the folder.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="In place of training.device.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key; repeatable.")
@click.option(
    "--half-sets",
    is_flag=True,
    help="Train on two independent halves (rlnRandomSubset, else random), into half1 and half2, and compare.",
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
    overrides: tuple[str, ...],
    half_sets: bool,
    no_check: bool,
    no_posterior: bool,
    quiet: bool,
) -> None:
    """Learn segments and motions from the particle images that CONFIG names.

    \b
    Example:  cryosphere train config.yaml -o run1
              cryosphere train config.yaml -o run2 --set segments.n_segments=8
              cryosphere train config.yaml -o run1 --resume
              cryosphere train config.yaml -o halves --half-sets
    """
    if resume and overwrite:
        raise click.UsageError("--resume continues a run, --overwrite replaces it: give one of them.")
    if half_sets and no_posterior:
        raise click.UsageError("--half-sets compares posteriors: leave --no-posterior out.")
    from cryosphere.config_files import read_config
    from cryosphere.pipelines.checked_training import train

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

        click.echo(train_half_sets(read_config(config, overrides), run_folder, **shared).sentence())
        return
    run = train(read_config(config, overrides), run_folder, posterior=not no_posterior, **shared)
    click.echo(str(run.folder))
