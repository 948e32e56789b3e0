"""``cryosphere init``."""

from __future__ import annotations

from pathlib import Path

import click

from cryosphere.cli.choosing import choosing_options
from cryosphere.cli.paths import path_map_option


@click.command()
@click.argument("particles", type=click.Path(path_type=Path))
@click.argument("structure", type=click.Path(path_type=Path))
@click.option(
    "--datadir",
    type=click.Path(path_type=Path),
    help="Folder to look for stacks that are neither beside PARTICLES nor in its project.",
)
@path_map_option
@choosing_options
@click.option("--min-plddt", type=click.FloatRange(0, 100), help="Predicted models: least pLDDT of residues that stay.")
@click.option("--assembly", help="Biological assembly to make by symmetry, for example 1.")
@click.option(
    "--ligands", type=click.Choice(["auto", "all", "none"]), help="Ligands that become Gaussians too (default auto)."
)
@click.option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path),
    help="Map (MRC) in whose frame STRUCTURE lies, as cryosphere fit leaves it.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("config.yaml"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace an existing configuration.")
def command(
    particles: Path,
    structure: Path,
    datadir: Path | None,
    path_map: dict[str, str],
    select: str | None,
    index_file: Path | None,
    subset: Path | None,
    min_plddt: float | None,
    assembly: str | None,
    ligands: str | None,
    map_file: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Write a commented configuration for PARTICLES (RELION STAR, cryoSPARC .cs or .csg) and STRUCTURE (PDB or mmCIF).

    Both files are read, so that what is wrong with them shows now; box and pixel size come from them.

    \b
    Example:  cryosphere init particles.star model.cif -o config.yaml
              cryosphere init J24/cryosparc_P12_J24_001_particles.cs model.cif
              cryosphere init run_data.star model.cif --path-map /old/project=/new/project
              cryosphere init particles.star model.cif --select "rlnClassNumber == 1" -o config.yaml
              cryosphere init particles.star placed.cif --map consensus.mrc -o config.yaml
    """
    from cryosphere.training.initialise import write_template

    chosen = {"select": select, "index_file": index_file, "subset": subset}
    asked = {"min_plddt": min_plddt, "assembly": assembly, "ligands": ligands}
    settings = {("structure", key): value for key, value in asked.items() if value is not None}
    for sentence in write_template(
        particles, structure, datadir, output, overwrite, settings, path_map=path_map, map_file=map_file, **chosen
    ):
        click.echo(sentence, err=True)
    click.echo(str(output))
