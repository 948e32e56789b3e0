"""The truth folder: what was simulated, in a form that other programs can write and read too.

``coordinates.npy`` float32 (state, residue, 3), Å, origin at the box centre, residues as in the nominal
structure; ``state.npy`` int (particle,); ``info.json``. Optional: ``clean.mrcs`` and
``volumes/state_NNNN.mrc``.
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
CLEAN_IMAGES = "clean.mrcs"
VOLUMES = "volumes"
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
        At least ``snr`` and ``moved``; may have ``noise_std`` and ``bodies`` (lists of residue rows).
    volumes : dict
        State → path of its volume; empty where there are none.
    """

    coordinates: Float[np.ndarray, "state residue 3"]
    state: Int[np.ndarray, " particle"]
    info: dict
    volumes: dict[int, Path]


def volume_name(state: int) -> str:
    """File name of a state's volume."""
    return f"state_{state:04d}.mrc"


def write_truth(
    folder: Path,
    coordinates: Float[np.ndarray, "state residue 3"],
    state: Int[np.ndarray, " particle"],
    info: dict,
) -> None:
    """Write a truth folder's three files; volumes and clean images are for the caller to add."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / COORDINATES, np.asarray(coordinates, dtype=np.float32))
    np.save(folder / STATE, np.asarray(state, dtype=np.int64))
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
            f"{len(coordinates)} "
            f"(0 to {len(coordinates) - 1})."
        )
    info = _read_info(folder / INFO, coordinates.shape[1])
    return Truth(coordinates.astype(np.float32, copy=False), state.astype(np.int64, copy=False), info, _volumes(folder))


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
