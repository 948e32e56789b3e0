"""The landscape of a run: over which motions, and the path of least resistance between its states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cryosphere.analysis.ensemble import RANGE_PERCENTILES, Ensemble
from cryosphere.analysis.landscape import Landscape, conformations_on_path, easiest_path, free_energy
from cryosphere.analysis.motions import MotionName
from cryosphere.analysis.sample import weighted_percentiles
from cryosphere.analysis.state_summary import States
from cryosphere.errors import InputError

# A second motion is worth an axis if it is less correlated than this with the first.
_MOST_CORRELATED = 0.9
# A motion of a smaller share of the largest one's is worth no axis.
_LEAST_MOTION = 0.1
# Å; where segments move the structure by less in the root mean square there is no landscape.
_STILL = 0.01
# Half width (percent) of the slice of conformations at an end.
_SLICE = 2.0


@dataclass(frozen=True)
class EasiestPath:
    """Conformations along a path: their latents, and their places on the landscape."""

    latent: Float[np.ndarray, "conformer latent"]
    values: Float[np.ndarray, "conformer motion"]


def landscape_axes(ensemble: Ensemble, wanted: Sequence[MotionName]) -> list[int]:
    """Motions (numbers in ``ensemble.motions``) to map: those wanted, or the turn of the segment that moves most of
    the structure farthest and the next one that does not go with it; none where no segment moves."""
    names = [motion.name for motion in ensemble.motions.motions]
    if wanted:
        return [names.index(name) for name in wanted]
    squared = ensemble.fluctuations.rmsf**2
    size = {}
    for number, name in enumerate(names):
        part = name.parts[0]
        if name.kind == "angle" and len(name.parts) == 1:
            segment = int(part[1:]) - 1
            size[number] = float(np.sqrt(squared[ensemble.labels == segment].sum() / len(squared)))
    ranked = sorted(size, key=size.get, reverse=True)
    if not ranked or size[ranked[0]] < _STILL:
        return []
    first = ranked[0]
    for other in ranked[1:]:
        if size[other] < _LEAST_MOTION * size[first]:
            break
        if abs(_correlation(ensemble, first, other)) < _MOST_CORRELATED:
            return [first, other]
    return [first]


def _correlation(ensemble: Ensemble, one: int, other: int) -> float:
    pair = ensemble.values[:, [one, other]] - ensemble.means[[one, other]]
    covariance = np.einsum("g,gi,gj->ij", ensemble.sample.weights, pair, pair)
    scale = np.sqrt(covariance[0, 0] * covariance[1, 1])
    return float(covariance[0, 1] / scale) if scale > 0 else 0.0


def map_landscape(ensemble: Ensemble, axes: Sequence[int]) -> Landscape | None:
    """Free energy over some motions; None without any."""
    if not axes:
        return None
    chosen = [ensemble.motions.motions[axis].name for axis in axes]
    return free_energy(
        tuple(str(name) for name in chosen),
        tuple(name.unit for name in chosen),
        ensemble.values[:, list(axes)],
        ensemble.sample.block_weights,
        ensemble.sample.bootstrap(),
    )


def path_between(
    ensemble: Ensemble,
    states: States,
    landscape: Landscape | None,
    between: tuple[int, int] | None,
    n_points: int,
) -> EasiestPath | None:
    """Conformations on the path of least resistance between two states (from 1), the largest by default, or where there
    is one state between the ends of the first motion; None where nothing leads from one to the other.

    Raises
    ------
    InputError
        States were given and one does not exist, there is no landscape, or nothing leads from one to the other.
    """
    if between is not None:
        wrong = [state for state in between if not 1 <= state <= states.n_states]
        if wrong or between[0] == between[1]:
            raise InputError(
                f"no path between the states {between[0]} and {between[1]}: there are {states.n_states} states; "
                "give two different ones."
            )
        if landscape is None:
            raise InputError("there is no landscape, as no segment moves; name its motions.")
    if landscape is None:
        return None
    axes = [ensemble.names.index(name) for name in landscape.names]
    values, weights = ensemble.values[:, axes], ensemble.sample.weights
    if between is None and states.n_states == 1:
        ends = [_end(values, weights, percent) for percent in RANGE_PERCENTILES]
    else:
        chosen = np.sort(np.argsort(states.populations.share)[-2:]) if between is None else np.array(between) - 1
        ends = [states.motion_mean[state][axes] for state in chosen]
    try:
        path = easiest_path(landscape, *(landscape.nearest(end) for end in ends))
    except InputError:
        if between is not None:
            raise
        return None
    rows = conformations_on_path(path, values, weights, n_points)
    return EasiestPath(ensemble.sample.latent[rows], values[rows])


def _end(
    values: Float[np.ndarray, "conformation motion"], weights: Float[np.ndarray, " conformation"], percent: float
) -> Float[np.ndarray, " motion"]:
    """Middle of the conformations around a percentile of the first motion."""
    low, middle, high = weighted_percentiles(values[:, 0], weights, (percent - _SLICE, percent, percent + _SLICE))
    inside = np.flatnonzero((values[:, 0] >= low) & (values[:, 0] <= high) & (weights > 0))
    if not len(inside):  # few conformations carry the ensemble
        inside = np.abs(np.where(weights > 0, values[:, 0], np.inf) - middle).argmin(keepdims=True)
    return np.array([weighted_percentiles(column[inside], weights[inside], (50.0,))[0] for column in values.T])
