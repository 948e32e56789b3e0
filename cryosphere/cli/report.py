"""``cryosphere report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page [default: RUN/report.html].")
@click.option(
    "--maps",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Maps of 'export RUN volumes --from-images': show their FSC.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier page.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(run: Path, output: Path | None, maps: Path | None, overwrite: bool, quiet: bool) -> None:
    """Write one HTML page about RUN, to read in any browser, print and send: nothing is loaded from the network.

    What went in, the check's findings, training, segments, the structure in 3-D and how it moves, latent space,
    motions, states, geometry, the model beside averaged particles, and how to cite and repeat it. Posterior and
    analysis are computed first where the run has none. Averages of particles need the image stacks.

    \b
    Example:  cryosphere report run1
              cryosphere report run1 --maps maps -o run1.html
    """
    from cryosphere.report.write import write_report

    click.echo(str(write_report(run, output, overwrite, maps, show_progress=not quiet)))
