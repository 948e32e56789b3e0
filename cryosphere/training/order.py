"""The order in which images are trained on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from cryosphere.particles.selection import block_shuffled
from cryosphere.records import ParticleTable

# Bytes of images from which they are read in runs of neighbours: fewer stay in the memory of most machines once read.
_CACHED_BYTES = 16e9
# Bytes of a run, and values of images that are read together.
_RUN_BYTES, _TOGETHER_VALUES = 4_000_000, 10_000_000


class TrainingOrder:
    """Rows in shuffled passes that follow each other, a function of seed and place alone.

    Every pass is a permutation of all rows; of a set too large to stay in memory, one in which images that are read
    together (``n_together``) come in runs that are neighbours in their files, mixed with each other
    (``particles.selection.block_shuffled``), so that few files are opened for each and disks read long pieces.

    Parameters
    ----------
    table : ParticleTable
    rows : int array of shape (image,)
        Those to train on.
    seed : int
    """

    def __init__(self, table: ParticleTable, rows: Int[np.ndarray, " image"], seed: int) -> None:
        self.seed = seed
        box = table.box_size if table.group_box_size is None else int(table.group_box_size.max())
        image_bytes = 4 * box**2
        self.run, self.n_together = 1, 1
        if len(rows) * image_bytes > _CACHED_BYTES:
            self.run = max(1, int(_RUN_BYTES // image_bytes))
            self.n_together = max(self.run, int(_TOGETHER_VALUES // box**2))
            rows = rows[np.lexsort([table.image_index[rows], table.stack_index[rows]])]
        self.rows = rows
        self._epoch, self._shuffled = -1, rows

    def take(self, place: int, count: int) -> Int[np.ndarray, " taken"]:
        """So many rows from the place after ``place`` images have been seen."""
        taken = []
        while count > 0:
            epoch, offset = divmod(place, len(self.rows))
            if epoch != self._epoch:
                generator = np.random.default_rng([self.seed, epoch])
                self._epoch = epoch
                self._shuffled = block_shuffled(self.rows, self.run, generator, self.n_together // self.run)
            part = self._shuffled[offset : offset + count]
            taken.append(part)
            place, count = place + len(part), count - len(part)
        return np.concatenate(taken)
