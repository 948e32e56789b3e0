"""STAR files as tables: blocks read with starfile, columns checked, tables written whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output

# Columns that stay text even where every cell looks like a number.
TEXT_COLUMNS = ["rlnImageName", "rlnMicrographName", "rlnOpticsGroupName"]


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
            raise InputError(f"{self.path} has no {what}: data_{self.block} lacks {', '.join(missing)}; {remedy}.")

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
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; a RELION particle STAR file is expected.")
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=TEXT_COLUMNS)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be parsed as STAR ({reason}); mend or export it again.") from error
    if not blocks:
        raise InputError(f"{path} is empty or not a STAR file: it has no data_ block.")
    return {name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block]) for name, block in blocks.items()}


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


# Columns that say the images are no longer what the CTF acts on, and columns whose effect is not modelled.
_PREPARED_COLUMNS = ("rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped")
_IGNORED_COLUMNS = (
    "rlnBeamTiltX",
    "rlnBeamTiltY",
    "rlnOddZernike",
    "rlnEvenZernike",
    "rlnMagMat00",
    "rlnMagMat01",
    "rlnMagMat10",
    "rlnMagMat11",
)
_IDENTITY = {"rlnMagMat00": 1.0, "rlnMagMat11": 1.0}


def unsupported_columns(path: Path, tables: Sequence[StarTable]) -> tuple[str, ...]:
    """Refuse images that are CTF-multiplied or phase-flipped, and note aberrations that are left out.

    Raises
    ------
    InputError
        If a table says that its images are prepared in such a way.
    """
    ignored = []
    for table in tables:
        for column in _PREPARED_COLUMNS:
            if table.has(column) and np.any(table.numbers(column) != 0):
                raise InputError(
                    f"{path}: {column} is set, so the images are not as recorded; extract them again without it."
                )
        for column in _IGNORED_COLUMNS:
            if not table.has(column):
                continue
            values = pd.to_numeric(table.frame[column], errors="coerce")
            if np.any(values != _IDENTITY.get(column, 0.0)):
                ignored.append(column)
    if not ignored:
        return ()
    return (f"{path.name}: {', '.join(ignored)} are not modelled and left out of the CTF.",)
