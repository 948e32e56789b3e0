"""Maps that come from the images of every state, as files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from cryosphere.export.state_weights import StateWeights
from cryosphere.export.volumes import INDEX, density_maps, map_origin
from cryosphere.io.folders import atomic_folder
from cryosphere.io.mrc import write_volume
from cryosphere.reconstruction.half_maps import MODEL_THRESHOLD, StateMap, backproject_states, masked_correlation
from cryosphere.runs.run import Run


def reconstruct_states(
    run: Run,
    states: StateWeights,
    density: Literal["residues", "atoms"] = "residues",
    show_progress: bool = False,
) -> Iterator[StateMap]:
    """Maps of states from their images, compared with the states' models: ``backproject_states`` and ``fsc_model``.

    Parameters
    ----------
    run : Run
    states : StateWeights
    density : str
        What a model map is made of, as for ``export_volumes``.
    show_progress : bool
        Show a progress bar on stderr.
    """
    models = density_maps(run, states.latent, density)
    maps = backproject_states(run, states.weights, states.names, show_progress)
    for found, model in zip(maps, models, strict=True):
        yield replace(found, fsc_model=masked_correlation(run, found.unweighed, model))


def export_image_maps(
    run: Run,
    states: StateWeights,
    folder: Path | str,
    density: Literal["residues", "atoms"] = "residues",
    overwrite: bool = False,
    show_progress: bool = False,
) -> list[Path]:
    """Write a map of every state from its images, its half-maps and correlations, and ``index.csv``.

    Maps lie in the frame of the nominal structure's file, as those of ``export_volumes``.

    Parameters
    ----------
    run : Run
    states : StateWeights
    folder : path
        Gets ``state_01.mrc`` (Wiener-weighed), ``state_01_half1.mrc`` and ``state_01_half2.mrc`` (not weighed),
        ``state_01_fsc.csv`` …
    density : str
        What the maps of the models are made of.
    overwrite : bool
        Whether a folder that an earlier export made may be replaced.
    show_progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of Path
        Maps and correlations, then the index.

    Raises
    ------
    InputError
        The folder exists, or a state has too few particles.
    RunError
        Image stacks are missing.
    """
    folder, width = Path(folder), max(2, len(str(len(states.names))))
    names = [f"state_{number:0{width}d}" for number in range(1, len(states.names) + 1)]
    shares, origin, files, rows = states.weights.mean(1), map_origin(run), [], []
    with atomic_folder(folder, marker=INDEX, overwrite=overwrite) as temporary:
        for number, found in enumerate(reconstruct_states(run, states, density, show_progress)):
            name = names[number]
            volumes = {name: found.volume, **{f"{name}_half{i}": half for i, half in enumerate(found.half_maps, 1)}}
            for volume_name, volume in volumes.items():
                write_volume(temporary / f"{volume_name}.mrc", volume, run.table.pixel_size, origin)
            _write_curves(temporary / f"{name}_fsc.csv", found)
            files += [*(f"{volume_name}.mrc" for volume_name in volumes), f"{name}_fsc.csv"]
            rows.append([f"{name}.mrc", states.names[number], f"{shares[number]:.6f}", *_figures(found)])
            rows[-1] += [f"{value:.6g}" for value in states.latent[number]]
        _write_table(temporary / INDEX, _index_columns(run.latent_dim), rows)
    return [*(folder / file for file in files), folder / INDEX]


def _figures(found: StateMap) -> list[str]:
    resolutions = found.resolution(), found.resolution(MODEL_THRESHOLD), found.model_resolution
    return [*(f"{weight:.1f}" for weight in found.half_weights), *(f"{value:.3f}" for value in resolutions)]


def _index_columns(latent_dim: int) -> list[str]:
    figures = ["particles_half1", "particles_half2", "resolution_0.143", "resolution_0.5", "model_resolution_0.5"]
    return ["file", "name", "mean_weight", *figures, *(f"z{i}" for i in range(1, latent_dim + 1))]


def _write_curves(path: Path, found: StateMap) -> None:
    """Frequency (Å⁻¹), resolution (Å) and every correlation."""
    frequency = found.frequency
    resolution = np.divide(1, frequency, out=np.full_like(frequency, np.inf), where=frequency > 0)
    columns = [frequency, resolution, found.fsc, found.fsc_unmasked, found.fsc_model]
    rows = [[f"{value:.6g}" for value in row] for row in zip(*columns, strict=True)]
    _write_table(path, ["frequency", "resolution", "fsc", "fsc_unmasked", "fsc_model"], rows)


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows])
