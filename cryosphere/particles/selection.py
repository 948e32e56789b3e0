"""Which particles are used for what."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from cryosphere.config import Config
from cryosphere.errors import ConfigError
from cryosphere.particles.sources import image_of_row
from cryosphere.records import ParticleTable


def split_held_out(
    stack_index: Int[np.ndarray, " particle"], image_index: Int[np.ndarray, " particle"], share: float, seed: int
) -> tuple[Int[np.ndarray, " training"], Int[np.ndarray, " held_out"]]:
    """Split rows into training and held-out rows; rows that share an image stay together.

    Returns
    -------
    training, held_out : int arrays
        Ascending. At least one image is trained on; none is held out if ``share`` of the images is less than one.
    """
    first, image = image_of_row(stack_index, image_index)
    n_held_out = min(int(share * len(first)), len(first) - 1)
    chosen = np.random.default_rng([seed, 1]).permutation(len(first))[:n_held_out]
    held_out = np.isin(image, chosen)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def half_set_rows(table: ParticleTable, half: int, seed: int) -> Int[np.ndarray, " row"]:
    """Rows of one of two independent halves, 1 or 2: those of the refinement where the table names them, else random.

    Rows that share an image stay together, where the table tells them apart in the half of the first one. Where a
    selection left rows of one half alone, they are divided anew.
    """
    if table.half_set is not None and len(np.unique(table.half_set)) == 2:
        first_row, image = image_of_row(table.stack_index, table.image_index)
        return np.flatnonzero(table.half_set[first_row][image] == half)
    first, second = split_held_out(table.stack_index, table.image_index, 0.5, seed + 1)
    return first if half == 1 else second


def training_rows(
    table: ParticleTable, config: Config
) -> tuple[Int[np.ndarray, " training"], Int[np.ndarray, " held_out"]]:
    """Rows to train on and rows held out, of all particles or of the half set that the configuration names.

    Raises
    ------
    ConfigError
        If no image is left to train on.
    """
    seed = config.training.seed
    training, held_out = split_held_out(table.stack_index, table.image_index, config.training.held_out, seed)
    if config.particles.half_set is None:
        return training, held_out
    half = half_set_rows(table, config.particles.half_set, seed)
    training, held_out = np.intersect1d(training, half), np.intersect1d(held_out, half)
    if not len(training):
        raise ConfigError(
            f"particles.half_set: {config.particles.half_set}: none of {table.n_particles} particles is left to train "
            "on; give more particles, or train on all of them."
        )
    return training, held_out


def block_shuffled(
    rows: Int[np.ndarray, " row"], block: int, generator: np.random.Generator, together: int = 64
) -> Int[np.ndarray, " row"]:
    """Rows in an order that is random and yet can be read in long pieces.

    Rows are cut into runs of ``block`` neighbours, the runs are put in random order, and the rows of every
    ``together`` runs that follow each other are mixed. Whoever reads the rows of ``together`` runs at a time, in the
    order of the file, reads each run in one piece.

    Parameters
    ----------
    rows : int array of shape (row,)
        In the order in which images lie in their files.
    block, together : int
        Rows of a run, 1 for an order without neighbours; and runs that are mixed.
    generator : numpy Generator
    """
    if block == together == 1:
        return rows[generator.permutation(len(rows))]
    starts = block * generator.permutation(-(-len(rows) // block))
    mixed = []
    for first in range(0, len(starts), together):
        runs = [rows[start : start + block] for start in starts[first : first + together]]
        mixed.append(generator.permutation(np.concatenate(runs)))
    return np.concatenate(mixed) if mixed else rows.copy()
