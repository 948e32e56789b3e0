"""The order in which images are trained on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


class TrainingOrder:
    """Rows in permutations that follow each other, a function of seed and place alone.

    Parameters
    ----------
    rows : int array of shape (image,)
        Those to train on.
    seed : int
    """

    def __init__(self, rows: Int[np.ndarray, " image"], seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._epoch, self._permuted = -1, rows

    def take(self, place: int, count: int) -> Int[np.ndarray, " taken"]:
        """So many rows from the place after ``place`` images have been seen."""
        taken = []
        while count > 0:
            epoch, offset = divmod(place, len(self.rows))
            if epoch != self._epoch:
                self._epoch = epoch
                self._permuted = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            part = self._permuted[offset : offset + count]
            taken.append(part)
            place, count = place + len(part), count - len(part)
        return np.concatenate(taken)
