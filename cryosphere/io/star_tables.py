"""STAR files as tables: blocks read in pieces with pandas, columns checked, tables written whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.io.star_blocks import StarBlock, parse_error, plain_text, read_lines, scan_blocks
from cryosphere.progress import Bar

# Columns that stay text even where every cell looks like a number.
TEXT_COLUMNS = (
    "rlnImageName",
    "rlnMicrographName",
    "rlnOpticsGroupName",
    "rlnOddZernike",
    "rlnEvenZernike",
    "rlnMtfFileName",
)
# Rows are parsed in pieces of about so many bytes.
_CHUNK_BYTES = 32_000_000


@dataclass(frozen=True)
class StarTable:
    """One block of a STAR file that hands out checked columns."""

    path: Path
    block: str
    frame: pd.DataFrame

    def has(self, *columns: str) -> bool:
        """Whether all columns are there."""
        return all(column in self.frame.columns for column in columns)

    def require(self, columns: tuple[str, ...], what: str, remedy: str) -> None:
        """Refuse the table if one of the columns is missing."""
        missing = [column for column in columns if column not in self.frame.columns]
        if missing:
            some = "not all" if len(missing) < len(columns) else "no"
            raise InputError(f"{self.path} has {some} {what}: data_{self.block} lacks {', '.join(missing)}; {remedy}.")

    def numbers(self, column: str, default: float | None = None) -> Float[np.ndarray, " row"]:
        """Return a column as finite float64, or ``default`` in every row if it is absent."""
        if default is not None and column not in self.frame.columns:
            return np.full(len(self.frame), default)
        values = pd.to_numeric(self.frame[column], errors="coerce").to_numpy(np.float64, copy=True)
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise self.row_error(wrong, column, "a finite number")
        return values

    def row_error(self, rows: Int[np.ndarray, " wrong"], column: str, expected: str) -> InputError:
        """Make the error that names the first of ``rows`` (from 0), all with a wrong cell in ``column``."""
        found = str(self.frame[column].iloc[rows[0]])
        return InputError(
            f"{self.path}, row {rows[0] + 1} of data_{self.block}: {column} is {found!r}, "
            f"expected {expected} ({len(rows)} such rows); correct or remove them."
        )


def read_blocks(path: Path) -> dict[str, pd.DataFrame]:
    """Read every block of a STAR file as a table; a block without a loop has one row.

    Raises
    ------
    InputError
        If the file is missing, cannot be parsed, or has no block.
    """
    return {block.name: read_block(path, block).frame for block in scan_blocks(path)}


def read_block(path: Path, block: StarBlock, columns: Collection[str] | None = None) -> StarTable:
    """Read one block of a STAR file, in pieces, with all its columns or only some.

    Raises
    ------
    InputError
        If it cannot be parsed.
    """
    if not block.is_loop:
        return StarTable(path, block.name, pd.DataFrame([dict(zip(block.columns, block.values, strict=True))]))
    kept = [name for name in block.columns if columns is None or name in columns]
    pieces: dict[str, list] = {name: [] for name in kept}
    row = 0
    try:
        with open(path, "rb") as file, Bar(total=block.n_rows, desc=f"read {path.name}", disable=True) as bar:
            for lines in read_lines(file, block, _CHUNK_BYTES):
                text = plain_text(lines)
                if not text or text.isspace():
                    continue
                frame = _parse_rows(text, block)
                _check_complete(path, block, frame, row)
                row += len(frame)
                bar.update(len(frame))
                for name in kept:
                    pieces[name].append(frame[name])
    except (ValueError, OverflowError) as error:
        raise parse_error(path, error) from error
    joined = {name: _join(parts) for name, parts in pieces.items()}
    return StarTable(path, block.name, pd.DataFrame(joined, index=range(row)))


def _parse_rows(text: bytes, block: StarBlock) -> pd.DataFrame:
    """Rows of a loop, without comments, as a table of numbers and texts."""
    options = {"sep": r"\s+", "header": None, "na_filter": False, "low_memory": False}
    found = pd.read_csv(BytesIO(text), nrows=1, **options).shape[1]
    if found > len(block.columns):
        raise ValueError(f"data_{block.name} has {len(block.columns)} columns and a row of {found} cells")
    dtype = {name: str for name in TEXT_COLUMNS if name in block.columns}
    return pd.read_csv(BytesIO(text), names=list(block.columns), dtype=dtype, **options)


def _check_complete(path: Path, block: StarBlock, frame: pd.DataFrame, first_row: int) -> None:
    """Refuse rows that end before their last column."""
    last = frame[block.columns[-1]]
    if last.dtype.kind in "iufb":
        return
    short = np.flatnonzero(last.to_numpy(object) == "")
    if len(short):
        raise InputError(
            f"{path}, row {first_row + short[0] + 1} of data_{block.name}: {block.columns[-1]} is missing, "
            "the row has too few cells; mend it or export the file again."
        )


def _join(parts: list[pd.Series]) -> pd.Series | np.ndarray:
    """One column from its pieces."""
    return pd.concat(parts, ignore_index=True) if parts else np.zeros(0)


def write_blocks(path: str | Path, blocks: Mapping[str, pd.DataFrame], *, overwrite: bool = False) -> None:
    """Write tables as the loops of a STAR file, in RELION's layout, with six decimals and no date.

    Raises
    ------
    InputError
        If the file exists and may not be replaced.
    """
    with (
        atomic_output(path, overwrite=overwrite) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        for name, frame in blocks.items():
            file.write(f"\n# version 30001\n\ndata_{name}\n\nloop_\n")
            file.writelines(f"_{column} #{number}\n" for number, column in enumerate(frame.columns, start=1))
            frame.to_csv(
                file,
                sep=" ",
                header=False,
                index=False,
                float_format="%.6f",
                lineterminator="\n",
                quoting=csv.QUOTE_MINIMAL,
            )
            file.write("\n")
