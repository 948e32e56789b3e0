"""Density maps of chosen conformations."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from cryosphere.errors import InputError
from cryosphere.export.ensemble import AllAtoms
from cryosphere.export.selection import Selection
from cryosphere.io.folders import atomic_folder
from cryosphere.io.mrc import write_volume
from cryosphere.physics import gaussians
from cryosphere.physics.atoms import atom_volume, group_scatterers
from cryosphere.progress import Bar
from cryosphere.runs.run import Run

INDEX = "index.csv"
# Å²; a common B factor of well-resolved parts of a map.
ATOM_B_FACTOR = 60.0
# Fewer heavy atoms per residue than this are a trace, not a model with side chains.
_LEAST_ATOMS_PER_RESIDUE = 3.0


def export_volumes(
    run: Run,
    selection: Selection,
    folder: Path | str,
    density: Literal["residues", "atoms"] = "residues",
    overwrite: bool = False,
    show_progress: bool = False,
) -> list[Path]:
    """Write one map per conformation, with the box and pixel size of the particles, and ``index.csv``.

    The headers' origin puts the maps into the frame of the nominal structure's file, where the exported structures
    are: voxel n // 2 is the box centre.

    Parameters
    ----------
    run : Run
    selection : Selection
    folder : path
        Gets ``volume_001.mrc``, ``volume_002.mrc`` … in the order of the selection.
    density : str
        ``"residues"``: one Gaussian per residue, as the model sees it (electrons/Å³). ``"atoms"``: electrostatic
        potential of the heavy atoms in the file with a B factor of 60 Å² (exact Fourier sums), seams closed.
    overwrite : bool
        Whether a folder that an earlier export made may be replaced.
    show_progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of Path
        Maps, then the index.

    Raises
    ------
    InputError
        The folder exists, or all-atom density is wanted of a Cα trace.
    """
    folder = Path(folder)
    volumes = density_maps(run, selection.latent, density)
    width = max(3, len(str(selection.n_conformations)))
    names = [f"volume_{number:0{width}d}.mrc" for number in range(1, selection.n_conformations + 1)]
    origin = map_origin(run)
    with atomic_folder(folder, marker=INDEX, overwrite=overwrite) as temporary:
        bar = Bar(volumes, total=len(names), desc="volumes", unit="map", disable=not show_progress)
        for name, volume in zip(names, bar, strict=True):
            write_volume(temporary / name, volume, run.table.pixel_size, origin)
        write_index(temporary / INDEX, names, selection)
    return [*(folder / name for name in names), folder / INDEX]


def map_origin(run: Run) -> Float[np.ndarray, " 3"]:
    """Place (x, y, z) of the first voxel in the frame of the nominal structure's file, Å."""
    return run.structure.frame_shift - (run.table.box_size // 2) * run.table.pixel_size


def density_maps(
    run: Run, latent: Float[np.ndarray, "conformation latent"], density: Literal["residues", "atoms"]
) -> Iterator[Float[np.ndarray, "z y x"]]:
    """Maps of the conformations at latents, one by one, on the particles' grid; as :func:`export_volumes` says.

    Raises
    ------
    InputError
        At once, if all-atom density is wanted of a Cα trace.
    """
    return _atom_maps(run, latent) if density == "atoms" else _residue_maps(run, latent)


def _residue_maps(run: Run, latents: Float[np.ndarray, "conformation latent"]) -> Iterator[np.ndarray]:
    amplitudes, sigmas = (
        torch.tensor(values, dtype=torch.float32) for values in (run.structure.amplitudes, run.structure.sigmas)
    )
    for latent in latents:
        points = torch.from_numpy(run.decode_sites(latent[None])[0])
        yield gaussians.volume(points, amplitudes, sigmas, run.table.box_size, run.table.pixel_size).numpy()


def _atom_maps(run: Run, latents: Float[np.ndarray, "conformation latent"]) -> Iterator[np.ndarray]:
    atoms = run.structure.atoms
    if atoms.n_atoms < _LEAST_ATOMS_PER_RESIDUE * run.n_residues:
        raise InputError(
            f"{run.structure.source} has only {atoms.n_atoms} atoms for {run.n_residues} residues, too few for an "
            "all-atom map; use --atoms residues."
        )
    scatterers = group_scatterers(atoms.elements, np.full(atoms.n_atoms, ATOM_B_FACTOR))
    return _atom_maps_of(run, latents, scatterers)


def _atom_maps_of(run: Run, latents: np.ndarray, scatterers) -> Iterator[np.ndarray]:
    for positions in AllAtoms(run).at(latents):
        points = torch.tensor(positions, dtype=torch.float32)
        yield atom_volume(points, scatterers, run.table.box_size, run.table.pixel_size).numpy()


def write_index(path: Path, names: list[str], selection: Selection) -> None:
    """Write file, label, input row, population and latent of every conformation."""
    count = selection.n_conformations
    particles = [""] * count if selection.particles is None else selection.particles.tolist()
    populations = [""] * count if selection.populations is None else [f"{p:.6f}" for p in selection.populations]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        latent_dim = selection.latent.shape[1]
        writer.writerow(["file", "name", "particle", "population", *(f"z{i}" for i in range(1, latent_dim + 1))])
        for i, name in enumerate(names):
            latent = [f"{value:.6g}" for value in selection.latent[i]]
            writer.writerow([name, selection.names[i], particles[i], populations[i], *latent])
