"""One call from a run folder to its page."""

from __future__ import annotations

from pathlib import Path

from cryosphere.analysis.analyze import analyze
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.io.atomic import atomic_output, check_output
from cryosphere.report.contents import Contents
from cryosphere.report.page import page
from cryosphere.report.sections import (
    averages,
    checks,
    geometry,
    inputs,
    landscape,
    latent,
    motions,
    reproduction,
    segments,
    states,
    structure,
    summary,
    training,
)
from cryosphere.report.sections import maps as maps_of_states
from cryosphere.runs.run import Run

_SECTIONS = (
    summary.section,
    structure.section,
    segments.section,
    motions.section,
    landscape.section,
    latent.section,
    states.section,
    averages.section,
    maps_of_states.section,
    geometry.section,
    training.section,
    checks.section,
    inputs.section,
    reproduction.citation,
    reproduction.section,
)


def write_report(
    run: Run | Path | str,
    path: Path | str | None = None,
    overwrite: bool = False,
    maps: Path | str | None = None,
    show_progress: bool = False,
) -> Path:
    """Write one self-contained HTML page about a run.

    Parameters
    ----------
    run : Run or path of a run folder
        Its posterior and analysis are computed first if it has none.
    path : path, optional
        By default ``report.html`` in the run folder.
    overwrite : bool
        Whether an earlier page may be replaced.
    maps : path, optional
        Folder of maps that ``export volumes --from-images`` made, whose correlations are shown.
    show_progress : bool
        Show progress bars on stderr.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        The page exists already or cannot be written, or the folder of maps is something else.
    RunError
        The folder is not that of a trained run, is incomplete or damaged.
    """
    run = run if isinstance(run, Run) else Run.load(run)
    path = run.layout.report if path is None else Path(path)
    check_output(path, overwrite=overwrite)
    run = ensure_posterior(run, progress=show_progress)
    if not run.layout.analysis.is_dir():
        analyze(run, show_progress=show_progress)
    with atomic_output(path, overwrite=overwrite) as temporary:
        contents = Contents(run, None if maps is None else Path(maps))
        made = [section(contents) for section in _SECTIONS]
        folder = run.folder.resolve()
        text = page(f"cryoSPHERE report: {folder.name}", f"{run.table.source.name} and {run.structure.source}", made)
        temporary.write_text(text, encoding="utf-8")
    return path
