"""The particles of a table that are used: by a condition on its columns, by rows, by another table; on one grid."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from cryosphere.errors import ConfigError, InputError
from cryosphere.io.row_files import read_numbered_rows
from cryosphere.io.star import particle_block
from cryosphere.io.star_blocks import scan_blocks
from cryosphere.io.star_tables import read_block
from cryosphere.particles.columns import source_columns
from cryosphere.particles.expressions import Condition
from cryosphere.particles.sampling import on_common_grid
from cryosphere.particles.sources import image_of_row
from cryosphere.records import ParticleTable


def chosen_particles(
    table: ParticleTable,
    *,
    select: str | None = None,
    index_file: Path | str | None = None,
    subset: Path | str | None = None,
    pixel_size: float | None = None,
) -> ParticleTable:
    """Particles of a table that fulfil all that is asked for, with one grid for their images.

    Rows keep their order, and their numbers in the input table (``input_rows``); stacks and optics groups that are not
    needed are left out. Notes say how many were chosen, and which images have only some of their rows chosen.

    Parameters
    ----------
    table : ParticleTable
        As a reader gives it: every row of its ``source``.
    select : str, optional
        Condition on the columns of ``table.source`` (:mod:`cryosphere.particles.expressions`).
    index_file : path, optional
        Rows (from 0): text with one per line, or an integer ``.npy`` array.
    subset : path, optional
        Another STAR file, of whose images all rows are taken.
    pixel_size : float, optional
        Å; coarser pixels than the files' (:func:`~cryosphere.particles.sampling.on_common_grid`).

    Raises
    ------
    InputError, ConfigError
        A file cannot be read or has rows that are not in the table, the condition cannot be understood, no particle
        is left, or the pixel size is too fine.
    """
    chosen = np.ones(table.n_particles, dtype=bool)
    notes: list[str] = []
    if select is not None:
        condition = Condition(select)
        chosen &= condition.holds(table_columns(table, condition))
    if index_file is not None:
        chosen &= _is_listed(table, Path(index_file))
    if subset is not None:
        in_subset, more = _is_in_subset(table, Path(subset))
        chosen &= in_subset
        notes += more
    given = {"select": select, "index_file": index_file, "subset": subset}
    ways = [f"particles.{name}" for name, value in given.items() if value is not None]
    if ways:
        if not chosen.any():
            raise ConfigError(
                f"{' and '.join(ways)}: none of the {table.n_particles} particles of {table.source.name} is left; ask "
                "for less."
            )
        notes = [f"{chosen.sum()} of {table.n_particles} particles of {table.source.name} are used.", *notes]
        notes += _split_images(table, chosen)
        table = table.take(np.flatnonzero(chosen))
    return on_common_grid(replace(table, notes=(*table.notes, *notes)), pixel_size)


def table_columns(table: ParticleTable, condition: Condition) -> dict[str, np.ndarray]:
    """Columns of a condition, from the files that a table was read from: numbers or text, one value per particle.

    A RELION 3.1 file also gives the columns of its optics table; cryoSPARC's files give the fields that the reader
    has, joined by ``uid``, with one value per particle. Whole numbers stay whole.

    Raises
    ------
    InputError, ConfigError
        If a file cannot be read or has other rows than the table, or a column is not there.
    """
    source = source_columns(table.source)
    condition.require(source.names)
    if source.n_rows != table.n_particles:
        raise InputError(
            f"{table.source} has {source.n_rows} rows and {table.n_particles} particles, so that its columns cannot be "
            "told apart by particle; use particles.index_file."
        )
    return source.read(condition.columns)


def _is_listed(table: ParticleTable, path: Path) -> Bool[np.ndarray, " particle"]:
    """Whether particles are in a file of rows, each of which must exist and stand there once."""
    rows, places = read_numbered_rows(path, "particles.index_file names a file with one row (from 0) per line")
    word = "entry" if path.suffix == ".npy" else "line"
    wrong = np.flatnonzero((rows < 0) | (rows >= table.n_particles))
    if len(wrong):
        raise InputError(
            f"{path}: {word} {places[wrong[0]]}: row {rows[wrong[0]]} does not exist; {table.source.name} has "
            f"{table.n_particles} particles, rows 0 to {table.n_particles - 1} ({len(wrong)} such rows)."
        )
    _, first, found = np.unique(rows, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[found] != np.arange(len(rows)))
    if len(again):
        raise InputError(
            f"{path}: {word} {places[again[0]]}: row {rows[again[0]]} is there twice, first in {word} "
            f"{places[first[found[again[0]]]]} ({len(again)} such rows); name every row once."
        )
    listed = np.zeros(table.n_particles, dtype=bool)
    listed[rows] = True
    return listed


def _is_in_subset(table: ParticleTable, path: Path) -> tuple[Bool[np.ndarray, " particle"], list[str]]:
    """Whether the images of particles are in another STAR file, and a note where that cannot tell rows apart."""
    particles = read_block(path, particle_block(path, scan_blocks(path)), {"rlnImageName"})
    parts = particles.frame["rlnImageName"].astype(str).str.partition("@")
    number = pd.to_numeric(parts[0], errors="coerce").fillna(0).to_numpy(np.int64)
    codes, names = pd.factorize(parts[2])
    stack = _same_stacks(list(names), table, path)[codes]
    first, image = image_of_row(table.stack_index, table.image_index)
    known = pd.MultiIndex.from_arrays([table.stack_index[first], table.image_index[first]])
    wanted = known.get_indexer(pd.MultiIndex.from_arrays([stack, number - 1]))
    absent = np.flatnonzero(wanted < 0)
    if len(absent):
        raise particles.row_error(absent, "rlnImageName", f"an image of {table.source.name}")
    taken = np.isin(image, wanted)
    if taken.sum() == len(wanted):
        return taken, []
    return taken, [
        f"{path.name} has {len(wanted)} rows of images that {table.source.name} has {taken.sum()} rows of; "
        "all rows of these images are taken."
    ]


def _same_stacks(names: list[str], table: ParticleTable, source: Path) -> Int[np.ndarray, " name"]:
    """Number of the table's stack that is meant by each name, the one whose path ends most like it; -1 for none."""
    by_file_name = defaultdict(list)
    for number, path in enumerate(table.stack_paths):
        by_file_name[path.name].append(number)
    found = np.full(len(names), -1, dtype=np.int64)
    for row, name in enumerate(names):
        parts = PurePosixPath(name).parts
        candidates = by_file_name.get(parts[-1] if parts else "", [])
        alike = [_common_end(parts, table.stack_paths[number].parts) for number in candidates]
        best = [number for number, count in zip(candidates, alike, strict=True) if count == max(alike)]
        if len(best) > 1:
            first, second = (table.stack_paths[number] for number in best[:2])
            raise InputError(
                f"{source}: the stack {name} may be {first} or {second}; write longer stack paths, or use "
                "particles.index_file."
            )
        if best:
            found[row] = best[0]
    return found


def _common_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Number of parts in which two paths agree, counted from the end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _split_images(table: ParticleTable, chosen: Bool[np.ndarray, " particle"]) -> list[str]:
    """Note where only some of the rows that share an image were chosen."""
    first, image = image_of_row(table.stack_index, table.image_index)
    rows = np.bincount(image, minlength=len(first))
    kept = np.bincount(image[chosen], minlength=len(first))
    n_split = int(((kept > 0) & (kept < rows)).sum())
    if not n_split:
        return []
    return [f"{n_split} images are used with only some of their rows: rows that share an image were told apart."]
