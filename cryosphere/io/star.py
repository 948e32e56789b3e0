"""RELION particle tables: STAR 3.0 (one flat table) and 3.1 or later (optics groups), read; 3.1 written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.mrc import SAME_SIZE_TOLERANCE
from cryosphere.io.stack_paths import PathMap, resolve_stacks
from cryosphere.io.stacks import check_stacks
from cryosphere.io.star_tables import StarTable, read_blocks, unsupported_columns, write_blocks
from cryosphere.physics.rotations import euler_to_rotmat
from cryosphere.records import ParticleTable

ANGLE_COLUMNS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
DEFOCUS_COLUMNS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
MICROSCOPE_COLUMNS = ("rlnVoltage", "rlnSphericalAberration")
ASSUMED_AMPLITUDE_CONTRAST = 0.1
# kV; a value outside is not one (300000 is in volts).
VOLTAGE_RANGE_KV = (10.0, 3000.0)


@dataclass(frozen=True)
class Optics:
    """Optics groups in use (kV, mm, fraction, Å/px, pixels); ``group`` is each particle's row in them."""

    names: tuple[str, ...]
    group: Int[np.ndarray, " particle"]
    voltage_kv: Float[np.ndarray, " group"]
    spherical_aberration_mm: Float[np.ndarray, " group"]
    amplitude_contrast: Float[np.ndarray, " group"]
    pixel_size: Float[np.ndarray, " group"]
    box_size: Int[np.ndarray, " group"] | None
    notes: tuple[str, ...]


def read_particles(path: str | Path, datadir: str | Path | None = None, path_map: PathMap = ()) -> ParticleTable:
    """Read a RELION particle STAR file and check it against its image stacks.

    Parameters
    ----------
    path : path
        STAR file of RELION 3.0 (one table; origins in pixels) or 3.1 and later (optics table; origins in Å).
    datadir : path, optional
        Folder the ``N@stack.mrcs`` paths are relative to, where that is neither the STAR file's own nor its project's.
    path_map : mapping of str to str, optional
        Beginnings of stack paths and what replaces them.

    Returns
    -------
    ParticleTable
        One row per particle in the order of the file; ``notes`` hold what the user should know.

    Raises
    ------
    InputError
        If the file is not a particle STAR file, lacks columns, has cells that are not numbers, mixes box or
        pixel sizes, or its stacks are missing or do not fit.
    """
    path = Path(path)
    particles, optics_table = _particle_tables(path, read_blocks(path))
    particles.require(ANGLE_COLUMNS, "poses", "give the output of a 3-D refinement")
    particles.require(DEFOCUS_COLUMNS, "CTF parameters", "estimate the CTF and extract the particles again")
    if optics_table is not None:
        optics = _optics_of_groups(particles, optics_table)
    else:
        optics = _optics_of_rows(particles)
    ignored = unsupported_columns(path, [table for table in (optics_table, particles) if table is not None])
    pixel_size, box_size = common_sizes(path, optics)
    shift = _shift(particles, pixel_size)
    names, stack_index, image_index = _image_names(particles)
    paths = resolve_stacks(names, path, datadir, path_map)
    stacks = check_stacks(paths, stack_index, image_index, source=path, pixel_size=pixel_size, box_size=box_size)
    euler = torch.as_tensor(np.deg2rad([particles.numbers(column) for column in ANGLE_COLUMNS]))
    return ParticleTable(
        source=path,
        stack_paths=stacks.paths,
        stack_index=stack_index,
        image_index=image_index,
        rotmat=euler_to_rotmat(*euler).numpy(),
        shift=shift,
        defocus_u=particles.numbers("rlnDefocusU"),
        defocus_v=particles.numbers("rlnDefocusV"),
        defocus_angle=np.deg2rad(particles.numbers("rlnDefocusAngle")),
        phase_shift=np.deg2rad(particles.numbers("rlnPhaseShift", default=0.0)),
        b_factor=particles.numbers("rlnCtfBfactor", default=0.0),
        scale=particles.numbers("rlnCtfScalefactor", default=1.0),
        voltage_kv=optics.voltage_kv[optics.group],
        spherical_aberration_mm=optics.spherical_aberration_mm[optics.group],
        amplitude_contrast=optics.amplitude_contrast[optics.group],
        optics_group=optics.group,
        optics_group_names=optics.names,
        box_size=stacks.box_size,
        pixel_size=pixel_size,
        notes=optics.notes + ignored + stacks.notes,
        half_set=_half_sets(particles),
    )


