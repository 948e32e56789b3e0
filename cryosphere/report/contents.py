"""What a run and its analysis have to show, read once and shared by the sections of the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryosphere.analysis.columns import known_columns, read_columns
from cryosphere.analysis.style import SEGMENT_COLOURS, segment_colour
from cryosphere.errors import InputError, RunError
from cryosphere.inference.ensemble import hard_segments
from cryosphere.report.html import number, percent
from cryosphere.runs.run import Run
from cryosphere.runs.tables import read_metrics

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
        Most probable state (row of ``table``) for every row of the posterior.
    latent : array of shape (state, latent), optional
        Of the representative conformations.
    """

    table: pd.DataFrame
    names: list[str]
    populations: Float[np.ndarray, " state"]
    interval: tuple[Float[np.ndarray, " state"], Float[np.ndarray, " state"]] | None
    membership: Int[np.ndarray, " particle"] | None
    latent: Float[np.ndarray, "state latent"] | None

    @property
    def colours(self) -> list[str]:
        """One colour per state."""
        return [state_colour(i) for i in range(len(self.names))]

    def population(self, state: int) -> str:
        """A population in words, with its interval."""
        if self.interval is None:
            return percent(self.populations[state])
        low, high = (number(100 * bound[state]) for bound in self.interval)
        return f"{percent(self.populations[state])} ({low} to {high})"


@dataclass(frozen=True)
class Maps:
    """Maps from the images in a folder: their index, and the correlations of each with its name."""

    folder: Path
    index: pd.DataFrame
    curves: list[tuple[str, pd.DataFrame]]


def read_maps(folder: Path) -> Maps:
    """Read the tables of a folder that ``export volumes --from-images`` made.

    Raises
    ------
    InputError
        It is no such folder.
    """
    try:
        index = pd.read_csv(folder / "index.csv")
        files = [folder / f"{Path(name).stem}_fsc.csv" for name in index["file"]]
        curves = list(zip(index["name"].astype(str), map(pd.read_csv, files), strict=True))
        if not all({"frequency", "fsc", "fsc_model"} <= set(curve) for _, curve in curves):
            raise ValueError("no correlations")
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{folder} is no folder of maps from images; `cryosphere export RUN volumes --from-images` makes one."
        ) from None
    return Maps(folder, index, curves)


class Contents:
    """A run with its posterior and analysis; everything is read when first asked for.

    Parameters
    ----------
    run : Run
        Its folder has ``analysis`` and a posterior.
    maps : path, optional
        Folder of maps that ``export volumes --from-images`` made.

    Raises
    ------
    InputError
        The folder of maps is something else.
    """

    def __init__(self, run: Run, maps: Path | None = None) -> None:
        self.run = run
        self.maps = None if maps is None else read_maps(maps)

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
            raise self._damaged(name, error) from None

    def read_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays of an npz file of the analysis; None if there is none.

        Raises
        ------
        RunError
            It is there and cannot be read.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                return dict(archive)
        except (ValueError, OSError, BadZipFile) as error:
            raise self._damaged(name, error) from None

    def read_json(self, path: Path) -> dict | None:
        """A JSON object in the run folder; None if there is none.

        Raises
        ------
        RunError
            It is there and is something else.
        """
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            found = None
        if not isinstance(found, dict):
            raise RunError(f"{path}: damaged; delete it, and the page says that it is missing.")
        return found

    def numbers(self, name: str, frame: pd.DataFrame, columns: str | list[str]) -> Float[np.ndarray, "row ..."]:
        """Columns of a table of the analysis as numbers (a copy: pandas gives a read-only view).

        Raises
        ------
        RunError
            There is something else in them.
        """
        try:
            return frame[columns].to_numpy(float, copy=True)
        except (ValueError, TypeError) as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: Exception) -> RunError:
        reason = str(error).strip().splitlines()[0]
        return RunError(
            f"{self.folder / name}: damaged ({reason}); `cryosphere analyze {self.run.folder} --overwrite` writes it "
            "again."
        )

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
        return self.numbers("rmsf.csv", found, "rmsf_angstrom")

    @cached_property
    def metrics(self) -> list[dict]:
        """Records of training."""
        return read_metrics(self.run.layout.metrics)

    @cached_property
    def states(self) -> States | None:
        """States of the particles."""
        name = "states.csv"
        found = self.read_table(name)
        if found is None or not {"state", "population"} <= set(found) or not len(found):
            return None
        bounds = ["population_low", "population_high"]
        return States(
            table=found,
            names=[str(state) for state in found["state"]],
            populations=self.numbers(name, found, "population"),
            interval=tuple(self.numbers(name, found, bounds).T) if set(bounds) <= set(found) else None,
            membership=self._membership(len(found)),
            latent=self._latent_columns(name, found),
        )

    def _membership(self, n_states: int) -> Int[np.ndarray, " particle"] | None:
        if "state" not in known_columns(self.run):
            return None
        membership = read_columns(self.run, ["state"])["state"] - 1
        return membership if membership.max() < n_states else None

    def paths(self) -> dict[str, Float[np.ndarray, "point latent"]]:
        """Latents along every traversal and the path between states, by name."""
        names = {path.name: f"along {path.stem.removeprefix('traversal_').upper()}" for path in self._traversal_files()}
        found = {}
        for name, title in {**names, "path.csv": "path on the landscape"}.items():
            frame = self.read_table(name)
            latent = None if frame is None else self._latent_columns(name, frame)
            if latent is not None and len(latent) > 1:
                found[title] = latent
        return found

    def _traversal_files(self) -> list[Path]:
        return sorted(self.folder.glob("traversal_*.csv"))

    def _latent_columns(self, name: str, frame: pd.DataFrame) -> Float[np.ndarray, "row latent"] | None:
        columns = [f"z{i}" for i in range(1, self.run.latent_dim + 1)]
        if not set(columns) <= set(frame):
            return None
        latent = self.numbers(name, frame, columns)
        return latent if np.isfinite(latent).all() else None


def state_colour(state: int) -> str:
    """Colour of a state, from the colours of segments but beginning elsewhere, so that the two are not mixed up."""
    return SEGMENT_COLOURS[(state + 4) % len(SEGMENT_COLOURS)]


def colour_of_segment(segment: int) -> str:
    """Colour of a segment; grey for residues in none."""
    return NEUTRAL if segment < 0 else segment_colour(segment)
