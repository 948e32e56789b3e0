"""One box and pixel size for particle images that come in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.physics import resampling

# Optics groups whose sizes are listed in a note.
_LISTED = 4


@dataclass(frozen=True)
class CommonGrid:
    """Grid that images of all groups are brought to when they are read.

    ``group_box_size`` (pixels) and ``group_pixel_size`` (Å) are those of the files, None where all groups have the
    grid's own; ``notes`` say which these are.
    """

    box_size: int
    pixel_size: float
    group_box_size: Int[np.ndarray, " group"] | None
    group_pixel_size: Float[np.ndarray, " group"] | None
    notes: tuple[str, ...]


def common_grid(
    source: str,
    names: Sequence[str],
    box_size: Int[np.ndarray, " group"],
    pixel_size: Float[np.ndarray, " group"],
) -> CommonGrid:
    """Choose a grid that every group's images can be brought to without inventing anything.

    It is that of :func:`cryosphere.physics.resampling.common_grid`. Pixel sizes that differ by less than a thousandth
    are the same.

    Parameters
    ----------
    source : str
        Name of the table, for the note.
    names : sequence of str
        Optics groups, or whatever has images of one size.
    box_size, pixel_size : arrays of shape (group,)
        Pixels, and Å.
    """
    box, pixel = resampling.common_grid(box_size, pixel_size)
    if np.ptp(pixel_size) <= resampling.SAME_PIXEL_SIZE * pixel and np.ptp(box_size) == 0:
        return CommonGrid(box, pixel, None, None, ())
    sizes = [
        f"{name}: {box} px of {size:g} Å"
        for name, box, size in list(zip(names, box_size, pixel_size, strict=True))[:_LISTED]
    ]
    if len(names) > _LISTED:
        sizes.append(f"{len(names) - _LISTED} more")
    note = f"{source} has images of several sizes ({', '.join(sizes)})."
    return CommonGrid(box, pixel, np.asarray(box_size), np.asarray(pixel_size, dtype=np.float64), (note,))
