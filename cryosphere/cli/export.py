"""``cryosphere export RUN coordinates|ensemble|volumes|particles``."""

from __future__ import annotations

import functools
from pathlib import Path

import click

_OUTPUT = click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="What to write.")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what an earlier export wrote there.")
_QUIET = click.option("--quiet", is_flag=True, help="No progress bar.")


@click.group()
@click.argument("run", type=click.Path(path_type=Path))
@click.pass_context
def command(context: click.Context, run: Path) -> None:
    """Write conformations or particles of RUN as files for other programs.

    \b
    Example:  cryosphere export run1 coordinates -o coordinates.npy
              cryosphere export run1 ensemble --traversal 1 -o traversal.cif
              cryosphere export run1 volumes --kmeans 5 -o maps
              cryosphere export run1 particles --state 2 -o state2.star
    """
    context.obj = run


@command.command()
@_OUTPUT
@click.option("--physical", is_flag=True, help="The decoded conformation nearest to E[x | image], bonds intact.")
@click.option(
    "--particles", metavar="FILE|ROWS", help="Some particles: a file with one row (from 0) per line, or 0,5,10-12."
)
@_OVERWRITE
@_QUIET
@click.pass_obj
def coordinates(run: Path, output: Path, physical: bool, particles: str | None, overwrite: bool, quiet: bool) -> None:
    """E[x | image] of every particle: float32 (particle, residue, 3), Å, box centre at 0.

    In the order of the input file; of a run on some of its particles, these alone (posterior.npz has their rows).

    \b
    Example:  cryosphere export run1 coordinates -o coordinates.npy
              cryosphere export run1 coordinates --physical --particles rows.txt -o some.npy
    """
    from cryosphere.export.coordinates import export_coordinates
    from cryosphere.export.selection import parse_particles

    rows = None if particles is None else parse_particles(particles)
    loaded = _load(run, quiet)
    click.echo(str(export_coordinates(loaded, output, rows, physical, overwrite, show_progress=not quiet)))


def _selection_options(function):
    """Add the four ways of choosing conformations; hand them on as one mapping ``chosen``."""

    @functools.wraps(function)
    def gathered(*, particles, latent, traversal, n_points, n_clusters, **values):
        ways = {"particles": particles, "latent": latent, "traversal": traversal, "kmeans": n_clusters}
        given = {name: value for name, value in ways.items() if value is not None and value != ()}
        if len(given) != 1:
            raise click.UsageError(
                "Choose conformations by exactly one of --particles, --latent, --traversal, --kmeans."
            )
        return function(chosen={**given, "n_points": n_points}, **values)

    options = [
        click.option(
            "--particles", metavar="ROWS|FILE", help="Input rows from 0 (0,5,10-12), or a file with one per line."
        ),
        click.option("--latent", multiple=True, metavar="Z1,Z2,…", help="A point of the latent space; repeatable."),
        click.option("--traversal", type=click.IntRange(min=1), metavar="PC", help="Along this principal component."),
        click.option(
            "--points", "n_points", type=click.IntRange(min=2), default=10, show_default=True, help="Of a traversal."
        ),
        click.option("--kmeans", "n_clusters", type=click.IntRange(min=1), metavar="K", help="K clusters' centres."),
    ]
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


@command.command()
@_selection_options
@_OUTPUT
@click.option(
    "--atoms", type=click.Choice(["all", "ca"]), default="all", show_default=True, help="All atoms, or Cα and C1′."
)
@_OVERWRITE
@_QUIET
@click.pass_obj
def ensemble(run: Path, chosen: dict, output: Path, atoms: str, overwrite: bool, quiet: bool) -> None:
    """Conformations as one multi-model .cif or .pdb, or as .dcd or .xtc with a topology beside it.

    They lie in the frame of the nominal structure's file; every atom moves rigidly with its residue.

    \b
    Example:  cryosphere export run1 ensemble --traversal 1 --points 20 -o traversal.cif
              cryosphere export run1 ensemble --kmeans 8 --atoms ca -o clusters.xtc
    """
    from cryosphere.export.ensemble import export_ensemble

    loaded = _load(run, quiet)
    what = "atoms" if atoms == "all" else "residues"
    for path in export_ensemble(loaded, _select(loaded, chosen), output, what, overwrite, show_progress=not quiet):
        click.echo(str(path))


