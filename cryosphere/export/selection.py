"""Which conformations to export: by particle, latent, traversal or k-means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis import latent as latent_space
from cryosphere.analysis.latent import Conformers
from cryosphere.errors import InputError
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
    """

    latent: Float[np.ndarray, "conformation latent"]
    names: tuple[str, ...]
    particles: Int[np.ndarray, " conformation"] | None = None
    populations: Float[np.ndarray, " conformation"] | None = None

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


def select_traversal(run: Run, component: int, n_points: int = 10) -> Selection:
    """Real particles nearest to evenly spaced points along a principal component (from 1), as ``analyze`` has them."""
    means = run.posterior.mean.astype(np.float64)
    components = latent_space.principal_components(means)
    conformers = latent_space.traverse(means, components, component - 1, n_points)
    return _from_conformers(run, conformers, f"PC{component} point")


def select_kmeans(run: Run, n_clusters: int) -> Selection:
    """The particle nearest to each k-means centre, in order along PC1, with populations."""
    conformers = latent_space.kmeans(run.posterior.mean.astype(np.float64), n_clusters)
    return _from_conformers(run, conformers, "cluster")


def _from_conformers(run: Run, conformers: Conformers, word: str) -> Selection:
    particles = run.posterior.index[conformers.rows]
    names = tuple(f"{word} {i}: particle {particle}" for i, particle in enumerate(particles, start=1))
    return Selection(conformers.latent, names, particles, conformers.populations)


def parse_particles(text: str) -> Int[np.ndarray, " n"]:
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
            raise InputError(f"--particles {text}: no rows in it; write ranges from low to high, such as 0,5,10-12.")
        return np.array(rows)
    return read_particles_file(Path(text))


def parse_latent(text: str) -> list[float]:
    """A point of the latent space from ``0.5,-1.2`` (InputError if it is something else)."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--latent {text}: expected numbers with commas between them, such as 0.5,-1.2.") from None


def read_particles_file(path: Path) -> Int[np.ndarray, " n"]:
    """Input rows (from 0) from a text file with one per line, or an integer ``.npy`` array.

    Raises
    ------
    InputError
        The file is missing, empty, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; --particles takes rows such as 0,5,10-12 or a file with one per line.")
    if path.suffix == ".npy":
        try:
            rows = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"{path}: not a numpy array ({error}); write it with numpy.save.") from None
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise InputError(f"{path}: expected a list of integers (particle rows from 0), found {rows.dtype}.")
    else:
        rows = np.array(_rows_of_text(path), dtype=np.int64)
    if not len(rows):
        raise InputError(f"{path}: no particle rows in it; write one row (from 0) per line.")
    return rows


def _rows_of_text(path: Path) -> list[int]:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from None
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not text.isdecimal():
            raise InputError(f"{path}: line {number}: expected a particle row (an integer from 0), found {text!r}.")
        rows.append(int(text))
    return rows


def _checked_rows(run: Run, particles: Int[np.ndarray, " n"], source: str) -> Int[np.ndarray, " n"]:
    particles = np.asarray(particles)
    wrong = particles[(particles < 0) | (particles >= run.table.n_particles)]
    if len(wrong):
        raise InputError(
            f"{source}: particle row {wrong[0]} does not exist; the run has {run.table.n_particles} particles, "
            f"rows 0 to {run.table.n_particles - 1}."
        )
    return particles


def particle_rows(run: Run, particles: Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " n"]:
    """Rows of the posterior of given input rows, or of all particles in the order of the input file."""
    chosen = np.arange(run.table.n_particles) if particles is None else _checked_rows(run, particles, "--particles")
    return run.posterior_rows(chosen)
