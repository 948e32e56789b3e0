"""AlphaFold's predicted aligned error, brought to the residues of a structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cryosphere.errors import InputError
from cryosphere.records import Structure

_KEYS = ("predicted_aligned_error", "pae")
_TOKEN_KEYS = ("token_chain_ids", "token_res_ids")


def read_predicted_error(path: Path, structure: Structure) -> Float[np.ndarray, "residue residue"]:
    """Read a predicted aligned error for the residues that a structure has.

    AlphaFold 3 names the chain and residue of every row (``token_chain_ids``, ``token_res_ids``; ligands and modified
    residues have a row per atom, of which the mean counts), and residues are found by these. AlphaFold DB (now, and
    before 2022 as a list of ``distance`` by ``residue1`` and ``residue2``) and ColabFold have one row per residue of
    the whole model, also of residues trimmed since; ligands, of which these say nothing, get an error of 0.

    Parameters
    ----------
    path : Path
        JSON file.
    structure : Structure
        As read, with its ``source_rows``.

    Returns
    -------
    float64 array of shape (residue, residue)
        Å; row by row of the structure.

    Raises
    ------
    InputError
        The file is not of one of these forms, or of another sequence.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}).") from None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    content = content if isinstance(content, dict) else {}
    matrix = _matrix(path, content)
    if all(key in content for key in _TOKEN_KEYS):
        return _by_tokens(path, matrix, content, structure)
    return _by_order(path, matrix, structure)


def _matrix(path: Path, content: dict[str, Any]) -> Float[np.ndarray, "row row"]:
    """The square matrix of a file, whatever its name."""
    found = next((content[key] for key in _KEYS if key in content), None)
    try:
        if found is None and "distance" in content:
            first, second = (np.asarray(content[f"residue{end}"], dtype=np.int64) - 1 for end in (1, 2))
            matrix = np.full((max(first) + 1, max(second) + 1), np.nan)
            matrix[first, second] = np.asarray(content["distance"], dtype=np.float64)
        else:
            matrix = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError, KeyError, IndexError):
        matrix = np.zeros(0)
    if matrix.ndim != 2:
        raise InputError(f"{path}: expected a matrix under 'predicted_aligned_error' or 'pae', found none.")
    if matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise InputError(
            f"{path}: expected a finite square matrix, found {' × '.join(map(str, matrix.shape))}"
            f"{'' if np.isfinite(matrix).all() else ' with entries that are missing or no numbers'}; download it again."
        )
    return matrix


def _by_order(
    path: Path, matrix: Float[np.ndarray, "row row"], structure: Structure
) -> Float[np.ndarray, "residue residue"]:
    """Rows in the order of the whole model."""
    rows, n_source = structure.source_rows, structure.n_source_residues
    if rows is None or n_source is None:
        rows, n_source = np.arange(structure.n_residues), structure.n_residues
    if len(matrix) != n_source:
        trimmed = f" (with those left out here, of which {structure.n_polymer_residues} stay)"
        raise InputError(
            f"{path} is of another sequence: it has {len(matrix)} × {len(matrix)} entries, {structure.source} has "
            f"{n_source} residues{trimmed if n_source != structure.n_polymer_residues else ''}; give the whole "
            "predicted model that it belongs to as structure.file (structure.min_plddt trims it), or no pae_file."
        )
    return _take(matrix, rows)


def _take(matrix: Float[np.ndarray, "row row"], rows: np.ndarray) -> Float[np.ndarray, "residue residue"]:
    """Entries of some rows; 0 where there is none (-1)."""
    taken = matrix[np.ix_(rows, rows)]
    taken[rows < 0, :] = 0.0
    taken[:, rows < 0] = 0.0
    return taken


def _by_tokens(
    path: Path, matrix: Float[np.ndarray, "row row"], content: dict[str, Any], structure: Structure
) -> Float[np.ndarray, "residue residue"]:
    """Rows by the chain and residue that the file names, the mean over those of one residue."""
    chains, numbers = (content[key] for key in _TOKEN_KEYS)
    if not len(chains) == len(numbers) == len(matrix):
        raise InputError(
            f"{path}: expected one of token_chain_ids and token_res_ids for each of the {len(matrix)} rows, found "
            f"{len(chains)} and {len(numbers)}; download it again."
        )
    names = [(str(chain), int(number)) for chain, number in zip(chains, numbers, strict=True)]
    place = {name: row for row, name in enumerate(dict.fromkeys(names))}
    owner = np.array([place[name] for name in names])
    count = np.bincount(owner)
    sums = np.zeros((len(place), len(matrix)))
    np.add.at(sums, owner, matrix)
    mean = np.zeros((len(place), len(place)))
    np.add.at(mean.T, owner, (sums / count[:, None]).T)
    rows = np.array(
        [
            place.get((str(chain), int(number)), -1)
            for chain, number in zip(structure.chain_ids, structure.residue_numbers, strict=True)
        ]
    )
    missing = np.flatnonzero((rows < 0) & (structure.kinds != "ligand"))
    if len(missing):
        raise InputError(
            f"{path} is of another sequence: {len(missing)} of {structure.n_polymer_residues} residues of "
            f"{structure.source} are not in it, first {structure.label(missing[0])}; give the pae_file of this model "
            "(chains and numbers as predicted), or none."
        )
    return _take(mean / count, rows)
