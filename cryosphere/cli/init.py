"""``cryosphere init``."""

from __future__ import annotations

from pathlib import Path

import click

from cryosphere.cli.choosing import choosing_options


@click.command()
@click.argument("particles", type=click.Path(path_type=Path))
@click.argument("structure", type=click.Path(path_type=Path))
@click.option(
    "--datadir", type=click.Path(path_type=Path), help="Folder to look for stacks that are not beside the STAR."
)
@choosing_options
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("config.yaml"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace an existing configuration.")
def command(
    particles: Path,
    structure: Path,
    datadir: Path | None,
    select: str | None,
    index_file: Path | None,
    subset: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Write a commented configuration for PARTICLES (STAR) and STRUCTURE (PDB or mmCIF).

    Both files are read, so that what is wrong with them shows now; box and pixel size come from them.

    \b
    Example:  cryosphere init particles.star model.cif -o config.yaml
              cryosphere init particles.star model.cif --select "rlnClassNumber == 1" -o config.yaml
    """
    from cryosphere.training.initialise import write_template

    chosen = {"select": select, "index_file": index_file, "subset": subset}
    for sentence in write_template(particles, structure, datadir, output, overwrite, **chosen):
        click.echo(sentence, err=True)
    click.echo(str(output))
