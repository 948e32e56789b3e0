"""Particle tables, posteriors and metrics as files of a run folder."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cryosphere.errors import RunError
from cryosphere.io.atomic import atomic_output
from cryosphere.records import ParticleTable, Posterior


def save_table(path: Path, table: ParticleTable) -> None:
    """Write every field of a particle table."""
    arrays = {}
    for field in fields(table):
        value = getattr(table, field.name)
        if value is None:
            continue
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = np.array([str(item) for item in value], dtype=np.str_)
        arrays[field.name] = np.asarray(value)
    with atomic_output(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_table(path: Path) -> ParticleTable:
    """Read what :func:`save_table` wrote; the stacks need not exist any more."""
    values = _load(path)
    values["source"] = Path(str(values["source"]))
    values["stack_paths"] = tuple(Path(item) for item in values["stack_paths"].tolist())
    values["optics_group_names"] = tuple(values["optics_group_names"].tolist())
    values["notes"] = tuple(values["notes"].tolist())
    values["box_size"] = int(values["box_size"])
    values["pixel_size"] = float(values["pixel_size"])
    if "n_input" in values:
        values["n_input"] = int(values["n_input"])
    return ParticleTable(**values)


def save_posterior(path: Path, posterior: Posterior, weights: str) -> None:
    """Write a posterior, the marginal standard deviations, and the ``weights`` (a hash) of the model it is of."""
    with atomic_output(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        arrays = {field.name: getattr(posterior, field.name) for field in fields(posterior)}
        np.savez(file, **arrays, std=posterior.std, weights=np.array(weights))


def load_posterior(path: Path) -> tuple[Posterior, str]:
    """Read what :func:`save_posterior` wrote: the posterior, and the hash of the weights it belongs to."""
    values = _load(path)
    try:
        return Posterior(**{field.name: values[field.name] for field in fields(Posterior)}), str(values["weights"])
    except KeyError as error:
        raise RunError(f"{path}: has no array {error}; delete the file and it is computed again.") from None


def read_metrics(path: Path) -> list[dict]:
    """Records of a metrics file; a line cut short by a kill ends them."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records


def _load(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the run folder is incomplete.") from None
    except (ValueError, OSError, BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}).") from None
