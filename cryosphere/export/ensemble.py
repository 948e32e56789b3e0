"""Chosen conformations as one multi-model structure file or a trajectory, all atoms or Cα."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from cryosphere.errors import InputError
from cryosphere.export.selection import Selection
from cryosphere.io.atomic import check_output
from cryosphere.io.structures import write_models
from cryosphere.io.trajectories import WRITTEN_SUFFIXES, write_trajectory
from cryosphere.physics.rotations import quat_to_rotmat
from cryosphere.progress import Bar
from cryosphere.runs.run import Run
from cryosphere.structure.seams import SeamCloser, Seams

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


class AllAtoms:
    """All atoms of a run at latents, with the seams between residues that moved differently closed.

    Attributes
    ----------
    seams : list of Seams
        One for every conformation made so far.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.closer = run, SeamCloser(run.structure)
        self.seams: list[Seams] = []

    def at(self, latent: Float[np.ndarray, "conformation latent"]) -> Iterator[Float[np.ndarray, "atom 3"]]:
        """Positions (float64, Å, model frame) at latents, one conformation after the other."""
        for positions in moved_positions(self.run, latent, "atoms"):
            closed, seams = self.closer.close(positions)
            self.seams.append(seams)
            yield closed


@dataclass(frozen=True)
class Ensemble:
    """The files of an ensemble, and what closing the seams did in each model (nothing where it was not asked for)."""

    files: tuple[Path, ...]
    seams: tuple[Seams, ...] = field(default=())

    def lines(self) -> list[str]:
        """What was done, for people."""
        return seam_lines(self.seams)


def seam_lines(seams: list[Seams] | tuple[Seams, ...]) -> list[str]:
    """Number of seams closed, and what is left of them, in a sentence; none without models."""
    if not seams:
        return []
    if not any(model.n_open for model in seams):
        return ["Seams: no bond between residues was open."]
    worst = max(seams, key=lambda model: model.bond_change)
    clashes = sum(model.n_clashes for model in seams)
    return [
        f"Seams: {sum(model.n_open for model in seams)} bonds between residues closed in {len(seams)} "
        f"model{'s' * (len(seams) > 1)}; none differs from the nominal structure's by more than "
        f"{worst.bond_change:.3f} Å, no angle about them by more than "
        f"{max(model.angle_change for model in seams):.1f}°. Cα moved by "
        f"{max(model.anchor_shift for model in seams):.2f} Å (rms) at most; "
        f"{clashes or 'no'} new clash{'es' * (clashes != 1)}."
    ]


def export_ensemble(
    run: Run,
    selection: Selection,
    path: Path | str,
    what: Literal["atoms", "residues"] = "atoms",
    overwrite: bool = False,
    show_progress: bool = False,
    close_seams: bool = True,
) -> Ensemble:
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
    close_seams : bool
        Of all atoms, bring bonds and angles between residues that moved differently back to the nominal structure's
        (:class:`cryosphere.structure.seams.SeamCloser`). Otherwise every atom moves rigidly with its residue.

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
    atoms = AllAtoms(run) if what == "atoms" and close_seams else None
    frames = moved_positions(run, selection.latent, what) if atoms is None else atoms.at(selection.latent)
    frames = with_progress(frames, selection.n_conformations, show_progress)
    files = (path,)
    if suffix in WRITTEN_SUFFIXES:
        files = (path, path.with_suffix(".cif"))
        write_trajectory(path, run.structure, frames, topology_path=files[1], what=what, overwrite=overwrite)
    else:
        write_models(
            path,
            run.structure,
            frames,
            what=what,
            model_names=selection.names,
            populations=selection.populations,
            population_stds=selection.population_stds,
            overwrite=overwrite,
        )
    return Ensemble(files, () if atoms is None else tuple(atoms.seams))


def with_progress(
    frames: Iterator[Float[np.ndarray, "site 3"]], total: int, show_progress: bool
) -> Iterator[Float[np.ndarray, "site 3"]]:
    """The same models, counted by a bar on stderr."""
    yield from Bar(frames, total=total, desc="ensemble", unit="model", disable=not show_progress)
