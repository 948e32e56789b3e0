"""Fourier shell correlation of every image's volume with its true one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from cryosphere.errors import InputError
from cryosphere.evaluation import metrics
from cryosphere.inference.ensemble import spread_rows
from cryosphere.io.mrc import read_volume
from cryosphere.physics import gaussians
from cryosphere.runs.run import Run
from cryosphere.simulation.truth import Truth

# Transforms of true volumes kept at hand (16 MB each at 128 voxels).
_KEPT = 8
_PIXEL_SIZE_TOLERANCE = 0.01


def score_volumes(
    run: Run, truth: Truth, mean_structure: Float[np.ndarray, "residue 3"], n_images: int, show_progress: bool
) -> dict[str, Any]:
    """FSC area (METHOD section 4) of the volumes decoded at the latents of evenly spread images.

    True volumes are the truth folder's where it has some (then only images of these states are taken), else Gaussians
    at the true coordinates. The nominal structure and the mean of the truth are scored against the same volumes.
    """
    rows = _scored_rows(run, truth, n_images)
    states = truth.state[run.posterior.index[rows]]
    order = np.argsort(states, kind="stable")
    rows, states = rows[order], states[order]
    shells = metrics.shell_index(run.table.box_size)

    @lru_cache(maxsize=_KEPT)
    def true_volume(state: int) -> np.ndarray:
        return metrics.fourier_volume(_true_volume(run, truth, state))

    def area(volume: np.ndarray, state: int) -> float:
        curve = metrics.fourier_shell_correlation(volume, true_volume(state), shells)
        return metrics.fsc_area(curve, run.table.box_size)

    decode = run.decode_sites if truth.volumes else run.decode
    nominal = run.nominal_sites if truth.volumes else run.structure.residue_positions
    singles = {
        "nominal": metrics.fourier_volume(_gaussian_volume(run, nominal)),
        "best_single": metrics.fourier_volume(_gaussian_volume(run, mean_structure)),
    }
    areas: dict[str, list[float]] = {"run": [], "nominal": [], "best_single": []}
    progress = tqdm(rows, desc="volumes", unit="image", disable=not show_progress)
    for row, state in zip(progress, states.tolist(), strict=True):
        decoded = decode(run.posterior.mean[row : row + 1])[0]
        areas["run"].append(area(metrics.fourier_volume(_gaussian_volume(run, decoded)), state))
        for name, volume in singles.items():
            areas[name].append(area(volume, state))
    half = run.table.box_size // 2
    return {
        "mean": float(np.mean(areas["run"])),
        "std": float(np.std(areas["run"])),
        "median": float(np.median(areas["run"])),
        "nominal": float(np.mean(areas["nominal"])),
        "best_single": float(np.mean(areas["best_single"])),
        "maximum": metrics.fsc_area(np.ones(half), run.table.box_size),
        "n_images": len(rows),
        "truth_volumes": _describe(truth),
    }


def _scored_rows(run: Run, truth: Truth, n_images: int) -> Int[np.ndarray, " image"]:
    """Rows of the posterior, evenly spread over the images whose state has a true volume."""
    states = truth.state[run.posterior.index]
    candidates = np.arange(len(states))
    if truth.volumes:
        candidates = np.flatnonzero(np.isin(states, list(truth.volumes)))
        if not len(candidates):
            raise InputError(
                f"{next(iter(truth.volumes.values())).parent} has volumes, but no particle is in a state that has one; "
                "add volumes of states that occur, or remove the folder."
            )
    return candidates[spread_rows(len(candidates), n_images)]


def _true_volume(run: Run, truth: Truth, state: int) -> Float[np.ndarray, "z y x"]:
    if not truth.volumes:
        return _gaussian_volume(run, truth.coordinates[state])
    path = truth.volumes[state]
    found = read_volume(path)
    box_size, pixel_size = run.table.box_size, run.table.pixel_size
    if found.volume.shape != (box_size,) * 3 or abs(found.pixel_size / pixel_size - 1) > _PIXEL_SIZE_TOLERANCE:
        raise InputError(
            f"{path} has {' x '.join(map(str, found.volume.shape))} voxels of {found.pixel_size:.4g} Å, the particles "
            f"{box_size} of {pixel_size:.4g} Å; write the volumes with the particles' box and pixel size."
        )
    return found.volume


def _gaussian_volume(run: Run, positions: Float[np.ndarray, "residue 3"]) -> Float[np.ndarray, "z y x"]:
    values = (positions, run.structure.amplitudes, run.structure.sigmas)
    tensors = (torch.tensor(value, dtype=torch.float32) for value in values)
    return gaussians.volume(*tensors, run.table.box_size, run.table.pixel_size).numpy()


def _describe(truth: Truth) -> str:
    if not truth.volumes:
        return "one Gaussian per residue at the true coordinates (the truth folder has no volumes)"
    return f"the truth folder's, of {len(truth.volumes)} of {len(truth.coordinates)} states"
