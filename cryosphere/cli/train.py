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
@click.option("--no-posterior", is_flag=True, help="Do not end with the posterior of every particle.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    config: Path,
    run_folder: Path,
    resume: bool,
    overwrite: bool,
    device: str | None,
    overrides: tuple[str, ...],
    no_posterior: bool,
    quiet: bool,
) -> None:
    """Learn segments and motions from the particle images that CONFIG names.

    \b
    Example:  cryosphere train config.yaml -o run1
              cryosphere train config.yaml -o run2 --set segments.n_segments=8
              cryosphere train config.yaml -o run1 --resume
    """
    if resume and overwrite:
        raise click.UsageError("--resume continues a run, --overwrite replaces it: give one of them.")
    from cryosphere.config import read_config
    from cryosphere.training.train import train

    run = train(
        read_config(config, overrides),
        run_folder,
        resume=resume,
        overwrite=overwrite,
        device=device,
        posterior=not no_posterior,
        show_progress=not quiet,
        say=lambda sentence: click.echo(sentence, err=True),
    )
    click.echo(str(run.folder))
