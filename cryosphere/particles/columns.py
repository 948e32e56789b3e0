"""Columns of the files that particle tables come from, for conditions and checks: numbers or text, one per particle."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from cryosphere.io.cryosparc_tables import read_table
from cryosphere.io.particles import is_cryosparc
from cryosphere.io.star import optics_block, particle_block
from cryosphere.io.star_blocks import scan_blocks
from cryosphere.io.star_optics import group_numbers
from cryosphere.io.star_tables import StarTable, read_block


class SourceColumns(ABC):
    """The columns of a particle file, read when they are asked for.

    Attributes
    ----------
    path : Path
    names : tuple of str
        Columns that have one value per particle.
    n_rows : int
        Particles in the file.
    """

    path: Path
    names: tuple[str, ...]
    n_rows: int

    @abstractmethod
    def read(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """Some of the columns: numbers or text (object), whole numbers stay whole."""

    @abstractmethod
    def images(self) -> tuple[Int[np.ndarray, " particle"], Int[np.ndarray, " particle"]]:
        """A number for the name of every particle's stack, and its image in it (from 0; -1 where that is none)."""

    @abstractmethod
    def stack_names(self) -> list[str]:
        """Names of the stacks in the order of these numbers, as the file has them."""


def source_columns(path: Path) -> SourceColumns:
    """Open the columns of a STAR file (those of its optics table too), a ``.cs`` file or a ``.csg`` group.

    Raises
    ------
    InputError
        The file is missing or is none with particles.
    """
    return _CsColumns(path) if is_cryosparc(path) else _StarColumns(path)


class _StarColumns(SourceColumns):
    def __init__(self, path: Path) -> None:
        blocks = scan_blocks(path)
        self.path, self.block, self.optics = path, particle_block(path, blocks), optics_block(blocks)
        self.names = tuple(dict.fromkeys([*self.block.columns, *(self.optics.columns if self.optics else ())]))
        self.n_rows = self.block.n_rows
        self._images: tuple | None = None
        self._stack_names: list[str] = []

    def read(self, names: Collection[str]) -> dict[str, np.ndarray]:
        names = set(names)
        particles = read_block(self.path, self.block, names | {"rlnOpticsGroup", "rlnImageName"})
        self._keep_images(particles)
        own = names & set(self.block.columns)
        columns = {name: _as_array(particles.frame[name]) for name in own}
        more = names - own
        if self.optics and more:
            groups = read_block(self.path, self.optics, more | {"rlnOpticsGroup"})
            known, numbers = group_numbers(particles, groups)
            order = np.argsort(known, kind="stable")
            row = order[np.searchsorted(known[order], numbers)]
            columns |= {name: _as_array(groups.frame[name])[row] for name in more}
        return columns

    def images(self) -> tuple[Int[np.ndarray, " particle"], Int[np.ndarray, " particle"]]:
        if self._images is None:
            self._keep_images(read_block(self.path, self.block, {"rlnImageName"}))
        return self._images

    def stack_names(self) -> list[str]:
        self.images()
        return self._stack_names

    def _keep_images(self, particles: StarTable) -> None:
        """Keep what :meth:`images` gives, so that a large file is not read for it again."""
        parts = particles.frame["rlnImageName"].astype(str).str.partition("@")
        number = pd.to_numeric(parts[0], errors="coerce").fillna(0).to_numpy(np.int64)
        stack, names = pd.factorize(parts[2])
        self._images, self._stack_names = (stack, number - 1), list(names)


class _CsColumns(SourceColumns):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = tuple(name for name, values in self._table.columns.items() if values.ndim == 1)
        self.n_rows = self._table.n_rows

    @cached_property
    def _table(self):
        return read_table(self.path)

    def read(self, names: Collection[str]) -> dict[str, np.ndarray]:
        return {name: _plain(self._table.columns[name]) for name in names}

    def images(self) -> tuple[Int[np.ndarray, " particle"], Int[np.ndarray, " particle"]]:
        self._table.require(("blob/path", "blob/idx"), "images")
        return self._stacks[0], self._table.numbers("blob/idx").astype(np.int64)

    def stack_names(self) -> list[str]:
        self._table.require(("blob/path", "blob/idx"), "images")
        return [os.fsdecode(name).strip().removeprefix(">") for name in self._stacks[1]]

    @cached_property
    def _stacks(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of every particle's stack, and the stacks' names."""
        return pd.factorize(self._table.columns["blob/path"].astype(object))


def _as_array(column: pd.Series) -> np.ndarray:
    """Column as numbers where every cell is one or ``nan``, as text otherwise."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        cells = column.astype(str)
        if (numbers.isna() & ~cells.str.lower().isin(("nan", "-nan"))).any():
            return cells.to_numpy(object)
    return _plain(numbers.to_numpy())


def _plain(values: np.ndarray) -> np.ndarray:
    """Values as integers, float64 or text (object)."""
    if values.dtype.kind in "iu":
        return values
    return values.astype(str).astype(object) if values.dtype.kind in "SU" else values.astype(np.float64)
