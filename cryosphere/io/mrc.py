"""MRC files (MRC2014) through mrcfile: images of stacks, and volumes with their place in space.

Source of the format: Cheng et al., J. Struct. Biol. 192 (2015) 146, and https://www.ccpem.ac.uk/mrc_format.
"""

from __future__ import annotations

import itertools
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import mrcfile
import mrcfile.utils
import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output

# Modes with real numbers (complex transforms and packed 4-bit data are not images of particles).
READABLE_MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}
HEADER_BYTES = 1024
# Pixels along an image; a header with more is not that of an image.
LARGEST_BOX = 2**16
LABEL = "Created by cryoSPHERE"
# Two voxel sizes closer than this (relative) are the same number written by two programs.
SAME_SIZE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class MRCHeader:
    """What a file's header says, checked against the length of the file.

    ``shape`` is (sections, rows, columns) as stored; ``voxel_size`` and ``origin`` are (x, y, z) in Å, zero
    where the header does not say; ``start`` is (x, y, z) in voxels; ``axis_order`` holds the spatial axis
    (0 = x) of columns, rows and sections; ``notes`` say what is odd but harmless.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    data_offset: int
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    start: tuple[int, int, int]
    axis_order: tuple[int, int, int]
    notes: tuple[str, ...] = ()

    @property
    def n_images(self) -> int:
        """Number of sections."""
        return self.shape[0]


@dataclass(frozen=True)
class DensityMap:
    """A volume and its place: voxel ``[0, 0, 0]`` lies at ``origin`` (x, y, z), in Å, of the map's frame."""

    volume: Float[np.ndarray, "z y x"]
    pixel_size: float
    origin: Float[np.ndarray, " 3"]

    @property
    def box_centre(self) -> Float[np.ndarray, " 3"]:
        """Place (x, y, z) of voxel n // 2 along every axis, Å."""
        return self.origin + np.array(self.volume.shape[::-1]) // 2 * self.pixel_size


def read_header(path: str | Path) -> MRCHeader:
    """Read and check the header of an MRC file.

    Raises
    ------
    InputError
        If the file is missing, not MRC, of a mode without real numbers, or shorter than its header promises.
    """
    path = Path(path)
    raw, notes = _raw_header(path)
    if int(raw.mode) not in READABLE_MODES:
        known = ", ".join(f"{mode} ({name})" for mode, name in READABLE_MODES.items())
        raise InputError(f"{path} has MRC mode {int(raw.mode)}, expected one of {known}; convert it to mode 2.")
    shape = tuple(int(raw[name]) for name in ("nz", "ny", "nx"))
    if min(shape) < 1 or max(shape[1:]) > LARGEST_BOX:
        raise InputError(f"{path} is not an MRC file: its header gives the dimensions {shape}.")
    dtype = mrcfile.utils.data_dtype_from_header(raw)
    offset = HEADER_BYTES + int(raw.nsymbt)
    expected, found = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64)), path.stat().st_size
    if found < expected:
        raise InputError(
            f"{path} is truncated: its header promises {shape[0]} images of {shape[2]} x {shape[1]} pixels "
            f"({expected} bytes), the file has {found} bytes; copy it again."
        )
    if found > expected:
        notes.append(f"{path.name} has {found - expected} bytes after its last image; they are ignored.")
    intervals = [int(raw[name]) for name in ("mx", "my", "mz")]
    lengths = [float(raw.cella[name]) for name in "xyz"]
    return MRCHeader(
        path=path,
        shape=shape,
        dtype=dtype,
        data_offset=offset,
        voxel_size=tuple(a / n if n > 0 else 0.0 for a, n in zip(lengths, intervals, strict=True)),
        origin=tuple(float(raw.origin[name]) for name in "xyz"),
        start=tuple(int(raw[name]) for name in ("nxstart", "nystart", "nzstart")),
        axis_order=tuple(int(raw[name]) - 1 for name in ("mapc", "mapr", "maps")),
        notes=tuple(notes),
    )


