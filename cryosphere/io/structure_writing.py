"""Multi-model mmCIF and PDB files, written model by model, the same bytes for the same coordinates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.io.mmcif_writing import write_mmcif
from cryosphere.io.pdb_writing import check_fits_pdb, write_pdb
from cryosphere.io.structure_sites import ModelLabels, list_sites
from cryosphere.records import Structure

MMCIF_SUFFIXES = (".cif", ".mmcif")
PDB_SUFFIXES = (".pdb", ".ent")


def write_models(
    path: str | Path,
    structure: Structure,
    positions: Iterable[Float[np.ndarray, "site 3"]],
    *,
    what: Literal["atoms", "residues"] = "atoms",
    frame: Literal["file", "model"] = "file",
    model_names: Sequence[str] | None = None,
    populations: Sequence[float] | np.ndarray | None = None,
    population_stds: Sequence[float] | np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write conformations of a structure as one multi-model file, mmCIF or PDB by the suffix.

    Chains, residue numbers, insertion codes and names are the structure's. Models are written as they come, so
    that ``positions`` may be a generator.

    Parameters
    ----------
    path : path
        ``.cif``, ``.mmcif``, ``.pdb`` or ``.ent``.
    structure : Structure
        What the positions are of.
    positions : array of shape (model, site, 3) or iterable of arrays of shape (site, 3)
        Å, in the frame of ``structure``; sites are its atoms or its residues.
    what : str
        ``"atoms"``, or ``"residues"`` for Cα, C1′ and the middle atoms of ligand groups only.
    frame : str
        ``"file"`` adds ``structure.frame_shift``, so that the models lie on the file the structure came from;
        ``"model"`` writes the positions as they are.
    model_names, populations, population_stds : sequences, optional
        One per model; in mmCIF the states of ``_ihm_multi_state_modeling``, in PDB remarks.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the suffix is another, the file exists and may not be replaced, or PDB cannot hold the structure.
    ValueError
        If positions do not fit the structure, are not finite, or are not as many as their labels.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MMCIF_SUFFIXES + PDB_SUFFIXES:
        raise InputError(f"{path} has the suffix {suffix or '(none)'!r}, expected .cif or .pdb; rename it.")
    sites = list_sites(structure, what)
    labels = ModelLabels(model_names, populations, population_stds)
    shift = structure.frame_shift if frame == "file" else np.zeros(3)
    if suffix in PDB_SUFFIXES:
        check_fits_pdb(path, sites)
    with (
        atomic_output(path, overwrite=overwrite) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as file,
    ):
        models = _checked_models(path, positions, shift, len(sites.names), labels)
        if suffix in MMCIF_SUFFIXES:
            write_mmcif(file, _block_name(structure), sites, models, labels)
        else:
            write_pdb(file, path, sites, models, labels)


def _block_name(structure: Structure) -> str:
    """Name of the mmCIF block: the structure's source, so that equal ensembles are equal files under any name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", structure.source.split(".")[0]) or "structure"


def _checked_models(
    path: Path, positions: Iterable[np.ndarray], shift: np.ndarray, n_sites: int, labels: ModelLabels
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, coordinates to write) of every model, refusing what does not fit."""
    number = 0
    for number, frame in enumerate(positions, start=1):
        coordinates = np.asarray(frame, dtype=np.float64)
        if coordinates.shape != (n_sites, 3):
            raise ValueError(f"model {number} for {path} has the shape {coordinates.shape}, expected ({n_sites}, 3)")
        if not np.isfinite(coordinates).all():
            raise ValueError(f"model {number} for {path} has coordinates that are not finite")
        # Adding 0 turns -0.0 into 0.0, so that equal coordinates give equal text.
        yield number, np.round(coordinates + shift, 3) + 0.0
    for values in (labels.names, labels.populations, labels.population_stds):
        if values is not None and len(values) != number:
            raise ValueError(f"{len(values)} labels were given for the {number} models of {path}")
