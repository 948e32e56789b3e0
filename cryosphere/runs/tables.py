"""Particle tables and posteriors as npz files of a run folder."""

from __future__ import annotations

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
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = np.array([str(item) for item in value], dtype=np.str_)
        arrays[field.name] = np.asarray(value)
    with atomic_output(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_table(path: Path) -> ParticleTable:
    """Read what :func:`save_table` wrote; the stacks need not exist any more."""
    values = _load(path)
    values["source"] = Path(str(values["source"]))
    values["stack_paths"] = tuple(Path(item) for item in values["stack_paths"].tolist())
    values["optics_group_names"] = tuple(values["optics_group_names"].tolist())
    values["notes"] = tuple(values["notes"].tolist())
    values["box_size"] = int(values["box_size"])
    values["pixel_size"] = float(values["pixel_size"])
    return ParticleTable(**values)


def save_posterior(path: Path, posterior: Posterior) -> None:
    """Write a posterior with the marginal standard deviations beside the covariance."""
    with atomic_output(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            index=posterior.index,
            mean=posterior.mean,
            std=posterior.std,
            covariance=posterior.covariance,
            effective_sample_size=posterior.effective_sample_size,
        )


def load_posterior(path: Path) -> Posterior:
    """Read what :func:`save_posterior` wrote."""
    values = _load(path)
    return Posterior(**{field.name: values[field.name] for field in fields(Posterior)})


def _load(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the run folder is incomplete.") from None
    except (ValueError, OSError, BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}).") from None
