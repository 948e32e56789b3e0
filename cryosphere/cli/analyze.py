"""``cryosphere analyze``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--points", "n_points", type=click.IntRange(min=2), default=10, show_default=True, help="Per traversal and path."
)
@click.option(
    "--motion",
    "motions",
    multiple=True,
    metavar="MOTION",
    help="Measure this too; repeatable. angle, screw, shift, distance or dihedral of segments (s2) or residues "
    '(\'distance("A:1-29", "A:120-150")\').',
)
@click.option(
    "--reference", metavar="sN|map", help="Segment that motions are seen from [default: the one with most residues]."
)
@click.option(
    "--clustering",
    type=click.Choice(["density", "gmm", "kmeans", "hierarchical"]),
    default="density",
    show_default=True,
    help="How states are told apart: valleys of 1 kT between them, a normal mixture by BIC, k-means, Ward.",
)
@click.option(
    "--states", "n_states", type=click.IntRange(min=1), metavar="N", help="So many [default: as many as found]."
)
@click.option(
    "--landscape",
    multiple=True,
    metavar="MOTION",
    help="Free energy over this motion; once or twice [default: chosen].",
)
@click.option("--between", nargs=2, type=int, metavar="STATE STATE", help="Path between these [default: the largest].")
@click.option("--umap", is_flag=True, help="Add a UMAP of the latents (needs umap-learn).")
@click.option("--overwrite", is_flag=True, help="Replace an earlier analysis of this run.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(run: Path, reference: str | None, overwrite: bool, quiet: bool, **options) -> None:
    """Describe the ensemble of RUN: motions in degrees and Å, states, free energy, RMSF, traversals.

    Tables (CSV), pictures (PNG) and Cα structures (mmCIF) go to RUN/analysis.

    \b
    Example:  cryosphere analyze run1
              cryosphere analyze run1 --motion 'distance("A:1-29", "A:120-150")' --overwrite
              cryosphere analyze run1 --clustering kmeans --states 5 --landscape 'angle(s2)' --overwrite
    """
    from cryosphere.analysis.analyze import analyze

    seen_from = _reference(reference)
    result = analyze(run, overwrite, reference=seen_from, show_progress=not quiet, **options)
    for line in result.lines():
        click.echo(line)
    for path in result.files:
        click.echo(str(path))


def _reference(text: str | None) -> int | str | None:
    """Segment's number, "largest", or None for the map."""
    if text is None or text == "map":
        return "largest" if text is None else None
    if text[:1] == "s" and text[1:].isdecimal():
        return int(text[1:])
    raise click.UsageError(f"--reference {text}: give a segment, such as s2, or map.")
