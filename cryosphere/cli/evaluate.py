"""``cryosphere evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option(
    "--volumes",
    "n_volumes",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Images, evenly spread, whose volumes are compared.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON instead of a table.")
@click.option("--overwrite", is_flag=True, help="Replace earlier scores of this run.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(run: Path, truth: Path, n_volumes: int, as_json: bool, overwrite: bool, quiet: bool) -> None:
    """Score RUN against known TRUTH, the folder 'truth' of a simulated set.

    Prints a table and writes RUN/evaluation/scores.json and per_image.csv.

    \b
    Example:  cryosphere evaluate run1 simulated/truth
              cryosphere evaluate run1 simulated/truth --json --overwrite
    """
    from cryosphere.evaluation.evaluate import evaluate

    scores = evaluate(run, truth, overwrite, n_volumes, show_progress=not quiet)
    click.echo(json.dumps(scores.as_dict(), indent=2, ensure_ascii=False) if as_json else scores.table())
