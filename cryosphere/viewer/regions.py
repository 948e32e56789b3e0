"""Segments of a run as a table, and regions for a new run's configuration; no Qt, no napari."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.analysis.columns import has_analysis
from cryosphere.analysis.results import read_analysis
from cryosphere.analysis.style import runs_of
from cryosphere.analysis.tables import residue_ranges
from cryosphere.config import Config
from cryosphere.config_files import dump_config, parse_config
from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.model.segmentation import regions_of
from cryosphere.runs.run import Run
from cryosphere.viewer.session import Session

# Stretches of a chain with fewer residues go to the segment before them, where regions are made of segments.
_LEAST_RESIDUES = 6


@dataclass(frozen=True)
class SegmentRow:
    """A segment: residues as ``A:1-29 A:68-117``, ranges of rotation (degrees) and translation (Å) over the ensemble
    (NaN without an analysis), and what held-out images say of its motion: ``supported``, ``weak``, ``not supported``,
    ``held still`` where it was not and the run does not let it move, or nothing where that is not known."""

    name: str
    residues: str
    n_residues: int
    angle_range: float
    translation_range: float
    verdict: str


def segment_rows(session: Session) -> list[SegmentRow]:
    """Every segment of the run, in order."""
    run, labels = session.run, session.labels
    judged = {one["name"]: one for one in run.verdict.get("segments", [])}
    n_segments = len(run.segment_names)
    angles = shifts = np.full(n_segments, np.nan)
    if has_analysis(run):
        table = read_analysis(run, "segments")
        angles, shifts = (table[name].to_numpy(float) for name in ("angle_range_deg", "translation_range_angstrom"))
    rows = []
    for number, name in enumerate(run.segment_names):
        members = np.flatnonzero(labels == number)
        own = judged.get(name, {})
        verdict = "held still" if own.get("is_stilled") else own.get("motion", "")
        ranges = residue_ranges(run.structure, members)
        rows.append(SegmentRow(name, ranges, len(members), float(angles[number]), float(shifts[number]), verdict))
    return rows


@dataclass(frozen=True)
class RegionRow:
    """A region as a configuration has it; ``first`` and ``last`` may be None, for the ends of the chain. Values that
    are no numbers stay text, for :func:`check_regions` to refuse."""

    chain: str
    first: int | str | None
    last: int | str | None
    n_segments: int | str
    starts: tuple[int, ...] | None = None
    prior_std: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The region of a configuration."""
        starts = None if self.starts is None else list(self.starts)
        own = {"chain": self.chain, "first": self.first, "last": self.last, "n_segments": self.n_segments}
        return {**own, "starts": starts, "prior_std": self.prior_std}


def regions_of_run(session: Session) -> list[RegionRow]:
    """Regions to begin with: those of the run's configuration, or one for every stretch of a chain in one segment.

    Short stretches are joined to the one before them; segments that the run holds still are left out, as residues
    outside every region stay fixed.
    """
    run = session.run
    given = run.config.segments.regions
    if given:
        return [
            RegionRow(
                r.chain, r.first, r.last, r.n_segments, None if r.starts is None else tuple(r.starts), r.prior_std
            )
            for r in given
        ]
    structure, judged = run.structure, run.verdict.get("segments", [])
    still = {number for number, one in enumerate(judged) if one.get("is_stilled")}
    chains = structure.chain_ids[: structure.n_polymer_residues]
    regions = []
    for chain in dict.fromkeys(chains.tolist()):
        rows = np.flatnonzero(chains == chain)
        for label, first, last in _joined(runs_of(session.labels[rows])):
            if label >= 0 and label not in still:
                numbers = structure.residue_numbers[rows[[first, last]]].tolist()
                regions.append(RegionRow(chain, *numbers, 1))
    return regions


