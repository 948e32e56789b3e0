"""States as an analysis left them in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryosphere.errors import RunError
from cryosphere.runs.run import Run

_STATES, _PARTICLES = "states.csv", "particles.csv"


@dataclass(frozen=True)
class StateTable:
    """Number, population with its 68 % interval, representative particle (input row) and latent of every state.

    ``membership``: for every row of the posterior the place of its state in the table, -1 without one; None where
    the analysis does not tell.
    """

    number: Int[np.ndarray, " state"]
    population: Float[np.ndarray, " state"]
    population_low: Float[np.ndarray, " state"]
    population_high: Float[np.ndarray, " state"]
    particle: Int[np.ndarray, " state"]
    latent: Float[np.ndarray, "state latent"]
    membership: Int[np.ndarray, " particle"] | None

    @property
    def population_std(self) -> Float[np.ndarray, " state"]:
        """Half of the interval's width."""
        return (self.population_high - self.population_low) / 2


def read_states(run: Run) -> StateTable:
    """Read the states of a run's analysis.

    Raises
    ------
    RunError
        There is no table of states, or it is not of this run.
    """
    path = run.layout.analysis / _STATES
    latents = [f"z{number}" for number in range(1, run.latent_dim + 1)]
    integers, shares = ["state", "particle"], ["population", "population_low", "population_high"]
    frame = _read(path, [*integers, *shares, *latents], run)
    return StateTable(
        *(frame[name].to_numpy(dtype) for name, dtype in (("state", np.int64), *((share, float) for share in shares))),
        frame["particle"].to_numpy(np.int64),
        frame[latents].to_numpy(float),
        _membership(run, frame["state"].to_numpy(np.int64)),
    )


def _read(path: Path, columns: list[str], run: Run) -> pd.DataFrame:
    remedy = f"`cryosphere analyze {run.folder} --overwrite` writes it"
    if not path.is_file():
        raise RunError(f"{path} does not exist; {remedy}.")
    try:
        frame = pd.read_csv(path, usecols=lambda name: name in columns)
        absent = [name for name in columns if name not in frame]
        if absent:
            raise RunError(f"{path} has no column {absent[0]}; {remedy}.")
        numbers = frame.astype(float)
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read as a table ({error}); {remedy}.") from None
    if not len(numbers) or not np.isfinite(numbers.to_numpy()).all():
        raise RunError(f"{path} is empty or has cells that are no numbers; {remedy}.")
    return frame


def _membership(run: Run, numbers: Int[np.ndarray, " state"]) -> Int[np.ndarray, " particle"] | None:
    path = run.layout.analysis / _PARTICLES
    if not path.is_file() or "state" not in pd.read_csv(path, nrows=0).columns:
        return None
    frame = _read(path, ["particle", "state"], run)
    membership = np.full(len(run.posterior.index), -1)
    place = {number: i for i, number in enumerate(numbers.tolist())}
    rows = run.posterior_rows(frame["particle"].to_numpy(np.int64))
    membership[rows] = [place.get(number, -1) for number in frame["state"].astype(np.int64).tolist()]
    return membership
