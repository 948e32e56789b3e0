"""What a viewer shows of a run: the conformation, the particle, the path, the selections; no Qt, no napari."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from psygnal import Signal

from cryosphere.analysis.columns import has_analysis, known_columns
from cryosphere.analysis.latent import principal_components, traverse
from cryosphere.errors import InputError
from cryosphere.export.particle_selection import RunColumns
from cryosphere.inference.ensemble import hard_segments
from cryosphere.runs.run import Run


@dataclass(frozen=True)
class ChosenParticles:
    """Particles that the user chose.

    Attributes
    ----------
    name : str
        For lists and file names.
    chosen : bool array of shape (particle,)
        In the order of ``run.posterior.index``.
    how : str
        What was done to choose them, for people: ``lasso in pc1, pc2``.
    axes : tuple of two str, optional
    polygon : array of shape (vertex, 2), optional
        The outline in these axes, where one was drawn.
    """

    name: str
    chosen: Bool[np.ndarray, " particle"]
    how: str
    axes: tuple[str, str] | None = None
    polygon: Float[np.ndarray, "vertex 2"] | None = None

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """Rows of the posterior, ascending."""
        return np.flatnonzero(self.chosen)

    @property
    def n_particles(self) -> int:
        """Number of chosen particles."""
        return int(self.chosen.sum())


class Session:
    """A run that is being looked at. Positions are in the frame of the nominal structure's file, Å.

    Everything that is shown follows these signals, which carry nothing:
    ``conformation_changed`` (another latent), ``particle_changed`` (another particle, or none), ``path_changed``
    (another path), ``selections_changed`` (the list, or which one is current), ``segments_changed`` (colours or which
    segments are shown), ``images_changed`` (the files of the particle images).

    Attributes
    ----------
    run : Run
        With its posterior.
    columns : RunColumns
        Numbers of every particle by name, of the run and of its particle file.
    latent : array of shape (latent,)
        Whose conformation is shown; at first the mean of all particles.
    particle : int or None
        Row of the posterior of the particle that is shown.
    path : array of shape (frame, latent)
        Latents in order; at first along the first principal component.
    path_name : str
    frame : int or None
        Which point of the path is shown.
    selections : dict of str to ChosenParticles
    current : str or None
        Name of the selection in use.
    segment_colours : list of str
        Colour of every segment, ``#rrggbb``.
    segment_shown : bool array of shape (segment,)
    """

    conformation_changed = Signal()
    particle_changed = Signal()
    path_changed = Signal()
    selections_changed = Signal()
    segments_changed = Signal()
    images_changed = Signal()

    def __init__(self, run: Run) -> None:
        from cryosphere.analysis.style import segment_colour

        self.run, self.columns = run, RunColumns(run)
        means = run.posterior.mean.astype(np.float64)
        self.latent: np.ndarray = means.mean(0)
        self.particle: int | None = None
        self.frame: int | None = None
        self.path: np.ndarray = traverse(means, principal_components(means), 0, 40).latent
        self.path_name = "principal component 1"
        self.selections: dict[str, ChosenParticles] = {}
        self.current: str | None = None
        n_segments = len(run.segment_names)
        self.segment_colours = [segment_colour(segment) for segment in range(n_segments)]
        self.segment_shown = np.ones(n_segments, dtype=bool)
        self.labels: np.ndarray = hard_segments(run.segment_weights())

    @classmethod
    def open(cls, folder: Path | str) -> Session:
        """Open a run folder.

        Raises
        ------
        RunError
            It is no run, is incomplete or of a newer version, or has no posterior.
        """
        run = Run.load(folder)
        _ = run.posterior
        return cls(run)

    @property
    def notes(self) -> list[str]:
        """What cannot be shown now and why, one sentence each."""
        notes = []
        if not has_analysis(self.run):
            notes.append(
                "This run has no analysis of its present weights, so there are no states and motions to show; "
                f"`cryosphere analyze {self.run.folder}` makes one."
            )
        if self.missing_images is not None:
            notes.append(f"{self.missing_images}: missing, so particle images cannot be shown; the rest works.")
        return notes

    @property
    def missing_images(self) -> Path | None:
        """A stack of the run's images that is not there, where they are not kept in the run folder either."""
        missing = next((path for path in self.run.table.stack_paths if not path.exists()), None)
        return None if missing is None or self.run.open_prepared() is not None else missing

    @property
    def n_particles(self) -> int:
        """Number of particles with a posterior."""
        return len(self.run.posterior.index)

    @property
    def axis_names(self) -> list[str]:
        """Columns that may be axes without measuring anything, the usual ones first."""
        names = [name for name in known_columns(self.run) if not name.startswith("std(")]
        return sorted(names, key=lambda name: not name.startswith("pc"))

    def positions(
        self, latent: Float[np.ndarray, "conformation latent"]
    ) -> Float[np.ndarray, "conformation residue 3"]:
        """Residue positions (float32, x y z) at latents, as ``export RUN ensemble --atoms ca`` has them."""
        return self.run.decode(latent) + self.run.structure.frame_shift.astype(np.float32)

    @property
    def nominal_positions(self) -> Float[np.ndarray, "residue 3"]:
        """The nominal structure."""
        structure = self.run.structure
        return (structure.residue_positions + structure.frame_shift).astype(np.float32)

    def show_latent(self, latent: Float[np.ndarray, " latent"]) -> None:
        """Show the conformation at a latent that is no particle's."""
        self._show(np.asarray(latent, dtype=np.float64), None, None)

    def show_particle(self, row: int) -> None:
        """Show a particle (row of the posterior) and the conformation at its posterior mean."""
        if not 0 <= row < self.n_particles:
            raise InputError(f"particle {row}: there are {self.n_particles:,} particles, 0 to {self.n_particles - 1}.")
        self._show(self.run.posterior.mean[row].astype(np.float64), int(row), None)

    def show_frame(self, frame: int) -> None:
        """Show a point of the path."""
        frame = int(np.clip(frame, 0, len(self.path) - 1))
        self._show(self.path[frame], None, frame)

    def _show(self, latent: np.ndarray, particle: int | None, frame: int | None) -> None:
        is_other = particle != self.particle
        self.latent, self.particle, self.frame = latent, particle, frame
        if is_other:
            self.particle_changed.emit()
        self.conformation_changed.emit()

    def set_path(self, latent: Float[np.ndarray, "frame latent"], name: str) -> None:
        """Replace the path, and show its first point."""
        self.path, self.path_name = np.asarray(latent, dtype=np.float64), name
        self.path_changed.emit()
        self.show_frame(0)

    def add_selection(self, selection: ChosenParticles) -> None:
        """Keep a selection under its name (another of that name is replaced) and make it the current one.

        Raises
        ------
        InputError
            It has no particles.
        """
        if not selection.n_particles:
            raise InputError(f"{selection.how}: no particles in it.")
        self.selections[selection.name] = selection
        self.choose_selection(selection.name)

    def choose_selection(self, name: str | None) -> None:
        """Make a selection the current one, or none."""
        self.current = name
        self.selections_changed.emit()

    def remove_selection(self, name: str) -> None:
        """Forget a selection."""
        del self.selections[name]
        self.choose_selection(next(reversed(self.selections), None) if name == self.current else self.current)

    def rename_selection(self, name: str, new_name: str) -> None:
        """Give a selection another name, in the same place of the list.

        Raises
        ------
        InputError
            The name is empty, or in use.
        """
        new_name = new_name.strip()
        if not new_name:
            raise InputError("A selection has a name; write one.")
        if new_name != name and new_name in self.selections:
            raise InputError(f"There is a selection {new_name!r} already; choose another name.")
        renamed = replace(self.selections[name], name=new_name)
        self.selections = {
            kept.name: kept for kept in (renamed if key == name else old for key, old in self.selections.items())
        }
        self.choose_selection(new_name if name == self.current else self.current)

    def new_name(self) -> str:
        """A name for a selection that is not in use."""
        number = 1
        while f"selection {number}" in self.selections:
            number += 1
        return f"selection {number}"

    @property
    def selection(self) -> ChosenParticles | None:
        """The current selection."""
        return None if self.current is None else self.selections[self.current]

    def set_segments(
        self, colours: Sequence[str] | None = None, shown: Bool[np.ndarray, " segment"] | None = None
    ) -> None:
        """Change colours of segments (``#rrggbb``), or which are shown."""
        self.segment_colours = self.segment_colours if colours is None else list(colours)
        self.segment_shown = self.segment_shown if shown is None else np.array(shown, dtype=bool)
        self.segments_changed.emit()
