"""Tables of an analysis as data frames."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryosphere.analysis.columns import STORE, has_analysis, no_analysis
from cryosphere.errors import InputError
from cryosphere.runs.run import Run

TABLES = {
    "motions": "motions.csv",
    "segments": "segments.csv",
    "states": "states.csv",
    "residues": "rmsf.csv",
    "components": "pca.csv",
    "path": "path.csv",
}


def read_analysis(run: Run, table: str) -> pd.DataFrame:
    """Read a table that ``analyze`` wrote.

    Parameters
    ----------
    run : Run
    table : str
        ``particles`` (latents, states, motions with their standard deviations, of every particle), ``motions``,
        ``segments``, ``states``, ``residues``, ``components`` or ``path``.

    Raises
    ------
    InputError
        There is no such table, or no analysis of the run's present weights.
    """
    if table != "particles" and table not in TABLES:
        raise InputError(f"an analysis has no table {table!r}; there are particles, {', '.join(TABLES)}.")
    path = run.layout.analysis / (STORE if table == "particles" else TABLES[table])
    if not has_analysis(run):
        raise no_analysis(run)
    if not path.is_file():
        raise InputError(f"the analysis in {run.folder} has no {path.name}: it found none.")
    if table == "particles":
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files if not name.startswith("_")}
        return pd.DataFrame(columns, index=pd.Index(run.posterior.index, name="particle"))
    return pd.read_csv(path)
