"""Placing a structure: from the file's frame to the model frame, whose origin is the centre of the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from cryosphere.errors import ConfigError
from cryosphere.records import Structure

ORIGINS = ("center", "corner", "auto")
# Å; box centres nearer than this are one place.
_SAME_CENTRE_A = 0.5


def place(
    structure: Structure,
    origin: Literal["center", "corner", "auto"] | Sequence[float],
    box_size: int,
    pixel_size: float,
    file_centres: Float[np.ndarray, " group"] | None = None,
) -> Structure:
    """Move a structure to the model frame (Å, origin at voxel ``box_size // 2``) and note what was found.

    Parameters
    ----------
    structure : Structure
        In the frame of its file.
    origin : str or three floats
        Where the file has its origin: ``"center"`` of the box, so that the coordinates stay; ``"corner"``, so that
        the centre is at ``file_centres`` along each axis; ``"auto"`` takes whichever of the two
        brings the amplitude-weighted centroid nearer to the centre of the box. Or where the box centre lies in the
        file's frame, (x, y, z) in Å: the middle of the map that the structure was fitted into.
    box_size : int
        Pixels along the images.
    pixel_size : float
        Å per pixel.
    file_centres : array of shape (group,), optional
        Where the box centre lies in the images' files (Å from the corner), whose map the structure lies in; by default
        ``(box_size // 2) * pixel_size``, which images that were cropped or resampled need not have.

    Returns
    -------
    Structure
        A moved copy; ``frame_shift`` leads back, ``notes`` say what ``auto`` chose and whether the box is too small.

    Raises
    ------
    ConfigError
        If ``origin`` is none of these, or is the corner of boxes that have their centres in several places.
    """
    if not isinstance(origin, str):
        return _place_at(structure, origin, box_size, pixel_size)
    if origin not in ORIGINS:
        raise ConfigError(f"structure.origin is {origin!r}, expected one of {', '.join(ORIGINS)}, or [x, y, z].")
    centres = np.array([(box_size // 2) * pixel_size]) if file_centres is None else file_centres
    box_centre = np.full(3, centres[0])
    notes = []
    if origin == "auto":
        origin, note = _choose_origin(structure, box_centre)
        notes.append(note)
    if origin == "corner" and np.ptp(centres) > _SAME_CENTRE_A:
        listed = ", ".join(f"{centre:.1f}" for centre in np.unique(centres.round(1)))
        raise ConfigError(
            f"structure.origin: the boxes of the optics groups have their centres at {listed} Å from the corner, so "
            "that the structure's place is not known; set structure.origin to [x, y, z], the centre of the consensus "
            "map in its own frame (`cryosphere init --map` does)."
        )
    placed = structure.translated(-box_centre) if origin == "corner" else structure
    notes += _fit_notes(placed, box_size, pixel_size)
    return replace(placed, notes=(*structure.notes, *notes))


def _place_at(structure: Structure, centre: Sequence[float], box_size: int, pixel_size: float) -> Structure:
    """Move a structure so that a point of its frame becomes the box centre."""
    point = np.asarray(centre, dtype=np.float64)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ConfigError(f"structure.origin is {list(centre)}, expected three numbers (x, y, z in Å) or a word.")
    placed = structure.translated(-point)
    return replace(placed, notes=(*structure.notes, *_fit_notes(placed, box_size, pixel_size)))


def _choose_origin(structure: Structure, box_centre: Float[np.ndarray, " 3"]) -> tuple[str, str]:
    """Return ``"center"`` or ``"corner"``, whichever centres the structure better, and the sentence that says so."""
    centroid = _centroid(structure)
    if_center = float(np.linalg.norm(centroid))
    if_corner = float(np.linalg.norm(centroid - box_centre))
    chosen = "corner" if if_corner < if_center else "center"
    near, far = sorted((if_center, if_corner))
    return chosen, (
        f"structure.origin: auto took {chosen!r} for {structure.source}, whose centroid then is {near:.1f} Å from "
        f"the box centre (otherwise {far:.1f} Å)."
    )


def _centroid(structure: Structure) -> Float[np.ndarray, " 3"]:
    """Mean residue position weighted by amplitude, Å."""
    return np.average(structure.residue_positions, axis=0, weights=structure.amplitudes)


def _fit_notes(structure: Structure, box_size: int, pixel_size: float) -> list[str]:
    """Say with numbers if residues lie outside the box, or would do so in some orientation."""
    half_width = box_size * pixel_size / 2
    positions = structure.residue_positions
    n_outside = int((np.abs(positions) > half_width).any(axis=1).sum())
    reach = float(np.linalg.norm(positions, axis=1).max())
    box = f"the box of {box_size} pixels x {pixel_size:g} Å = {2 * half_width:.0f} Å"
    if n_outside:
        return [
            f"{structure.source}: {n_outside} of {structure.n_residues} residues lie outside {box} (the farthest "
            f"{reach:.1f} Å from its centre); the box is smaller than the structure or structure.origin is wrong."
        ]
    if reach > half_width:
        return [
            f"{structure.source} reaches {reach:.1f} Å from the centre of {box}, more than half of it; "
            "in some orientations residues fall outside the images."
        ]
    return []