def _raw_header(path: Path) -> tuple[np.recarray, list[str]]:
    """Header record as mrcfile reads it, and notes.

    mrcfile is permissive here because old RELION and EMAN files without map identifier or machine stamp are
    common and readable; what else it would warn of is checked by :func:`read_header`.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; an MRC file is expected.")
    if not _plausible(path):
        raise InputError(f"{path} is not an MRC file: its header makes no sense; decompress or convert it.")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with mrcfile.open(path, permissive=True, header_only=True) as mrc:
                raw = mrc.header.copy()
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not a readable MRC file: {error}.") from error
    notes = []
    if caught:
        order = "little" if raw.mode.dtype.newbyteorder("<") == raw.mode.dtype else "big"
        notes.append(
            f"{path.name} has no valid MRC identifier or machine stamp; it is read as {order}-endian, "
            "which makes its header plausible."
        )
    return raw, notes


def _plausible(path: Path) -> bool:
    """Whether a header has sane dimensions and lengths in either byte order, and a known mode or an identifier.

    It is asked before mrcfile, which would take any text for a header and read gigabytes of extended header.
    """
    with open(path, "rb") as file:
        first = file.read(HEADER_BYTES)
    if len(first) < HEADER_BYTES:
        return False
    identified = first[208:211] == b"MAP"
    for order in "<>":
        *sizes, mode = struct.unpack(f"{order}4i", first[:16])
        (extended,) = struct.unpack(f"{order}i", first[92:96])
        sane = min(sizes) >= 1 and max(sizes[:2]) <= LARGEST_BOX and 0 <= extended <= path.stat().st_size
        if sane and (identified or mode in READABLE_MODES):
            return True
    return False


def read_images(
    paths: Sequence[str | Path],
    stack_index: Int[np.ndarray, " image"],
    image_index: Int[np.ndarray, " image"],
) -> Float[np.ndarray, "image y x"]:
    """Read images ``image_index`` (from 0) of the stacks ``paths[stack_index]`` as float32, in that order.

    Raises
    ------
    InputError
        If a stack cannot be read, has fewer images than asked for or another box than the first one.
    """
    images = None
    for stack in np.unique(stack_index):
        header = _header_of(Path(paths[stack]))
        rows = np.flatnonzero(stack_index == stack)
        rows = rows[np.argsort(image_index[rows], kind="stable")]
        if image_index[rows[0]] < 0 or image_index[rows[-1]] >= header.n_images:
            raise InputError(
                f"{paths[stack]} has {header.n_images} images, image {image_index[rows[-1]] + 1} is asked for; "
                "the table belongs to another stack."
            )
        if images is None:
            images = np.empty((len(stack_index), *header.shape[1:]), dtype=np.float32)
        elif images.shape[1:] != header.shape[1:]:
            raise InputError(
                f"{paths[stack]} has images of {header.shape[2]} x {header.shape[1]} pixels, the other stacks "
                f"{images.shape[2]} x {images.shape[1]}; all must have one box."
            )
        for row, section in zip(rows, _sections(header, image_index[rows].tolist()), strict=True):
            images[row] = section
    return images if images is not None else np.empty((0, 0, 0), dtype=np.float32)


def _sections(header: MRCHeader, numbers: list[int]) -> Iterator[Float[np.ndarray, "y x"]]:
    """Sections of a file in its own number type, one after the other in the same memory.

    Each is asked for as a whole: through a memory map, a disk gets many requests for a few pages each.
    """
    section = np.empty(header.shape[1:], header.dtype)
    with open(header.path, "rb", buffering=0) as file:
        for number in numbers:
            file.seek(header.data_offset + number * section.nbytes)
            if file.readinto(section.data.cast("B")) < section.nbytes:
                raise InputError(f"{header.path} ends before its image {number + 1}; copy it again.")
            yield section


def _header_of(path: Path) -> MRCHeader:
    """Header of a stack; read once, unless the file changes."""
    status = path.stat() if path.is_file() else None
    return read_header(path) if status is None else _known_header(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=100_000)
def _known_header(path: str, modified_ns: int, size: int) -> MRCHeader:
    """Header of a file that was read before and has not changed since; training reads images of thousands of stacks."""
    return read_header(path)


def write_stack(
    path: str | Path,
    batches: Iterable[np.ndarray],
    *,
    n_images: int,
    pixel_size: float,
    number_type: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
) -> None:
    """Write an image stack from an iterable of batches, holding one batch at a time in memory.

    The same images give the same bytes: the header carries no date.

    Parameters
    ----------
    path : path
        The ``.mrcs`` file.
    batches : iterable of arrays ``[image, y, x]``
        Images in order; one array with all images is ``[array]``.
    n_images : int
        Sum of the batches' lengths, at least 1.
    pixel_size : float
        Å per pixel.
    number_type : str
        ``float16`` (MRC mode 12) halves the file; values beyond its range become the largest that it has.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the file exists and may not be replaced.
    ValueError
        If the batches do not add up to ``n_images`` square images of one box.
    """
    dtype = np.dtype(number_type).newbyteorder("<")
    checked = _square_batches(batches, dtype)
    moments, n_written = _Moments(), 0
    with atomic_output(path, overwrite=overwrite) as temporary:
        first = next(checked, None)
        if first is None:
            raise ValueError(f"{n_images} images were announced for {path}, none came")
        header = _write_first_batch(temporary, first.astype(dtype), n_images, pixel_size)
        with open(temporary, "r+b") as file:
            file.seek(HEADER_BYTES)
            for images in itertools.chain([first], checked):
                file.write(images.astype(dtype, copy=False).data)
                moments.add(images)
                n_written += len(images)
            if n_written != n_images:
                raise ValueError(f"{n_images} images were announced for {path}, {n_written} came")
            header.dmin, header.dmax, header.dmean = moments.minimum, moments.maximum, moments.mean
            header.rms = moments.std
            file.seek(0)
            file.write(header.tobytes())


def _square_batches(batches: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Every batch as contiguous little-endian float32 within the range of the file's number type, refusing other than
    square images of one box."""
    box, limits = None, np.finfo(dtype)
    for batch in batches:
        images = np.ascontiguousarray(batch, dtype="<f4")
        if dtype.itemsize < images.itemsize:
            images = images.clip(limits.min, limits.max)
        if images.ndim != 3 or images.shape[1] != images.shape[2] or box not in (None, images.shape[1]):
            raise ValueError(f"expected batches of square images of one box, found the shape {images.shape}")
        box = images.shape[1]
        if len(images):
            yield images


