"""Frames of a path as a film: a folder of PNG images, a GIF or an MP4, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.io.folders import atomic_folder

FilmFormat = Literal["mp4", "gif", "png"]
FILM_FORMATS: tuple[FilmFormat, ...] = get_args(FilmFormat)
FIRST_IMAGE = "frame_0001.png"
# Colours of a GIF are chosen for all its frames together.
_GIF_OPTIONS = ["-filter_complex", "[0:v]split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=sierra2_4a", "-loop", "0"]
_MP4_OPTIONS = ["-crf", "18", "-preset", "medium", "-movflags", "+faststart"]


def film_frames(n_frames: int, forth_and_back: bool) -> list[int]:
    """Frames of a path in the order of the film; forth and back, so that its end meets its start, no frame twice."""
    forth = list(range(n_frames))
    return forth + forth[-2:0:-1] if forth_and_back else forth


def film_format(path: Path) -> FilmFormat:
    """Format that a path's suffix says; a name without suffix is a folder of PNG images.

    Raises
    ------
    InputError
        Another suffix.
    """
    found = path.suffix.lower().lstrip(".") or "png"
    if found not in FILM_FORMATS or path.suffix.lower() == ".png":
        raise InputError(f"{path}: expected a name that ends in .mp4 or .gif, or one without ending for PNG images.")
    return found


class Film:
    """A film that is being written; nothing of it stays unless :meth:`finish` is called.

    Parameters
    ----------
    path : path
        ``.mp4``, ``.gif``, or a folder for PNG images.
    frames_per_second : float
    overwrite : bool
        Whether an older film may be replaced.

    Raises
    ------
    InputError
        The path exists and may not be replaced, cannot be written to, or has another suffix.
    """

    def __init__(self, path: Path | str, frames_per_second: float = 15.0, overwrite: bool = False) -> None:
        self.path, self.n_frames = Path(path), 0
        self.format = film_format(self.path)
        self.frames_per_second = frames_per_second
        if self.path.exists() and not overwrite:
            raise InputError(f"{self.path} exists and is kept; choose another name.")
        self._stack = ExitStack()
        self._encoder: Iterator | None = None
        self._size: tuple[int, int] | None = None
        if self.format == "png":
            opened = atomic_folder(self.path, marker=FIRST_IMAGE, overwrite=overwrite)
        else:
            opened = atomic_output(self.path, overwrite=overwrite)
        self._temporary = self._stack.enter_context(opened)

    def add(self, image: UInt8[np.ndarray, "row column channel"]) -> None:
        """Write the next frame, of RGB or RGBA; it is cut to the even size of the first.

        Raises
        ------
        InputError
            The window was made smaller meanwhile.
        """
        if self._size is None:
            self._size = (image.shape[0] // 2 * 2, image.shape[1] // 2 * 2)
        if image.shape[0] < self._size[0] or image.shape[1] < self._size[1]:
            raise InputError(f"{self.path}: the window changed its size while recording; record again.")
        frame = np.ascontiguousarray(image[: self._size[0], : self._size[1], :3])
        self.n_frames += 1
        if self.format == "png":
            from imageio.v3 import imwrite

            imwrite(self._temporary / f"frame_{self.n_frames:04d}.png", frame)
            return
        if self._encoder is None:
            self._encoder = self._start()
        self._encoder.send(frame)

    def _start(self) -> Iterator:
        from imageio_ffmpeg import write_frames

        is_gif = self.format == "gif"
        encoder = write_frames(
            str(self._temporary),
            self._size[::-1],
            fps=self.frames_per_second,
            codec="gif" if is_gif else "libx264",
            pix_fmt_out="pal8" if is_gif else "yuv420p",
            quality=None,
            macro_block_size=2,
            output_params=_GIF_OPTIONS if is_gif else _MP4_OPTIONS,
        )
        encoder.send(None)
        return encoder

    def finish(self) -> Path:
        """Write what is left, and give the film its name."""
        self._close_encoder()
        self._stack.close()
        return self.path

    def abort(self) -> None:
        """Leave nothing of this film, and an older one as it was."""
        self._close_encoder()
        self._stack.__exit__(Abandoned, Abandoned(), None)

    def _close_encoder(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None


class Abandoned(Exception):
    """Nobody wants the film any more."""