@command.command()
@_selection_options
@_OUTPUT
@click.option(
    "--atoms",
    type=click.Choice(["residues", "all"]),
    default="residues",
    show_default=True,
    help="A Gaussian per residue, or all atoms at B = 60 Å².",
)
@_OVERWRITE
@_QUIET
@click.pass_obj
def volumes(run: Path, chosen: dict, output: Path, atoms: str, overwrite: bool, quiet: bool) -> None:
    """Maps (MRC) of conformations in a folder, overlaid on the exported structures, with index.csv.

    \b
    Example:  cryosphere export run1 volumes --traversal 1 -o maps
              cryosphere export run1 volumes --latent 0.5,-1.2 --atoms all -o maps
    """
    from cryosphere.export.volumes import export_volumes

    loaded = _load(run, quiet)
    density = "atoms" if atoms == "all" else "residues"
    for path in export_volumes(loaded, _select(loaded, chosen), output, density, overwrite, show_progress=not quiet):
        click.echo(str(path))


@command.command()
@_OUTPUT
@click.option(
    "--select", metavar="EXPR", help="Particles for which this holds: 'angle(s2) > 12 and rlnClassNumber == 1'."
)
@click.option("--state", "states", metavar="N,N,…", help="Particles of these states.")
@click.option("--min-probability", type=float, metavar="P", help="Of the particle's own state, above 0 to 1.")
@click.option(
    "--polygon",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Particles inside a polygon: a file with x,y of a corner per line.",
)
@click.option("--axes", metavar="X,Y", default="pc1,pc2", show_default=True, help="What the polygon is drawn in.")
@click.option(
    "--share", type=float, metavar="F", help="This share of those that are left: those with the largest --by."
)
@click.option("--by", metavar="EXPR", help="A number per particle: 'angle(s2)', or '-std(z1)' for the surest.")
@click.option("--not", "invert", is_flag=True, help="All other particles of the run instead.")
@click.option(
    "--shared-images",
    type=click.Choice(["apart", "together", "once"]),
    default="apart",
    show_default=True,
    help="Rows of one image (symmetry expansion): by themselves, all of an image with one chosen, or only the first.",
)
@click.option("--columns", "extra_columns", is_flag=True, help="Add latent, state and motions as cryosphere… columns.")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the run's particle file is, if it has moved.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@_OVERWRITE
@_QUIET
@click.pass_obj
def particles(run: Path, output: Path, states: str | None, as_json: bool, quiet: bool, **values) -> None:
    """Chosen particles as the .star or .cs file they came in, every column and byte of a row kept.

    Several ways of choosing must all hold. Columns are those of RUN (z1, std(z1), pc1, std(pc1), log_evidence,
    effective_sample_size; after 'analyze' state, state_probability, angle(s2), std(angle(s2)), …) and of its particle
    file (rlnClassNumber, `ctf/df1_A`). Of a .cs the passthrough fields and a .csg to import come too.

    \b
    Example:  cryosphere export run1 particles --state 2 --min-probability 0.8 -o state2.star
              cryosphere export run1 particles --select "angle(s2) > 12 and std(angle(s2)) < 4" -o open.star
              cryosphere export run1 particles --polygon drawn.csv --axes pc1,pc2 --columns -o drawn.star
              cryosphere export run1 particles --share 0.2 --by "-std(z1)" -o surest.cs
    """
    import json

    from cryosphere.export.particle_selection import parse_states
    from cryosphere.export.particles import export_particles

    numbers = () if states is None else parse_states(states)
    summary = export_particles(_load(run, quiet), output, states=numbers, **values)
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False))
        return
    for line in (*summary.lines(), *map(str, summary.files)):
        click.echo(line)


def _load(run: Path, quiet: bool):
    from cryosphere.inference.posterior import ensure_posterior
    from cryosphere.runs.run import Run

    return ensure_posterior(Run.load(run), progress=not quiet)


def _select(run, chosen: dict):
    """Make the selection that the options ask for."""
    from cryosphere.export import selection

    if "particles" in chosen:
        return selection.select_particles(run, selection.parse_particles(chosen["particles"]))
    if "latent" in chosen:
        return selection.select_latents(run, [selection.parse_latent(text) for text in chosen["latent"]])
    if "traversal" in chosen:
        return selection.select_traversal(run, chosen["traversal"], chosen["n_points"])
    return selection.select_kmeans(run, chosen["kmeans"])
