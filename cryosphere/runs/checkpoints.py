"""Checkpoints and the fingerprint that ties them to their inputs."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryosphere.errors import RunError
from cryosphere.io.atomic import atomic_output
from cryosphere.particles.sources import sampled_pixels
from cryosphere.records import ParticleTable

# Of run folders; goes up where an older program would misread one.
FORMAT = 1


def input_fingerprint(table: ParticleTable, structure_file: Path) -> str:
    """SHA-256 over the particle table's values, the structure file, and the pixels of some evenly spread images.

    Folders do not enter, so a data set may move.
    """
    digest = hashlib.sha256()
    for name, value in vars(table).items():
        if isinstance(value, np.ndarray):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    digest.update(f"{table.box_size} {table.pixel_size:.6f}".encode())
    for path in table.stack_paths:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    digest.update(sampled_pixels(table))
    digest.update(Path(structure_file).read_bytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, complete or not at all."""
    path.parent.mkdir(exist_ok=True)
    with atomic_output(path, overwrite=True) as temporary:
        torch.save({**state, "format": FORMAT}, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without executing anything from it.

    Raises
    ------
    RunError
        The file is absent, damaged, holds more than tensors and plain values, or is a newer program's.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path}: no such checkpoint; was this run ever trained?") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path}: not a readable checkpoint ({reason}).") from None
    found = state.get("format", FORMAT) if isinstance(state, dict) else None
    if not isinstance(found, int):
        raise RunError(f"{path}: not a checkpoint of a run.")
    if found > FORMAT:
        raise RunError(
            f"{path}: written by a newer cryoSPHERE (format {found}, this one reads up to {FORMAT}); update cryosphere."
        )
    return state
