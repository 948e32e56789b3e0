"""Which conformations to export: by particle, latent, path, traversal, k-means or state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis import latent as latent_space
from cryosphere.analysis.columns import read_columns
from cryosphere.analysis.latent import Conformers
from cryosphere.analysis.results import read_analysis
from cryosphere.errors import InputError
from cryosphere.io.latent_files import read_latents
from cryosphere.io.row_files import read_rows
from cryosphere.runs.run import Run

_ROWS = re.compile(r"^\d+(-\d+)?(,\d+(-\d+)?)*$")


@dataclass(frozen=True)
class Selection:
    """Latents to decode, in the order of the export.

    Attributes
    ----------
    latent : array of shape (conformation, latent)
    names : tuple of str
        What each is, for the files' labels.
    particles : int array of shape (conformation,), optional
        Input rows, where the conformations are those of particles.
    populations : array of shape (conformation,), optional
        Share of all particles that each stands for, where that is known.
    population_stds : array of shape (conformation,), optional
        Standard deviations of these.
    membership : int array of shape (particle,), optional
        For every row of the posterior the conformation that stands for it, -1 for none.
    """

    latent: Float[np.ndarray, "conformation latent"]
    names: tuple[str, ...]
    particles: Int[np.ndarray, " conformation"] | None = None
    populations: Float[np.ndarray, " conformation"] | None = None
    population_stds: Float[np.ndarray, " conformation"] | None = None
    membership: Int[np.ndarray, " particle"] | None = None

    @property
    def n_conformations(self) -> int:
        """Number of conformations."""
        return len(self.latent)


def select_particles(run: Run, particles: Int[np.ndarray, " n"]) -> Selection:
    """Conformations at the posterior means of particles given by input row (from 0), in the order given."""
    particles = _checked_rows(run, particles, "--particles")
    rows = run.posterior_rows(particles)
    names = tuple(f"particle {particle}" for particle in particles)
    return Selection(run.posterior.mean[rows], names, particles)


def select_latents(run: Run, latents: Sequence[Sequence[float]]) -> Selection:
    """Conformations at given latents.

    Raises
    ------
    InputError
        A latent does not have as many numbers as the latent space has dimensions.
    """
    for values in latents:
        if len(values) != run.latent_dim or not np.isfinite(values).all():
            raise InputError(
                f"--latent {','.join(f'{value:g}' for value in values)}: expected {run.latent_dim} finite numbers with "
                f"commas between them, found {len(values)} numbers."
            )
    names = tuple("latent " + ",".join(f"{value:g}" for value in values) for values in latents)
    return Selection(np.array(latents, dtype=np.float64).reshape(-1, run.latent_dim), names)


def select_traversal(
    run: Run, component: int, n_points: int = 10, among: Int[np.ndarray, " n"] | None = None
) -> Selection:
    """Real particles nearest to evenly spaced points along a principal component (from 1), as ``analyze`` has them.

    ``among``: input rows (from 0) of the particles that alone count, for the component too; by default all do.
    """
    rows = _rows_among(run, among)
    means = run.posterior.mean[rows].astype(np.float64)
    components = latent_space.principal_components(means)
    conformers = latent_space.traverse(means, components, component - 1, n_points)
    return _from_conformers(run, conformers, f"PC{component} point", rows)


def select_kmeans(run: Run, n_clusters: int, among: Int[np.ndarray, " n"] | None = None) -> Selection:
    """The particle nearest to each k-means centre, in order along PC1, with populations (shares of all particles).

    ``among``: input rows (from 0) of the particles that alone count; by default all do. One cluster's centre is their
    mean.
    """
    rows = _rows_among(run, among)
    conformers = latent_space.kmeans(run.posterior.mean[rows].astype(np.float64), n_clusters)
    return _from_conformers(run, conformers, "cluster", rows)


def _rows_among(run: Run, among: Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " row"]:
    """Rows of the posterior, ascending, of given input rows; all without."""
    if among is None:
        return np.arange(len(run.posterior.index))
    return np.unique(run.posterior_rows(_checked_rows(run, among, "--among")))


def select_path(run: Run, path: Path) -> Selection:
    """Conformations at the latents of a file, in its order (:func:`cryosphere.io.latent_files.read_latents`)."""
    latents = read_latents(path, run.latent_dim)
    return Selection(latents, tuple(f"point {number}" for number in range(1, len(latents) + 1)))


def select_states(run: Run) -> Selection:
    """Representatives of the states that ``analyze`` found, with populations and their deviations.

    Raises
    ------
    InputError
        The run has no analysis, or not of its present weights.
    """
    membership = read_columns(run, ["state"])["state"] - 1
    table = read_analysis(run, "states")
    names = tuple(f"state {number}" for number in table["state"])
    latent = table[[f"z{number}" for number in range(1, run.latent_dim + 1)]].to_numpy(float)
    low, high = table["population_low"].to_numpy(), table["population_high"].to_numpy()
    return Selection(latent, names, None, table["population"].to_numpy(float), (high - low) / 2, membership)


def _from_conformers(run: Run, conformers: Conformers, word: str, rows: Int[np.ndarray, " row"]) -> Selection:
    """Of conformers found among some rows of the posterior."""
    particles = run.posterior.index[rows[conformers.rows]]
    names = tuple(f"{word} {i}: particle {particle}" for i, particle in enumerate(particles, start=1))
    membership = np.full(len(run.posterior.index), -1)
    membership[rows] = conformers.membership
    populations = conformers.populations * (len(rows) / len(membership))
    return Selection(conformers.latent, names, particles, populations, membership=membership)


def parse_particles(text: str, option: str = "--particles") -> Int[np.ndarray, " n"]:
    """Input rows from ``0,5,10-12``, or from a file with one row per line (or an integer ``.npy`` array).

    Raises
    ------
    InputError
        Neither such a list nor a readable file of rows.
    """
    if _ROWS.match(text):
        rows: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            rows += range(int(first), int(last or first) + 1)
        if not rows:
            raise InputError(f"{option} {text}: no rows in it; write ranges from low to high, such as 0,5,10-12.")
        return np.array(rows)
    return read_rows(Path(text), f"{option} takes rows such as 0,5,10-12 or a file with one per line")


def parse_latent(text: str) -> list[float]:
    """A point of the latent space from ``0.5,-1.2`` (InputError if it is something else)."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--latent {text}: expected numbers with commas between them, such as 0.5,-1.2.") from None


def _checked_rows(run: Run, particles: Int[np.ndarray, " n"], source: str) -> Int[np.ndarray, " n"]:
    particles, table = np.asarray(particles), run.table
    wrong = particles[(particles < 0) | (particles >= table.n_input_rows)]
    if len(wrong):
        raise InputError(
            f"{source}: particle row {wrong[0]} does not exist; {table.source.name} has {table.n_input_rows} "
            f"particles, rows 0 to {table.n_input_rows - 1}."
        )
    left_out = particles[~np.isin(particles, table.input_rows)]
    if len(left_out):
        raise InputError(
            f"{source}: particle row {left_out[0]} of {table.source.name} was not selected for this run, which has "
            f"{table.n_particles} of {table.n_input_rows} particles."
        )
    return particles


def particle_rows(run: Run, particles: Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " n"]:
    """Rows of the posterior of given input rows, or of all the run's particles in the order of the input file."""
    chosen = run.table.input_rows if particles is None else _checked_rows(run, particles, "--particles")
    return run.posterior_rows(chosen)
