"""``cryosphere fit``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("structure", type=click.Path(path_type=Path))
@click.argument("map_file", metavar="MAP", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The placed structure, .cif or .pdb."
)
@click.option(
    "--domains", type=click.IntRange(min=2), help="Then refine so many domains, cut where little holds them together."
)
@click.option("--pae", type=click.Path(path_type=Path), help="AlphaFold's predicted aligned error, to cut domains by.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of sentences.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier fit wrote there.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    structure: Path,
    map_file: Path,
    output: Path,
    domains: int | None,
    pae: Path | None,
    as_json: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Place STRUCTURE (PDB or mmCIF) in MAP (MRC), wherever it lies before, trying both hands of the map.

    Beside the placed structure come a map simulated from it (_model.mrc), a picture (.png) and a script for
    ChimeraX (.cxc).

    \b
    Example:  cryosphere fit model.cif consensus.mrc -o placed.cif
              cryosphere fit model.cif consensus.mrc --domains 4 -o placed.cif
              cryosphere init particles.star placed.cif --map consensus.mrc -o config.yaml
    """
    from cryosphere.pipelines.fit import fit

    def say(sentence: str) -> None:
        if not quiet:
            click.echo(sentence, err=True)

    result = fit(
        structure,
        map_file,
        output,
        domains=domains,
        pae_file=pae,
        overwrite=overwrite,
        show_progress=not quiet,
        say=say,
    )
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2, ensure_ascii=False))
        return
    for line in (*result.lines(), *(f"wrote {path}" for path in result.files)):
        click.echo(line)
