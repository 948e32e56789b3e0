"""Colours of residues for viewers: by segment, RMSF or pLDDT, told by a number in the B factor column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from cryosphere.analysis.style import PALE, segment_colour
from cryosphere.errors import InputError
from cryosphere.inference.ensemble import FluctuationMeter, hard_segments, spread_rows
from cryosphere.records import Structure
from cryosphere.runs.run import Run

ColourBy = Literal["segment", "rmsf", "plddt"]
# Classes of pLDDT and their colours, as in the AlphaFold Database.
_PLDDT_BANDS = ((0, 50, "#FF7D45"), (50, 70, "#FFDB13"), (70, 90, "#65CBF3"), (90, 100.01, "#0053D6"))
_RMSF_COLOURS = ("#0072B2", "#F0E442", "#D55E00")
# The scale of RMSF ends at this percentile, and not below so many Å.
_RMSF_PERCENTILE, _LEAST_RMSF = 95.0, 0.5
# Particles over which the RMSF is taken.
_MOST_PARTICLES = 20_000
# B factors are written with two digits.
_DIGIT = 0.01


@dataclass(frozen=True)
class ResidueColours:
    """A number per residue, and what colour a number has.

    Attributes
    ----------
    values : array of shape (residue,)
        Written in place of the B factors.
    bands : tuple of (low, high, colour)
        Numbers from low to below high have one colour; empty where ``stops`` are given.
    stops : tuple of (value, colour)
        Colours blend between these.
    legend : str
        What the numbers are.
    """

    values: Float[np.ndarray, " residue"]
    bands: tuple[tuple[float, float, str], ...]
    stops: tuple[tuple[float, str], ...]
    legend: str

    def marked(self, structure: Structure) -> Structure:
        """Copy of a structure with the numbers as B factors of its atoms."""
        atoms = structure.atoms
        return replace(structure, atoms=replace(atoms, b_factors=self.values[atoms.residue_index]))

    def palette(self) -> tuple[tuple[float, str], ...]:
        """Numbers and colours to blend between; a band is two numbers of one colour."""
        if self.stops:
            return self.stops
        return tuple((value, colour) for low, high, colour in self.bands for value in (low, high - _DIGIT))


def residue_colours(run: Run, by: ColourBy) -> ResidueColours:
    """Colours of a run's residues.

    Parameters
    ----------
    run : Run
    by : str
        ``"segment"``: the segment of the largest weight, in the colours of the analysis. ``"rmsf"``: Å, over
        E[x | image] of at most 20,000 particles. ``"plddt"``: of the predicted model.

    Raises
    ------
    InputError
        pLDDT is wanted of a structure that has none.
    """
    if by == "segment":
        return _by_segment(run)
    if by == "rmsf":
        return _by_rmsf(run)
    if run.structure.plddt is None:
        raise InputError(f"{run.structure.source} has no pLDDT; colour by segment or rmsf.")
    return ResidueColours(run.structure.plddt.astype(float), _PLDDT_BANDS, (), "pLDDT")


def _by_segment(run: Run) -> ResidueColours:
    labels = hard_segments(run.segment_weights()) + 1
    names = range(1, len(run.segment_names) + 1)
    bands = ((0.0, 0.5, PALE), *((number - 0.5, number + 0.5, segment_colour(number - 1)) for number in names))
    return ResidueColours(labels.astype(float), bands, (), "segment, from 1 (0 in none)")


def _by_rmsf(run: Run) -> ResidueColours:
    meter = FluctuationMeter(run.structure.residue_positions)
    for _, positions in run.expected_coordinates(spread_rows(len(run.posterior.index), _MOST_PARTICLES)):
        meter.add(positions)
    return blended(meter.rmsf, "RMSF (Å)")


def blended(values: Float[np.ndarray, " residue"], legend: str, top: float | None = None) -> ResidueColours:
    """Colours from 0 to ``top`` (by default the 95th percentile of the values, at least 0.5) for lengths in Å."""
    if top is None:
        top = float(np.percentile(values, _RMSF_PERCENTILE))
    scale = np.round(np.linspace(0.0, max(top, _LEAST_RMSF), len(_RMSF_COLOURS)), 2)
    return ResidueColours(values, (), tuple(zip(scale.tolist(), _RMSF_COLOURS, strict=True)), legend)
