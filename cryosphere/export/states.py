"""A folder for every chosen conformation: its model, its map, and the particles that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from cryosphere.export.ensemble import AllAtoms, moved_positions, seam_lines
from cryosphere.export.selection import Selection
from cryosphere.export.volumes import density_maps, map_origin, write_index
from cryosphere.io.folders import atomic_folder
from cryosphere.io.mrc import write_volume
from cryosphere.io.row_files import write_rows
from cryosphere.io.structures import write_models
from cryosphere.progress import Bar
from cryosphere.runs.run import Run
from cryosphere.structure.seams import Seams

INDEX = "index.csv"
MODEL, MAP, PARTICLES = "model.cif", "map.mrc", "particles.txt"
# Distances of latents held at once.
_VALUES_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class StateFolders:
    """The folders of the states, how many particles each has, and what closing the seams did in each model."""

    folders: tuple[Path, ...]
    n_particles: tuple[int, ...]
    seams: tuple[Seams, ...]

    def lines(self) -> list[str]:
        """What was written, for people."""
        counts = zip(self.folders, self.n_particles, strict=True)
        return [*(f"{folder}: {count:,} particles" for folder, count in counts), *seam_lines(self.seams)]


def export_states(
    run: Run,
    selection: Selection,
    folder: Path | str,
    what: Literal["atoms", "residues"] = "atoms",
    density: Literal["residues", "atoms"] = "residues",
    overwrite: bool = False,
    show_progress: bool = False,
) -> StateFolders:
    """Write ``state_01``, ``state_02`` … with ``model.cif``, ``map.mrc`` and ``particles.txt``, and ``index.csv``.

    Parameters
    ----------
    run : Run
    selection : Selection
        One folder per conformation. Particles are those of its ``membership``, or else go to the conformation whose
        latent is nearest to their posterior mean.
    folder : path
    what : str
        The models: ``"atoms"``, their seams closed, or ``"residues"`` for Cα and C1′.
    density : str
        The maps, as of :func:`cryosphere.export.volumes.export_volumes`.
    overwrite : bool
        Whether a folder that an earlier export made may be replaced.
    show_progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        The folder exists, or all-atom density is wanted of a Cα trace.
    """
    folder = Path(folder)
    volumes = density_maps(run, selection.latent, density)
    membership = nearest_conformation(run, selection) if selection.membership is None else selection.membership
    atoms = AllAtoms(run) if what == "atoms" else None
    frames = moved_positions(run, selection.latent, what) if atoms is None else atoms.at(selection.latent)
    count = selection.n_conformations
    width = max(2, len(str(count)))
    names = [f"state_{number:0{width}d}" for number in range(1, count + 1)]
    members = [run.posterior.index[membership == number] for number in range(count)]
    with atomic_folder(folder, marker=INDEX, overwrite=overwrite) as temporary:
        bar = Bar(names, desc="states", unit="state", disable=not show_progress)
        for number, (name, positions, volume) in enumerate(zip(bar, frames, volumes, strict=True)):
            own = temporary / name
            own.mkdir()
            one = slice(number, number + 1)
            write_models(
                own / MODEL,
                run.structure,
                positions[None],
                what=what,
                model_names=selection.names[one],
                populations=None if selection.populations is None else selection.populations[one],
                population_stds=None if selection.population_stds is None else selection.population_stds[one],
            )
            write_volume(own / MAP, volume, run.table.pixel_size, map_origin(run))
            write_rows(own / PARTICLES, members[number], run.table.source.name)
        write_index(temporary / INDEX, names, selection)
    seams = () if atoms is None else tuple(atoms.seams)
    return StateFolders(tuple(folder / name for name in names), tuple(map(len, members)), seams)


def nearest_conformation(run: Run, selection: Selection) -> Int[np.ndarray, " particle"]:
    """For every row of the posterior the conformation whose latent is nearest to its mean."""
    means = run.posterior.mean.astype(np.float64)
    nearest = np.empty(len(means), dtype=np.int64)
    size = max(1, _VALUES_PER_CHUNK // max(1, selection.latent.size))
    for start in range(0, len(means), size):
        step = means[start : start + size, None] - selection.latent
        nearest[start : start + size] = np.square(step).sum(-1).argmin(1)
    return nearest
