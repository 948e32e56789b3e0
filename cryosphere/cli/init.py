"""``cryosphere init``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("particles", type=click.Path(path_type=Path))
@click.argument("structure", type=click.Path(path_type=Path))
@click.option(
    "--datadir", type=click.Path(path_type=Path), help="Folder to look for stacks that are not beside the STAR."
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
    particles: Path, structure: Path, datadir: Path | None, map_file: Path | None, output: Path, overwrite: bool
) -> None:
    """Write a commented configuration for PARTICLES (STAR) and STRUCTURE (PDB or mmCIF).

    Both files are read, so that what is wrong with them shows now; box and pixel size come from them.

    \b
    Example:  cryosphere init particles.star model.cif -o config.yaml
              cryosphere init particles.star placed.cif --map consensus.mrc -o config.yaml
    """
    from cryosphere.training.initialise import write_template

    for sentence in write_template(particles, structure, datadir, output, overwrite, map_file=map_file):
        click.echo(sentence, err=True)
    click.echo(str(output))
