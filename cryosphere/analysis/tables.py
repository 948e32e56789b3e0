"""Tables of an analysis as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from cryosphere.analysis.ensemble import Ensemble, Fluctuations
from cryosphere.analysis.latent import Conformers, PrincipalComponents
from cryosphere.analysis.segments import SegmentMotion
from cryosphere.analysis.state_summary import States
from cryosphere.records import ParticleTable, Posterior, Structure


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file; floats get six significant digits, NaN becomes an empty cell."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:.6g}"
    return str(value)


def write_particles(
    path: Path, table: ParticleTable, posterior: Posterior, columns: Mapping[str, Shaped[np.ndarray, " particle"]]
) -> None:
    """Write numbers of every particle: input row (from 0), image, then the columns."""
    table_row = np.searchsorted(table.input_rows, posterior.index)
    stacks = np.array([stack.name for stack in table.stack_paths], dtype=object)[table.stack_index[table_row]]
    numbers = pd.Series(table.image_index[table_row] + 1).astype(str).str.zfill(6)
    frame = pd.DataFrame({"particle": posterior.index, "image": numbers + "@" + stacks, **columns})
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def write_components(path: Path, components: PrincipalComponents) -> None:
    """Write every principal component: share of variance, variance, unit vector in latent space."""
    header = ["component", "explained", "variance", *(f"z{i}" for i in range(1, components.n_components + 1))]
    columns = zip(components.explained, components.variances, components.axes, strict=True)
    write_table(path, header, ((i, share, var, *axis) for i, (share, var, axis) in enumerate(columns, start=1)))


def write_fluctuations(
    path: Path,
    structure: Structure,
    labels: Int[np.ndarray, " residue"],
    segment_weights: Float[np.ndarray, "residue segment"],
    fluctuations: Fluctuations,
) -> None:
    """Write every residue: chain, number, name, main segment (from 1) and its weight, RMSF and displacements in Å."""
    header = [
        *("chain", "residue", "insertion_code", "name", "segment", "segment_weight"),
        *("rmsf_angstrom", "rmsf_low", "rmsf_high", "displacement_p5", "displacement_p50", "displacement_p95"),
    ]
    f = fluctuations
    rows = (
        (
            structure.chain_ids[r],
            structure.residue_numbers[r],
            structure.insertion_codes[r],
            structure.residue_names[r],
            labels[r] + 1 if labels[r] >= 0 else "",
            segment_weights[r, labels[r]] if labels[r] >= 0 else np.nan,
            *(f.rmsf[r], f.rmsf_low[r], f.rmsf_high[r], *f.displacement[:, r]),
        )
        for r in range(structure.n_residues)
    )
    write_table(path, header, rows)


def residue_ranges(structure: Structure, rows: Int[np.ndarray, " row"]) -> str:
    """Residues as people write them, ``A:1-29 A:68-117``; rows ascending."""
    if not len(rows):
        return ""
    same_chain = structure.chain_ids[rows[1:]] == structure.chain_ids[rows[:-1]]
    parts = np.split(rows, np.flatnonzero((np.diff(rows) != 1) | ~same_chain) + 1)
    return " ".join(
        f"{structure.chain_ids[part[0]]}:{_number(structure, part[0])}-{_number(structure, part[-1])}" for part in parts
    )


def _number(structure: Structure, row: np.integer) -> str:
    return f"{structure.residue_numbers[row]}{structure.insertion_codes[row]}"


def write_segments(
    path: Path,
    structure: Structure,
    names: Sequence[str],
    labels: Int[np.ndarray, " residue"],
    motions: Sequence[SegmentMotion],
    rmsf: Float[np.ndarray, " residue"],
    reference: int | None,
) -> None:
    """Write every segment: residues, ranges of its rotation (degrees) and translations (Å) with their directions, and
    the hinge, in the frame of the structure's file."""
    header = [
        *("segment", "name", "residues", "n_residues", "mean_rmsf_angstrom", "seen_from"),
        *("angle_range_deg", "axis_x", "axis_y", "axis_z", "screw_range_angstrom"),
        *("translation_range_angstrom", "direction_x", "direction_y", "direction_z"),
        *("hinge_x", "hinge_y", "hinge_z", "hinge_residues"),
    ]
    rows = []
    for number, (name, motion) in enumerate(zip(names, motions, strict=True)):
        members = np.flatnonzero(labels == number)
        rows.append(
            (
                *(number + 1, name, residue_ranges(structure, members), motion.n_residues),
                rmsf[members].mean() if len(members) else np.nan,
                "map" if reference is None or reference == number else f"s{reference + 1}",
                *(motion.angle_range_deg, *motion.rotation_axis, motion.screw_range),
                *(motion.translation_range, *motion.translation_direction),
                *(motion.hinge_point + structure.frame_shift),
                hinge_text(structure, motion),
            )
        )
    write_table(path, header, rows)


