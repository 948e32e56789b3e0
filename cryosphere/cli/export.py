"""``cryosphere export RUN coordinates|ensemble|volumes|states|particles|chimerax``."""

from __future__ import annotations

import functools
from pathlib import Path

import click

_OUTPUT = click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="What to write.")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what an earlier export wrote there.")
_QUIET = click.option("--quiet", is_flag=True, help="No progress bar.")


_ATOMS = click.option(
    "--atoms", type=click.Choice(["all", "ca"]), default="all", show_default=True, help="All atoms, or Cα and C1′."
)
_WHAT = {"all": "atoms", "ca": "residues"}


@click.group()
@click.argument("run", type=click.Path(path_type=Path))
@click.pass_context
def command(context: click.Context, run: Path) -> None:
    """Write conformations or particles of RUN as files for other programs.

    \b
    Example:  cryosphere export run1 coordinates -o coordinates.npy
              cryosphere export run1 ensemble --traversal 1 -o traversal.cif
              cryosphere export run1 volumes --states --from-images -o maps
              cryosphere export run1 particles --state 2 -o state2.star
              cryosphere export run1 chimerax --traversal 1 --map consensus.mrc -o scene
    """
    context.obj = run


@command.command(short_help="E[x | image] of every particle, as .npy")
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
    """Add the ways of choosing conformations; hand them on as one mapping ``chosen``."""

    @functools.wraps(function)
    def gathered(*, particles, latent, path, traversal, n_points, n_clusters, states, among, **values):
        ways = {"particles": particles, "latent": latent, "path": path, "traversal": traversal, "kmeans": n_clusters}
        ways["states"] = states or None
        given = {name: value for name, value in ways.items() if value is not None and value != ()}
        if len(given) != 1:
            raise click.UsageError(
                "Choose conformations by exactly one of --particles, --latent, --path, --traversal, --kmeans, --states."
            )
        if among is not None and not given.keys() & {"traversal", "kmeans"}:
            raise click.UsageError("--among goes with --traversal or --kmeans.")
        return function(chosen={**given, "n_points": n_points, "among": among}, **values)

    options = [
        click.option(
            "--particles", metavar="ROWS|FILE", help="Input rows from 0 (0,5,10-12), or a file with one per line."
        ),
        click.option("--latent", multiple=True, metavar="Z1,Z2,…", help="A point of the latent space; repeatable."),
        click.option(
            "--path",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Latents in order: text or CSV with one per line (or columns z1, z2 …), or a .npy array.",
        ),
        click.option("--traversal", type=click.IntRange(min=1), metavar="PC", help="Along this principal component."),
        click.option(
            "--points", "n_points", type=click.IntRange(min=2), default=10, show_default=True, help="Of a traversal."
        ),
        click.option("--kmeans", "n_clusters", type=click.IntRange(min=1), metavar="K", help="K clusters' centres."),
        click.option(
            "--among", metavar="ROWS|FILE", help="Of --traversal and --kmeans: only these particles, as --particles."
        ),
        click.option("--states", is_flag=True, help="The states that 'analyze' found."),
    ]
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


@command.command(short_help="models: .cif, .pdb, .dcd, .xtc")
@_selection_options
@_OUTPUT
@_ATOMS
@click.option("--rigid", is_flag=True, help="Move every residue rigidly and leave bonds between residues as they get.")
@_OVERWRITE
@_QUIET
@click.pass_obj
def ensemble(run: Path, chosen: dict, output: Path, atoms: str, rigid: bool, overwrite: bool, quiet: bool) -> None:
    """Conformations as one multi-model .cif or .pdb, or as .dcd or .xtc with a topology beside it.

    They lie in the frame of the nominal structure's file. Every atom moves with its residue; where neighbours moved
    differently, bonds and angles are then brought back to the nominal structure's.

    \b
    Example:  cryosphere export run1 ensemble --traversal 1 --points 20 -o traversal.cif
              cryosphere export run1 ensemble --path path.csv -o path.pdb
              cryosphere export run1 ensemble --kmeans 8 --atoms ca -o clusters.xtc
    """
    from cryosphere.export.ensemble import export_ensemble

    loaded = _load(run, quiet)
    selection = _select(loaded, chosen)
    written = export_ensemble(
        loaded, selection, output, _WHAT[atoms], overwrite, show_progress=not quiet, close_seams=not rigid
    )
    _report(written.files, written.lines())


@command.command(short_help="maps of conformations, or from the images")
@_selection_options
@_OUTPUT
@click.option(
    "--atoms",
    type=click.Choice(["residues", "all"]),
    default="residues",
    show_default=True,
    help="A Gaussian per residue, or all atoms at B = 60 Å².",
)
@click.option(
    "--from-images", is_flag=True, help="Reconstruct each from its particles' images, with half-maps and FSC."
)
@_OVERWRITE
@_QUIET
@click.pass_obj
def volumes(run: Path, chosen: dict, output: Path, atoms: str, from_images: bool, overwrite: bool, quiet: bool) -> None:
    """Maps (MRC) of conformations in a folder, overlaid on the exported structures, with index.csv.

    With --from-images the particle images are backprojected, each weighted with its probability of the state
    (--states), or the share of its posterior that is nearest to the conformation, of those chosen; --particles makes
    one map of all of them. FSC of half-maps, and of the map with the model (--atoms), are written beside.

    \b
    Example:  cryosphere export run1 volumes --traversal 1 -o maps
              cryosphere export run1 volumes --latent 0.5,-1.2 --atoms all -o maps
              cryosphere export run1 volumes --states --from-images -o maps
    """
    from cryosphere.export.image_maps import export_image_maps
    from cryosphere.export.volumes import export_volumes

    if from_images and chosen["among"] is not None:
        raise click.UsageError("--among is not for --from-images; --particles makes one map of some particles.")
    loaded = _load(run, quiet)
    density = "atoms" if atoms == "all" else "residues"
    export, what = (export_image_maps, _weigh) if from_images else (export_volumes, _select)
    for path in export(loaded, what(loaded, chosen), output, density, overwrite, show_progress=not quiet):
        click.echo(str(path))


