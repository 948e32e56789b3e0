"""``cryosphere demo``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--particles", "n_particles", type=click.IntRange(min=1), default=5000, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier demo.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def command(output: Path, seed: int, n_particles: int, epochs: int, overwrite: bool, quiet: bool) -> None:
    """Recover the opening of adenylate kinase from simulated images, in minutes on two CPU cores.

    Simulates images of the closed → open path (PDB 1AKE, 4AKE), trains from the closed structure alone, analyzes,
    exports and scores, and prints where to look.

    \b
    Example:  cryosphere demo -o demo
    """
    from cryosphere.pipelines.demo import demo

    result = demo(
        output,
        seed=seed,
        n_particles=n_particles,
        epochs=epochs,
        overwrite=overwrite,
        show_progress=not quiet,
        say=lambda sentence: click.echo(sentence, err=True),
    )
    click.echo("\n".join(result.lines))
