"""cryoSPARC particle datasets (``.cs``, ``.csg``) as particle tables: poses found by content, CTF, sign, stacks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.common_grid import common_grid
from cryosphere.io.cryosparc_tables import CsTable, pose_slots, read_table, slot_of
from cryosphere.io.optics import ASSUMED_AMPLITUDE_CONTRAST, VOLTAGE_RANGE_KV, Optics, refuse_impossible
from cryosphere.io.stack_paths import PathMap, resolve_stacks
from cryosphere.io.stacks import check_stacks
from cryosphere.physics.rotations import rotvec_to_rotmat
from cryosphere.records import ParticleTable

CTF_FIELDS = ("ctf/accel_kv", "ctf/cs_mm", "ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad")
BLOB_FIELDS = ("blob/path", "blob/idx", "blob/psize_A")
# Fields of the CTF that are not modelled, with the numbers in a row; 0 where there is no such thing.
_IGNORED_FIELDS = {"ctf/shift_A": 2, "ctf/trefoil_A": 2, "ctf/tetra_A": 4}
# Å by which an anisotropic magnification may move what lies at the edge of the box and still be left out.
_HARMLESS_STRETCH = 0.5
_MM = 1e7


@dataclass(frozen=True)
class _Poses:
    """Rotation vectors (rad) and shifts (Å) as the file has them, half of every particle, and what was chosen."""

    rotvec: Float[np.ndarray, "particle 3"]
    shift: Float[np.ndarray, "particle 2"]
    split: Float[np.ndarray, " particle"] | None
    notes: tuple[str, ...]


def read_particles_cs(path: str | Path, datadir: str | Path | None = None, path_map: PathMap = ()) -> ParticleTable:
    """Read a cryoSPARC particle dataset and check it against its image stacks.

    Source of the conventions: pose matrix = exp(pose)ᵀ and shift = shift in pixels of ``alignments3D/psize_A``, as
    csparc2star (Asarnow, Palovcak, Cheng, *UCSF pyem*) writes them for RELION; beam tilt = arcsin(tilt_A / Cs).

    Parameters
    ----------
    path : path
        ``.cs`` file (blob, CTF or poses that it lacks are taken from the passthrough files beside it, by ``uid``), or
        ``.csg`` group.
    datadir : path, optional
        Folder the stack paths are relative to, where that is neither the file's own nor its project's.
    path_map : mapping of str to str, optional
        Beginnings of stack paths and what replaces them.

    Returns
    -------
    ParticleTable
        One row per particle in the order of the file; ``notes`` hold what the user should know.

    Raises
    ------
    InputError
        If the file is not such a dataset, has no rows, poses, CTF or images, holds values that are not finite, is
        stretched by an anisotropic magnification, or its stacks are missing or do not fit.
    """
    path = Path(path)
    table = read_table(path)
    pixels = _positive(table, "blob/psize_A") if table.has("blob/psize_A") else None
    poses = _read_poses(table, pixels)
    table.require(CTF_FIELDS, "CTF parameters", "estimate the CTF, or give a file that has it")
    table.require(BLOB_FIELDS, "images", "give the particles file of the job, not a passthrough file without them")
    optics = _read_optics(table, pixels)
    refuse_impossible(path, optics)
    sign, sign_notes = _read_sign(table)
    names, stack_index, image_index = _image_names(table)
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
    ignored = _unmodelled(table, grid.pixel_size * grid.box_size)
    return ParticleTable(
        source=path,
        stack_paths=stacks.paths,
        stack_index=stack_index,
        image_index=image_index,
        rotmat=rotvec_to_rotmat(torch.as_tensor(poses.rotvec)).transpose(-1, -2).numpy(),
        shift=poses.shift,
        defocus_u=table.numbers("ctf/df1_A"),
        defocus_v=table.numbers("ctf/df2_A"),
        defocus_angle=table.numbers("ctf/df_angle_rad"),
        phase_shift=table.numbers("ctf/phase_shift_rad", default=0.0),
        b_factor=table.numbers("ctf/bfactor", default=0.0),
        scale=table.numbers("ctf/scale", default=1.0),
        voltage_kv=optics.voltage_kv[optics.group],
        spherical_aberration_mm=optics.spherical_aberration_mm[optics.group],
        amplitude_contrast=optics.amplitude_contrast[optics.group],
        optics_group=optics.group,
        optics_group_names=optics.names,
        box_size=grid.box_size,
        pixel_size=grid.pixel_size,
        notes=(*table.notes, *poses.notes, *sign_notes, *optics.notes, *ignored, *grid.notes, *stacks.notes),
        half_set=_half_sets(poses.split),
        group_box_size=grid.group_box_size,
        group_pixel_size=grid.group_pixel_size,
        group_beam_tilt=optics.beam_tilt,
        sign=sign,
    )


def _positive(table: CsTable, field: str) -> Float[np.ndarray, " particle"]:
    """A field that must be above 0."""
    values = table.numbers(field)
    if (values <= 0).any():
        raise table.row_error(np.flatnonzero(values <= 0), field, "more than 0")
    return values


def _read_poses(table: CsTable, pixels: Float[np.ndarray, " particle"] | None) -> _Poses:
    """Poses of a refinement, or of each particle's most probable class where there are classes."""
    slots = [slot for slot in pose_slots(table.columns) if table.has(f"{slot}/shift")]
    if not slots:
        found = sorted({slot_of(field) for field in table.columns if field.startswith("alignments")})
        raise InputError(
            f"{table.path} has no poses: neither alignments3D nor alignments of 3-D classes "
            f"(found {', '.join(found) or 'no alignments'}), here or in a passthrough file beside it; give the "
            "particles of a 3-D refinement."
        )
    several = next((slot for slot in slots if table.columns[f"{slot}/pose"].ndim == 3), None)
    if slots[0] == "alignments3D" and several != slots[0]:
        slot = slots[0]
        rotvec, shift = table.numbers(f"{slot}/pose", width=3), table.numbers(f"{slot}/shift", width=2)
        notes: tuple[str, ...] = ()
    elif several is not None:
        slot = several
        rotvec, shift, notes = _poses_of_columns(table, slot)
    else:
        slot = slots[0]
        rotvec, shift, notes = _poses_of_slots(table, slots)
    field = f"{slot}/psize_A"
    if not table.has(field) and pixels is not None:
        notes = (*notes, f"{table.path.name} has no {field}; shifts are taken in pixels of blob/psize_A.")
    else:
        table.require((field,), "pixel size of the shifts")
        pixels = _positive(table, field)
    split = table.numbers(f"{slot}/split") if table.has(f"{slot}/split") else None
    return _Poses(rotvec, shift * pixels[:, None], split, notes)