def _half_sets(particles: StarTable) -> Int[np.ndarray, " particle"] | None:
    """``rlnRandomSubset`` where it is there and holds 1 and 2 and nothing else."""
    if "rlnRandomSubset" not in particles.frame.columns:
        return None
    values = particles.numbers("rlnRandomSubset")
    return values.astype(np.int64) if set(np.unique(values)) == {1.0, 2.0} else None


def _particle_tables(path: Path, blocks: dict[str, pd.DataFrame]) -> tuple[StarTable, StarTable | None]:
    """Pick the particle table and, in 3.1 files, the optics table, whatever their order."""
    _refuse_other_kinds(path, blocks)
    candidates = [name for name, block in blocks.items() if "rlnImageName" in block.columns]
    name = "particles" if "particles" in candidates else candidates[0]
    if name != "particles" and len(candidates) > 1:
        listed = ", ".join(f"data_{candidate}" for candidate in candidates)
        raise InputError(f"{path} has several tables of images ({listed}); call the right one data_particles.")
    particles = StarTable(path, name, blocks[name])
    if particles.frame.empty:
        raise InputError(f"{path} has no particles: data_{name} has no rows.")
    optics = StarTable(path, "optics", blocks["optics"]) if "optics" in blocks else None
    return particles, optics


def _refuse_other_kinds(path: Path, blocks: dict[str, pd.DataFrame]) -> None:
    """Refuse micrograph, movie and tomogram STAR files by name, saying how they were recognised."""
    columns = {column: name for name, block in blocks.items() for column in block.columns}
    remedy = "give the particles.star of an extraction or the run_data.star of a 3-D refinement"
    tomogram = next((column for column in columns if column.startswith("rlnTomo")), None)
    if tomogram is not None:
        raise InputError(
            f"{path} is a tomogram STAR file (column {tomogram} in data_{columns[tomogram]}), expected "
            f"single-particle images; {remedy}."
        )
    if "rlnImageName" in columns:
        return
    for kind, column in (("movie", "rlnMicrographMovieName"), ("micrograph", "rlnMicrographName")):
        if column in columns:
            raise InputError(
                f"{path} is a {kind} STAR file ({column} but no rlnImageName in data_{columns[column]}), "
                f"expected particles; {remedy}."
            )
    listed = ", ".join(f"data_{name}" for name in blocks)
    raise InputError(f"{path} has no table with the column rlnImageName (found {listed}); {remedy}.")


def _optics_of_groups(particles: StarTable, table: StarTable) -> Optics:
    """Optics of a 3.1 file; groups that no particle uses are left out."""
    remedy = "write the file with RELION 3.1 or later"
    particles.require(("rlnOpticsGroup",), "optics group per particle", remedy)
    table.require(("rlnOpticsGroup", "rlnImagePixelSize"), "optics group or pixel size", remedy)
    table.require(MICROSCOPE_COLUMNS, "CTF parameters", "add them to the optics table")
    numbers = particles.numbers("rlnOpticsGroup")
    known = table.numbers("rlnOpticsGroup")
    unknown = np.flatnonzero(~np.isin(numbers, known))
    if len(unknown):
        raise particles.row_error(unknown, "rlnOpticsGroup", "a group of data_optics")
    used = np.flatnonzero(np.isin(known, numbers))
    order = used[np.argsort(known[used], kind="stable")]
    group = np.searchsorted(known[order], numbers)
    if table.has("rlnOpticsGroupName"):
        names = tuple(table.frame["rlnOpticsGroupName"].iloc[order].astype(str))
    else:
        names = tuple(f"opticsGroup{number:g}" for number in known[order])
    contrast, notes = _amplitude_contrast(table)
    return Optics(
        names=names,
        group=group,
        voltage_kv=table.numbers("rlnVoltage")[order],
        spherical_aberration_mm=table.numbers("rlnSphericalAberration")[order],
        amplitude_contrast=contrast[order],
        pixel_size=table.numbers("rlnImagePixelSize")[order],
        box_size=table.numbers("rlnImageSize")[order].astype(int) if table.has("rlnImageSize") else None,
        notes=notes,
    )


