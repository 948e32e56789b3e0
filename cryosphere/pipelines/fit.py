"""``fit``: read a structure and a map, place one in the other, write what was found and how to look at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output, check_output
from cryosphere.io.mrc import DensityMap, read_volume, write_volume
from cryosphere.io.pae import read_predicted_error
from cryosphere.io.structure_moving import RigidMotions, check_output_holds, check_structure_suffix, write_moved
from cryosphere.io.structures import read_structure
from cryosphere.placement.contour import surface_level
from cryosphere.placement.density import mirrored_map, on_grid_of
from cryosphere.placement.fitting import Fit, fit_structure
from cryosphere.placement.report import as_dict, sentences
from cryosphere.records import Structure
from cryosphere.structure.contacts import contact_graph, divide_with_ligands
from cryosphere.structure.ligands import find_hosts

# Fewer residues than this are no domain.
_LEAST_RESIDUES = 20


@dataclass(frozen=True)
class FitResult:
    """What ``fit`` found and the files it wrote."""

    fit: Fit
    structure: Path
    model_map: Path
    picture: Path
    script: Path
    mirrored_map: Path | None

    @property
    def files(self) -> list[Path]:
        """Everything written."""
        paths = [self.structure, self.model_map, self.picture, self.script]
        return [*paths, self.mirrored_map] if self.mirrored_map else paths

    def lines(self) -> list[str]:
        """Sentences for the user."""
        return sentences(self.fit)

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {**as_dict(self.fit), "files": [str(path) for path in self.files]}


def fit(
    structure: Path | str,
    map_file: Path | str,
    output: Path | str,
    *,
    domains: int | None = None,
    pae_file: Path | str | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> FitResult:
    """Place a structure in a map, in the map's frame, and write it with a simulated map, a picture and a script.

    Parameters
    ----------
    structure : path
        PDB or mmCIF; it may lie anywhere.
    map_file : path
        MRC; the header's origin or start indices and axis order count.
    output : path
        ``.cif`` or ``.pdb``: the placed structure. Beside it come ``_model.mrc`` (the structure as the map would
        show it, on the map's grid), ``.png``, ``.cxc`` (ChimeraX) and, if the map is mirrored,
        ``_mirrored_map.mrc``, in which the structure then lies.
    domains : int, optional
        Cut the structure into so many domains where little holds it together, and refine each as a rigid body.
    pae_file : path, optional
        AlphaFold's predicted aligned error, which then counts where domains are cut.
    overwrite : bool
        Whether existing files may be replaced.
    show_progress : bool
        Progress bar on stderr.
    say : callable
        Receives each sentence on what is being done.

    Raises
    ------
    InputError
        An input cannot be used, the structure finds no place in the map, or an output exists.
    """
    structure, map_file, output = Path(structure), Path(map_file), Path(output)
    outputs = _outputs(structure, map_file, output, overwrite)
    nominal, density = read_structure(structure), read_volume(map_file)
    check_output_holds(structure, output)
    for note in nominal.notes:
        say(note)
    labels = _domains(nominal, domains, pae_file)
    found = fit_structure(nominal, density, str(map_file), labels, show_progress, say)
    result = FitResult(found, **outputs, mirrored_map=_mirrored_name(output) if found.is_mirrored else None)
    motions = _motions(found, labels, nominal)
    write_moved(structure, result.structure, nominal, motions, overwrite)
    model = on_grid_of(density, found.agreement.simulated)
    write_volume(result.model_map, model, density.pixel_size, density.origin, overwrite=overwrite)
    if result.mirrored_map:
        mirrored = mirrored_map(density)
        write_volume(result.mirrored_map, mirrored, density.pixel_size, density.origin, overwrite=overwrite)
    elif overwrite:
        _mirrored_name(output).unlink(missing_ok=True)  # of an earlier fit
    _draw(result, nominal, motions, overwrite)
    _write_script(result, result.mirrored_map or map_file, density, motions, nominal, overwrite)
    return result


def _outputs(structure: Path, map_file: Path, output: Path, overwrite: bool) -> dict[str, Path]:
    """Names of the files to write, checked before anything is computed."""
    check_structure_suffix(output)
    names = {
        "structure": output,
        "model_map": output.with_name(f"{output.stem}_model.mrc"),
        "picture": output.with_suffix(".png"),
        "script": output.with_suffix(".cxc"),
    }
    for path in (*names.values(), _mirrored_name(output)):
        if any(
            source.exists() and path.exists() and os.path.samefile(source, path) for source in (structure, map_file)
        ):
            raise InputError(f"{path} is an input and would be replaced; choose another name.")
        check_output(path, overwrite=overwrite)
    return names


def _mirrored_name(output: Path) -> Path:
    return output.with_name(f"{output.stem}_mirrored_map.mrc")


def _domains(structure: Structure, count: int | None, pae_file: Path | str | None) -> np.ndarray | None:
    """Domain of every residue, or None for one rigid body."""
    if count is None:
        if pae_file is not None:
            raise InputError(f"{pae_file} is only used to cut domains; say how many with --domains.")
        return None
    error = None if pae_file is None else read_predicted_error(Path(pae_file), structure)
    graph = contact_graph(structure.residue_positions, structure.bonded, error)
    labels = divide_with_ligands(graph, find_hosts(structure), count, _LEAST_RESIDUES)
    if labels.max() + 1 < count:
        raise InputError(
            f"{structure.source} cannot be cut into {count} domains of at least {_LEAST_RESIDUES} residues; "
            f"at most {labels.max() + 1} come out, so give --domains {labels.max() + 1} or fewer."
        )
    return labels


def _motions(fit: Fit, labels: np.ndarray | None, structure: Structure) -> RigidMotions:
    """From the file's frame to the map's: one motion for all residues, or one for each domain."""
    if fit.domains is None or labels is None:
        return RigidMotions(fit.rotmat[None], fit.translation[None], np.zeros(structure.n_residues, dtype=np.int64))
    turn = fit.domains.rotmat.double().numpy()
    pivot = fit.domains.centre.double().numpy() + fit.grid.centre
    shift = fit.domains.shift.double().numpy()
    translation = np.einsum("dij,dj->di", turn, fit.translation - pivot) + pivot + shift
    return RigidMotions(turn @ fit.rotmat, translation, labels)


def _placed(positions: np.ndarray, motions: RigidMotions, rows: np.ndarray) -> np.ndarray:
    """Positions in the map's frame of points that belong to residues."""
    moved = motions.of_residue[rows]
    return np.einsum("pij,pj->pi", motions.rotmat[moved], positions) + motions.translation[moved]


def _draw(result: FitResult, structure: Structure, motions: RigidMotions, overwrite: bool) -> None:
    from cryosphere.analysis.placement_picture import draw

    placed = _placed(structure.residue_positions, motions, np.arange(structure.n_residues))
    draw(result.picture, result.fit, placed - result.fit.grid.centre, overwrite)


def _write_script(
    result: FitResult,
    map_file: Path,
    density: DensityMap,
    motions: RigidMotions,
    structure: Structure,
    overwrite: bool,
) -> None:
    """ChimeraX commands that show map and placed structure; names are relative to the script."""
    volume = mirrored_map(density) if result.mirrored_map else density.volume
    placed = _placed(structure.residue_positions, motions, np.arange(structure.n_residues))
    level = surface_level(replace(density, volume=volume), placed)
    level = float(volume.std()) if level is None else level
    folder = result.script.resolve().parent
    names = [os.path.relpath(path.resolve(), folder) for path in (map_file, result.structure, result.model_map)]
    lines = [
        "# ChimeraX: open this file to see the placed structure in its map.",
        *(f'open "{name}"' for name in names),
        f"volume #1 style surface level {level:.6g} color #99999980 step 1",
        "volume #3 hide",
        "hide #2 atoms",
        "cartoon #2",
        "color #2 bychain",
        "view",
    ]
    with atomic_output(result.script, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
