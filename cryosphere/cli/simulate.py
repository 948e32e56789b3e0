"""``cryosphere simulate trajectory|path|hinge``."""

from __future__ import annotations

import functools
import inspect
import math
from pathlib import Path

import click

_FILE = click.Path(path_type=Path)
_OUTPUT_OPTIONS = [
    click.option("-o", "--output", type=_FILE, required=True, help="Folder to make."),
    click.option("--overwrite", is_flag=True, help="Replace a folder that this command wrote before."),
    click.option("--clean", "write_clean", is_flag=True, help="Write the images without noise too (truth/clean.mrcs)."),
    click.option("--volumes", "n_volumes", default=0, metavar="N", help="All-atom volumes of N evenly spread states."),
    click.option("--nominal", "nominal_state", default=0, show_default=True, help="State of nominal.cif, from 0."),
    click.option("--keep-origin", is_flag=True, help="The file's origin is the box centre (else the centroid)."),
    click.option("--quiet", is_flag=True, help="No progress bar."),
]
_IMAGE_OPTIONS = [
    click.option("--particles", "n_particles", type=int, required=True, help="Number of images."),
    click.option("--box", "box_size", type=int, required=True, help="Pixels along the edge of an image."),
    click.option("--pixel-size", type=float, required=True, help="Å per pixel."),
    click.option("--snr", type=float, required=True, help="Variance of the signal over that of the noise."),
    click.option("--seed", default=0, show_default=True, help="Of all random draws."),
    click.option(
        "--forward",
        type=click.Choice(["atoms", "residues"]),
        default="atoms",
        show_default=True,
        help="All atoms, or a Gaussian per residue by the renderer that trains.",
    ),
    click.option("--b-factor", default="60", show_default=True, help="B of every atom in Å², or 'file'."),
    click.option("--shift-range", default=4.0, show_default=True, help="Largest shift along x and y, Å."),
    click.option(
        "--shift-distribution",
        type=click.Choice(["uniform", "normal"]),
        default="uniform",
        show_default=True,
        help="With 'normal', --shift-range is the standard deviation.",
    ),
    click.option("--populations", type=_FILE, help="Text file with one weight per state (else equal)."),
    click.option(
        "--noise",
        type=click.Choice(["white", "coloured"]),
        default="white",
        show_default=True,
        help="White, or with more power at low frequencies; of standard deviation 1.",
    ),
    click.option("--noise-ratio", type=float, help="Power at frequency 0 over high ones, coloured noise only [10]."),
    click.option(
        "--contrast-spread",
        default=0.0,
        show_default=True,
        help="Standard deviation of each image's signal factor, log-normal with mean 1.",
    ),
    click.option(
        "--rotation-error",
        "rotation_error_deg",
        default=0.0,
        show_default=True,
        help="Standard deviation, about each axis, of the error of the STAR file's rotations, degrees.",
    ),
    click.option(
        "--shift-error",
        default=0.0,
        show_default=True,
        help="Standard deviation, along x and y, of the error of the STAR file's shifts, Å.",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="cpu", show_default=True),
]
_OPTICS_OPTIONS = [
    click.option("--defocus-range", nargs=2, type=float, default=(10000.0, 25000.0), show_default=True, help="Å."),
    click.option("--astigmatism", default=500.0, show_default=True, help="Largest difference of defocus U and V, Å."),
    click.option("--ctf-b-factor", default=0.0, show_default=True, help="B of the CTF's envelope, Å²."),
    click.option("--optics-groups", "n_groups", type=int, help="Number of groups (else as many as values given)."),
    click.option("--voltage", "voltage_kv", multiple=True, type=float, help="kV; once, or once per group [300]."),
    click.option("--cs", "spherical_aberration_mm", multiple=True, type=float, help="mm; as --voltage [2.7]."),
    click.option("--amplitude-contrast", multiple=True, type=float, help="As --voltage [0.1]."),
    click.option("--phase-shift", "phase_shift_deg", multiple=True, type=float, help="Degrees; as --voltage [0]."),
]


def _simulation_options(function):
    """Add the options that all sources of conformations share; hand them on as one mapping ``options``."""

    own_names = inspect.signature(function).parameters

    @functools.wraps(function)
    def gathered(**values):
        own = {name: values.pop(name) for name in list(values) if name in own_names}
        return function(**own, options=values)

    for option in reversed([*_IMAGE_OPTIONS, *_OPTICS_OPTIONS, *_OUTPUT_OPTIONS]):
        gathered = option(gathered)
    return gathered


@click.group()
def command() -> None:
    """Simulate particle sets with known truth, from all atoms, in RELION's conventions.

    Writes particles.star, particles.mrcs, nominal.cif and truth/ into a folder.
    """