def hinge_text(structure: Structure, motion: SegmentMotion) -> str:
    """Hinge residues as people write them, nearest to the axis first: ``B/236-B/237 (1.6 Å)``."""
    places = (
        f"{structure.label(hinge.rows[0])}-{structure.label(hinge.rows[1])} ({hinge.distance:.1f} Å)"
        for hinge in motion.hinges
    )
    return "; ".join(places)


def write_motions(path: Path, ensemble: Ensemble, posterior_std: Float[np.ndarray, " motion"]) -> None:
    """Write every motion: what it is, its distribution over the ensemble, and how sure it is of a particle."""
    header = [
        *("motion", "unit", "description", "mean", "std", "p5", "p25", "p50", "p75", "p95"),
        "mean_posterior_std",
    ]
    percentiles = ensemble.percentiles((5, 25, 50, 75, 95))
    spread = np.sqrt(ensemble.sample.weights @ (ensemble.values - ensemble.means) ** 2)
    rows = [
        (
            *(str(motion.name), motion.name.unit, motion.description(ensemble.motions.part_names)),
            *(ensemble.means[i], spread[i], *percentiles[i], posterior_std[i]),
        )
        for i, motion in enumerate(ensemble.motions.motions)
    ]
    write_table(path, header, rows)


def write_states(path: Path, posterior: Posterior, states: States, motion_names: Sequence[str]) -> None:
    """Write every state: population with a 68 % interval, representative (input row from 0, latent that it is decoded
    at), mean and spread of the motions in it."""
    header = [
        *("state", "population", "population_low", "population_high", "particle"),
        *(f"z{i}" for i in range(1, posterior.mean.shape[1] + 1)),
        *(column for name in motion_names for column in (name, f"spread({name})")),
    ]
    found = states.populations
    rows = [
        (
            *(number + 1, found.share[number], found.low[number], found.high[number]),
            *(posterior.index[states.particles[number]], *states.latent[number]),
            *np.stack([states.motion_mean[number], states.motion_spread[number]], axis=1).ravel(),
        )
        for number in range(states.n_states)
    ]
    write_table(path, header, rows)


def write_path(
    path: Path, latent: Float[np.ndarray, "conformer latent"], values: Float[np.ndarray, "conformer motion"], names
) -> None:
    """Write conformations along a path in order: motions and latents."""
    header = ["point", *names, *(f"z{i}" for i in range(1, latent.shape[1] + 1))]
    write_table(path, header, ((i + 1, *values[i], *latent[i]) for i in range(len(latent))))


def write_conformers(path: Path, posterior: Posterior, conformers: Conformers) -> None:
    """Write chosen particles in order: input row (from 0), population, latent."""
    header = ["point", "particle", "population", *(f"z{i}" for i in range(1, posterior.mean.shape[1] + 1))]
    rows = (
        (i + 1, posterior.index[row], conformers.populations[i], *conformers.latent[i])
        for i, row in enumerate(conformers.rows)
    )
    write_table(path, header, rows)