@command.command(short_help="chosen particles as .star or .cs")
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
    "--particles", "rows", metavar="ROWS|FILE", help="Input rows from 0 (0,5,10-12), or a file with one per line."
)
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
def particles(
    run: Path, output: Path, states: str | None, rows: str | None, as_json: bool, quiet: bool, **values
) -> None:
    """Chosen particles as the .star or .cs file they came in, every column and byte of a row kept.

    Several ways of choosing must all hold. Columns are those of RUN (z1, std(z1), pc1, log_evidence, angle(s2),
    std(angle(s2)), distance("A:1-29", "B:60-90") …; after 'analyze' state, state_probability, mode1) and of its
    particle file (rlnClassNumber, `ctf/df1_A`). Of a .cs the passthrough fields and a .csg to import come too.

    \b
    Example:  cryosphere export run1 particles --state 2 --min-probability 0.8 -o state2.star
              cryosphere export run1 particles --select "angle(s2) > 12 and std(angle(s2)) < 4" -o open.star
              cryosphere export run1 particles --polygon drawn.csv --axes pc1,pc2 --columns -o drawn.star
              cryosphere export run1 particles --share 0.2 --by "-std(z1)" -o surest.cs
    """
    import json

    from cryosphere.export.particle_selection import parse_states
    from cryosphere.export.particles import export_particles
    from cryosphere.export.selection import parse_particles

    values["states"] = () if states is None else parse_states(states)
    values["particles"] = None if rows is None else parse_particles(rows)
    summary = export_particles(_load(run, quiet), output, **values)
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False))
        return
    for line in (*summary.lines(), *map(str, summary.files)):
        click.echo(line)


@command.command(short_help="a folder each: model, map, particles")
@_selection_options
@_OUTPUT
@_ATOMS
@click.option(
    "--density",
    type=click.Choice(["residues", "atoms"]),
    default="residues",
    show_default=True,
    help="Maps: a Gaussian per residue, or all atoms at B = 60 Å².",
)
@_OVERWRITE
@_QUIET
@click.pass_obj
def states(run: Path, chosen: dict, output: Path, atoms: str, density: str, overwrite: bool, quiet: bool) -> None:
    """A folder per conformation: state_01/ with model.cif, map.mrc and particles.txt, and index.csv for all.

    particles.txt has the rows (from 0) of the particles that the conformation stands for: those of the state or
    cluster, or those nearest in the latent space.

    \b
    Example:  cryosphere export run1 states --states -o states
              cryosphere export run1 states --kmeans 4 --density atoms -o clusters
    """
    from cryosphere.export.states import export_states

    loaded = _load(run, quiet)
    selection = _select(loaded, chosen)
    written = export_states(loaded, selection, output, _WHAT[atoms], density, overwrite, show_progress=not quiet)
    _report((), written.lines())


@command.command(short_help="scripts for ChimeraX and PyMOL, with models")
@_selection_options
@_OUTPUT
@click.option(
    "--map", "map_file", type=click.Path(path_type=Path), metavar="FILE", help="The consensus map; it is copied."
)
@click.option(
    "--color",
    "--colour",
    "colour_by",
    type=click.Choice(["segment", "rmsf", "plddt"]),
    default="segment",
    show_default=True,
    help="Of the residues.",
)
@_ATOMS
@_OVERWRITE
@_QUIET
@click.pass_obj
def chimerax(
    run: Path,
    chosen: dict,
    output: Path,
    map_file: Path | None,
    colour_by: str,
    atoms: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """A folder with the conformations, the map, and scripts that show and play them in ChimeraX and PyMOL.

    Open scene.cxc in ChimeraX (1.6 or later), or scene.pml in PyMOL (2.5 or later).

    \b
    Example:  cryosphere export run1 chimerax --traversal 1 --map consensus.mrc -o scene
              cryosphere export run1 chimerax --kmeans 5 --color rmsf -o clusters
    """
    from cryosphere.export.scene import export_scene

    loaded = _load(run, quiet)
    selection = _select(loaded, chosen)
    written = export_scene(
        loaded, selection, output, map_file, colour_by, _WHAT[atoms], overwrite, show_progress=not quiet
    )
    _report(written.files, written.lines())


def _report(files: tuple[Path, ...], lines: list[str]) -> None:
    """Print files, one per line, and what is to be said of them."""
    for path in files:
        click.echo(str(path))
    for line in lines:
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
    if "path" in chosen:
        return selection.select_path(run, chosen["path"])
    if "states" in chosen:
        return selection.select_states(run)
    among = None if chosen["among"] is None else selection.parse_particles(chosen["among"], "--among")
    if "traversal" in chosen:
        return selection.select_traversal(run, chosen["traversal"], chosen["n_points"], among)
    return selection.select_kmeans(run, chosen["kmeans"], among)


def _weigh(run, chosen: dict):
    """States, and the particles' weights in them, that the options ask for."""
    from cryosphere.export import selection, state_weights

    if "particles" in chosen:
        return state_weights.weigh_particles(run, selection.parse_particles(chosen["particles"]))
    if "states" in chosen:
        return state_weights.weigh_states(run)
    return state_weights.weigh_nearest(run, _select(run, chosen))
