"""Chosen particles of a run as the STAR or ``.cs`` file they came in, and a summary of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryosphere.analysis.states import binomial_interval
from cryosphere.errors import InputError
from cryosphere.export.particle_selection import ParticleSelection, RunColumns, choose_rows
from cryosphere.io.cryosparc_rows import write_subset_cs
from cryosphere.io.particles import is_cryosparc
from cryosphere.io.star_rows import write_subset
from cryosphere.runs.run import Run

# Columns of a run that are written into files and summed up, those of every state aside.
_LATENT_OR_MOTION = re.compile(r"z\d+|mode\d+|(?!std\()\w+\(.*\)")

# Left out where the summary is for people.
_LESS_TELLING = ("screw(", "shift(", "mode")


@dataclass(frozen=True)
class ParticleSummary:
    """What was chosen and written.

    Attributes
    ----------
    files : tuple of Path
    source : Path
        The particle file that the rows come from.
    n_chosen, n_particles, n_input_rows : int
        Particles chosen, in the run, and in the input file.
    means : dict of str to (float, float)
        Mean of a column over the chosen particles, and over all of the run; without missing values.
    spreads : dict of str to (float, float)
        Standard deviations of these.
    states : dict of int to (int, int)
        Chosen particles and all of every state; empty where there are no states.
    notes : tuple of str
    """

    files: tuple[Path, ...]
    source: Path
    n_chosen: int
    n_particles: int
    n_input_rows: int
    means: dict[str, tuple[float, float]]
    spreads: dict[str, tuple[float, float]]
    states: dict[int, tuple[int, int]]
    notes: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """68 % interval of the share of such particles, by the number that there are in the run."""
        return binomial_interval(self.n_chosen, self.n_particles)

    @property
    def shown(self) -> list[str]:
        """Columns that tell people most."""
        return [name for name in self.means if not name.startswith(_LESS_TELLING)]

    def lines(self) -> list[str]:
        """The summary for people."""
        share = 100 * self.n_chosen / self.n_particles
        of_file = "" if self.n_input_rows == self.n_particles else f" (the file has {self.n_input_rows:,})"
        lines = [f"{self.n_chosen:,} of {self.n_particles:,} particles of the run{of_file}, {share:.1f} %"]
        shown = {name: self.means[name] for name in self.shown}
        width = max(map(len, [*shown, "mean of"]))
        lines.append(f"{'mean of':<{width}} {'chosen':>10} {'all':>10}")
        lines += [f"{name:<{width}} {ours:>10.4g} {theirs:>10.4g}" for name, (ours, theirs) in shown.items()]
        lines += [f"state {state}: {ours:,} of {theirs:,}" for state, (ours, theirs) in self.states.items()]
        return [*lines, *self.notes]

    def as_dict(self) -> dict:
        """The summary for programs."""
        return {
            "files": [str(path) for path in self.files],
            "source": str(self.source),
            "n_chosen": self.n_chosen,
            "n_particles": self.n_particles,
            "n_input_rows": self.n_input_rows,
            "share": self.n_chosen / self.n_particles,
            "share_interval": list(self.interval),
            "means": {name: {"chosen": ours, "all": theirs} for name, (ours, theirs) in self.means.items()},
            "spreads": {name: {"chosen": ours, "all": theirs} for name, (ours, theirs) in self.spreads.items()},
            "states": {str(state): {"chosen": ours, "all": theirs} for state, (ours, theirs) in self.states.items()},
            "notes": list(self.notes),
        }


def export_particles(
    run: Run,
    path: Path | str,
    *,
    extra_columns: bool = False,
    overwrite: bool = False,
    input_file: Path | str | None = None,
    **ways,
) -> ParticleSummary:
    """Write chosen particles of a run as the kind of file they came in.

    STAR files keep the text of every row, all other blocks and the order (:mod:`cryosphere.io.star_rows`); of ``.cs``
    files every field stays, and passthrough files and the group come too (:mod:`cryosphere.io.cryosparc_rows`).

    Parameters
    ----------
    run : Run
        With its posterior.
    path : path
        ``….star``, or ``….cs`` where the run's particles came from cryoSPARC.
    extra_columns : bool
        Add the latent, state and motion of every particle with their standard deviations: ``cryosphereLatent1``,
        ``cryosphereLatent1Std``, ``cryosphereState``, ``cryosphereAngleS2`` …; in ``.cs``: ``cryosphere/latent_1`` ….
    overwrite : bool
        Whether existing files may be replaced; the run's particle file never is.
    input_file : path, optional
        Where the run's particle file is now, if it has moved.
    **ways
        Which particles, as :func:`~cryosphere.export.particle_selection.choose_rows` takes it; all without any.

    Raises
    ------
    InputError, ConfigError
        Another suffix, an existing file, a choice that cannot be understood or is empty, or a particle file that is
        missing or has changed.
    """
    path = Path(path)
    columns = RunColumns(run, input_file)
    source = columns.path
    _check_suffix(path, source)
    selection = choose_rows(columns, **ways)
    columns.check_images()
    extra = _extra_columns(columns, selection) if extra_columns else {}
    if is_cryosparc(source):
        files = write_subset_cs(source, selection.rows, path, extra, overwrite=overwrite)
    else:
        write_subset(source, selection.rows, path, extra, overwrite=overwrite)
        files = [path]
    return summarise(columns, selection, tuple(files))


def _check_suffix(path: Path, source: Path) -> None:
    """Refuse another kind of file than the source."""
    wanted = ".cs" if is_cryosparc(source) else ".star"
    if path.suffix != wanted:
        program = "cryoSPARC's" if wanted == ".cs" else "a STAR file"
        raise InputError(
            f"{path}: the run's particles ({source.name}) are {program}, and are written as such; give a name that "
            f"ends in {wanted}."
        )


def _extra_columns(columns: RunColumns, selection: ParticleSelection) -> dict[str, np.ndarray]:
    """Columns to be added to the chosen rows, under the names that they have in the file."""
    known = columns.known
    plain = [name for name in known if _LATENT_OR_MOTION.fullmatch(name) or name in ("state", "state_probability")]
    names = [each for name in plain for each in (name, f"std({name})") if each in known]
    label = _cs_field if is_cryosparc(columns.path) else _star_column
    labels = dict(zip(names, _told_apart([label(name) for name in names]), strict=True))
    there = set(columns.source.names) & set(labels.values())
    if there:
        raise InputError(
            f"{columns.path} has the column {min(there)} already, from an earlier export; leave out --columns, or "
            "train on the file without it."
        )
    values = columns.read(names, "--columns")
    return {labels[name]: values[name][selection.chosen] for name in names}


def _told_apart(labels: list[str]) -> list[str]:
    """Labels with ``_2``, ``_3`` … behind those that stand before them already."""
    return [f"{label}_{n}" if (n := labels[: i + 1].count(label)) > 1 else label for i, label in enumerate(labels)]


def _words(name: str) -> list[str]:
    """``std(angle(s2))`` → ``angle``, ``s2``, ``std``; ``z1`` → ``latent``, ``1``; what a motion is of is one word."""
    inner = re.fullmatch(r"std\((.*)\)", name)
    first, *rest = re.findall(r"\w+", inner[1] if inner else name)
    if re.fullmatch(r"z\d+", first):
        words = ["latent", first[1:]]
    else:
        words = [*first.split("_"), *(["_".join(rest)] if rest else [])]
    return [*words, "std"] if inner else words


def _star_column(name: str) -> str:
    return "cryosphere" + "".join(word[0].upper() + word[1:] for word in _words(name))


def _cs_field(name: str) -> str:
    return "cryosphere/" + "_".join(_words(name))


def summarise(columns: RunColumns, selection: ParticleSelection, files: tuple[Path, ...] = ()) -> ParticleSummary:
    """Sum up chosen particles: their share, states, and means of latents and motions beside those of all."""
    shown = [name for name in columns.known if _LATENT_OR_MOTION.fullmatch(name)]
    values = columns.read([*shown, *(["state"] if "state" in columns.known else [])], "summary")
    chosen = selection.chosen
    states = {}
    if "state" in values:
        state = values["state"]
        for number in np.unique(state[np.isfinite(state)]).astype(int).tolist():
            states[number] = (int((state[chosen] == number).sum()), int((state == number).sum()))
    return ParticleSummary(
        files=files,
        source=columns.path,
        n_chosen=int(chosen.sum()),
        n_particles=len(chosen),
        n_input_rows=columns.run.table.n_input_rows,
        means={name: (_moment(np.mean, values[name][chosen]), _moment(np.mean, values[name])) for name in shown},
        spreads={name: (_moment(np.std, values[name][chosen]), _moment(np.std, values[name])) for name in shown},
        states=states,
        notes=selection.notes,
    )


def _moment(moment: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float:
    """Of the finite values; NaN where there are none."""
    values = values.astype(np.float64)
    values = values[np.isfinite(values)]
    return float(moment(values)) if len(values) else float("nan")
