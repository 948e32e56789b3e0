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
from cryosphere.io.common_grid import common_grid
from cryosphere.io.stack_paths import PathMap, resolve_stacks
from cryosphere.io.stacks import check_stacks
from cryosphere.io.star_blocks import StarBlock, scan_blocks
from cryosphere.io.star_columns import UNUSUAL_COLUMNS, check_unusual_columns
from cryosphere.io.star_optics import OPTICS_COLUMNS, read_optics
from cryosphere.io.star_tables import StarTable, read_block, write_blocks
from cryosphere.physics.rotations import euler_to_rotmat
from cryosphere.records import ParticleTable

ANGLE_COLUMNS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
DEFOCUS_COLUMNS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
SHIFT_COLUMNS = ("rlnOriginXAngst", "rlnOriginYAngst")
PIXEL_SHIFT_COLUMNS = ("rlnOriginX", "rlnOriginY")
# Columns that are kept in memory; large tables have several times as many.
_READ_COLUMNS = frozenset(
    [
        *("rlnImageName", "rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor", "rlnRandomSubset"),
        *ANGLE_COLUMNS,
        *DEFOCUS_COLUMNS,
        *SHIFT_COLUMNS,
        *PIXEL_SHIFT_COLUMNS,
        *OPTICS_COLUMNS,
        *UNUSUAL_COLUMNS,
    ]
)


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
        If the file is not a particle STAR file, lacks columns, has cells that are not numbers or images that are not
        as recorded, or its stacks are missing or do not fit.
    """
    path = Path(path)
    particles, optics_table = _particle_tables(path)
    particles.require(ANGLE_COLUMNS, "poses", "give the output of a 3-D refinement")
    particles.require(DEFOCUS_COLUMNS, "CTF parameters", "estimate the CTF and extract the particles again")
    optics, optics_rows = read_optics(particles, optics_table)
    unusual = check_unusual_columns(particles, optics_table, optics_rows)
    shift = _shift(particles, optics.pixel_size[optics.group])
    names, stack_index, image_index = _image_names(particles)
    stacks = check_stacks(
        resolve_stacks(names, path, datadir, path_map),
        stack_index,
        image_index,
        optics.group,
        source=path,
        pixel_size=optics.pixel_size,
        box_size=optics.box_size,
    )
    grid = common_grid(path.name, optics.names, stacks.box_size, optics.pixel_size)
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
        box_size=grid.box_size,
        pixel_size=grid.pixel_size,
        notes=optics.notes + unusual + grid.notes + stacks.notes,
        half_set=_half_sets(particles),
        group_box_size=grid.group_box_size,
        group_pixel_size=grid.group_pixel_size,
        group_beam_tilt=optics.beam_tilt,
        group_odd_zernike=optics.odd_zernike,
        group_even_zernike=optics.even_zernike,
        group_magnification=optics.magnification,
    )


def _half_sets(particles: StarTable) -> Int[np.ndarray, " particle"] | None:
    """``rlnRandomSubset`` where it is there and holds 1 and 2 and nothing else."""
    if "rlnRandomSubset" not in particles.frame.columns:
        return None
    values = particles.numbers("rlnRandomSubset")
    return values.astype(np.int64) if set(np.unique(values)) == {1.0, 2.0} else None


def _particle_tables(path: Path) -> tuple[StarTable, StarTable | None]:
    """Read the particle table and, in 3.1 files, the optics table, whatever their order and the case of their names."""
    blocks = scan_blocks(path)
    chosen = particle_block(path, blocks)
    if chosen.n_rows == 0:
        raise InputError(f"{path} has no particles: data_{chosen.name} has no rows.")
    optics = optics_block(blocks)
    particles = read_block(path, chosen, _READ_COLUMNS)
    return particles, None if optics is None else read_block(path, optics)


def particle_block(path: Path, blocks: Sequence[StarBlock]) -> StarBlock:
    """The particle table among the blocks of a STAR file.

    Raises
    ------
    InputError
        If the file is of another kind, or has several tables of images.
    """
    _refuse_other_kinds(path, blocks)
    candidates = [block for block in blocks if "rlnImageName" in block.columns]
    named = [block for block in candidates if block.name.lower() == "particles"]
    if not named and len(candidates) > 1:
        listed = ", ".join(f"data_{candidate.name}" for candidate in candidates)
        raise InputError(f"{path} has several tables of images ({listed}); call the right one data_particles.")
    return (named or candidates)[0]


def optics_block(blocks: Sequence[StarBlock]) -> StarBlock | None:
    """The optics table among the blocks of a STAR file, None where there is none."""
    return next((block for block in blocks if block.name.lower() == "optics"), None)


def _refuse_other_kinds(path: Path, blocks: Sequence[StarBlock]) -> None:
    """Refuse micrograph, movie and tomogram STAR files by name, saying how they were recognised."""
    columns = {column: block.name for block in blocks for column in block.columns}
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
    listed = ", ".join(f"data_{block.name}" for block in blocks)
    raise InputError(f"{path} has no table with the column rlnImageName (found {listed}); {remedy}.")


def _shift(particles: StarTable, pixel_size: Float[np.ndarray, " particle"]) -> Float[np.ndarray, "particle 2"]:
    """In-plane origins in Å from the Å columns of 3.1 or the pixel columns of 3.0 (pixels of the particle's group)."""
    if particles.has(*SHIFT_COLUMNS):
        return np.stack([particles.numbers(column) for column in SHIFT_COLUMNS], axis=-1)
    if particles.has(*PIXEL_SHIFT_COLUMNS):
        pixels = np.stack([particles.numbers(column) for column in PIXEL_SHIFT_COLUMNS], axis=-1)
        return pixel_size[:, None] * pixels
    raise InputError(
        f"{particles.path} has no shifts: neither rlnOriginXAngst and rlnOriginYAngst nor rlnOriginX and "
        f"rlnOriginY are in data_{particles.block}; add them, 0 for centred particles."
    )


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
