"""``cryosphere view``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--map", "map_file", type=click.Path(path_type=Path), metavar="FILE", help="Show this consensus map as well."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(run: Path, map_file: Path | None, quiet: bool) -> None:
    """Open RUN in a napari window: conformations, particles and the map together.

    Click in the landscape for a conformation and its particle, draw a path to see the motion, draw around particles and
    export them. The posterior is computed first where the run has none; states and motions are those of 'analyze'.
    Needs a screen and napari: pip install '.[gui]' in a clone.

    \b
    Example:  cryosphere view run1
              cryosphere view run1 --map consensus.mrc
    """
    from cryosphere.inference.posterior import ensure_posterior
    from cryosphere.runs.run import Run
    from cryosphere.viewer.display import DisplayError, check_display

    loaded = Run.load(run)
    try:
        check_display()
    except DisplayError as error:
        raise DisplayError(
            f"{error} Without a window, {loaded.layout.report} shows the same run in a browser (`cryosphere report "
            f"{run}` writes it)."
        ) from None
    loaded = ensure_posterior(loaded, progress=not quiet)
    from cryosphere.viewer.window import view

    view(loaded, map_file)
