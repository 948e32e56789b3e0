"""AlphaFold's predicted aligned error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryosphere.errors import InputError

_KEYS = ("predicted_aligned_error", "pae")


def read_predicted_error(path: Path, n_residues: int) -> Float[np.ndarray, "residue residue"]:
    """Read a predicted aligned error as AlphaFold DB, ColabFold (``pae``) and AlphaFold 3 servers write it.

    Parameters
    ----------
    path : Path
        JSON file: an object, or a list with one, that holds the matrix as ``predicted_aligned_error`` or ``pae``.
    n_residues : int
        Residues of the structure it belongs to, in the same order.

    Returns
    -------
    float64 array of shape (residue, residue)
        Å.

    Raises
    ------
    InputError
        The file is not of this form, or of another number of residues.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}).") from None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    found = next((content[key] for key in _KEYS if isinstance(content, dict) and key in content), None)
    try:
        matrix = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.ndim != 2:
        raise InputError(f"{path}: expected a matrix under 'predicted_aligned_error' or 'pae', found none.")
    if matrix.shape != (n_residues, n_residues) or not np.isfinite(matrix).all():
        raise InputError(
            f"{path}: expected a finite matrix of {n_residues} × {n_residues}, one row per residue of the nominal "
            f"structure, found {' × '.join(map(str, matrix.shape))}."
        )
    return matrix