def _poses_of_slots(
    table: CsTable, slots: list[str]
) -> tuple[Float[np.ndarray, "particle 3"], Float[np.ndarray, "particle 2"], tuple[str, ...]]:
    """Poses from slots ``alignments_class_0``, ``alignments_class_1`` … of one class each."""
    rotvec = np.stack([table.numbers(f"{slot}/pose", width=3) for slot in slots], axis=1)
    shift = np.stack([table.numbers(f"{slot}/shift", width=2) for slot in slots], axis=1)
    if len(slots) == 1:
        return rotvec[:, 0], shift[:, 0], (f"{table.path.name}: poses are those of {slots[0]}.",)
    table.require(tuple(f"{slot}/class_posterior" for slot in slots), "probabilities of its classes")
    posterior = np.stack([table.numbers(f"{slot}/class_posterior") for slot in slots], axis=1)
    return _of_best_class(table, rotvec, shift, posterior, f"{slots[0]} to {slots[-1]}")


def _poses_of_columns(
    table: CsTable, slot: str
) -> tuple[Float[np.ndarray, "particle 3"], Float[np.ndarray, "particle 2"], tuple[str, ...]]:
    """Poses from one slot with a row for each class (``alignments3D_multi``)."""
    n_classes = table.columns[f"{slot}/pose"].shape[1]
    flat = {}
    for name, width in (("pose", 3), ("shift", 2)):
        field = f"{slot}/{name}"
        values = table.columns[field]
        if values.shape[1:] != (n_classes, width):
            raise InputError(
                f"{table.file_of(field)}: {field} has rows of {values.shape[1:]}, expected {(n_classes, width)}; "
                "export the particles again."
            )
        values = values.astype(np.float64)
        finite = np.isfinite(values).all(axis=(1, 2))
        if not finite.all():
            raise table.row_error(np.flatnonzero(~finite), field, "finite numbers")
        flat[name] = values
    if n_classes == 1:
        return flat["pose"][:, 0], flat["shift"][:, 0], (f"{table.path.name}: poses are those of {slot}.",)
    table.require((f"{slot}/class_posterior",), "probabilities of its classes")
    posterior = table.numbers(f"{slot}/class_posterior", width=n_classes)
    return _of_best_class(table, flat["pose"], flat["shift"], posterior, slot)


