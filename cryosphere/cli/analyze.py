"""``cryosphere analyze``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--points", "n_points", type=click.IntRange(min=2), default=10, show_default=True, help="Per traversal.")
@click.option(
    "--kmeans", "n_clusters", type=click.IntRange(min=1), help="Number of k-means conformations [default: 5]."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier analysis of this run.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(run: Path, n_points: int, n_clusters: int | None, overwrite: bool, quiet: bool) -> None:
    """Describe the ensemble of RUN: latent space, traversals, RMSF, segments and how they move.

    Tables (CSV), pictures (PNG) and Cα structures (mmCIF) go to RUN/analysis.

    \b
    Example:  cryosphere analyze run1
              cryosphere analyze run1 --points 20 --kmeans 8 --overwrite
    """
    from cryosphere.analysis.analyze import analyze

    result = analyze(run, overwrite, n_points, n_clusters, show_progress=not quiet)
    for line in result.lines():
        click.echo(line)
    for path in result.files:
        click.echo(str(path))