def _joined(stretches: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Stretches (label, first, last) without short ones: those go to the one before, at the beginning after, them."""
    long = [one for one in stretches if one[2] - one[1] + 1 >= _LEAST_RESIDUES] or stretches[:1]
    joined: list[tuple[int, int, int]] = []
    for number, (label, first, _) in enumerate(long):
        first = stretches[0][1] if number == 0 else first
        last = stretches[-1][2] if number == len(long) - 1 else long[number + 1][1] - 1
        if joined and joined[-1][0] == label:
            first = joined.pop()[1]
        joined.append((label, first, last))
    return joined


def split_region(session: Session, region: RegionRow) -> tuple[RegionRow, RegionRow]:
    """Two regions of half the residues each, with half the segments.

    Raises
    ------
    ConfigError, InputError
        It is no region of the structure, or has one residue.
    """
    rows = _residues(session.run, [region])[0]
    if len(rows) < 2:
        raise InputError("This region has one residue and cannot be split.")
    numbers, middle = session.run.structure.residue_numbers[rows].tolist(), len(rows) // 2
    first = max(1, int(region.n_segments) // 2)
    second = max(1, int(region.n_segments) - first)
    return (
        RegionRow(region.chain, numbers[0], numbers[middle - 1], first, prior_std=region.prior_std),
        RegionRow(region.chain, numbers[middle], numbers[-1], second, prior_std=region.prior_std),
    )


def free_region(session: Session, regions: Sequence[RegionRow]) -> RegionRow:
    """The longest stretch of a chain outside given regions, as a region with one segment.

    Raises
    ------
    InputError, ConfigError
        Every residue is in a region, or a region is not one of the structure's.
    """
    structure = session.run.structure
    taken = np.zeros(structure.n_polymer_residues, dtype=bool)
    for rows in _residues(session.run, regions) if regions else []:
        taken[rows] = True
    chains = structure.chain_ids[: structure.n_polymer_residues]
    stretches = []
    for chain in dict.fromkeys(chains.tolist()):
        own = np.flatnonzero(chains == chain)
        stretches += [own[first : last + 1] for label, first, last in runs_of(taken[own].astype(int)) if not label]
    if not stretches:
        raise InputError("Every residue is in a region; split one, or remove one first.")
    rows = max(stretches, key=len)
    numbers = structure.residue_numbers[rows].tolist()
    return RegionRow(str(chains[rows[0]]), numbers[0], numbers[-1], 1)


def check_regions(run: Run, regions: Sequence[RegionRow]) -> str:
    """Say in a sentence what a new run with these regions would move.

    Raises
    ------
    ConfigError, InputError
        There are none, or they do not fit the structure.
    """
    rows = np.concatenate(_residues(run, regions))
    n_segments = sum(int(region.n_segments) for region in regions)
    still = run.structure.n_polymer_residues - len(rows)
    fixed = f"the other {still:,} stay fixed" if still else "none stays fixed"
    return f"{n_segments} segment{'s' * (n_segments > 1)} of {len(rows):,} residues; {fixed}."


def _residues(run: Run, regions: Sequence[RegionRow]) -> list[np.ndarray]:
    """Rows of every region's residues, checked as training does."""
    config = new_config(run, regions)
    return [region.rows for region in regions_of(run.structure, config.segments)]


def new_config(run: Run, regions: Sequence[RegionRow]) -> Config:
    """The run's configuration with other regions, paths absolute; the structure is the run's own copy where the
    original is gone.

    Raises
    ------
    ConfigError, InputError
        A value is none that a configuration takes, or there are no regions.
    """
    if not regions:
        raise InputError("There are no regions; add one, as residues outside every region stay fixed.")
    values = run.config.model_dump()
    values["segments"] |= {"regions": [region.as_dict() for region in regions], "n_segments": "auto"}
    if not values["structure"]["file"].exists():
        values["structure"]["file"] = run.layout.structure / values["structure"]["file"].name
    return parse_config(values, Path.cwd(), "the new configuration", check_files=False)


def save_config(run: Run, regions: Sequence[RegionRow], path: Path, overwrite: bool = False) -> str:
    """Write a configuration with these regions; the command that trains with it.

    Raises
    ------
    ConfigError, InputError
        The regions do not fit, or the file exists and may not be replaced.
    """
    check_regions(run, regions)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists and is kept; choose another name.")
    if path.resolve().parent == run.folder.resolve():
        raise InputError(f"{path} would be among the files of the run; choose another folder.")
    text = f"# As of {run.folder.absolute()}, with regions chosen in the viewer.\n" + dump_config(
        new_config(run, regions)
    )
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return shlex.join(["cryosphere", "train", str(path), "-o", str(path.with_name(f"{path.stem}_run"))])
