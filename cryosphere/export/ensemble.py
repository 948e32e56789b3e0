"""Chosen conformations as one multi-model structure file or a trajectory, all atoms or Cα."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from cryosphere.errors import InputError
from cryosphere.export.selection import Selection
from cryosphere.io.atomic import check_output
from cryosphere.io.structures import write_models
from cryosphere.io.trajectories import WRITTEN_SUFFIXES, write_trajectory
from cryosphere.physics.rotations import quat_to_rotmat
from cryosphere.runs.run import Run

_MODEL_SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent")
# Conformations whose motions are held at once.
_CHUNK = 64


def moved_positions(
    run: Run, latent: Float[np.ndarray, "conformation latent"], what: Literal["atoms", "residues"] = "atoms"
) -> Iterator[Float[np.ndarray, "site 3"]]:
    """Positions (float64, Å, model frame) of all atoms or residues at latents, one conformation after the other.

    Every atom moves rigidly with its residue, so that nothing inside a residue changes.
    """
    structure = run.structure
    owner = structure.atoms.residue_index if what == "atoms" else np.arange(structure.n_residues)
    points = structure.atoms.positions if what == "atoms" else structure.residue_positions
    for start in range(0, len(latent), _CHUNK):
        quats, translations = run.decode_motions(latent[start : start + _CHUNK])
        for quat, translation in zip(quats, translations, strict=True):
            rotmat = quat_to_rotmat(torch.from_numpy(quat.astype(np.float64))).numpy()
            yield np.einsum("aij,aj->ai", rotmat[owner], points) + translation.astype(np.float64)[owner]


def export_ensemble(
    run: Run,
    selection: Selection,
    path: Path | str,
    what: Literal["atoms", "residues"] = "atoms",
    overwrite: bool = False,
    show_progress: bool = False,
) -> list[Path]:
    """Write conformations in the frame of the nominal structure's file, in the format of the suffix.

    Parameters
    ----------
    run : Run
    selection : Selection
    path : path
        ``.cif`` or ``.pdb`` for one multi-model file, with names and populations of the models; ``.dcd`` or
        ``.xtc`` for a trajectory, with the topology under the same name as ``.cif``.
    what : str
        ``"atoms"``, or ``"residues"`` for Cα and C1′.
    overwrite : bool
        Whether existing files may be replaced.
    show_progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        Another suffix, or a file exists.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _MODEL_SUFFIXES + WRITTEN_SUFFIXES:
        raise InputError(f"{path} has the suffix {suffix or '(none)'!r}; expected .cif, .pdb, .dcd or .xtc.")
    check_output(path, overwrite=overwrite)
    frames = _with_progress(moved_positions(run, selection.latent, what), selection.n_conformations, show_progress)
    if suffix in WRITTEN_SUFFIXES:
        topology = path.with_suffix(".cif")
        write_trajectory(path, run.structure, frames, topology_path=topology, what=what, overwrite=overwrite)
        return [path, topology]
    write_models(
        path,
        run.structure,
        frames,
        what=what,
        model_names=selection.names,
        populations=selection.populations,
        overwrite=overwrite,
    )
    return [path]


def _with_progress(
    frames: Iterator[Float[np.ndarray, "site 3"]], total: int, show_progress: bool
) -> Iterator[Float[np.ndarray, "site 3"]]:
    yield from tqdm(frames, total=total, desc="ensemble", unit="model", disable=not show_progress)
