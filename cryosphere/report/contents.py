"""What a run and its analysis have to show, read once and shared by the sections of the page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryosphere.analysis.style import SEGMENT_COLOURS, segment_colour
from cryosphere.errors import RunError
from cryosphere.inference.ensemble import hard_segments
from cryosphere.runs.run import Run
from cryosphere.runs.tables import read_metrics

# Tables that may name the states of the particles, the best first: file, its column with the state, and the column of
# latent.csv with the state of every particle.
_STATES = (("states.csv", "state", "state"), ("kmeans.csv", "point", "cluster"))
NEUTRAL = "#8a8f98"


@dataclass(frozen=True)
class States:
    """States of the particles as the analysis left them.

    Attributes
    ----------
    table : DataFrame
        As in its file, one row per state.
    names : list of str
    populations : array of shape (state,)
        Shares of all particles.
    interval : pair of arrays of shape (state,), optional
        68 % interval of the populations.
    membership : int array of shape (particle,), optional
        Row of ``table`` for every row of the posterior; -1 for none.
    latent : array of shape (state, latent), optional
        Of the representative conformations.
    are_clusters : bool
        Whether they are k-means clusters, whose number was given, not found.
    """

    table: pd.DataFrame
    names: list[str]
    populations: Float[np.ndarray, " state"]
    interval: tuple[Float[np.ndarray, " state"], Float[np.ndarray, " state"]] | None
    membership: Int[np.ndarray, " particle"] | None
    latent: Float[np.ndarray, "state latent"] | None
    are_clusters: bool

    @property
    def word(self) -> str:
        """What one of them is called."""
        return "cluster" if self.are_clusters else "state"

    @property
    def colours(self) -> list[str]:
        """One colour per state."""
        return [state_colour(i) for i in range(len(self.names))]


class Contents:
    """A run with its posterior and analysis; everything is read when first asked for.

    Parameters
    ----------
    run : Run
        Its folder has ``analysis`` and a posterior.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def folder(self) -> Path:
        """Folder of the analysis."""
        return self.run.layout.analysis

    def read_table(self, name: str, **options) -> pd.DataFrame | None:
        """A table of the analysis; None if there is none.

        Raises
        ------
        RunError
            It is there and cannot be read.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return pd.read_csv(path, keep_default_na=False, na_values=[""], **options)
        except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
            raise RunError(
                f"{path}: damaged ({error}); `cryosphere analyze {self.run.folder} --overwrite` writes it again."
            ) from None

    @cached_property
    def labels(self) -> Int[np.ndarray, " residue"]:
        """Main segment of every residue, -1 for none."""
        return hard_segments(self.run.segment_weights())

    @cached_property
    def segments(self) -> pd.DataFrame | None:
        """One row per segment."""
        return self.read_table("segments.csv")

    @cached_property
    def motions(self) -> pd.DataFrame | None:
        """One row per motion, where the analysis names motions."""
        return self.read_table("motions.csv")

    @cached_property
    def rmsf(self) -> Float[np.ndarray, " residue"] | None:
        """RMSF (Å) of every residue."""
        found = self.read_table("rmsf.csv")
        if found is None or "rmsf_angstrom" not in found or len(found) != self.run.n_residues:
            return None
        return found["rmsf_angstrom"].to_numpy(float)

    @cached_property
    def metrics(self) -> list[dict]:
        """Records of training."""
        return read_metrics(self.run.layout.metrics)

    @cached_property
    def explained(self) -> Float[np.ndarray, " component"]:
        """Share of the latent variance along each principal component."""
        found = self.read_table("pca.csv")
        return np.zeros(0) if found is None or "explained" not in found else found["explained"].to_numpy(float)

    @cached_property
    def states(self) -> States | None:
        """States, or k-means clusters where no states were found."""
        for file, column, member_column in _STATES:
            found = self.read_table(file)
            if found is None or column not in found or "population" not in found or not len(found):
                continue
            return States(
                table=found,
                names=[str(name) for name in found[column]],
                populations=found["population"].to_numpy(float),
                interval=_interval(found),
                membership=self._membership(member_column, found[column]),
                latent=self._latent_columns(found),
                are_clusters=file == "kmeans.csv",
            )
        return None

    def traversals(self) -> dict[str, Float[np.ndarray, "point latent"]]:
        """Latents along every traversal of the analysis, by name."""
        found = {}
        for path in sorted(self.folder.glob("traversal_*.csv")):
            frame = self.read_table(path.name)
            latent = None if frame is None else self._latent_columns(frame)
            if latent is not None and len(latent) > 1:
                found[path.stem.removeprefix("traversal_")] = latent
        return found

    def _latent_columns(self, frame: pd.DataFrame) -> Float[np.ndarray, "row latent"] | None:
        columns = [f"z{i}" for i in range(1, self.run.latent_dim + 1)]
        if not set(columns) <= set(frame):
            return None
        latent = frame[columns].to_numpy(float, copy=True)  # pandas gives a read-only view
        return latent if np.isfinite(latent).all() else None

    def _membership(self, column: str, states: pd.Series) -> Int[np.ndarray, " particle"] | None:
        """Row of the table of states for every row of the posterior."""
        found = self.read_table("latent.csv", usecols=lambda name: name in ("particle", column))
        if found is None or column not in found or len(found) != len(self.run.posterior.index):
            return None
        if not np.array_equal(found["particle"], self.run.posterior.index):
            return None
        rows = {value: row for row, value in enumerate(states)}
        return found[column].map(rows).fillna(-1).to_numpy(int)


def state_colour(state: int) -> str:
    """Colour of a state, from the colours of segments but beginning elsewhere, so that the two are not mixed up."""
    return SEGMENT_COLOURS[(state + 4) % len(SEGMENT_COLOURS)]


def colour_of_segment(segment: int) -> str:
    """Colour of a segment; grey for residues in none."""
    return NEUTRAL if segment < 0 else segment_colour(segment)


def _interval(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
    if {"population_low", "population_high"} <= set(frame):
        return frame["population_low"].to_numpy(float), frame["population_high"].to_numpy(float)
    return None
