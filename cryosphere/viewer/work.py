"""From a selection to work: its particles and conformations as files; no Qt, no napari."""

from __future__ import annotations

import glob
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.errors import InputError
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.image_maps import export_image_maps
from cryosphere.export.particle_selection import choose_rows
from cryosphere.export.particles import export_particles
from cryosphere.export.scene import export_scene
from cryosphere.export.selection import Selection, select_kmeans, select_traversal
from cryosphere.export.state_weights import weigh_particles
from cryosphere.export.volumes import export_volumes
from cryosphere.io.atomic import atomic_output
from cryosphere.io.latent_files import write_latents
from cryosphere.io.particles import is_cryosparc
from cryosphere.io.polygons import write_polygon
from cryosphere.io.row_files import write_rows
from cryosphere.viewer.selections import input_rows
from cryosphere.viewer.session import ChosenParticles, Session

# Files beside an export that keep what was chosen.
_ROWS, _POLYGON, _PATH = "particles.txt", "polygon.csv", "path.csv"
_KEPT = (_ROWS, _POLYGON, _PATH)


@dataclass(frozen=True)
class Option:
    """What can be set of an export.

    Attributes
    ----------
    key, label, tip : str
    default : bool, int or str
        Of the kind of value that is wanted; text where a file may be named.
    choices : tuple of (str, str)
        Values and what people read, where it is a choice.
    only_for : tuple of str
        Values of ``conformations`` that it is for; empty: always.
    """

    key: str
    label: str
    tip: str
    default: bool | int | str
    choices: tuple[tuple[str, str], ...] = ()
    only_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """What an export wrote, what is to be said of it, and the command that writes the same."""

    files: tuple[Path, ...]
    lines: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Kind:
    """A kind of export: ``suffixes`` of its file (none: it is a folder), options, and the function that does it."""

    key: str
    label: str
    tip: str
    suffixes: tuple[str, ...]
    options: tuple[Option, ...]
    export: Callable[[Session, ChosenParticles | None, Path, Mapping[str, Any], bool], Written]


def suffixes(session: Session, kind: Kind) -> tuple[str, ...]:
    """Suffixes that a kind's file may have in this run, none for a folder."""
    return (".cs",) if kind.key == "particles" and is_cryosparc(session.run.table.source) else kind.suffixes


