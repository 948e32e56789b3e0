"""The truth folder: what was simulated, in a form that other programs can write and read too.

``coordinates.npy`` float32 (state, residue, 3), Å, origin at the box centre, residues as in the nominal
structure; ``state.npy`` int (particle,); ``info.json``. Optional: ``clean.mrcs`` (each image's signal, with its
contrast), ``volumes/state_NNNN.mrc`` (contrast 1), and what the particle file does not tell or tells with errors:
``rotmat.npy`` (particle, 3, 3), ``shift.npy`` (particle, 2) in Å, and ``contrast.npy`` (particle,).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError

COORDINATES = "coordinates.npy"
STATE = "state.npy"
INFO = "info.json"
ROTMAT = "rotmat.npy"
SHIFT = "shift.npy"
CONTRAST = "contrast.npy"
CLEAN_IMAGES = "clean.mrcs"
VOLUMES = "volumes"
# Largest deviation from orthogonality of a pose that is read, as of matrices once stored in single precision.
_ROTATION_TOLERANCE = 1e-4
_VOLUME_NAME = re.compile(r"^state_(\d+)\.mrc$")


@dataclass(frozen=True)
class Truth:
    """True conformations, the state of every particle, and what else is known.

    Attributes
    ----------
    coordinates : float32 array of shape (state, residue, 3)
        Å, origin at the box centre.
    state : int array of shape (particle,)
        Row of ``coordinates`` for every particle, in the order of the particle file.
    info : dict
        At least ``snr`` and ``moved``; may have ``noise_std``, ``noise_spectrum`` (power per shell as in
        ``physics.noise``; white where absent) and ``bodies`` (lists of residue rows).
    volumes : dict
        State → path of its volume; empty where there are none.
    rotmat : float64 array of shape (particle, 3, 3), optional
        True pose of every image; None where the particle file has it.
    shift : float64 array of shape (particle, 2), optional
        True shift in Å, in the sense of the particle file's; None where that has it.
    contrast : float64 array of shape (particle,), optional
        Factor on every image's signal; None where it is 1.
    """

    coordinates: Float[np.ndarray, "state residue 3"]
    state: Int[np.ndarray, " particle"]
    info: dict
    volumes: dict[int, Path]
    rotmat: Float[np.ndarray, "particle 3 3"] | None = None
    shift: Float[np.ndarray, "particle 2"] | None = None
    contrast: Float[np.ndarray, " particle"] | None = None


def volume_name(state: int) -> str:
    """File name of a state's volume."""
    return f"state_{state:04d}.mrc"


