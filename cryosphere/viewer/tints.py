"""Colours of the tube: by segment, chain, pLDDT, RMSF or displacement, with what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from matplotlib.colors import to_rgba_array

from cryosphere.analysis.columns import has_analysis
from cryosphere.analysis.results import read_analysis
from cryosphere.analysis.style import PALE, segment_colour
from cryosphere.errors import InputError
from cryosphere.export.residue_colours import ResidueColours, blended, residue_colours
from cryosphere.inference.ensemble import spread_rows
from cryosphere.records import Structure
from cryosphere.viewer.session import Session

TintName = Literal["segment", "chain", "plddt", "rmsf", "displacement"]
TINTS: tuple[TintName, ...] = get_args(TintName)
TINT_LABELS = {
    "segment": "segment",
    "chain": "chain",
    "plddt": "pLDDT",
    "rmsf": "RMSF over all particles",
    "displacement": "displacement from the nominal structure",
}
# The scale of displacements ends at this percentile over so many points of the path.
_TOP_PERCENTILE, _PATH_POINTS = 98.0, 7


@dataclass(frozen=True)
class Legend:
    """What colours mean.

    Attributes
    ----------
    title : str
    entries : tuple of (label, colour)
        Of colours that stand for names or classes, in order.
    stops : tuple of (value, colour)
        Of colours that blend between numbers, ascending; the last stands for all above.
    unit : str
        Of the numbers.
    """

    title: str
    entries: tuple[tuple[str, str], ...] = ()
    stops: tuple[tuple[float, str], ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Tint:
    """Colours (float32 RGBA, 0 to 1) of all residues, with their legend."""

    colours: Float[np.ndarray, "residue 4"]
    legend: Legend


class Tints:
    """Makes colours for the residues of a session; what takes long is kept."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._kept: dict[str, Tint] = {}
        self._top: tuple[np.ndarray, float] | None = None

    def check(self, name: TintName) -> None:
        """Refuse colours that the structure has no numbers for.

        Raises
        ------
        InputError
            pLDDT is wanted of a structure that has none.
        """
        structure = self.session.run.structure
        if name == "plddt" and structure.plddt is None:
            raise InputError(f"{structure.source} is no predicted model, so it has no pLDDT; colour by something else.")

    def of(self, name: TintName, positions: Float[np.ndarray, "residue 3"]) -> Tint:
        """Colours of a conformation.

        Raises
        ------
        InputError
            pLDDT is wanted of a structure that has none.
        """
        if name == "segment":
            return self._by_segment()
        if name == "displacement":
            return self._by_displacement(positions)
        if name not in self._kept:
            self._kept[name] = chain_tint(self.session.run.structure) if name == "chain" else self._by_number(name)
        return self._kept[name]

    def _by_segment(self) -> Tint:
        run, colours = self.session.run, self.session.segment_colours
        palette = to_rgba_array([*colours, PALE]).astype(np.float32)
        entries = tuple(zip(run.segment_names, colours, strict=True))
        if (self.session.labels < 0).any():
            entries = (*entries, ("in none", PALE))
        return Tint(palette[self.session.labels], Legend("segment", entries))

    def _by_number(self, name: Literal["plddt", "rmsf"]) -> Tint:
        run = self.session.run
        if name == "rmsf" and has_analysis(run):
            return tint_of(blended(read_analysis(run, "residues")["rmsf_angstrom"].to_numpy(float), "RMSF (Å)"))
        return tint_of(residue_colours(run, name))

    def _by_displacement(self, positions: Float[np.ndarray, "residue 3"]) -> Tint:
        moved = displacement(self.session, positions)
        return tint_of(blended(moved, "displacement from nominal (Å)", self._top_of_path()))

    def _top_of_path(self) -> float:
        """End of the scale of displacements: the same for all frames of a path, so that they compare."""
        path = self.session.path
        if self._top is None or self._top[0] is not path:
            along = self.session.positions(path[spread_rows(len(path), _PATH_POINTS)])
            moved = np.concatenate([displacement(self.session, positions) for positions in along])
            self._top = (path, float(np.percentile(moved, _TOP_PERCENTILE)))
        return self._top[1]


def chain_tint(structure: Structure) -> Tint:
    """A colour for every chain."""
    names = list(dict.fromkeys(structure.chain_ids.tolist()))
    colours = [segment_colour(number) for number in range(len(names))]
    number = np.array([names.index(name) for name in structure.chain_ids.tolist()])
    return Tint(_rgba(colours)[number], Legend("chain", tuple(zip(names, colours, strict=True))))


def displacement(session: Session, positions: Float[np.ndarray, "residue 3"]) -> Float[np.ndarray, " residue"]:
    """Distance (Å) of every residue from its place in the nominal structure."""
    return np.linalg.norm(positions.astype(np.float64) - session.nominal_positions, axis=1)


def tint_of(colours: ResidueColours) -> Tint:
    """Colours and legend of numbers, by bands or blended between stops; numbers beyond the scale get its end."""
    title, _, unit = colours.legend.rstrip(")").partition(" (")
    if colours.stops:
        stops = np.array([value for value, _ in colours.stops])
        palette = _rgba([colour for _, colour in colours.stops])
        rgba = np.stack([np.interp(colours.values, stops, channel) for channel in palette.T], axis=-1)
        return Tint(rgba.astype(np.float32), Legend(title, stops=colours.stops, unit=unit))
    lows = np.array([low for low, _, _ in colours.bands])
    palette = _rgba([colour for _, _, colour in colours.bands])
    band = np.clip(np.searchsorted(lows, colours.values, side="right") - 1, 0, len(lows) - 1)
    entries = tuple((f"{low:g} to {min(high, 100):g}", colour) for low, high, colour in colours.bands)
    return Tint(palette[band], Legend(title, entries, unit=unit))


def _rgba(colours: list[str]) -> Float[np.ndarray, "colour 4"]:
    return to_rgba_array(colours).astype(np.float32)