def export_selection(
    session: Session,
    selection: ChosenParticles | None,
    kind: str,
    path: Path,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Written:
    """Write a selection (None: all particles) as files of a kind.

    Beside them ``….particles.txt``, ``….polygon.csv`` or ``….path.csv`` keeps what was chosen, for the command.

    Parameters
    ----------
    session : Session
    selection : ChosenParticles, optional
    kind : str
        A key of :data:`KINDS`.
    path : path
        File or folder.
    options : mapping of str to value, optional
        Of the kind's options those that differ from the defaults.
    overwrite : bool
        Whether what an earlier export made may be replaced.

    Raises
    ------
    CryosphereError
        The files exist, or the export cannot be made.
    """
    chosen = KINDS[kind]
    settings = {option.key: option.default for option in chosen.options} | dict(options or {})
    unknown = settings.keys() - {option.key for option in chosen.options}
    if unknown:
        raise ValueError(f"{kind} has no option {min(unknown)}")
    there = in_the_way(path)
    if there and not overwrite:
        raise InputError(f"{there[0]} exists and is kept; choose another name.")
    written = chosen.export(session, selection, path, settings, overwrite)
    for ending in _KEPT:  # what an earlier export was of is not what this one is of
        kept = path.with_name(f"{path.name}.{ending}")
        if kept in there and kept not in written.files:
            kept.unlink()
    return written


def in_the_way(path: Path) -> list[Path]:
    """What is there already of the files that an export to a path may write."""
    names = [path.name, *(f"{path.name}.{ending}" for ending in _KEPT)]
    if path.suffix == ".cs":
        names += [
            f"{path.stem}.csg",
            *(file.name for file in path.parent.glob(f"{glob.escape(path.stem)}_passthrough*.cs")),
        ]
    if path.suffix in (".dcd", ".xtc"):
        names.append(f"{path.stem}.cif")
    return [path.with_name(name) for name in names if path.with_name(name).exists()]


class _Kept:
    """A file beside an export that keeps what was chosen, written once the export is."""

    def __init__(self, path: Path, ending: str, overwrite: bool) -> None:
        self.path, self._overwrite = path.with_name(f"{path.name}.{ending}"), overwrite

    def write(self, writer: Callable[..., None], *values: Any) -> None:
        with atomic_output(self.path, overwrite=self._overwrite) as temporary:
            writer(temporary, *values)


def _command(session: Session, kind: str, arguments: Sequence[str | Path], path: Path) -> str:
    return shlex.join(["cryosphere", "export", str(session.run.folder), kind, *map(str, arguments), "-o", str(path)])


def _is_drawn(session: Session, selection: ChosenParticles) -> bool:
    """Whether the polygon alone, read from a file, chooses these very particles."""
    if selection.polygon is None or selection.axes is None:
        return False
    axes = ",".join(selection.axes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "polygon.csv"
        write_polygon(file, selection.polygon, axes)
        try:
            found = choose_rows(session.columns, polygon=file, axes=axes)
        except InputError:
            return False
    return np.array_equal(found.chosen, selection.chosen)


def _particles(session: Session, selection: ChosenParticles | None, path: Path, options, overwrite: bool) -> Written:
    """``export_particles`` of the selection's rows."""
    run, rows = session.run, input_rows(session, selection)
    is_drawn = selection is not None and _is_drawn(session, selection)
    kept = None if selection is None else _Kept(path, _POLYGON if is_drawn else _ROWS, overwrite)
    ways: dict[str, Any] = {} if selection is None else {"particles": rows}
    file = options["input_file"] or None
    summary = export_particles(
        run,
        path,
        extra_columns=options["columns"],
        overwrite=overwrite,
        input_file=file,
        shared_images=options["shared_images"],
        **ways,
    )
    arguments: list[str | Path] = []
    if is_drawn:
        axes = ",".join(selection.axes)
        kept.write(write_polygon, selection.polygon, axes)
        arguments += ["--polygon", kept.path, "--axes", axes]
    elif kept is not None:
        kept.write(write_rows, rows, run.table.source.name)
        arguments += ["--particles", kept.path]
    arguments += ["--columns"] if options["columns"] else []
    arguments += ["--input", file] if file else []
    if options["shared_images"] != "apart":
        arguments += ["--shared-images", options["shared_images"]]
    lines = (summary.lines()[0], *summary.notes)
    files = (*summary.files, *(() if kept is None else (kept.path,)))
    return Written(files, lines, _command(session, "particles", arguments, path))


class _Conformations:
    """Conformations that stand for a selection, or the session's path, and how the command line names them."""

    def __init__(
        self,
        session: Session,
        selection: ChosenParticles | None,
        path: Path,
        options: Mapping[str, Any],
        overwrite: bool,
    ) -> None:
        self._session, how, count = session, options["conformations"], options["n_points"]
        among = None if selection is None else input_rows(session, selection)
        self._rows = None if how == "path" else among
        self._kept: _Kept | None = None
        if how == "path":
            self._kept = _Kept(path, _PATH, overwrite)
            latent = session.path.copy()
            names = tuple(f"point {number}" for number in range(1, len(latent) + 1))
            self.selection, self._arguments = Selection(latent, names), ["--path", self._kept.path]
            return
        if among is not None:
            self._kept = _Kept(path, _ROWS, overwrite)
        if how == "traversal":
            self.selection = select_traversal(session.run, 1, count, among)
            self._arguments = ["--traversal", "1", "--points", str(count)]
        else:
            count = 1 if how == "mean" else count
            self.selection, self._arguments = select_kmeans(session.run, count, among), ["--kmeans", str(count)]
        if self._kept is not None:
            self._arguments += ["--among", self._kept.path]

    def keep(self) -> tuple[tuple[Path, ...], list[str | Path]]:
        """Write what was chosen beside the export; files, and arguments of the command."""
        if self._kept is None:
            return (), self._arguments
        if self._rows is None:
            self._kept.write(write_latents, self.selection.latent)
        else:
            self._kept.write(write_rows, self._rows, self._session.run.table.source.name)
        return (self._kept.path,), self._arguments


def _ensemble(session: Session, selection: ChosenParticles | None, path: Path, options, overwrite: bool) -> Written:
    """``export_ensemble`` of conformations of the selection, or of the path."""
    chosen = _Conformations(session, selection, path, options, overwrite)
    done = export_ensemble(session.run, chosen.selection, path, _WHAT[options["atoms"]], overwrite)
    kept, arguments = chosen.keep()
    arguments = [*arguments, *_atoms_argument(options)]
    return Written((*done.files, *kept), tuple(done.lines()), _command(session, "ensemble", arguments, path))


def _volumes(session: Session, selection: ChosenParticles | None, path: Path, options, overwrite: bool) -> Written:
    """``export_volumes`` of conformations of the selection, or of the path."""
    chosen = _Conformations(session, selection, path, options, overwrite)
    files = export_volumes(session.run, chosen.selection, path, options["density"], overwrite)
    kept, arguments = chosen.keep()
    arguments = [*arguments, *_density_argument(options)]
    return Written((*files, *kept), (), _command(session, "volumes", arguments, path))


def _image_map(session: Session, selection: ChosenParticles | None, path: Path, options, overwrite: bool) -> Written:
    """``export_image_maps`` of the selection as one state."""
    run, rows, kept = session.run, input_rows(session, selection), _Kept(path, _ROWS, overwrite)
    files = export_image_maps(run, weigh_particles(run, rows), path, options["density"], overwrite)
    kept.write(write_rows, rows, run.table.source.name)
    arguments = ["--particles", kept.path, "--from-images", *_density_argument(options)]
    return Written((*files, kept.path), (), _command(session, "volumes", arguments, path))


def _scene(session: Session, selection: ChosenParticles | None, path: Path, options, overwrite: bool) -> Written:
    """``export_scene`` of conformations of the selection, or of the path."""
    chosen = _Conformations(session, selection, path, options, overwrite)
    file, what = options["map_file"] or None, _WHAT[options["atoms"]]
    done = export_scene(session.run, chosen.selection, path, file, options["colour_by"], what, overwrite)
    kept, arguments = chosen.keep()
    arguments = [*arguments, *(["--map", file] if file else []), "--color", options["colour_by"]]
    arguments += _atoms_argument(options)
    return Written((*done.files, *kept), tuple(done.lines()), _command(session, "chimerax", arguments, path))


_WHAT = {"all": "atoms", "ca": "residues"}


def _atoms_argument(options: Mapping[str, Any]) -> list[str]:
    return ["--atoms", "ca"] if options["atoms"] == "ca" else []


def _density_argument(options: Mapping[str, Any]) -> list[str]:
    return ["--atoms", "all"] if options["density"] == "atoms" else []


_CONFORMATIONS = (
    Option(
        "conformations",
        "Conformations",
        "Particles that stand for the selection, or the path that is shown",
        "kmeans",
        (
            ("mean", "its mean"),
            ("kmeans", "spread over it (k-means)"),
            ("traversal", "along its main direction"),
            ("path", "the path that is shown"),
        ),
    ),
    Option("n_points", "How many", "Number of conformations", 5, only_for=("kmeans", "traversal")),
)
_ATOMS = Option(
    "atoms", "Atoms", "All atoms, their seams closed, or one per residue", "all", (("all", "all"), ("ca", "Cα and C1′"))
)
_DENSITY = Option(
    "density",
    "Density",
    "One Gaussian per residue, as the model sees it, or all atoms at B = 60 Å²",
    "residues",
    (("residues", "a Gaussian per residue"), ("atoms", "all atoms")),
)
KINDS = {
    kind.key: kind
    for kind in (
        Kind(
            "particles",
            "Particles for RELION or cryoSPARC",
            "The selected rows of the particle file, every column kept",
            (".star",),
            (
                Option(
                    "columns",
                    "Add latent, state and motions",
                    "Further columns, cryosphere…, with standard deviations",
                    False,
                ),
                Option(
                    "shared_images",
                    "Rows of one image",
                    "After symmetry expansion: by themselves, all of an image with one chosen, or only the first",
                    "apart",
                    (("apart", "by themselves"), ("together", "all together"), ("once", "only the first")),
                ),
                Option("input_file", "Particle file, if moved (--input)", "Where the run's particle file is now", ""),
            ),
            _particles,
        ),
        Kind(
            "ensemble",
            "Structures (ensemble)",
            "Conformations as models of one file, or a trajectory",
            (".cif", ".pdb", ".dcd", ".xtc"),
            (*_CONFORMATIONS, _ATOMS),
            _ensemble,
        ),
        Kind("volumes", "Maps from the model", "Density of conformations", (), (*_CONFORMATIONS, _DENSITY), _volumes),
        Kind(
            "image_map",
            "Map from the images",
            "Reconstruction from the selected particles' images, with half-maps and FSC",
            (),
            (_DENSITY,),
            _image_map,
        ),
        Kind(
            "scene",
            "ChimeraX and PyMOL",
            "A folder with models, a map and scripts that show and play them",
            (),
            (
                *_CONFORMATIONS,
                Option("map_file", "Consensus map", "Shown around the models; leave empty for none", ""),
                Option(
                    "colour_by",
                    "Colours",
                    "Of the residues",
                    "segment",
                    (("segment", "segment"), ("rmsf", "RMSF"), ("plddt", "pLDDT")),
                ),
                _ATOMS,
            ),
            _scene,
        ),
    )
}