def write_truth(
    folder: Path,
    coordinates: Float[np.ndarray, "state residue 3"],
    state: Int[np.ndarray, " particle"],
    info: dict,
    *,
    rotmat: Float[np.ndarray, "particle 3 3"] | None = None,
    shift: Float[np.ndarray, "particle 2"] | None = None,
    contrast: Float[np.ndarray, " particle"] | None = None,
) -> None:
    """Write a truth folder's three files and those arrays that are given.

    Volumes and clean images are for the caller to add. The arguments are the fields of :class:`Truth`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / COORDINATES, np.asarray(coordinates, dtype=np.float32))
    np.save(folder / STATE, np.asarray(state, dtype=np.int64))
    for name, values in ((ROTMAT, rotmat), (SHIFT, shift), (CONTRAST, contrast)):
        if values is not None:
            np.save(folder / name, np.asarray(values, dtype=np.float64))
    (folder / INFO).write_text(json.dumps(info, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_truth(folder: Path) -> Truth:
    """Read a truth folder, whoever wrote it.

    Raises
    ------
    InputError
        If a file is missing or its content is not of the stated form.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"The truth folder {folder} does not exist: give the folder 'truth' of a simulated set.")
    coordinates = _read_array(folder / COORDINATES)
    state = _read_array(folder / STATE)
    if coordinates.ndim != 3 or coordinates.shape[2] != 3 or not np.issubdtype(coordinates.dtype, np.floating):
        raise InputError(
            f"{folder / COORDINATES} has the shape {coordinates.shape} and type {coordinates.dtype}: "
            "expected floats of shape (state, residue, 3)."
        )
    if not np.isfinite(coordinates).all():
        raise InputError(f"{folder / COORDINATES} holds values that are no numbers (NaN or infinity).")
    if state.ndim != 1 or not np.issubdtype(state.dtype, np.integer):
        raise InputError(
            f"{folder / STATE} has the shape {state.shape} and type {state.dtype}: expected one integer per particle."
        )
    if state.size and not (0 <= state.min() and state.max() < len(coordinates)):
        raise InputError(
            f"{folder / STATE} names states {state.min()} to {state.max()}, but {COORDINATES} has "
            f"{len(coordinates)} (0 to {len(coordinates) - 1})."
        )
    return Truth(
        coordinates=coordinates.astype(np.float32, copy=False),
        state=state.astype(np.int64, copy=False),
        info=_read_info(folder / INFO, coordinates.shape[1]),
        volumes=_volumes(folder),
        rotmat=_read_rotmat(folder / ROTMAT, len(state)),
        shift=_read_per_particle(folder / SHIFT, (len(state), 2)),
        contrast=_read_contrast(folder / CONTRAST, len(state)),
    )


def _read_per_particle(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read an optional array of finite floats with one row per particle; None where there is no such file."""
    if not path.exists():
        return None
    values = _read_array(path)
    if values.shape != shape or not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"{path} has the shape {values.shape} and type {values.dtype}: expected floats of shape {shape}, "
            f"one row per particle of {STATE}."
        )
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are no numbers (NaN or infinity): write it again.")
    return values.astype(np.float64, copy=False)


def _read_rotmat(path: Path, n_particles: int) -> Float[np.ndarray, "particle 3 3"] | None:
    rotmat = _read_per_particle(path, (n_particles, 3, 3))
    if rotmat is None:
        return None
    error = np.abs(rotmat @ rotmat.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    wrong = np.flatnonzero((error > _ROTATION_TOLERANCE) | (np.linalg.det(rotmat) < 0))
    if len(wrong):
        raise InputError(f"{path} has a matrix in row {wrong[0]} that is no rotation: write it again.")
    return rotmat


def _read_contrast(path: Path, n_particles: int) -> Float[np.ndarray, " particle"] | None:
    contrast = _read_per_particle(path, (n_particles,))
    if contrast is not None and (contrast < 0).any():
        raise InputError(f"{path} has the contrast {contrast.min():g}: expected factors of at least 0.")
    return contrast


def _read_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} is missing: a truth folder has {COORDINATES}, {STATE} and {INFO}.")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be read as a numpy array ({error}): write it again.") from error


def _read_info(path: Path, n_residues: int) -> dict:
    if not path.is_file():
        raise InputError(f"{path} is missing: a truth folder has {COORDINATES}, {STATE} and {INFO}.")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): write it again.") from error
    if not isinstance(info, dict):
        raise InputError(f"{path} holds a {type(info).__name__}: expected an object with names and values.")
    bodies = info.get("bodies") or []
    if not isinstance(bodies, list) or not all(isinstance(body, list) for body in bodies):
        raise InputError(f"'bodies' in {path} is not a list of lists of residue rows: correct it.")
    rows = [row for body in bodies for row in body]
    if any(not isinstance(row, int) or not 0 <= row < n_residues for row in rows):
        raise InputError(f"'bodies' in {path} names residues outside 0 to {n_residues - 1}: correct the lists.")
    return info


def _volumes(folder: Path) -> dict[int, Path]:
    found = {}
    for path in sorted((folder / VOLUMES).glob("*.mrc")):
        match = _VOLUME_NAME.match(path.name)
        if match:
            found[int(match[1])] = path
    return found