def _of_best_class(
    table: CsTable,
    rotvec: Float[np.ndarray, "particle class 3"],
    shift: Float[np.ndarray, "particle class 2"],
    posterior: Float[np.ndarray, "particle class"],
    name: str,
) -> tuple[Float[np.ndarray, "particle 3"], Float[np.ndarray, "particle 2"], tuple[str, ...]]:
    """Pose of every particle in its most probable class, and a note that says so."""
    best = posterior.argmax(axis=1)
    rows = np.arange(len(best))
    counts = np.bincount(best, minlength=posterior.shape[1])
    note = (
        f"{table.path.name}: every particle has the pose of its most probable class of {name} "
        f"({', '.join(f'{count:d}' for count in counts)} particles); the maps of these classes must lie on each other."
    )
    return rotvec[rows, best], shift[rows, best], (note,)


def _half_sets(split: Float[np.ndarray, " particle"] | None) -> Int[np.ndarray, " particle"] | None:
    """Halves 1 and 2 of a refinement that split its particles in two."""
    if split is None or set(np.unique(split)) != {0.0, 1.0}:
        return None
    return split.astype(np.int64) + 1


def _read_optics(table: CsTable, pixels: Float[np.ndarray, " particle"]) -> Optics:
    """Optics groups, one per exposure group and combination of microscope, box, pixel size and tilt; tilts in rad."""
    notes: tuple[str, ...] = ()
    if not table.has("ctf/amp_contrast"):
        notes = (f"{table.path.name} has no ctf/amp_contrast; {ASSUMED_AMPLITUDE_CONTRAST} is assumed.",)
    tilt = table.numbers("ctf/tilt_A", width=2) if table.has("ctf/tilt_A") else np.zeros((table.n_rows, 2))
    rows = pd.DataFrame(
        {
            "number": table.numbers("ctf/exp_group_id", default=0.0),
            "voltage": _checked(table, "ctf/accel_kv", *VOLTAGE_RANGE_KV, "a number of kV"),
            "aberration": table.numbers("ctf/cs_mm"),
            "contrast": _checked(table, "ctf/amp_contrast", -1.0, 1.0, "a fraction", ASSUMED_AMPLITUDE_CONTRAST),
            "pixel_size": pixels,
            "box_size": _box_sizes(table),
            "tilt_x": tilt[:, 0],
            "tilt_y": tilt[:, 1],
        }
    )
    columns = list(rows.columns)
    group = rows.groupby(columns, sort=True).ngroup().to_numpy(copy=True)
    groups = rows.drop_duplicates().sort_values(columns)
    part = groups.groupby("number").cumcount().to_numpy()
    beam_tilt, tilt_notes = _beam_tilt(table, groups)
    return Optics(
        names=tuple(
            f"exposureGroup{number:.0f}{f'_{part + 1}' if part else ''}"
            for number, part in zip(groups["number"], part, strict=True)
        ),
        group=group,
        voltage_kv=groups["voltage"].to_numpy(copy=True),
        spherical_aberration_mm=groups["aberration"].to_numpy(copy=True),
        amplitude_contrast=groups["contrast"].to_numpy(copy=True),
        pixel_size=groups["pixel_size"].to_numpy(copy=True),
        box_size=groups["box_size"].to_numpy().astype(int) if table.has("blob/shape") else None,
        notes=notes + tilt_notes,
        beam_tilt=beam_tilt,
    )


def _checked(
    table: CsTable, field: str, low: float, high: float, expected: str, default: float | None = None
) -> Float[np.ndarray, " particle"]:
    """A field within bounds."""
    values = table.numbers(field, default)
    wrong = np.flatnonzero((values < low) | (values > high))
    if len(wrong):
        raise table.row_error(wrong, field, f"{expected} from {low:g} to {high:g}")
    return values


