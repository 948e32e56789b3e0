"""Subsets of particle STAR files: the chosen rows and everything around them, byte for byte."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.io.star import particle_block
from cryosphere.io.star_blocks import COMMENT, StarBlock, row_offsets, scan_blocks
from cryosphere.progress import Bar


def write_subset(
    source: str | Path,
    rows: Int[np.ndarray, " row"],
    path: str | Path,
    extra_columns: Mapping[str, Sequence | np.ndarray] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write some particles of a STAR file (3.0, 3.1 or later) as another one.

    Every other block, the header of the particle table and the text of the chosen rows are copied byte for byte;
    comments between rows stay with the row before them. All rows in their order give an identical file. Paths of
    stacks stay as they are, also where they are relative to the folder of ``source``.

    Parameters
    ----------
    source : path
        Particle STAR file.
    rows : int array of shape (row,)
        Rows of the particle table (from 0), in the order in which they are to be written.
    path : path
        The new file.
    extra_columns : mapping of column name to values, optional
        Further columns behind those of the table, one value for every row that is written: numbers, or texts without
        blanks.
    overwrite : bool
        Whether an existing file may be replaced; ``source`` never is.

    Raises
    ------
    InputError
        If ``source`` is no particle STAR file or has no loop, there are no rows or some out of range, columns are there
        already, do not fit the rows or cannot be written, or the file exists and may not be replaced.
    """
    source, path = Path(source), Path(path)
    if path.exists() and path.resolve() == source.resolve():
        raise InputError(f"{path} is the file that the rows come from and is kept; choose another name.")
    block = particle_block(source, scan_blocks(source))
    _check_rows(source, block, rows)
    names, cells = _checked_columns(source, block, extra_columns or {}, len(rows))
    bounds = row_offsets(source, block)
    with (
        atomic_output(path, overwrite=overwrite) as temporary,
        open(source, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        open(temporary, "wb") as output,
    ):
        newline = b"\r\n" if text[: block.header_end].endswith(b"\r\n") else b"\n"
        output.write(text[: block.header_end])
        for number, name in enumerate(names, start=len(block.columns) + 1):
            output.write(f"_{name} #{number} ".encode() + newline)
        output.write(text[block.header_end : block.rows_start])
        last = len(rows) - 1
        for index, row in enumerate(Bar(rows.tolist(), desc="particles", unit="row", disable=True)):
            line = text[bounds[row] : bounds[row + 1]]
            if names:
                line = _with_cells(line, [column[index] for column in cells])
            if not line.endswith(b"\n") and (index < last or block.rows_end < len(text)):
                line += newline
            output.write(line)
        output.write(text[block.rows_end :])


def _check_rows(source: Path, block: StarBlock, rows: Int[np.ndarray, " row"]) -> None:
    """Refuse rows that are not in the table."""
    if not block.is_loop:
        raise InputError(f"{source} has its particles without a loop_; write the file with RELION first.")
    if len(rows) == 0:
        raise InputError(f"no particle of {source} is chosen, so that there is nothing to write; choose some.")
    beyond = rows[(rows < 0) | (rows >= block.n_rows)]
    if len(beyond):
        raise InputError(
            f"{source} has {block.n_rows} particles, row {beyond[0]} (counted from 0) is asked for; "
            "the rows belong to another file."
        )


def _checked_columns(
    source: Path, block: StarBlock, columns: Mapping[str, Sequence | np.ndarray], n_rows: int
) -> tuple[list[str], list[list[str]]]:
    """Names without underscore and cells as text of the columns to be added."""
    names, cells = [], []
    for name, values in columns.items():
        name = name.removeprefix("_")
        if name in block.columns or name in names:
            raise InputError(f"{source} has the column {name} already; give the added one another name.")
        if not name or name.split() != [name]:
            raise InputError(f"the column name {name!r} is no STAR column name; leave out blanks.")
        if len(values) != n_rows:
            raise InputError(f"the column {name} has {len(values)} values for {n_rows} rows; give one for every row.")
        text = [_cell(value) for value in np.asarray(values).tolist()]
        wrong = next((cell for cell in text if cell.split() != [cell] or cell[0] in "\"'#"), None)
        if wrong is not None:
            raise InputError(f"the column {name} has the value {wrong!r}, expected numbers or texts without blanks.")
        names.append(name)
        cells.append(text)
    return names, cells


def _cell(value: object) -> str:
    """A value as STAR text; numbers with nine significant digits, as a float32 needs."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _with_cells(line: bytes, cells: list[str]) -> bytes:
    """A row with further cells behind its own, and what came behind it (its line's end, comments) as it was."""
    first, newline, rest = line.partition(b"\n")
    comment = COMMENT.search(first) if b"#" in first else None
    body = first[: comment.start()] if comment else first.rstrip(b"\r")
    blank = b"" if body.endswith((b" ", b"\t")) else b" "
    return body + blank + " ".join(cells).encode() + b" " + first[len(body) :] + newline + rest