def _write_first_batch(path: Path, images: np.ndarray, n_images: int, pixel_size: float) -> np.recarray:
    """Let mrcfile make the file and its header, announcing ``n_images``; returns the header."""
    with mrcfile.new(path) as mrc:
        mrc.set_data(images)
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size
        mrc.header.nz = n_images
        _set_label(mrc.header)
        return mrc.header.copy()


def _set_label(header: np.recarray) -> None:
    """Replace mrcfile's label, which holds the time of day and would make equal files differ."""
    header.label[0] = LABEL
    header.nlabl = 1


class _Moments:
    """Running minimum, maximum, mean and standard deviation of the pixels written."""

    def __init__(self) -> None:
        self.count, self.total, self.total_of_squares = 0, 0.0, 0.0
        self.minimum, self.maximum = np.inf, -np.inf

    def add(self, images: np.ndarray) -> None:
        """Take in one batch."""
        self.count += images.size
        self.total += float(images.sum(dtype=np.float64))
        self.total_of_squares += float(np.square(images, dtype=np.float64).sum())
        self.minimum = min(self.minimum, float(images.min()))
        self.maximum = max(self.maximum, float(images.max()))

    @property
    def mean(self) -> float:
        """Mean over all pixels."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Standard deviation over all pixels."""
        return float(np.sqrt(max(self.total_of_squares / self.count - self.mean**2, 0.0)))


def write_volume(
    path: str | Path,
    volume: Float[np.ndarray, "z y x"],
    pixel_size: float,
    origin: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    *,
    overwrite: bool = False,
) -> None:
    """Write a float32 map whose voxel ``[0, 0, 0]`` lies at ``origin`` (x, y, z), in Å.

    Parameters
    ----------
    path : path
        The ``.mrc`` file.
    volume : array ``[z, y, x]``
        Density.
    pixel_size : float
        Å per voxel.
    origin : three floats
        Goes to the header's origin fields, which ChimeraX and other programs honour.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the file exists and may not be replaced.
    """
    with atomic_output(path, overwrite=overwrite) as temporary, mrcfile.new(temporary) as mrc:
        mrc.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        mrc.set_volume()
        mrc.voxel_size = pixel_size
        mrc.header.origin.x, mrc.header.origin.y, mrc.header.origin.z = (float(value) for value in origin)
        _set_label(mrc.header)


def read_volume(path: str | Path) -> DensityMap:
    """Read a map as float32 ``[z, y, x]``, whatever the file's axis order, with the place of its first voxel.

    The place is the header's origin where that is not zero, else its start indices times the voxel size, as
    ChimeraX has it.

    Raises
    ------
    InputError
        As :func:`read_header`, or if the voxels are not cubes of known size or the axes not a permutation.
    """
    header = read_header(path)
    sizes = np.array(header.voxel_size)
    if sizes.min() <= 0 or np.ptp(sizes) > SAME_SIZE_TOLERANCE * sizes.max():
        found = tuple(float(size) for size in sizes.round(4))
        raise InputError(
            f"{path} has the voxel size {found} Å, expected cubes of a known size; resample the map or mend its header."
        )
    if sorted(header.axis_order) != [0, 1, 2]:
        found = tuple(axis + 1 for axis in header.axis_order)
        raise InputError(f"{path} has the axis order {found}, expected a permutation of (1, 2, 3).")
    stored = np.memmap(header.path, header.dtype, mode="r", offset=header.data_offset, shape=header.shape)
    columns, rows, sections = header.axis_order
    # Stored axes are (sections, rows, columns); the array wants (z, y, x) = spatial axes (2, 1, 0).
    axis_of = {sections: 0, rows: 1, columns: 2}
    volume = np.ascontiguousarray(stored.transpose(axis_of[2], axis_of[1], axis_of[0]), dtype=np.float32)
    origin = np.array(header.origin)
    if not origin.any():
        start = np.empty(3)
        start[list(header.axis_order)] = header.start
        origin = start * sizes
    return DensityMap(volume=volume, pixel_size=float(sizes.mean()), origin=origin)