def _box_sizes(table: CsTable) -> Float[np.ndarray, " particle"]:
    """Box of every particle; 0 where the file does not say."""
    if not table.has("blob/shape"):
        return np.zeros(table.n_rows)
    shape = table.numbers("blob/shape", width=2)
    wrong = np.flatnonzero((shape[:, 0] != shape[:, 1]) | (shape[:, 0] < 1))
    if len(wrong):
        raise table.row_error(wrong, "blob/shape", "a square box")
    return shape[:, 0]


def _beam_tilt(table: CsTable, groups: pd.DataFrame) -> tuple[Float[np.ndarray, "group 2"] | None, tuple[str, ...]]:
    """Beam tilt (x, y) of every group in rad, none where all are 0."""
    displacement = groups[["tilt_x", "tilt_y"]].to_numpy()
    if not displacement.any():
        return None, ()
    aberration = groups["aberration"].to_numpy()[:, None] * _MM
    if (np.abs(displacement) >= np.abs(aberration)).any():
        raise InputError(
            f"{table.path}: ctf/tilt_A is {np.abs(displacement).max():g} Å, expected less than ctf/cs_mm "
            f"({aberration.min() / _MM:g} mm); correct the microscope's parameters."
        )
    tilt = np.arcsin(displacement / aberration)
    note = f"{table.path.name}: beam tilt of up to {1e3 * np.abs(tilt).max():.2g} mrad (ctf/tilt_A) is applied."
    return tilt, (note,)


def _unmodelled(table: CsTable, edge: float) -> tuple[str, ...]:
    """Note the aberrations that are left out, and refuse images (``edge`` Å wide) stretched more than that allows."""
    ignored = [
        field
        for field, width in _IGNORED_FIELDS.items()
        if table.has(field) and table.numbers(field, width=width).any()
    ]
    if table.has("ctf/anisomag"):
        # Stored less the identity (Michael McLean, discuss.cryosparc.com, topic 11402).
        stretch = np.linalg.norm(table.numbers("ctf/anisomag", width=4).reshape(-1, 2, 2), ord=2, axis=(1, 2))
        moved = stretch.max() * edge / 2
        if moved > _HARMLESS_STRETCH:
            raise InputError(
                f"{table.path}: ctf/anisomag stretches the images by up to {100 * stretch.max():.2g} % ({moved:.2g} Å "
                "at the edge of the box), which is not modelled; give the particles of a refinement without "
                "anisotropic magnification."
            )
        if stretch.any():
            ignored.append("ctf/anisomag")
    if not ignored:
        return ()
    verb = "is" if len(ignored) == 1 else "are"
    return (f"{table.path.name}: {', '.join(ignored)} {verb} not modelled and left out.",)


def _read_sign(table: CsTable) -> tuple[Float[np.ndarray, " particle"] | None, tuple[str, ...]]:
    """Sign that makes protein bright, none where no image changes."""
    sign = table.numbers("blob/sign", default=1.0)
    wrong = np.flatnonzero(np.abs(sign) != 1)
    if len(wrong):
        raise table.row_error(wrong, "blob/sign", "1 or -1")
    n_dark = int((sign < 0).sum())
    if not n_dark:
        return None, ()
    which = "all" if n_dark == len(sign) else f"{n_dark} of {len(sign)}"
    return sign, (
        f"{table.path.name}: protein is dark in {which} images (blob/sign -1); they are inverted when read, so leave "
        "particles.invert false.",
    )


def _image_names(
    table: CsTable,
) -> tuple[list[str], Int[np.ndarray, " particle"], Int[np.ndarray, " particle"]]:
    """Distinct stacks, the stack of each row, and its image in it (from 0)."""
    values = table.columns["blob/path"]
    if values.dtype.kind not in "SU" or values.ndim != 1:
        raise InputError(f"{table.file_of('blob/path')}: blob/path is {values.dtype.name}, expected text.")
    stack_index, distinct = pd.factorize(values.astype(object))
    names = [os.fsdecode(name).strip().removeprefix(">") for name in distinct]
    empty = np.isin(stack_index, [position for position, name in enumerate(names) if not name])
    if empty.any():
        raise table.row_error(np.flatnonzero(empty), "blob/path", "the path of a stack")
    index = table.numbers("blob/idx")
    wrong = np.flatnonzero((index < 0) | (index % 1 != 0))
    if len(wrong):
        raise table.row_error(wrong, "blob/idx", "the number of an image from 0")
    return names, stack_index, index.astype(np.int64)
