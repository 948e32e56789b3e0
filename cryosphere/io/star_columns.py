"""Columns of RELION particle tables that say the images are not what the model makes: refused, or named."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from cryosphere.errors import InputError
from cryosphere.io.star_optics import ABERRATION_COLUMNS
from cryosphere.io.star_tables import StarTable

# Columns that say the images are no longer what the CTF acts on.
_PREPARED_COLUMNS = ("rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped", "rlnCtfDataAreCtfCorrected")
_IDENTITY = {"rlnMagMat00": 1.0, "rlnMagMat11": 1.0}
UNUSUAL_COLUMNS = (*_PREPARED_COLUMNS, "rlnImageDimensionality", "rlnIsFlip", "rlnMtfFileName", "rlnCtfImage")


def check_unusual_columns(
    particles: StarTable, optics: StarTable | None, rows: Int[np.ndarray, " group"]
) -> tuple[str, ...]:
    """Refuse images that are CTF-multiplied, phase-flipped or volumes; note what changes images and is left out.

    Parameters
    ----------
    particles, optics : StarTable
        The optics table where the file has one.
    rows : int array of shape (group,)
        Rows of it that particles use.

    Raises
    ------
    InputError
        If a table says that its images are prepared in such a way.
    """
    for table, used in ((particles, slice(None)), (optics, rows)):
        if table is not None:
            _refuse_prepared(table, used)
    left_out = [
        f"{column} in data_{particles.block} (RELION takes it from data_optics)"
        for column in ABERRATION_COLUMNS
        if optics is not None and _is_set(particles, column)
    ]
    if _is_set(particles, "rlnIsFlip"):
        left_out.append("rlnIsFlip (mirrored images)")
    if particles.has("rlnCtfImage"):
        left_out.append("rlnCtfImage (CTFs of volumes)")
    if optics is not None and optics.has("rlnMtfFileName") and optics.frame["rlnMtfFileName"].iloc[rows].nunique() > 1:
        left_out.append("rlnMtfFileName (detector MTFs that differ between optics groups)")
    if not left_out:
        return ()
    return (f"{particles.path.name}: not modelled and left out: {', '.join(left_out)}.",)


def _refuse_prepared(table: StarTable, used: slice | Int[np.ndarray, " group"]) -> None:
    for column in _PREPARED_COLUMNS:
        if table.has(column) and np.any(table.numbers(column)[used] != 0):
            raise InputError(
                f"{table.path}: {column} is set, so the images are not as recorded; extract them again without it."
            )
    if table.has("rlnImageDimensionality") and np.any(table.numbers("rlnImageDimensionality")[used] == 3):
        raise InputError(
            f"{table.path}: rlnImageDimensionality is 3, so the images are volumes, expected single-particle images; "
            "give the particles.star of an extraction or the run_data.star of a 3-D refinement."
        )


def _is_set(table: StarTable, column: str) -> bool:
    """Whether a column has cells that are not its neutral value."""
    if not table.has(column):
        return False
    cells = table.frame[column]
    if column.endswith("Zernike"):
        return bool(cells.astype(str).str.contains("[1-9]").any())
    return bool(np.any(pd.to_numeric(cells, errors="coerce") != _IDENTITY.get(column, 0.0)))
