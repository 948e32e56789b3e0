"""Tables of an analysis as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis.latent import Conformers, PrincipalComponents
from cryosphere.analysis.motions import SegmentMotion
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


def image_name(table: ParticleTable, row: int) -> str:
    """Image of a table's row in RELION's form, ``000001@stack.mrcs``."""
    return f"{table.image_index[row] + 1:06d}@{table.stack_paths[table.stack_index[row]].name}"


def write_latents(
    path: Path,
    table: ParticleTable,
    posterior: Posterior,
    scores: Float[np.ndarray, "particle component"],
    cluster: Int[np.ndarray, " particle"],
) -> None:
    """Write the posterior of every particle: input row (from 0), image, latent, its std, scores, cluster (from 1)."""
    latent_dim = posterior.mean.shape[1]
    numbers = range(1, latent_dim + 1)
    header = [
        "particle",
        "image",
        *(f"z{i}" for i in numbers),
        *(f"std{i}" for i in numbers),
        *(f"pc{i}" for i in numbers),
        "effective_sample_size",
        "cluster",
    ]
    std = posterior.std
    table_row = np.searchsorted(table.input_rows, posterior.index).tolist()
    rows = (
        (
            row,
            image_name(table, table_row[i]),
            *posterior.mean[i],
            *std[i],
            *scores[i],
            posterior.effective_sample_size[i],
            cluster[i] + 1,
        )
        for i, row in enumerate(posterior.index.tolist())
    )
    write_table(path, header, rows)


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
    rmsf: Float[np.ndarray, " residue"],
) -> None:
    """Write every residue: chain, number, name, main segment (from 1) and its weight, RMSF in Å."""
    header = ["chain", "residue", "insertion_code", "name", "segment", "segment_weight", "rmsf_angstrom"]
    rows = (
        (
            structure.chain_ids[r],
            structure.residue_numbers[r],
            structure.insertion_codes[r],
            structure.residue_names[r],
            labels[r] + 1 if labels[r] >= 0 else "",
            segment_weights[r, labels[r]] if labels[r] >= 0 else np.nan,
            rmsf[r],
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
) -> None:
    """Write every segment: residues, range of its rotation (degrees) and translation (Å) with their directions."""
    header = [
        *("segment", "name", "residues", "n_residues", "mean_rmsf_angstrom"),
        *("angle_range_deg", "axis_x", "axis_y", "axis_z"),
        *("translation_range_angstrom", "direction_x", "direction_y", "direction_z"),
    ]
    rows = []
    for number, (name, motion) in enumerate(zip(names, motions, strict=True)):
        members = np.flatnonzero(labels == number)
        rows.append(
            (
                *(number + 1, name, residue_ranges(structure, members), motion.n_residues),
                rmsf[members].mean() if len(members) else np.nan,
                *(motion.angle_range_deg, *motion.rotation_axis),
                *(motion.translation_range, *motion.translation_direction),
            )
        )
    write_table(path, header, rows)


def write_conformers(path: Path, posterior: Posterior, conformers: Conformers) -> None:
    """Write chosen particles in order: input row (from 0), population, latent."""
    header = ["point", "particle", "population", *(f"z{i}" for i in range(1, posterior.mean.shape[1] + 1))]
    rows = (
        (i + 1, posterior.index[row], conformers.populations[i], *conformers.latent[i])
        for i, row in enumerate(conformers.rows)
    )
    write_table(path, header, rows)
