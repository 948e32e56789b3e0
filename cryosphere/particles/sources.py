"""Where particle images come from: the files of a table, brought to the table's grid."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.errors import InputError
from cryosphere.io.mrc import read_images
from cryosphere.particles.aberrations import AberrationCorrection
from cryosphere.physics.resampling import resample, resampling_matrix
from cryosphere.records import ParticleTable

_SAMPLED_IMAGES = 16
# Values of images read at a time where they are resampled.
_CHUNK_VALUES = 8_000_000


class ImageSource(ABC):
    """Gives the images of rows of a table on the table's grid, protein-bright, in the files' grey values.

    ``has_background_at_zero`` says whether the background mean has been subtracted; ``noise_power`` are the noise
    spectra of the optics groups where they are known.
    """

    has_background_at_zero: bool
    noise_power: Float[Tensor, "group shell"] | None

    @abstractmethod
    def pixels(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch y x"] | None:
        """What the files have of some rows, for :meth:`read`, with nothing computed by torch.

        None where images are resampled as they are read.
        """

    @abstractmethod
    def read(
        self, rows: Int[np.ndarray, " batch"], pixels: Float[np.ndarray, "batch y x"] | None = None
    ) -> Float[Tensor, "batch y x"]:
        """Images of some rows, float32; ``pixels`` where they were read before."""

    @abstractmethod
    def shift(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch 2"]:
        """What is left of the table's shifts, Å, in images that were moved by whole pixels and undistorted."""


class OriginalImages(ImageSource):
    """The images in the files of a table, corrected for the aberrations of their optics groups.

    Where they have another box or pixel size than the table, every image is first centred by whole pixels, so that
    cutting the field of view leaves the particle in it, and then resampled.

    Parameters
    ----------
    table : ParticleTable
    invert : bool
        Whether protein is dark in the files, after the table's own ``sign`` of each image.
    """

    has_background_at_zero = False
    noise_power = None

    def __init__(self, table: ParticleTable, invert: bool = False) -> None:
        self.table = table
        self.sign = -1.0 if invert else 1.0
        self.aberrations = AberrationCorrection(table)
        self._matrices: dict[tuple[int, float], Tensor] = {}

    def shift(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch 2"]:
        """Shifts of the table, Å, less the whole pixels by which resampled images have been moved, undistorted."""
        table, group = self.table, self.table.optics_group[rows]
        shift = table.shift[rows]
        if table.group_pixel_size is not None:
            shift = shift - self._whole_pixels(rows) * table.group_pixel_size[group, None]
        return self.aberrations.shift(shift, group)

    def pixels(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch y x"] | None:
        """What the files have of some rows, unless it is to be resampled; for errors see :meth:`read`."""
        return self._pixels(rows) if self.table.group_box_size is None else None

    def read(
        self, rows: Int[np.ndarray, " batch"], pixels: Float[np.ndarray, "batch y x"] | None = None
    ) -> Float[Tensor, "batch y x"]:
        """Images of some rows on the table's grid, float32; InputError names one that has pixels without a value."""
        table = self.table
        if table.group_box_size is None:
            return self._corrected(torch.from_numpy(self._pixels(rows) if pixels is None else pixels), rows)
        images = torch.empty(len(rows), table.box_size, table.box_size)
        sampling = np.column_stack([table.group_box_size, table.group_pixel_size])[table.optics_group[rows]]
        for box, pixel_size in np.unique(sampling, axis=0):
            alike = np.flatnonzero((sampling == (box, pixel_size)).all(1))
            size = max(1, int(_CHUNK_VALUES / box**2))
            matrix = self._matrix(int(box), float(pixel_size))
            for start in range(0, len(alike), size):
                part = alike[start : start + size]
                original = torch.from_numpy(self._pixels(rows[part]))
                images[part] = resample(roll(original, self._whole_pixels(rows[part])), matrix)
        return self._corrected(images, rows)

    def _corrected(
        self, images: Float[Tensor, "batch y x"], rows: Int[np.ndarray, " batch"]
    ) -> Float[Tensor, "batch y x"]:
        """Images on the table's grid, protein-bright and without the aberrations of their optics groups."""
        table = self.table
        if table.sign is not None:
            images = images * torch.from_numpy(table.sign[rows].astype(np.float32))[:, None, None]
        return self.sign * self.aberrations.correct(images, table.optics_group[rows])

    def _whole_pixels(self, rows: Int[np.ndarray, " batch"]) -> Int[np.ndarray, "batch 2"]:
        """Shifts (x, y) in pixels of the files, rounded."""
        table = self.table
        return nearest_pixels(table.shift[rows], table.group_pixel_size[table.optics_group[rows], None])

    def _matrix(self, box_size: int, pixel_size: float) -> Float[Tensor, "new old"]:
        key = (box_size, pixel_size)
        if key not in self._matrices:
            table = self.table
            self._matrices[key] = resampling_matrix(box_size, pixel_size, table.box_size, table.pixel_size).float()
        return self._matrices[key]

    def _pixels(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch y x"]:
        table = self.table
        images = read_images(table.stack_paths, table.stack_index[rows], table.image_index[rows])
        finite = np.isfinite(images).all(axis=(1, 2))
        if not finite.all():
            row = rows[np.flatnonzero(~finite)[0]]
            raise InputError(
                f"{table.stack_paths[table.stack_index[row]]}: image {table.image_index[row] + 1} (row "
                f"{table.input_rows[row]} of {table.source.name}, from 0) has pixels that are not finite numbers; "
                "leave it out or extract it again."
            )
        return images


def nearest_pixels(
    shift: Float[np.ndarray, "batch 2"], pixel_size: Float[np.ndarray, "batch 1"] | float
) -> Int[np.ndarray, "batch 2"]:
    """Shifts (Å) in whole pixels."""
    return np.rint(shift / pixel_size).astype(np.int64)


def roll(images: Float[Tensor, "batch y x"], pixels: Int[np.ndarray, "batch 2"]) -> Float[Tensor, "batch y x"]:
    """Move the content of images by whole pixels (x, y), around the edges."""
    moved = [torch.roll(image, (y, x), (0, 1)) for image, (x, y) in zip(images, pixels.tolist(), strict=True)]
    return torch.stack(moved) if moved else images


def image_of_row(
    stack_index: Int[np.ndarray, " particle"], image_index: Int[np.ndarray, " particle"]
) -> tuple[Int[np.ndarray, " image"], Int[np.ndarray, " particle"]]:
    """First row of every distinct image, and which of these images every row has."""
    keys = stack_index.astype(np.int64) * (int(image_index.max(initial=0)) + 1) + image_index
    _, first, image = np.unique(keys, return_index=True, return_inverse=True)
    return first, image.ravel()


def sampled_pixels(table: ParticleTable) -> bytes:
    """Pixels of some evenly spread images, by which it is seen whether files are still the same."""
    rows = np.linspace(0, table.n_particles - 1, min(table.n_particles, _SAMPLED_IMAGES)).astype(int)
    return b"".join(
        read_images(table.stack_paths, table.stack_index[[row]], table.image_index[[row]]).tobytes() for row in rows
    )


def contents_digest(table: ParticleTable) -> str:
    """SHA-256 over sizes and names of the stacks and the pixels of some images; folders do not enter."""
    digest = hashlib.sha256()
    for path in table.stack_paths:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    digest.update(sampled_pixels(table))
    return digest.hexdigest()