def _optics_of_rows(particles: StarTable) -> Optics:
    """Optics of a 3.0 file: one group per combination of voltage, aberration, contrast and pixel size."""
    particles.require(MICROSCOPE_COLUMNS, "CTF parameters", "add them, or convert the file with RELION 3.1")
    particles.require(
        ("rlnDetectorPixelSize", "rlnMagnification"), "pixel size", "add them, or convert it with RELION 3.1"
    )
    contrast, notes = _amplitude_contrast(particles)
    magnification = particles.numbers("rlnMagnification")
    if (magnification <= 0).any():
        raise particles.row_error(np.flatnonzero(magnification <= 0), "rlnMagnification", "a positive number")
    optics = pd.DataFrame(
        {
            "voltage": particles.numbers("rlnVoltage"),
            "aberration": particles.numbers("rlnSphericalAberration"),
            "contrast": contrast,
            "pixel_size": (1e4 * particles.numbers("rlnDetectorPixelSize") / magnification).round(6),
        }
    )
    group = optics.groupby(list(optics.columns), sort=False).ngroup().to_numpy(copy=True)
    groups = optics.drop_duplicates()
    return Optics(
        names=tuple(f"opticsGroup{number + 1}" for number in range(len(groups))),
        group=group,
        voltage_kv=groups["voltage"].to_numpy(),
        spherical_aberration_mm=groups["aberration"].to_numpy(),
        amplitude_contrast=groups["contrast"].to_numpy(),
        pixel_size=groups["pixel_size"].to_numpy(),
        box_size=None,
        notes=notes,
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


def common_sizes(path: Path, optics: Optics) -> tuple[float, int | None]:
    """Return the one pixel size and box of all groups, refusing impossible and mixed values by name."""
    low, high = VOLTAGE_RANGE_KV
    voltage, contrast = optics.voltage_kv, optics.amplitude_contrast
    checks = (
        ("rlnVoltage", voltage, (voltage > low) & (voltage < high), f"{low:g} to {high:g} kV"),
        ("pixel size", optics.pixel_size, optics.pixel_size > 0, "more than 0 Å"),
        ("rlnAmplitudeContrast", contrast, np.abs(contrast) <= 1, "a fraction"),
    )
    for what, values, valid, expected in checks:
        if not valid.all():
            row = np.flatnonzero(~valid)[0]
            raise InputError(
                f"{path}, optics group {optics.names[row]}: {what} is {values[row]:g}, expected {expected}; correct it."
            )
    _refuse_mixed(path, optics.names, optics.pixel_size, "pixel sizes", "Å", SAME_SIZE_TOLERANCE)
    if optics.box_size is not None:
        _refuse_mixed(path, optics.names, optics.box_size, "box sizes", "pixels", 0.0)
    return float(optics.pixel_size[0]), None if optics.box_size is None else int(optics.box_size[0])


def _refuse_mixed(
    path: Path, names: tuple[str, ...], values: np.ndarray, what: str, unit: str, tolerance: float
) -> None:
    """Refuse groups whose values differ by more than ``tolerance`` (relative)."""
    if np.ptp(values) > tolerance * values.max():
        listed = ", ".join(f"{name}: {value:g} {unit}" for name, value in zip(names, values, strict=True))
        raise InputError(
            f"{path} has optics groups of several {what} ({listed}), one common value is needed; "
            "rescale the particles or split the file by optics group."
        )


def _shift(particles: StarTable, pixel_size: float) -> Float[np.ndarray, "particle 2"]:
    """In-plane origins in Å from the Å columns of 3.1 or the pixel columns of 3.0."""
    if particles.has("rlnOriginXAngst", "rlnOriginYAngst"):
        columns, unit = ("rlnOriginXAngst", "rlnOriginYAngst"), 1.0
    elif particles.has("rlnOriginX", "rlnOriginY"):
        columns, unit = ("rlnOriginX", "rlnOriginY"), pixel_size
    else:
        raise InputError(
            f"{particles.path} has no shifts: neither rlnOriginXAngst and rlnOriginYAngst nor rlnOriginX and "
            f"rlnOriginY are in data_{particles.block}; add them, 0 for centred particles."
        )
    return unit * np.stack([particles.numbers(column) for column in columns], axis=-1)


def _image_names(
    particles: StarTable,
) -> tuple[list[str], Int[np.ndarray, " particle"], Int[np.ndarray, " particle"]]:
    """Split ``N@stack`` names into distinct stacks, the stack of each row, and its image in it (from 0)."""
    names = particles.frame["rlnImageName"].astype(str)
    parts = names.str.partition("@")
    number = pd.to_numeric(parts[0], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~((number >= 1) & (number % 1 == 0) & (parts[2] != "").to_numpy()))
    if len(wrong):
        raise particles.row_error(wrong, "rlnImageName", "NUMBER@STACK.mrcs with a number from 1")
    stack_index, stacks = pd.factorize(parts[2])
    return list(stacks), stack_index, number.astype(np.int64) - 1


@dataclass(frozen=True)
class OpticsGroup:
    """One optics group of a table to be written; kV, mm and a fraction."""

    name: str
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float


def write_particles(
    path: str | Path,
    *,
    image_names: Sequence[str] | np.ndarray,
    angles_deg: Float[np.ndarray, "particle 3"],
    shift: Float[np.ndarray, "particle 2"],
    defocus_u: Float[np.ndarray, " particle"],
    defocus_v: Float[np.ndarray, " particle"],
    defocus_angle_deg: Float[np.ndarray, " particle"],
    optics_groups: Sequence[OpticsGroup],
    optics_group: Int[np.ndarray, " particle"],
    box_size: int,
    pixel_size: float,
    phase_shift_deg: Float[np.ndarray, " particle"] | None = None,
    extra: Mapping[str, Sequence | np.ndarray] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a RELION 3.1 particle STAR file, the same bytes for the same values.

    Parameters
    ----------
    path : path
        The file.
    image_names : sequence of str
        ``NUMBER@STACK`` with numbers from 1 and stack paths relative to ``path``; see :func:`image_name`.
    angles_deg : array of shape (particle, 3)
        ``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi`` in degrees.
    shift : array of shape (particle, 2)
        (x, y) in Å, written as ``rlnOriginXAngst`` and ``rlnOriginYAngst``.
    defocus_u, defocus_v : Å. defocus_angle_deg, phase_shift_deg : degrees (no phase shift by default).
    optics_groups : sequence of OpticsGroup
        Written with the numbers 1, 2, …
    optics_group : int array of shape (particle,)
        Row in ``optics_groups`` (from 0).
    box_size : int
        Pixels along an image.
    pixel_size : float
        Å per pixel.
    extra : mapping of column name to values, optional
        Further columns, for example ``rlnRandomSubset`` or ``rlnCtfBfactor``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the file exists and may not be replaced.
    """
    n_particles = len(image_names)
    columns = {
        **{name: np.asarray(angles_deg)[:, axis] for axis, name in enumerate(ANGLE_COLUMNS)},
        "rlnOriginXAngst": np.asarray(shift)[:, 0],
        "rlnOriginYAngst": np.asarray(shift)[:, 1],
        "rlnDefocusU": defocus_u,
        "rlnDefocusV": defocus_v,
        "rlnDefocusAngle": defocus_angle_deg,
        "rlnPhaseShift": np.zeros(n_particles) if phase_shift_deg is None else phase_shift_deg,
        "rlnOpticsGroup": np.asarray(optics_group) + 1,
        "rlnImageName": list(image_names),
        **(extra or {}),
    }
    blocks = {
        "optics": _optics_frame(optics_groups, box_size, pixel_size),
        "particles": pd.DataFrame(columns),
    }
    write_blocks(path, blocks, overwrite=overwrite)


def _optics_frame(groups: Sequence[OpticsGroup], box_size: int, pixel_size: float) -> pd.DataFrame:
    """Optics table of a file to be written."""
    return pd.DataFrame(
        {
            "rlnOpticsGroupName": [group.name for group in groups],
            "rlnOpticsGroup": np.arange(1, len(groups) + 1),
            "rlnVoltage": [float(group.voltage_kv) for group in groups],
            "rlnSphericalAberration": [float(group.spherical_aberration_mm) for group in groups],
            "rlnAmplitudeContrast": [float(group.amplitude_contrast) for group in groups],
            "rlnImagePixelSize": float(pixel_size),
            "rlnImageSize": int(box_size),
            "rlnImageDimensionality": 2,
        }
    )


def image_name(image_index: int, stack: str | Path) -> str:
    """RELION's name of image ``image_index`` (from 0) of a stack, for example ``000001@particles.mrcs``."""
    return f"{image_index + 1:06d}@{stack}"
