"""``cryosphere check``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("check.png"),
    show_default=True,
    help="Picture: particles averaged by view, beside the structure's projections.",
)
@click.option("--no-picture", is_flag=True, help="Draw nothing.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier picture.")
def command(
    config: Path, output: Path, no_picture: bool, overrides: tuple[str, ...], as_json: bool, overwrite: bool
) -> None:
    """Check the inputs that CONFIG names before hours are spent on them.

    Prints what they hold, then compares the structure with 200 to 1,000 images: sign, hand, direction of the angles,
    sign and unit of the shifts, place of the structure, U and V, voltage, defocus and pixel size, and whether images
    and rows belong together. Says what is wrong and what to do; exit code 0 if nothing is, 1 if something is.

    \b
    Example:  cryosphere check config.yaml
              cryosphere check config.yaml -o check.png --overwrite
              cryosphere check config.yaml --no-picture --json
    """
    from cryosphere.config_files import read_config
    from cryosphere.preflight.check import check

    report = check(read_config(config, overrides), None if no_picture else output, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines()))
    sys.exit(0 if report.is_fine else 1)
