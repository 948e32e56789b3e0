"""A few images that stand for all: evenly spread rows of a table, and what their grey values are like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.io.mrc import read_images
from cryosphere.records import ParticleTable

# A sampled pixel so many standard deviations from its image's mean is an outlier.
_OUTLIER = 8.0


@dataclass(frozen=True)
class GreyValues:
    """Grey values of sampled images as they are in the files.

    Attributes
    ----------
    n_images, n_unusable : int
        Images that were read, and how many of them are not finite or constant.
    mean, std : tuple of float
        5th, 50th and 95th percentile over images of the mean and standard deviation.
    outliers : float
        Share of the pixels more than 8 standard deviations from the mean of their image.
    first_unusable : int or None
        Input row of the first image that is not finite or constant.
    """

    n_images: int
    n_unusable: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    outliers: float
    first_unusable: int | None


def spread_sample(n_particles: int, n_wanted: int) -> Int[np.ndarray, " row"]:
    """Evenly spread rows, all of them if there are no more."""
    return np.unique(np.linspace(0, n_particles - 1, min(n_particles, n_wanted)).astype(np.int64))


def measure_grey_values(
    table: ParticleTable, rows: Int[np.ndarray, " row"]
) -> tuple[GreyValues, Int[np.ndarray, " usable"]]:
    """Read some images as they are and describe them; give the rows whose images are finite and not constant."""
    means, stds, outliers, n_pixels = np.zeros(len(rows)), np.zeros(len(rows)), 0, 0
    for number, row in enumerate(rows):
        images = read_images(table.stack_paths, table.stack_index[[row]], table.image_index[[row]])
        image = images[0].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            mean, std = image.mean(), image.std()
        means[number], stds[number] = mean, std
        if np.isfinite(mean) and np.isfinite(std) and std > 0:
            outliers += int((np.abs(image - mean) > _OUTLIER * std).sum())
            n_pixels += image.size
    fine = np.isfinite(means) & np.isfinite(stds) & (stds > 0)
    grey = GreyValues(
        n_images=len(rows),
        n_unusable=int((~fine).sum()),
        mean=_percentiles(means[fine]),
        std=_percentiles(stds[fine]),
        outliers=outliers / max(1, n_pixels),
        first_unusable=None if fine.all() else int(table.input_rows[rows[np.flatnonzero(~fine)[0]]]),
    )
    return grey, rows[fine]


def _percentiles(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [5, 50, 95]) if len(values) else (np.nan,) * 3
    return float(low), float(middle), float(high)
