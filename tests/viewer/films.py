"""Films read back."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import imageio.v3
import numpy as np


def read_film(path: Path) -> tuple[list[np.ndarray], dict]:
    """Frames of a film, and what its file says of them."""
    if path.is_dir():
        return [imageio.v3.imread(file) for file in sorted(path.iterdir())], {}
    if path.suffix == ".gif":
        return list(imageio.v3.imread(path)), imageio.v3.immeta(path)
    # imageio's reader leaves its pipes to the collector of garbage, which then warns.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        frames, meta = list(imageio.v3.imread(path)), imageio.v3.immeta(path)
        gc.collect()
    return frames, meta