@command.command()
@click.argument("conformations", type=_FILE)
@click.option("--topology", type=_FILE, help="PDB or mmCIF with the atoms of a DCD or XTC trajectory.")
@click.option("--align/--no-align", default=None, help="Superpose states on the first [trajectories only].")
@click.option("--stride", default=1, show_default=True, help="Use every so many frames of a trajectory.")
@_simulation_options
def trajectory(conformations: Path, topology: Path | None, align: bool | None, stride: int, options: dict) -> None:
    """States from CONFORMATIONS: a multi-model PDB or mmCIF file, or a DCD or XTC trajectory with --topology.

    \b
    Example:  cryosphere simulate trajectory md.xtc --topology md.pdb --particles 5000 \\
                  --box 128 --pixel-size 1.5 --snr 0.05 --seed 1 -o simulated
    """
    from cryosphere.simulation.conformations import read_conformations

    _run(read_conformations(conformations, topology, stride=stride, align=align), options)


@command.command()
@click.argument("first", type=_FILE)
@click.argument("second", type=_FILE)
@click.option("--states", "n_states", default=50, show_default=True, help="States on the path, ends included.")
@click.option(
    "--align",
    default="all",
    show_default=True,
    metavar="all|none|RESIDUES",
    help="Superpose SECOND on FIRST by these residues, such as A:1-29,A:68-117.",
)
@_simulation_options
def path(first: Path, second: Path, n_states: int, align: str, options: dict) -> None:
    """A path from FIRST to SECOND, two conformations of one molecule, that keeps Cα-Cα distances.

    \b
    Example:  cryosphere simulate path closed.cif open.cif --align A:1-29,A:68-117,A:161-214 \\
                  --particles 5000 --box 64 --pixel-size 1.5 --snr 0.05 --seed 1 -o simulated
    """
    from cryosphere.simulation.paths import read_path

    _run(read_path(first, second, n_states, align), options)


@command.command()
@click.argument("structure", type=_FILE)
@click.option("--moving", multiple=True, required=True, help="Residues that turn, such as A:1-120,B; once per hinge.")
@click.option("--axis-residues", nargs=2, multiple=True, metavar="RES RES", help="Axis through two residues' Cα.")
@click.option(
    "--axis", nargs=3, type=float, multiple=True, metavar="X Y Z", help="Direction of the axis, with --point."
)
@click.option(
    "--point", nargs=3, type=float, multiple=True, metavar="X Y Z", help="A point on the axis, Å, file frame."
)
@click.option("--angles", nargs=2, type=float, multiple=True, required=True, metavar="MIN MAX", help="Degrees.")
@click.option("--states", "n_states", default=61, show_default=True, help="Number of states.")
@_simulation_options
def hinge(
    structure: Path,
    moving: tuple[str, ...],
    axis_residues: tuple[tuple[str, str], ...],
    axis: tuple[tuple[float, float, float], ...],
    point: tuple[tuple[float, float, float], ...],
    angles: tuple[tuple[float, float], ...],
    n_states: int,
    options: dict,
) -> None:
    """Rigid turns of parts of STRUCTURE about hinges, uniform in the angle.

    Options of a hinge may be given several times: the parts then turn independently.

    \b
    Example:  cryosphere simulate hinge igg.pdb --moving A:1-107,B:1-114 --axis-residues B:115 B:118 \\
                  --angles -30 30 --particles 5000 --box 64 --pixel-size 3.5 --snr 0.05 -o simulated
    """
    from cryosphere.simulation.hinges import read_hinges

    radians = [(math.radians(low), math.radians(high)) for low, high in angles]
    states = read_hinges(structure, moving, radians, axis_residues, axis, point, n_states, options["seed"])
    _run(states, options)


def _run(conformations, options: dict) -> None:
    """Simulate with the shared options and print the summary."""
    from cryosphere.simulation.acquisition import optics_groups, read_b_factor, read_populations
    from cryosphere.simulation.particles import SimulationSettings, simulate
    from cryosphere.simulation.progress import ProgressBars

    options = dict(options)
    folder, overwrite, quiet = options.pop("output"), options.pop("overwrite"), options.pop("quiet")
    centre = not options.pop("keep_origin")
    options["optics_groups"] = optics_groups(
        options.pop("n_groups"),
        options.pop("voltage_kv"),
        options.pop("spherical_aberration_mm"),
        options.pop("amplitude_contrast"),
        options.pop("phase_shift_deg"),
    )
    options["b_factor"] = read_b_factor(options["b_factor"])
    options["populations"] = read_populations(options["populations"])
    with ProgressBars(show=not quiet) as progress:
        summary = simulate(
            conformations,
            SimulationSettings(**options),
            folder,
            overwrite=overwrite,
            centre=centre,
            progress=progress,
        )
    for note in summary.notes:
        click.echo(note, err=True)
    for line in summary.lines():
        click.echo(line)
