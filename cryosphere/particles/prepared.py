"""Particle images prepared once and kept as one stack in the run folder.

In the stack, images are on the table's grid (Fourier-cropped or resampled where the files have another),
protein-bright, with background mean 0, divided by the background's standard deviation of their optics group, and
centred by whole pixels. What training may still change is left for when they are read: whitening (noise spectra are
refined from residuals), the rest of the shift (poses may be refined), and the mask, which comes after whitening. The
standard deviation is the group's and not the image's own, as contrast and noise of an image go into the model; reading
multiplies it back. Results are those without a stack, to the precision of the number type.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.config import ParticlesConfig
from cryosphere.errors import InputError
from cryosphere.io.folders import atomic_folder
from cryosphere.io.mrc import HEADER_BYTES, read_images, write_stack
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.sources import ImageSource, OriginalImages, contents_digest, nearest_pixels, roll
from cryosphere.physics.noise import pixel_variance
from cryosphere.progress import Bar
from cryosphere.records import ParticleTable

STACK, DESCRIPTION = "particles.mrcs", "prepared.json"
# Of what is written here; another number makes old stacks be written anew.
_VERSION = 1
# Values of images held at a time.
_CHUNK_VALUES = 8_000_000
# Columns of a table that are not in its images; all others are, or may be.
_NOT_IN_IMAGES = {
    *("rotmat", "defocus_u", "defocus_v", "defocus_angle", "phase_shift", "b_factor", "scale", "amplitude_contrast"),
    *("half_set", "input_row", "group_even_zernike"),
}
_STEPS = (
    "Fourier-cropped or resampled to this grid where the files have another",
    "protein bright",
    "background mean 0 per image, standard deviation 1 per optics group (divided by scale)",
    "centred by whole pixels of the files",
)


@dataclass(frozen=True)
class StackOrder:
    """What a prepared stack is to hold.

    Rows that share an image and its shift (symmetry expansion) share it in the stack too.
    """

    table: ParticleTable
    mask_radius: float
    invert: bool
    number_type: Literal["float16", "float32"]

    @classmethod
    def of(cls, particles: ParticlesConfig, table: ParticleTable, mask_radius: float) -> StackOrder | None:
        """Order that a configuration asks for, if any: ``auto`` means float16 where images have to be resampled."""
        number_type = particles.stack
        if number_type == "auto":
            number_type = "none" if table.group_box_size is None else "float16"
        return None if number_type == "none" else cls(table, mask_radius, particles.invert, number_type)

    @cached_property
    def original(self) -> OriginalImages:
        """The images in their files."""
        return OriginalImages(self.table, self.invert)

    @cached_property
    def images(self) -> tuple[Int[np.ndarray, " image"], Int[np.ndarray, " particle"]]:
        """First row of every image of the stack, in the order of the table, and the image of every row."""
        table = self.table
        distinct = np.column_stack([table.stack_index, table.image_index, table.optics_group, table.shift])
        _, first, image = np.unique(distinct, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return first[order], np.argsort(order)[image.ravel()]

    def whole_pixels(self, rows: Int[np.ndarray, " batch"]) -> Int[np.ndarray, "batch 2"]:
        """Pixels (x, y) by which images are moved in the stack."""
        return nearest_pixels(self.original.shift(rows), self.table.pixel_size)

    @property
    def n_bytes(self) -> int:
        """Size of the stack's file."""
        return HEADER_BYTES + len(self.images[0]) * self.table.box_size**2 * np.dtype(self.number_type).itemsize

    @cached_property
    def settings(self) -> str:
        """SHA-256 over all that the stack depends on but for the pixels of the files."""
        table, digest = self.table, hashlib.sha256()
        told = (_VERSION, table.box_size, f"{table.pixel_size:.6f}", f"{self.mask_radius:.6f}", self.invert)
        digest.update(" ".join(map(str, (*told, self.number_type))).encode())
        for name, value in vars(table).items():
            if isinstance(value, np.ndarray) and name not in _NOT_IN_IMAGES:
                digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
        digest.update(" ".join(path.name for path in table.stack_paths).encode())
        return digest.hexdigest()

    def describe(self, folder: Path) -> str:
        """Sentence on what is written, and how large it is."""
        table = self.table
        return (
            f"Preparing {len(self.images[0])} images ({table.box_size} px at {table.pixel_size:.4g} Å/px, "
            f"{self.number_type}) once: {_size(self.n_bytes)} in {folder}."
        )

    def check_disk(self, folder: Path) -> None:
        """Refuse a stack that does not fit on the disk (InputError); an older stack in the way counts as free."""
        place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
        free = shutil.disk_usage(place).free
        if (folder / STACK).is_file():
            free += (folder / STACK).stat().st_size
        if self.n_bytes > free:
            smaller = "" if self.number_type == "float16" else "particles.stack: float16, "
            raise InputError(
                f"{folder / STACK}: the prepared images need {_size(self.n_bytes)}, the disk has {_size(free)} free; "
                f"make room, choose another -o, or set a coarser particles.pixel_size, {smaller}or "
                "particles.stack: none."
            )


