"""What is drawn of a session as triangles with colours, ready for any window; positions x y z, Å."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from cryosphere.analysis.style import segment_colour
from cryosphere.errors import InputError
from cryosphere.export.selection import select_states
from cryosphere.inference.ensemble import spread_rows
from cryosphere.io.structures import read_models, read_structure
from cryosphere.records import Structure
from cryosphere.viewer.arrows import motion_arrows
from cryosphere.viewer.session import Session
from cryosphere.viewer.tints import Legend, TintName, Tints, chain_tint
from cryosphere.viewer.tube import Tube

ArrowsOf = Literal["nominal", "path"]
OverlayOf = Literal["path", "states"]
# Conformations of a path, or models of a file, that are overlaid at most.
_MOST_OVERLAID = 10
# Rings per residue and sides of overlaid tubes: many up to so many residues, few beyond.
_OVERLAY_DETAIL, _FEW, _FEW_DETAIL = (2, 4), 600, (4, 6)
_GHOST, _ARROW = "#c8c8c8", "#ffc20a"
_PATH_COLOURS = LinearSegmentedColormap.from_list("path", ["#3aa0ff", "#d8d8d8", "#ff8a1f"])
# Radii in those of the tube.
_GHOST_RADIUS, _OVERLAY_RADIUS, _ARROW_RADIUS = 0.9, 0.5, 0.45


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour (RGBA, 0 to 1) at every vertex."""

    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    colours: Float[np.ndarray, "vertex 4"]


@dataclass(frozen=True)
class Shown:
    """A conformation: its tube, what its colours mean, arrows where they are wanted, and the ends of the path."""

    mesh: Mesh
    legend: Legend
    arrows: Mesh | None
    ends: tuple[Float[np.ndarray, "residue 3"], Float[np.ndarray, "residue 3"]]


@dataclass(frozen=True)
class ShownModels:
    """Models of a file: the first as a tube, the others overlaid; ``note`` says what does not fit the run."""

    name: str
    first: Mesh
    others: Mesh | None
    note: str


