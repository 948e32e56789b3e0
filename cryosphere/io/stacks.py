"""The image stacks that a particle table points to: where they are, and whether they can serve it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.mrc import SAME_SIZE_TOLERANCE, MRCHeader, read_header


@dataclass(frozen=True)
class StackSet:
    """The stacks of a table with optics groups: existing paths, the box (pixels) of every group, and notes."""

    paths: tuple[Path, ...]
    box_size: Int[np.ndarray, " group"]
    notes: tuple[str, ...]


def check_stacks(
    paths: Sequence[Path],
    stack_index: Int[np.ndarray, " particle"],
    image_index: Int[np.ndarray, " particle"],
    group: Int[np.ndarray, " particle"],
    *,
    source: Path,
    pixel_size: Float[np.ndarray, " group"],
    box_size: Int[np.ndarray, " group"] | None = None,
) -> StackSet:
    """Read the header of every stack once and check it against what the table says of its optics groups.

    Parameters
    ----------
    paths : sequence of Path
        The stacks.
    stack_index, image_index : int arrays of shape (particle,)
        Which stack and which image in it (from 0), for every row of the table.
    group : int array of shape (particle,)
        Optics group of every row (from 0).
    source : Path
        The table, for messages.
    pixel_size : array of shape (group,)
        The table's pixel sizes, Å; they win over the headers', with a note.
    box_size : int array of shape (group,), optional
        The table's boxes, where it gives them.

    Raises
    ------
    InputError
        If a stack cannot be read, is not square, differs in box from the table or from other stacks of its group, or
        has fewer images than a row of the table asks for.
    """
    headers = [read_header(path) for path in paths]
    for header in headers:
        n_rows, n_columns = header.shape[1:]
        if n_rows != n_columns:
            raise InputError(
                f"{header.path} has images of {n_columns} x {n_rows} pixels, expected square ones; "
                "extract or crop the particles again in a square box."
            )
    available = np.array([header.n_images for header in headers])
    beyond = np.flatnonzero(image_index >= available[stack_index])
    if len(beyond):
        row = beyond[0]
        header = headers[stack_index[row]]
        raise InputError(
            f"{source}, row {row + 1}: image {image_index[row] + 1} of {header.path} is asked for, which has "
            f"{header.n_images} images; the table and the stack do not belong together."
        )
    keys = np.unique(group * np.int64(len(headers)) + stack_index)
    pairs = [(int(key // len(headers)), headers[key % len(headers)]) for key in keys]
    boxes = _group_boxes(pairs, source, len(pixel_size), box_size)
    notes = [_summary([note for header in headers for note in header.notes])]
    notes.append(_summary(_pixel_size_notes(pairs, pixel_size, source)))
    return StackSet(tuple(paths), boxes, tuple(note for note in notes if note))


def _group_boxes(
    pairs: list[tuple[int, MRCHeader]], source: Path, n_groups: int, box_size: Int[np.ndarray, " group"] | None
) -> Int[np.ndarray, " group"]:
    """Box of every group, from (group, stack) pairs: the one of all its stacks, and the table's if it gives one."""
    first: dict[int, MRCHeader] = {}
    for group, header in pairs:
        box = header.shape[1]
        if box_size is not None and box != box_size[group]:
            raise InputError(
                f"{header.path} has a box of {box} pixels, {source} says {box_size[group]}; "
                "the table and the stack do not belong together."
            )
        other = first.setdefault(group, header)
        if other.shape[1] != box:
            raise InputError(
                f"{source} names stacks of several boxes ({other.path}: {other.shape[1]} pixels, "
                f"{header.path}: {box} pixels) in one optics group; extract them again, or give them groups."
            )
    return np.array([first[group].shape[1] for group in range(n_groups)])


def _pixel_size_notes(
    pairs: list[tuple[int, MRCHeader]], pixel_sizes: Float[np.ndarray, " group"], source: Path
) -> list[str]:
    """A note for every stack whose pixel size contradicts the table's; a header without one says nothing."""
    notes = {}
    for group, header in pairs:
        found, pixel_size = header.voxel_size[0], float(pixel_sizes[group])
        if found > 0 and abs(found - pixel_size) > SAME_SIZE_TOLERANCE * pixel_size:
            notes[header.path] = (
                f"{header.path.name} has a pixel size of {found:.4g} Å in its header, "
                f"{source.name} says {pixel_size:.4g} Å; {source.name} wins."
            )
    return list(notes.values())


def _summary(notes: list[str]) -> str:
    """The first of several notes of a kind, with the number of the others."""
    if not notes:
        return ""
    return notes[0] if len(notes) == 1 else f"{notes[0]} The same goes for {len(notes) - 1} other stacks."
