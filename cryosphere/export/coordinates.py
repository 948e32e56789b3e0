"""Coordinates of every particle as one numpy file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy.lib.format import open_memmap

from cryosphere.errors import InputError
from cryosphere.export.selection import particle_rows
from cryosphere.inference.nearest import nearest_conformations
from cryosphere.io.atomic import atomic_output
from cryosphere.progress import Bar
from cryosphere.runs.run import Run


def export_coordinates(
    run: Run,
    path: Path | str,
    particles: Int[np.ndarray, " n"] | None = None,
    physical: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
) -> Path:
    """Write E[x | image] of particles as float32 (particle, residue, 3), Å, in the model frame.

    The file is filled through a memory map, so that a million particles need no memory.

    Parameters
    ----------
    run : Run
        With its posterior.
    path : path
        A ``.npy`` file.
    particles : int array, optional
        Input rows (from 0), in the order wanted; by default all that the run was given, in the order of the input
        file.
    physical : bool
        Write the decoded conformation nearest to E[x | image] instead, whose bonds are not shortened by averaging
        (``inference.nearest``).
    overwrite : bool
        Whether an existing file may be replaced.
    show_progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        Another suffix, an existing file, or a row that does not exist.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise InputError(f"{path}: coordinates are written as a numpy file; give a name that ends in .npy.")
    rows = particle_rows(run, particles)
    with atomic_output(path, overwrite=overwrite) as temporary:
        shape = (len(rows), run.n_residues, 3)
        array = open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        if physical:
            batches = ((batch, positions) for batch, _, positions in nearest_conformations(run, rows))
        else:
            batches = run.expected_coordinates(rows)
        written = 0
        with Bar(total=len(rows), desc="coordinates", unit="particle", disable=not show_progress) as bar:
            for batch, positions in batches:
                array[written : written + len(batch)] = positions
                written += len(batch)
                bar.update(len(batch))
        array.flush()
        del array
    return path
