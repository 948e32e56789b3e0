"""Which particles are used for what."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def split_held_out(
    stack_index: Int[np.ndarray, " particle"], image_index: Int[np.ndarray, " particle"], share: float, seed: int
) -> tuple[Int[np.ndarray, " training"], Int[np.ndarray, " held_out"]]:
    """Split rows into training and held-out rows; rows that share an image stay together.

    Returns
    -------
    training, held_out : int arrays
        Ascending. At least one image is trained on; none is held out if ``share`` of the images is less than one.
    """
    pairs = np.column_stack([stack_index, image_index])
    unique, image_of_row = np.unique(pairs, axis=0, return_inverse=True)
    n_held_out = min(int(share * len(unique)), len(unique) - 1)
    chosen = np.random.default_rng([seed, 1]).permutation(len(unique))[:n_held_out]
    held_out = np.isin(image_of_row.ravel(), chosen)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
