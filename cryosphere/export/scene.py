"""A folder that opens in ChimeraX and PyMOL: an ensemble over the consensus map, coloured, with a movie."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryosphere.errors import InputError
from cryosphere.export.ensemble import AllAtoms, moved_positions, seam_lines, with_progress
from cryosphere.export.residue_colours import ColourBy, residue_colours
from cryosphere.export.scripts import Scene, chimerax_commands, pymol_commands
from cryosphere.export.selection import Selection
from cryosphere.io.folders import atomic_folder
from cryosphere.io.mrc import read_volume
from cryosphere.io.structures import write_models
from cryosphere.placement.contour import surface_level
from cryosphere.runs.run import Run
from cryosphere.structure.seams import Seams

CHIMERAX, PYMOL = "scene.cxc", "scene.pml"
_MODELS, _MAP = "models.cif", "consensus.mrc"


@dataclass(frozen=True)
class SceneFolder:
    """The files of a scene, and what closing the seams did in each model."""

    files: tuple[Path, ...]
    seams: tuple[Seams, ...]

    def lines(self) -> list[str]:
        """What was done, for people."""
        return seam_lines(self.seams)


def export_scene(
    run: Run,
    selection: Selection,
    folder: Path | str,
    map_file: Path | str | None = None,
    colour_by: ColourBy = "segment",
    what: Literal["atoms", "residues"] = "atoms",
    overwrite: bool = False,
    show_progress: bool = False,
) -> SceneFolder:
    """Write ``models.cif``, a copy of the map, and scripts for ChimeraX (``scene.cxc``) and PyMOL (``scene.pml``).

    The scripts draw the models over the map in colours by residue and play a movie through them and back: ChimeraX
    morphs from each to the next, PyMOL steps. The numbers that colours stand for are the B factors of ``models.cif``.

    Parameters
    ----------
    run : Run
    selection : Selection
    folder : path
    map_file : path, optional
        The consensus map, in the frame of the nominal structure's file.
    colour_by, what : str
        As of :func:`residue_colours` and :func:`export_ensemble`.
    overwrite : bool
        Whether a folder that an earlier export made may be replaced.
    show_progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        The folder exists, the map cannot be read or lies elsewhere, or the structure has no pLDDT.
    """
    folder = Path(folder)
    level = None if map_file is None else _level(run, Path(map_file))
    colours = residue_colours(run, colour_by)
    count = selection.n_conformations
    scene = Scene(
        models=_MODELS,
        n_models=count,
        colours=colours,
        is_trace=what == "residues" or run.structure.atoms.n_atoms == run.n_residues,
        has_ligands=run.structure.n_polymer_residues < run.n_residues,
        map=None if map_file is None else _MAP,
        level=level,
    )
    atoms = AllAtoms(run) if what == "atoms" else None
    frames = moved_positions(run, selection.latent, what) if atoms is None else atoms.at(selection.latent)
    with atomic_folder(folder, marker=CHIMERAX, overwrite=overwrite) as temporary:
        write_models(
            temporary / _MODELS,
            colours.marked(run.structure),
            with_progress(frames, count, show_progress),
            what=what,
            model_names=selection.names,
            populations=selection.populations,
            population_stds=selection.population_stds,
        )
        if map_file is not None:
            shutil.copyfile(map_file, temporary / _MAP)
        for name, lines in ((CHIMERAX, chimerax_commands(scene)), (PYMOL, pymol_commands(scene))):
            (temporary / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [_MODELS, *([] if map_file is None else [_MAP]), CHIMERAX, PYMOL]
    return SceneFolder(tuple(folder / name for name in names), () if atoms is None else tuple(atoms.seams))


def _level(run: Run, map_file: Path) -> float:
    """Level of the map's surface; a map in which no residue lies is refused."""
    structure = run.structure
    level = surface_level(read_volume(map_file), structure.residue_positions + structure.frame_shift)
    if level is None:
        raise InputError(
            f"{map_file}: no residue of {structure.source} lies in this map; give the map that the structure was "
            "placed in."
        )
    return level
