"""The image stacks that a particle table points to: whether they can serve it (``stack_paths`` finds them)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cryosphere.errors import InputError
from cryosphere.io.mrc import SAME_SIZE_TOLERANCE, MRCHeader, read_header


@dataclass(frozen=True)
class StackSet:
    """The stacks of a particle table: existing paths, their common box in pixels, and notes."""

    paths: tuple[Path, ...]
    box_size: int
    notes: tuple[str, ...]


def check_stacks(
    paths: Sequence[Path],
    stack_index: Int[np.ndarray, " particle"],
    image_index: Int[np.ndarray, " particle"],
    *,
    source: Path,
    pixel_size: float,
    box_size: int | None = None,
) -> StackSet:
    """Read the header of every stack once and check it against the table.

    Parameters
    ----------
    paths : sequence of Path
        The stacks.
    stack_index, image_index : int arrays
        Which stack and which image in it (from 0), for every row of the table.
    source : Path
        The table, for messages.
    pixel_size : float
        The table's pixel size, Å; it wins over the headers', with a note.
    box_size : int, optional
        The table's box, where it gives one.

    Raises
    ------
    InputError
        If a stack cannot be read, is not square, differs in box from the others or from the table, or has
        fewer images than a row of the table asks for.
    """
    headers = [read_header(path) for path in paths]
    for header in headers:
        n_rows, n_columns = header.shape[1:]
        if n_rows != n_columns:
            raise InputError(
                f"{header.path} has images of {n_columns} x {n_rows} pixels, expected square ones; "
                "extract or crop the particles again in a square box."
            )
    boxes = np.array([header.shape[1] for header in headers])
    _check_boxes(headers, boxes, source, box_size)
    available = np.array([header.n_images for header in headers])
    beyond = np.flatnonzero(image_index >= available[stack_index])
    if len(beyond):
        row = beyond[0]
        header = headers[stack_index[row]]
        raise InputError(
            f"{source}, row {row + 1}: image {image_index[row] + 1} of {header.path} is asked for, which has "
            f"{header.n_images} images; the table and the stack do not belong together."
        )
    notes = [_summary([note for header in headers for note in header.notes])]
    notes.append(_summary(_pixel_size_notes(headers, pixel_size, source)))
    return StackSet(tuple(paths), int(boxes[0]), tuple(note for note in notes if note))


def _check_boxes(
    headers: list[MRCHeader], boxes: Int[np.ndarray, " stack"], source: Path, box_size: int | None
) -> None:
    """Refuse stacks of several boxes, or of another box than the table's."""
    if box_size is not None and (boxes != box_size).any():
        stack = np.flatnonzero(boxes != box_size)[0]
        raise InputError(
            f"{headers[stack].path} has a box of {boxes[stack]} pixels, {source} says {box_size}; "
            "the table and the stack do not belong together."
        )
    if (boxes != boxes[0]).any():
        stack = np.flatnonzero(boxes != boxes[0])[0]
        raise InputError(
            f"{source} names stacks of several boxes ({headers[0].path}: {boxes[0]} pixels, "
            f"{headers[stack].path}: {boxes[stack]} pixels), one common box is needed; extract them again."
        )


def _pixel_size_notes(headers: list[MRCHeader], pixel_size: float, source: Path) -> list[str]:
    """A note for every header whose pixel size contradicts the table's; a header without one says nothing."""
    return [
        f"{header.path.name} has a pixel size of {header.voxel_size[0]:.4g} Å in its header, "
        f"{source.name} says {pixel_size:.4g} Å; {source.name} wins."
        for header in headers
        if header.voxel_size[0] > 0 and abs(header.voxel_size[0] - pixel_size) > SAME_SIZE_TOLERANCE * pixel_size
    ]


def _summary(notes: list[str]) -> str:
    """The first of several notes of a kind, with the number of the others."""
    if not notes:
        return ""
    return notes[0] if len(notes) == 1 else f"{notes[0]} The same goes for {len(notes) - 1} other stacks."
