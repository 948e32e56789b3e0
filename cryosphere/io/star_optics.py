"""Optics groups of RELION particle tables: microscope, sizes and aberrations per group."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.optics import ASSUMED_AMPLITUDE_CONTRAST, Optics, refuse_impossible
from cryosphere.io.star_tables import StarTable

MICROSCOPE_COLUMNS = ("rlnVoltage", "rlnSphericalAberration")
BEAM_TILT_COLUMNS = ("rlnBeamTiltX", "rlnBeamTiltY")
ZERNIKE_COLUMNS = ("rlnOddZernike", "rlnEvenZernike")
MAGNIFICATION_COLUMNS = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
ABERRATION_COLUMNS = BEAM_TILT_COLUMNS + ZERNIKE_COLUMNS + MAGNIFICATION_COLUMNS
OPTICS_COLUMNS = (
    *MICROSCOPE_COLUMNS,
    *ABERRATION_COLUMNS,
    "rlnAmplitudeContrast",
    "rlnDetectorPixelSize",
    "rlnMagnification",
    "rlnImagePixelSize",
    "rlnImageSize",
    "rlnOpticsGroup",
    "rlnOpticsGroupName",
)
# A magnification matrix changes areas by less than this factor.
_LARGEST_MAGNIFICATION = 1.5
_REMEDY = "write the file with RELION 3.1 or later"


def read_optics(particles: StarTable, table: StarTable | None) -> tuple[Optics, Int[np.ndarray, " group"]]:
    """Optics of the particles, from the optics table of a 3.1 file or from the particles' own columns.

    With them come the rows of that table that describe the groups.

    Raises
    ------
    InputError
        If columns are missing, cells are no numbers, or values are impossible.
    """
    optics, rows = _optics_of_rows(particles) if table is None else _optics_of_groups(particles, table)
    refuse_impossible(particles.path, optics)
    return optics, rows


def _optics_of_groups(particles: StarTable, table: StarTable) -> tuple[Optics, Int[np.ndarray, " group"]]:
    """Optics of a 3.1 file; groups that no particle uses are left out."""
    table.require(("rlnOpticsGroup", "rlnImagePixelSize"), "optics group or pixel size", _REMEDY)
    table.require(MICROSCOPE_COLUMNS, "CTF parameters", "add them to the optics table")
    known, numbers = group_numbers(particles, table)
    used = np.flatnonzero(np.isin(known, numbers))
    order = used[np.argsort(known[used], kind="stable")]
    group = np.searchsorted(known[order], numbers)
    if table.has("rlnOpticsGroupName"):
        names = tuple(table.frame["rlnOpticsGroupName"].iloc[order].astype(str))
    else:
        names = tuple(f"opticsGroup{number:g}" for number in known[order])
    sizes = table.numbers("rlnImageSize")[order].astype(np.int64) if table.has("rlnImageSize") else None
    return _make_optics(table, order, names, group, table.numbers("rlnImagePixelSize")[order], sizes), order


def group_numbers(
    particles: StarTable, table: StarTable
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " particle"]]:
    """Numbers of the groups in the rows of an optics table, and of the group of every particle.

    Raises
    ------
    InputError
        If a particle's group is not said or is not in the table.
    """
    table.require(("rlnOpticsGroup",), "optics group", _REMEDY)
    known = table.numbers("rlnOpticsGroup")
    if len(known) == 1 and not particles.has("rlnOpticsGroup"):
        return known, np.full(len(particles.frame), known[0])
    particles.require(("rlnOpticsGroup",), "optics group per particle", _REMEDY)
    numbers = particles.numbers("rlnOpticsGroup")
    unknown = np.flatnonzero(~np.isin(numbers, known))
    if len(unknown):
        raise particles.row_error(unknown, "rlnOpticsGroup", "a group of data_optics")
    return known, numbers


def _optics_of_rows(particles: StarTable) -> tuple[Optics, Int[np.ndarray, " group"]]:
    """Optics of a 3.0 file: one group per combination of microscope, pixel size and aberrations."""
    particles.require(MICROSCOPE_COLUMNS, "CTF parameters", "add them, or convert the file with RELION 3.1")
    columns = [particles.numbers(column) for column in MICROSCOPE_COLUMNS]
    columns += [_amplitude_contrast(particles)[0], _pixel_size_of_rows(particles)]
    columns += [particles.frame[column].to_numpy() for column in ABERRATION_COLUMNS if particles.has(column)]
    keys = pd.DataFrame(dict(enumerate(columns)))
    group = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy(copy=True)
    first = np.flatnonzero(~keys.duplicated().to_numpy())
    names = tuple(f"opticsGroup{number + 1}" for number in range(len(first)))
    return _make_optics(particles, first, names, group, columns[3][first], None), first


def _pixel_size_of_rows(particles: StarTable) -> Float[np.ndarray, " row"]:
    """Pixel size (Å) of every row of a 3.0 file."""
    if particles.has("rlnImagePixelSize"):
        return particles.numbers("rlnImagePixelSize")
    remedy = "add them, or convert it with RELION 3.1"
    particles.require(("rlnDetectorPixelSize", "rlnMagnification"), "pixel size", remedy)
    magnification = particles.numbers("rlnMagnification")
    if (magnification <= 0).any():
        raise particles.row_error(np.flatnonzero(magnification <= 0), "rlnMagnification", "a positive number")
    return (1e4 * particles.numbers("rlnDetectorPixelSize") / magnification).round(6)


def _make_optics(
    table: StarTable,
    rows: Int[np.ndarray, " group"],
    names: tuple[str, ...],
    group: Int[np.ndarray, " particle"],
    pixel_size: Float[np.ndarray, " group"],
    box_size: Int[np.ndarray, " group"] | None,
) -> Optics:
    """Groups whose values are in some rows of a table."""
    contrast, notes = _amplitude_contrast(table)
    found = {
        "beam_tilt": _beam_tilt(table, rows),
        "odd_zernike": _zernike(table, "rlnOddZernike", rows),
        "even_zernike": _zernike(table, "rlnEvenZernike", rows),
        "magnification": _magnification(table, rows),
    }
    applied = [name.replace("_", " ") for name, values in found.items() if values is not None]
    if applied:
        listed = ", ".join(applied).replace("zernike", "Zernike terms")
        notes += (f"{table.path.name} has aberrations that are applied: {listed}.",)
    return Optics(
        names=names,
        group=group,
        voltage_kv=table.numbers("rlnVoltage")[rows],
        spherical_aberration_mm=table.numbers("rlnSphericalAberration")[rows],
        amplitude_contrast=contrast[rows],
        pixel_size=pixel_size,
        box_size=box_size,
        notes=notes,
        **found,
    )


def _amplitude_contrast(table: StarTable) -> tuple[Float[np.ndarray, " row"], tuple[str, ...]]:
    """Amplitude contrast of every row, and a note if the table has none."""
    contrast = table.numbers("rlnAmplitudeContrast", default=ASSUMED_AMPLITUDE_CONTRAST)
    if table.has("rlnAmplitudeContrast"):
        return contrast, ()
    return contrast, (
        f"{table.path.name} has no rlnAmplitudeContrast; {ASSUMED_AMPLITUDE_CONTRAST} is assumed, "
        f"add the column to data_{table.block} if that is wrong.",
    )


def _beam_tilt(table: StarTable, rows: Int[np.ndarray, " group"]) -> Float[np.ndarray, "group 2"] | None:
    """Beam tilt in rad (the file has mrad), None where there is none."""
    tilt = np.stack([table.numbers(column, default=0.0)[rows] for column in BEAM_TILT_COLUMNS], axis=-1)
    return 1e-3 * tilt if tilt.any() else None


def _zernike(table: StarTable, column: str, rows: Int[np.ndarray, " group"]) -> Float[np.ndarray, "group term"] | None:
    """Coefficients written as ``[0,0.1,…]`` (rad), short lists filled with zeros; None where all are 0."""
    if not table.has(column):
        return None
    lists = []
    for row in rows:
        text = str(table.frame[column].iloc[row])
        try:
            values = np.array([float(cell) for cell in text.removeprefix("[").removesuffix("]").split(",") if cell])
        except ValueError:
            values = np.array([np.nan])
        if not (text.startswith("[") and text.endswith("]") and np.isfinite(values).all()):
            raise table.row_error(np.array([row]), column, "numbers in brackets like [0,0.1,0.2]")
        lists.append(values)
    padded = np.zeros((len(rows), max(len(values) for values in lists)))
    for row, values in zip(padded, lists, strict=True):
        row[: len(values)] = values
    return padded if padded.any() else None


def _magnification(table: StarTable, rows: Int[np.ndarray, " group"]) -> Float[np.ndarray, "group 2 2"] | None:
    """Magnification matrices, None where all are the identity."""
    defaults = (1.0, 0.0, 0.0, 1.0)
    cells = zip(MAGNIFICATION_COLUMNS, defaults, strict=True)
    matrix = np.stack([table.numbers(column, default=value)[rows] for column, value in cells], axis=-1)
    matrix = matrix.reshape(-1, 2, 2)
    if (matrix == np.eye(2)).all():
        return None
    stretch = np.linalg.svd(matrix, compute_uv=False)
    low, high = 1 / _LARGEST_MAGNIFICATION, _LARGEST_MAGNIFICATION
    wrong = np.flatnonzero((stretch < low).any(1) | (stretch > high).any(1) | (np.linalg.det(matrix) <= 0))
    if len(wrong):
        raise InputError(
            f"{table.path}, row {rows[wrong[0]] + 1} of data_{table.block}: rlnMagMat00 to rlnMagMat11 are "
            f"{matrix[wrong[0]].ravel().tolist()}, expected a matrix near the identity; correct it."
        )
    return matrix