class Meshes:
    """Makes meshes of a session; may be used from several threads.

    Attributes
    ----------
    tube : Tube
    """

    def __init__(self, session: Session) -> None:
        self.session, self.tints = session, Tints(session)
        self.tube = Tube(session.run.structure, radius=usual_radius(session.run.n_residues))
        self._thin = _thin(session.run.structure)
        self._ends: tuple[np.ndarray, np.ndarray] | None = None

    def shown(self, latent: Float[np.ndarray, " latent"], tint: TintName, arrows_of: ArrowsOf | None) -> Shown:
        """The conformation at a latent, with arrows to it from the nominal structure, or along the path."""
        positions = self.session.positions(latent[None])[0]
        found = self.tints.of(tint, positions)
        arrows = None if arrows_of is None else self._arrows(positions, arrows_of)
        return Shown(self._tube_mesh(positions, found.colours), found.legend, arrows, self.path_ends())

    def nominal(self) -> Mesh:
        """The nominal structure as the tube that stands for a conformation until one is decoded."""
        positions = self.session.nominal_positions
        return self._tube_mesh(positions, self.tints.of("segment", positions).colours)

    def _tube_mesh(self, positions: Float[np.ndarray, "residue 3"], colours: Float[np.ndarray, "residue 4"]) -> Mesh:
        session, tube = self.session, self.tube
        is_shown = session.segment_shown[session.labels] | (session.labels < 0)
        return Mesh(tube.vertices(positions), tube.faces_of(is_shown), colours[tube.vertex_residue])

    def ghost(self) -> Mesh:
        """The nominal structure in grey."""
        thin = Tube(self.session.run.structure, _GHOST_RADIUS * self.tube.radius, (self.tube.detail[0], 6))
        return _plain(thin.vertices(self.session.nominal_positions), thin.faces, _GHOST)

    def _arrows(self, positions: Float[np.ndarray, "residue 3"], arrows_of: ArrowsOf) -> Mesh:
        start, end = (self.session.nominal_positions, positions) if arrows_of == "nominal" else self.path_ends()
        return _plain(*motion_arrows(start, end).surface(_ARROW_RADIUS * self.tube.radius), _ARROW)

    def path_ends(self) -> tuple[Float[np.ndarray, "residue 3"], Float[np.ndarray, "residue 3"]]:
        """The first and the last conformation of the path."""
        path = self.session.path
        if self._ends is None or self._ends[0] is not path:
            self._ends = (path, self.session.positions(path[[0, -1]]))
        return self._ends[1][0], self._ends[1][1]

    def overlay(self, overlay_of: OverlayOf) -> Mesh:
        """About 10 conformations along the path (dark to bright), or the states in their colours, as one mesh.

        Raises
        ------
        InputError
            States are wanted and the run has no analysis.
        """
        session = self.session
        if overlay_of == "states":
            latent = select_states(session.run).latent
            colours = [to_rgb(segment_colour(number)) for number in range(len(latent))]
        else:
            latent = session.path[spread_rows(len(session.path), _MOST_OVERLAID)]
            colours = _shades(len(latent))
        self._thin.radius = _OVERLAY_RADIUS * self.tube.radius
        return _overlaid(self._thin, session.positions(latent), colours)

    def models(self, path: Path | str) -> ShownModels:
        """Models of any structure file.

        Raises
        ------
        InputError
            The file cannot be read.
        """
        path = Path(path)
        structure, others = _read_models(path)
        run = self.session.run
        fits = structure.n_residues == run.n_residues
        note = (
            f"{path.name} has {structure.n_residues:,} residues, the structure of the run {run.n_residues:,}; "
            "it is shown as it is, in the colours of its chains."
        )
        colours = chain_tint(structure).colours
        if fits:
            colours = self.tints.of("segment", structure.residue_positions).colours
        tube = Tube(structure, self.tube.radius)
        first = Mesh(tube.vertices(structure.residue_positions), tube.faces, colours[tube.vertex_residue])
        if not len(others):
            return ShownModels(path.name, first, None, "" if fits else note)
        thin = _thin(structure)
        thin.radius = _OVERLAY_RADIUS * self.tube.radius
        shades = _shades(len(others))
        return ShownModels(path.name, first, _overlaid(thin, others, shades), "" if fits else note)


def usual_radius(n_residues: int) -> float:
    """Radius (Å) of a tube that is neither a thread nor a lump on a screen: larger for larger structures."""
    return float(np.clip(0.12 * n_residues ** (1 / 3), 0.6, 2.0))


def _thin(structure: Structure) -> Tube:
    return Tube(structure, detail=_FEW_DETAIL if structure.n_residues <= _FEW else _OVERLAY_DETAIL)


def _shades(count: int) -> list[tuple]:
    """Colours of conformations in order."""
    return [tuple(colour[:3]) for colour in _PATH_COLOURS(np.linspace(0, 1, count)).tolist()]


def _read_models(path: Path) -> tuple[Structure, Float[np.ndarray, "model residue 3"]]:
    """The first model, and positions of some of the others where they have the same residues."""
    try:
        models = read_models(path)
    except InputError:
        return (structure := read_structure(path)), np.zeros((0, structure.n_residues, 3))
    others = models.residue_positions[1:]
    return models.structure, others[spread_rows(len(others), _MOST_OVERLAID)] if len(others) else others


def _plain(vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"], colour: str) -> Mesh:
    colours = np.broadcast_to(np.float32([*to_rgb(colour), 1.0]), (len(vertices), 4)).copy()
    return Mesh(vertices, faces, colours)


def _overlaid(tube: Tube, conformations: Float[np.ndarray, "conformation residue 3"], colours: list[tuple]) -> Mesh:
    """Tubes of several conformations as one mesh, each in its colour."""
    count, n_vertices = len(conformations), tube.n_vertices
    vertices = np.concatenate([tube.vertices(positions) for positions in conformations])
    faces = (tube.faces + n_vertices * np.arange(count)[:, None, None]).reshape(-1, 3).astype(np.int32)
    rgba = np.float32([[*colour, 1.0] for colour in colours])
    return Mesh(vertices, faces, np.repeat(rgba, n_vertices, axis=0))
