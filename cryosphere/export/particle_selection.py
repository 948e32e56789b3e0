"""Which particles of a run to take: by condition, state, polygon, row, certainty, share; and, or, not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from cryosphere.analysis.columns import known_columns, read_columns, state_probabilities
from cryosphere.errors import InputError
from cryosphere.export.selection import particle_rows
from cryosphere.io.polygons import inside_polygon, read_polygon
from cryosphere.particles.columns import SourceColumns, source_columns
from cryosphere.particles.expressions import Condition, Quantity
from cryosphere.particles.sources import image_of_row
from cryosphere.runs.run import Run

SHARED_IMAGES = ("apart", "together", "once")
# A comma that is neither inside brackets nor inside quotes.
_COMMA = re.compile(r""",(?![^(]*\))(?=(?:[^"']*["'][^"']*["'])*[^"']*$)""")


@dataclass(frozen=True)
class ParticleSelection:
    """Particles of a run that were chosen.

    Attributes
    ----------
    chosen : bool array of shape (particle,)
        In the order of ``run.posterior.index``.
    rows : int array
        Their rows (from 0) in the input file, ascending.
    notes : tuple of str
        What the user should know.
    """

    chosen: Bool[np.ndarray, " particle"]
    rows: Int[np.ndarray, " row"]
    notes: tuple[str, ...]


class RunColumns:
    """Columns of the run's particles, its own and those of the file they came from, in the order of the posterior.

    Parameters
    ----------
    run : Run
        With its posterior.
    input_file : path, optional
        Where the run's particle file is now, if it has moved.
    """

    def __init__(self, run: Run, input_file: Path | str | None = None) -> None:
        self.run = run
        self.path = Path(input_file) if input_file is not None else run.table.source
        self._is_given = input_file is not None
        self._values: dict[str, np.ndarray] = {}

    @cached_property
    def known(self) -> list[str]:
        """Names of the run's own columns."""
        return known_columns(self.run)

    @cached_property
    def source(self) -> SourceColumns:
        """The particle file, which is as long as it was (InputError if it is not, or is missing)."""
        if not self.path.is_file() and not self._is_given:
            raise InputError(
                f"{self.path}, the particle file of {self.run.folder}, is not there any more; say where it is now "
                "(--input)."
            )
        source, table = source_columns(self.path), self.run.table
        if source.n_rows != table.n_input_rows:
            raise InputError(
                f"{self.path} has {source.n_rows} particles, and had {table.n_input_rows} when {self.run.folder} was "
                "trained; give the file as it was (--input)."
            )
        return source

    def check_images(self) -> None:
        """Refuse a particle file whose rows have other images than when the run was trained.

        Raises
        ------
        InputError
            An image has another number, or rows that shared a stack do not any more.
        """
        table = self.run.table
        stack, image = (values[table.input_rows] for values in self.source.images())
        wrong = image != table.image_index
        first = np.unique(stack, return_index=True)[1]
        stack_of = np.zeros(stack.max() + 1, dtype=np.int64)
        stack_of[stack[first]] = table.stack_index[first]
        wrong |= stack_of[stack] != table.stack_index
        if wrong.any():
            raise InputError(
                f"{self.path} has another image in row {table.input_rows[wrong.argmax()] + 1} than when "
                f"{self.run.folder} was trained ({wrong.sum()} such rows); give the file as it was (--input)."
            )

    def read(self, names: Collection[str], asked: str) -> dict[str, np.ndarray]:
        """Columns of these names; the run's own come first.

        Raises
        ------
        InputError
            There is no such column, it wants an analysis, or the file of the others cannot be used. ``asked`` is where
            the names stand.
        """
        wanted = [name for name in names if name not in self._values]
        others = [name for name in wanted if name not in self.known and "(" not in name]
        of_file = [name for name in others if name in self.source.names]
        for name in set(others) - set(of_file):
            near = difflib.get_close_matches(name, [*self.source.names, *self.known], n=1, cutoff=0.8)
            if near and near[0] not in self.known:
                raise InputError(f"{asked}: there is no column {name!r}; did you mean {near[0]!r}?")
        self._values |= read_columns(self.run, [name for name in wanted if name not in of_file])
        if of_file:
            rows = self.run.posterior.index
            self._values |= {name: values[rows] for name, values in self.source.read(of_file).items()}
        return {name: self._values[name] for name in names}


def select_rows(run: Run, *, input_file: Path | str | None = None, **ways) -> ParticleSelection:
    """Choose particles of a run as :func:`choose_rows` does; ``input_file`` is its particle file, if that has moved."""
    return choose_rows(RunColumns(run, input_file), **ways)


def choose_rows(
    columns: RunColumns,
    *,
    select: str | None = None,
    states: Sequence[int] = (),
    min_probability: float | None = None,
    polygon: Path | str | None = None,
    axes: str = "pc1,pc2",
    particles: Int[np.ndarray, " row"] | None = None,
    share: float | None = None,
    by: str | None = None,
    invert: bool = False,
    shared_images: str = "apart",
) -> ParticleSelection:
    """Choose particles of a run that fulfil all that is asked for.

    Columns are those of the run (``z1``, ``std(z1)``, ``pc1``, ``log_evidence`` …, after ``analyze`` ``state``,
    ``state_probability``, ``angle(s2)``, ``std(angle(s2))`` …) and those of its particle file.

    Parameters
    ----------
    columns : RunColumns
        Of a run with its posterior.
    select : str, optional
        Condition (:mod:`cryosphere.particles.expressions`).
    states : sequence of int, optional
        Any of these states.
    min_probability : float, optional
        Least probability of the particle's own state, above 0 to 1.
    polygon : path, optional
        File of a polygon (:func:`~cryosphere.io.polygons.read_polygon`) that the particle lies in.
    axes : str
        The two quantities, with a comma between them, that the polygon is drawn in.
    particles : int array, optional
        Rows (from 0) of the input file, in any order.
    share : float, optional
        Share (above 0 to 1) of the particles that fulfil everything else: those with the largest ``by``.
    by : str, optional
        Quantity of ``share``, such as ``angle(s2)`` or, for the surest, ``-std(z1)``.
    invert : bool
        Take all other particles of the run instead.
    shared_images : str
        Rows that share an image (symmetry expansion): each by itself (``apart``), all of an image of which one is
        chosen (``together``), or only the first chosen one (``once``).

    Raises
    ------
    InputError, ConfigError
        Something asked for cannot be understood or is not there, or no particle is left.
    """
    run = columns.run
    chosen = np.ones(len(run.posterior.index), dtype=bool)
    ways = []
    if select is not None:
        condition = Condition(select, "--select")
        chosen &= condition.holds(columns.read(condition.columns, "--select"))
        ways.append(f"--select {select!r}")
    if states:
        chosen &= _in_states(columns, states)
        ways.append(f"--state {','.join(map(str, states))}")
    if min_probability is not None:
        _check_fraction("--min-probability", min_probability)
        probability = columns.read(["state_probability"], "--min-probability")["state_probability"]
        chosen &= probability >= min_probability
        ways.append(f"--min-probability {min_probability:g}")
    if polygon is not None:
        corners = read_polygon(Path(polygon))
        chosen &= inside_polygon(_points(columns, axes), corners)
        ways.append(f"--polygon {polygon}")
    if particles is not None:
        given = np.zeros_like(chosen)
        given[particle_rows(run, particles)] = True
        chosen &= given
        ways.append("--particles")
    if share is not None or by is not None:
        chosen = _largest_share(columns, chosen, share, by)
        ways.append(f"--share {share:g} --by {by!r}")
    if invert:
        chosen = ~chosen
        ways.append("--not")
    chosen, notes = _shared(run, chosen, shared_images)
    if not chosen.any():
        raise InputError(
            f"{' and '.join(ways)}: none of the {len(chosen)} particles of {run.folder} is chosen; ask for less."
        )
    if chosen.all():
        notes.insert(0, f"All {len(chosen):,} particles of the run are chosen: nothing is left out.")
    return ParticleSelection(chosen, run.posterior.index[chosen], tuple(notes))


def parse_states(text: str) -> tuple[int, ...]:
    """Numbers of states from ``1,3`` (InputError if it is something else)."""
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise InputError(f"--state {text}: expected numbers of states with commas between them, such as 1,3.")
    return tuple(int(part) for part in text.split(","))


def _in_states(columns: RunColumns, states: Sequence[int]) -> Bool[np.ndarray, " particle"]:
    state = columns.read(["state"], "--state")["state"]
    known = range(1, state_probabilities(columns.run).shape[1] + 1)
    absent = sorted(set(states) - set(known))
    if absent:
        raise InputError(
            f"--state: there is no state {absent[0]} in {columns.run.folder}; its states are "
            f"{', '.join(map(str, known))}."
        )
    return np.isin(state, list(states))


def _points(columns: RunColumns, axes: str) -> np.ndarray:
    """Particles (particle, 2) in the plane of a polygon."""
    texts = _COMMA.split(axes)
    if len(texts) != 2:
        raise InputError(f"--axes {axes}: expected two columns with a comma between them, such as pc1,pc2.")
    quantities = [Quantity(text.strip(), "--axes") for text in texts]
    values = columns.read({name for quantity in quantities for name in quantity.columns}, "--axes")
    return np.column_stack([quantity.values(values) for quantity in quantities])


def _largest_share(
    columns: RunColumns, chosen: Bool[np.ndarray, " particle"], share: float | None, by: str | None
) -> Bool[np.ndarray, " particle"]:
    """Of the chosen particles the share with the largest values; of equal ones the first in the file."""
    if share is None or by is None:
        raise InputError('--share and --by go together, such as --share 0.2 --by "angle(s2)".')
    _check_fraction("--share", share)
    quantity = Quantity(by, "--by")
    values = quantity.values(columns.read(quantity.columns, "--by"))
    rows = np.flatnonzero(chosen)
    count = max(1, round(share * len(rows)))
    rows = rows[np.isfinite(values[rows])]
    best = rows[np.argsort(-values[rows], kind="stable")[:count]]
    result = np.zeros_like(chosen)
    result[best] = True
    return result


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise InputError(f"{name} is {value:g}, expected a fraction above 0 and up to 1.")


def _shared(
    run: Run, chosen: Bool[np.ndarray, " particle"], how: str
) -> tuple[Bool[np.ndarray, " particle"], list[str]]:
    """Deal with rows that share an image, and say what was done."""
    if how not in SHARED_IMAGES:
        raise InputError(f"--shared-images is {how!r}, expected one of {', '.join(SHARED_IMAGES)}.")
    table_row = np.searchsorted(run.table.input_rows, run.posterior.index)
    first, image = image_of_row(run.table.stack_index[table_row], run.table.image_index[table_row])
    if len(first) == len(chosen):
        return chosen, []
    kept = np.bincount(image[chosen], minlength=len(first))
    n_split = int(((kept > 0) & (kept < np.bincount(image))).sum())
    if how == "together":
        chosen = (kept > 0)[image]
        return chosen, [f"All rows of {(kept > 0).sum()} images are taken, of {n_split} only some were chosen."]
    if how == "once":
        rows = np.flatnonzero(chosen)
        rows = rows[np.unique(image[rows], return_index=True)[1]]
        chosen = np.zeros_like(chosen)
        chosen[rows] = True
        return chosen, [f"The first chosen row of each of {len(rows)} images is taken."]
    if not n_split:
        return chosen, []
    return chosen, [
        f"{n_split} images are taken with only some of their rows: rows that share an image (symmetry expansion) were "
        "told apart; --shared-images together or once changes that."
    ]
