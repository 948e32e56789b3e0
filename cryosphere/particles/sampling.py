"""One grid for the images of all optics groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cryosphere.errors import ConfigError
from cryosphere.physics.resampling import SAME_PIXEL_SIZE, common_grid
from cryosphere.records import ParticleTable

# Pixels; a smaller box says nothing of a protein.
_LEAST_BOX = 8


def on_common_grid(table: ParticleTable, pixel_size: float | None = None) -> ParticleTable:
    """Table whose ``box_size`` and ``pixel_size`` are a grid for all images; a note says if it is new.

    Parameters
    ----------
    table : ParticleTable
    pixel_size : float, optional
        Å; coarser than the images' own, which are then cropped in Fourier space.

    Returns
    -------
    ParticleTable
        With ``group_box_size`` and ``group_pixel_size`` where images differ from the grid, without them where all
        are on it.

    Raises
    ------
    ConfigError
        If the pixel size is finer than the images' or leaves next to nothing of them.
    """
    n_groups = len(table.optics_group_names)
    boxes, pixels = table.group_box_size, table.group_pixel_size
    boxes = np.full(n_groups, table.box_size) if boxes is None else boxes
    pixels = np.full(n_groups, table.pixel_size) if pixels is None else pixels
    coarsest = float(pixels.max())
    if pixel_size is not None and pixel_size < coarsest * (1 - SAME_PIXEL_SIZE):
        raise ConfigError(
            f"particles.pixel_size is {pixel_size:g} Å, finer than the {coarsest:.4g} Å of the images; "
            "give a coarser one, or null to keep theirs."
        )
    box, pixel = common_grid(boxes, pixels, pixel_size)
    if box < _LEAST_BOX:
        raise ConfigError(
            f"particles.pixel_size: pixels of {pixel:.4g} Å leave a box of {box}; give a finer one, for {_LEAST_BOX} "
            "pixels at least."
        )
    differs = (boxes != box) | (np.abs(pixels - pixel) > SAME_PIXEL_SIZE * pixel)
    if not differs.any():
        return replace(table, box_size=box, pixel_size=pixel, group_box_size=None, group_pixel_size=None)
    found = list(dict.fromkeys(f"{b} px at {p:.4g} Å/px" for b, p in zip(boxes, pixels, strict=True)))
    note = f"Images of {' and '.join(found)} are brought to {box} px at {pixel:.4g} Å/px."
    return replace(
        table,
        box_size=box,
        pixel_size=pixel,
        group_box_size=boxes,
        group_pixel_size=pixels,
        notes=table.notes if note in table.notes else (*table.notes, note),
    )
