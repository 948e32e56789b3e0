"""Paths through latent space: drawn ones, along a principal component, of least resistance, between two groups."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from cryosphere.analysis.latent import principal_components, traverse
from cryosphere.analysis.results import read_analysis
from cryosphere.errors import InputError
from cryosphere.runs.run import Run
from cryosphere.viewer.points import Plane

# Points of a drawn line while it is smoothed, and how many of them a smoothing kernel is wide (standard deviation).
_FINE, _SMOOTH = 400, 8.0


def resample(
    points: Float[np.ndarray, "point dim"], n_frames: int, scale: Float[np.ndarray, " dim"] | None = None
) -> Float[np.ndarray, "frame dim"]:
    """Evenly spaced points along a polyline, by its length after division by ``scale``; both ends are kept.

    Raises
    ------
    InputError
        The line has no length.
    """
    steps = np.diff(points, axis=0) / (1.0 if scale is None else scale)
    along = np.concatenate([[0.0], np.cumsum(np.sqrt((steps**2).sum(1)))])
    if not along[-1] > 0:
        raise InputError("The path has no length; draw a longer one, or choose two different ends.")
    kept = np.concatenate([[True], np.diff(along) > 0])
    stops = np.linspace(0, along[-1], n_frames)
    return np.stack([np.interp(stops, along[kept], column) for column in points[kept].T], axis=1)


def smooth(
    points: Float[np.ndarray, "point 2"], n_frames: int, scale: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "frame 2"]:
    """Evenly spaced points along a line drawn by hand, without its tremor; both ends are kept.

    The line is smoothed with a Gaussian of 2 % of its length.
    """
    fine = resample(points, _FINE, scale)
    straight = np.linspace(0, 1, _FINE)[:, None] * (fine[-1] - fine[0]) + fine[0]
    # What is left over a straight line goes on antisymmetrically at both ends, so that these stay.
    rest = fine - straight
    padded = np.concatenate([-rest[:0:-1], rest, -rest[-2::-1]])
    return resample(straight + gaussian_filter1d(padded, _SMOOTH, axis=0)[_FINE - 1 : 2 * _FINE - 1], n_frames, scale)


def drawn_path(plane: Plane, points: Float[np.ndarray, "point 2"], n_frames: int) -> Float[np.ndarray, "frame latent"]:
    """Latents along a line drawn in a plane."""
    return plane.latents_at(smooth(points, n_frames, plane.limits[:, 1] - plane.limits[:, 0]))


def component_path(run: Run, component: int, n_frames: int) -> Float[np.ndarray, "frame latent"]:
    """Latents of particles along a principal component (from 1), as ``export RUN ensemble --traversal`` has them."""
    means = run.posterior.mean.astype(np.float64)
    return traverse(means, principal_components(means), component - 1, n_frames).latent


def has_easiest_path(run: Run) -> bool:
    """Whether the run's analysis has a path of least resistance."""
    try:
        return len(read_analysis(run, "path")) > 1
    except InputError:
        return False


def easiest_path(run: Run, n_frames: int) -> Float[np.ndarray, "frame latent"]:
    """Evenly spaced latents on the analysis' path of least resistance.

    Raises
    ------
    InputError
        The run has no analysis, or none with a path.
    """
    table = read_analysis(run, "path")
    latent = table[[f"z{number}" for number in range(1, run.latent_dim + 1)]].to_numpy(np.float64)
    return resample(latent, n_frames, _spread(run))


def straight_path(
    run: Run, first: Bool[np.ndarray, " particle"], last: Bool[np.ndarray, " particle"], n_frames: int
) -> Float[np.ndarray, "frame latent"]:
    """Latents on the straight line between the mean posterior means of two groups of particles.

    Raises
    ------
    InputError
        The means are the same.
    """
    means = run.posterior.mean
    ends = np.stack([means[chosen].mean(0, dtype=np.float64) for chosen in (first, last)])
    return resample(ends, n_frames, _spread(run))


def _spread(run: Run) -> Float[np.ndarray, " latent"]:
    """Standard deviations of the posterior means."""
    spread = run.posterior.mean.std(0, dtype=np.float64)
    return np.where(spread > 0, spread, 1.0)
