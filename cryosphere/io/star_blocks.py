"""Where the blocks of a STAR file are, found in one pass that keeps no rows in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int

from cryosphere.errors import InputError

_QUOTED = re.compile(rb"(?<!\S)'([^'\n]*)'(?!\S)")
COMMENT = re.compile(rb"(?m)(?:^|(?<=\s))#.*$")
_TOKEN = re.compile(r'"([^"]*)"(?!\S)|(\S+)')


@dataclass(frozen=True)
class StarBlock:
    """One block: its columns, and its bytes in the file.

    Attributes
    ----------
    name : str
        Without ``data_``.
    columns : tuple of str
        Without the leading underscore, in the order of the file.
    is_loop : bool
        Whether rows follow the header; a block without a loop has its ``values`` beside the names.
    header_end, rows_start, rows_end : int
        Offsets (bytes) behind the last column's line, of the first row, and behind the last one.
    n_rows : int
    values : tuple of str
        Cells of a block without a loop.
    """

    name: str
    columns: tuple[str, ...]
    is_loop: bool
    header_end: int
    rows_start: int
    rows_end: int
    n_rows: int
    values: tuple[str, ...] = ()


def scan_blocks(path: Path) -> list[StarBlock]:
    """Find every block that has columns.

    Raises
    ------
    InputError
        If the file is missing, has text that cannot be STAR, has two loops in a block, or has no block.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; a RELION particle STAR file is expected.")
    blocks: list[_OpenBlock] = []
    offset = 0
    try:
        with open(path, "rb") as file:
            for line in file:
                text = line.strip()
                if text.startswith(b"data_") and len(text.split(None, 1)) == 1:
                    blocks.append(_OpenBlock(text[5:].decode()))
                elif blocks and text and not text.startswith(b"#"):
                    blocks[-1].add(text, offset, offset + len(line))
                offset += len(line)
    except ValueError as error:
        raise parse_error(path, error) from error
    found = [block.close() for block in blocks if block.columns]
    if not found:
        raise InputError(f"{path} is empty or not a STAR file: it has no data_ block with columns.")
    return found


def parse_error(path: Path, error: Exception) -> InputError:
    """The error of text that cannot be STAR."""
    reason = " ".join(str(error).split())
    return InputError(f"{path} cannot be parsed as STAR ({reason}); mend or export it again.")


@dataclass
class _OpenBlock:
    """A block while its lines go by."""

    name: str
    is_loop: bool = False
    columns: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    header_end: int = 0
    start: int = 0
    end: int = 0
    n_rows: int = 0

    def add(self, text: bytes, start: int, end: int) -> None:
        """One line that is neither empty nor a comment; ``start`` and ``end`` are its bytes in the file."""
        if self.n_rows and text != b"loop_":
            self.n_rows += 1
            self.end = end
        elif text == b"loop_":
            if self.columns:
                raise ValueError(f"data_{self.name} has a second loop_")
            self.is_loop = True
        elif text.startswith(b"_"):
            name, *cells = tokens(text)
            self.columns.append(name[1:])
            if not self.is_loop:
                self.values.append(cells[0] if cells else "")
            self.header_end = self.start = self.end = end
        elif self.is_loop and self.columns:
            self.start, self.end, self.n_rows = start, end, 1
        else:
            raise ValueError(f"data_{self.name} has {text[:40].decode()!r} before its columns")

    def close(self) -> StarBlock:
        return StarBlock(
            name=self.name,
            columns=tuple(self.columns),
            is_loop=self.is_loop,
            header_end=self.header_end,
            rows_start=self.start,
            rows_end=self.end,
            n_rows=self.n_rows if self.is_loop else 1,
            values=tuple(self.values),
        )


def tokens(text: bytes) -> list[str]:
    """Cells of a line, without quotes and comments."""
    return [match[1] if match[1] is not None else match[2] for match in _TOKEN.finditer(plain_text(text).decode())]


def plain_text(text: bytes) -> bytes:
    """Lines without comments (``#`` at the start of a cell), and with double quotes where single ones were."""
    if b"#" in text:
        text = COMMENT.sub(b"", text)
    return _QUOTED.sub(rb'"\1"', text) if b"'" in text else text


def read_lines(file: BinaryIO, block: StarBlock, chunk_bytes: int) -> Iterator[bytes]:
    """Text of a block's rows in pieces of whole lines of about ``chunk_bytes``."""
    file.seek(block.rows_start)
    left = block.rows_end - block.rows_start
    while left > 0:
        lines = file.readlines(min(chunk_bytes, left))
        text = b"".join(lines)
        left -= len(text)
        yield text


def row_offsets(path: Path, block: StarBlock) -> Int[np.ndarray, " boundary"]:
    """Offsets (bytes) at which the rows of a block begin, and at last where the last one ends.

    Comments and empty lines between rows count to the row before them.
    """
    starts = np.empty(block.n_rows + 1, dtype=np.int64)
    row, offset = 0, block.rows_start
    with open(path, "rb") as file:
        file.seek(offset)
        while row < block.n_rows:
            line = file.readline()
            text = line.lstrip()
            if text and not text.startswith(b"#"):
                starts[row] = offset
                row += 1
            offset += len(line)
    starts[-1] = block.rows_end
    return starts