class PreparedStack(ImageSource):
    """Images of a prepared stack, read from it when they are asked for.

    Parameters
    ----------
    order : StackOrder
    path : Path
        The stack.
    scale : tensor of shape (group,)
        By which the images of every optics group were divided.
    noise_power : tensor of shape (group, shell)
        Noise spectra of the original images, in their grey values squared.
    """

    has_background_at_zero = True

    def __init__(
        self, order: StackOrder, path: Path, scale: Float[Tensor, " group"], noise_power: Float[Tensor, "group shell"]
    ) -> None:
        self.order, self.path, self.scale, self.noise_power = order, path, scale, noise_power

    def shift(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch 2"]:
        """Shifts of the table, Å, less the whole pixels by which images have been moved."""
        return self.order.original.shift(rows) - self.order.whole_pixels(rows) * self.order.table.pixel_size

    def pixels(self, rows: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch y x"]:
        """Images of some rows as they are in the stack, float32."""
        index = self.order.images[1][rows]
        return read_images([self.path], np.zeros(len(index), np.int64), index)

    def read(
        self, rows: Int[np.ndarray, " batch"], pixels: Float[np.ndarray, "batch y x"] | None = None
    ) -> Float[Tensor, "batch y x"]:
        """Images of some rows in the files' grey values, float32; ``pixels`` where they were read before."""
        images = torch.from_numpy(self.pixels(rows) if pixels is None else pixels)
        return images * self.scale[self.order.table.optics_group[rows]][:, None, None]


def open_prepared(folder: Path, order: StackOrder) -> PreparedStack | None:
    """Prepared stack in a folder, if there is one that was made as ordered from these files.

    Files that are not there any more are not asked.
    """
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        is_whole = (folder / STACK).stat().st_size == order.n_bytes
    except (OSError, ValueError):
        return None
    if not is_whole or told.get("settings") != order.settings:
        return None
    if all(path.exists() for path in order.table.stack_paths) and told["contents"] != contents_digest(order.table):
        return None
    scale, noise_power = (torch.tensor(told[name], dtype=torch.float32) for name in ("scale", "noise_power"))
    return PreparedStack(order, folder / STACK, scale, noise_power)


def prepare(
    order: StackOrder,
    images: ParticleImages,
    folder: Path,
    *,
    shared: Path | None = None,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda sentence: None,
) -> PreparedStack:
    """Prepared stack in a folder: the one that is there, one linked from elsewhere, or one written now, whole or not
    at all.

    Parameters
    ----------
    order : StackOrder
    images : ParticleImages
        Of the original files, with the noise they were found to have.
    folder : Path
        Of the stack alone; what it holds of other settings is removed.
    shared : Path, optional
        Folder of another run's stack, which is linked if it fits.
    show_progress : bool
        Progress bar on stderr.
    say : callable
        Receives the sentence with the stack's size.

    Raises
    ------
    InputError
        An image has pixels that are not finite, or the disk is too small.
    """
    found = open_prepared(folder, order)
    if found is not None:
        return found
    if folder.is_dir():
        shutil.rmtree(folder)
    for stray in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(stray)  # half-written when a run was killed
    if shared is None or open_prepared(shared, order) is None or not _link(shared, folder):
        order.check_disk(folder)
        say(order.describe(folder))
        _write(order, images, folder, show_progress)
    found = open_prepared(folder, order)
    assert found is not None, "a stack just written is what was ordered"
    return found


def _link(source: Path, folder: Path) -> bool:
    """Hard-link a stack into another folder; False where the file system cannot."""
    try:
        with atomic_folder(folder, marker=DESCRIPTION) as temporary:
            for name in (STACK, DESCRIPTION):
                os.link(source / name, temporary / name)
    except OSError:
        return False
    return True


def _write(order: StackOrder, images: ParticleImages, folder: Path, show_progress: bool) -> None:
    table = order.table
    variance = torch.stack([pixel_variance(power, table.box_size) for power in images.noise_power])
    scale = variance.sqrt().float()
    description = {
        "steps": list(_STEPS),
        "pixel_size": table.pixel_size,
        "settings": order.settings,
        "contents": contents_digest(table),
        "scale": scale.tolist(),
        "noise_power": images.noise_power.tolist(),
    }
    first = order.images[0]
    with (
        atomic_folder(folder, marker=DESCRIPTION, overwrite=True) as temporary,
        Bar(total=len(first), desc="prepare", unit="image", disable=not show_progress) as bar,
    ):
        write_stack(
            temporary / STACK,
            _prepared_batches(order, images, scale, bar),
            n_images=len(first),
            pixel_size=table.pixel_size,
            number_type=order.number_type,
        )
        (temporary / DESCRIPTION).write_text(json.dumps(description) + "\n", encoding="utf-8")


def _prepared_batches(
    order: StackOrder, images: ParticleImages, scale: Float[Tensor, " group"], bar: Bar
) -> Iterator[Float[np.ndarray, "batch y x"]]:
    table, rows = order.table, order.images[0]
    size = max(1, _CHUNK_VALUES // table.box_size**2)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        batch = roll(images.with_background_at_zero(order.original.read(part)), order.whole_pixels(part))
        yield (batch / scale[table.optics_group[part]][:, None, None]).numpy()
        bar.update(len(part))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:.2f} MB"
