"""All particles in two axes: where they are dense, which is nearest, which are inside an outline."""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter

from cryosphere.analysis.columns import no_analysis, read_columns
from cryosphere.analysis.motions import MotionName
from cryosphere.analysis.results import read_analysis
from cryosphere.errors import InputError
from cryosphere.export.particle_selection import RunColumns
from cryosphere.inference.ensemble import spread_rows
from cryosphere.io.polygons import inside_polygon
from cryosphere.particles.expressions import Quantity

# Particles that are drawn one by one.
N_DRAWN = 20_000
# Percent of the particles beyond which nothing decides on the limits of an axis, and the margin around the rest.
_LIMITS, _MARGIN = (0.1, 99.9), 0.05
# Neighbours that a place's latent is the mean of, and particles among which they are looked for.
_N_NEAR, _N_SEARCHED = 50, 100_000
# An axis is a linear function of the latent if it is one to this share of its range.
_LINEAR = 1e-5


def default_axes(columns: RunColumns) -> tuple[str, str]:
    """Axes to begin with: the first principal components; of one dimension, the motion that tells most (the latent
    without an analysis) and its standard deviation."""
    if columns.run.latent_dim > 1:
        return "pc1", "pc2"
    try:
        first = read_analysis(columns.run, "path").columns[1]
    except InputError:
        first = "z1"
    return first, f"std({first})"


def unit_of(name: str) -> str:
    """Unit of a column, ``°`` or ``Å``; nothing where it has none or it is not known."""
    plain = re.sub(r"^std\((.*)\)$", r"\1", name.strip())
    if re.fullmatch(r"mode\d+", plain):
        return "Å"
    try:
        return MotionName.parse(plain).unit.replace("deg", "°")
    except InputError:
        return ""


def axis_label(name: str) -> str:
    """Name of a column with its unit."""
    unit = unit_of(name)
    return f"{name} ({unit})" if unit else name


def read_quantity(columns: RunColumns, name: str, asked: str) -> Float[np.ndarray, " particle"]:
    """Numbers of every particle, as ``export particles --polygon … --axes`` and ``--by`` take them.

    Parameters
    ----------
    columns : RunColumns
    name : str
        A column, a motion such as ``distance("A:1-5","B:1-5")``, or what can be made of them such as ``z1 + z2``.
    asked : str
        Where the name stands, for messages.

    Raises
    ------
    InputError, ConfigError
        There is no such column, it is text, or it cannot be measured.
    """
    quantity = Quantity(name.strip(), asked)
    names = quantity.columns
    if not columns.path.is_file():  # what the run does not know is not in the file that is not there
        read_columns(columns.run, [other for other in names if other not in columns.known and "(" not in other])
    return quantity.values(columns.read(names, asked))


class Plane:
    """All particles of a run in two axes.

    Parameters
    ----------
    columns : RunColumns
    axes : two str
        As :func:`read_quantity` takes them.

    Attributes
    ----------
    axes : two str
    values : float64 array of shape (particle, 2)
        In the order of ``run.posterior.index``.
    limits : array of shape (axis, 2)
        Low and high end of each axis with all but the outermost particles.
    drawn : int array
        Evenly spread rows that are drawn one by one.

    Raises
    ------
    InputError, ConfigError
        An axis cannot be had, or no particle has numbers in both.
    """

    def __init__(self, columns: RunColumns, axes: tuple[str, str]) -> None:
        self.columns, self.axes = columns, axes
        self.values: np.ndarray = np.column_stack([read_quantity(columns, name, "axis") for name in axes])
        finite = np.isfinite(self.values).all(1)
        if not finite.any():
            raise InputError(f"{axes[0]} and {axes[1]}: no particle has numbers in both; choose other axes.")
        self.limits: np.ndarray = np.array([_limits(column[finite]) for column in self.values.T])
        self.drawn: np.ndarray = drawn_rows(len(self.values))
        # Axes scaled by their ranges, rows contiguous; what is not finite is infinitely far from everything.
        self._scaled = np.where(finite, (self.values - self.limits[:, 0]).T / self._range[:, None], np.inf)

    @property
    def _range(self) -> np.ndarray:
        return self.limits[:, 1] - self.limits[:, 0]

    @cached_property
    def counts(self) -> Int[np.ndarray, "y x"]:
        """Particles per bin inside the limits."""
        n_bins = int(np.clip(np.sqrt(len(self.values)) / 2, 32, 256))
        inside, flat = self._bins(np.arange(len(self.values)), n_bins)
        return np.bincount(flat[inside], minlength=n_bins**2).reshape(n_bins, n_bins)

    def _bins(self, rows: Int[np.ndarray, " row"], n_bins: int) -> tuple[np.ndarray, np.ndarray]:
        """Which rows are inside the limits, and the bin of these (y times the number of bins plus x)."""
        scaled = self._scaled[:, rows]
        inside = ((scaled >= 0) & (scaled <= 1)).all(0)
        x, y = (np.where(inside, scaled, 0) * n_bins).astype(np.int64).clip(max=n_bins - 1)
        return inside, y * n_bins + x

    @cached_property
    def density(self) -> Float[np.ndarray, "y x"]:
        """Logarithm of the counts, smoothed over a bin or so, from 0 (empty) to 1; row 0 is at the low end of y."""
        logarithm = np.log1p(gaussian_filter(self.counts.astype(np.float64), 0.8))
        return logarithm / logarithm.max()

    def density_at(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """The density around particles; 0 outside the limits."""
        inside, flat = self._bins(rows, len(self.density))
        return np.where(inside, self.density.ravel()[flat], 0.0)

    def nearest(self, x: float, y: float) -> int:
        """Row of the particle nearest to a place, axes scaled by their ranges."""
        return int(self._squared(self._scaled, np.array([x, y])).argmin())

    def _squared(self, scaled: np.ndarray, place: np.ndarray) -> np.ndarray:
        x, y = (place - self.limits[:, 0]) / self._range
        squared, other = scaled[0] - x, scaled[1] - y
        squared *= squared
        other *= other
        squared += other
        return squared

    def inside(self, polygon: Float[np.ndarray, "vertex 2"]) -> Bool[np.ndarray, " particle"]:
        """Particles inside an outline, the same that ``export particles --polygon … --axes`` chooses."""
        return inside_polygon(self.values, polygon)

    def same_cluster(self, row: int) -> tuple[Bool[np.ndarray, " particle"], int]:
        """All particles of a particle's state, and which state (from 1) that is.

        Raises
        ------
        InputError
            The run has no analysis.
        """
        if "state" not in self.columns.known:
            raise no_analysis(self.columns.run, "states: ")
        state = self.columns.read(["state"], "state")["state"]
        return state == state[row], int(state[row])

    @cached_property
    def _means(self) -> Float[np.ndarray, "particle latent"]:
        return self.columns.run.posterior.mean.astype(np.float64)

    @cached_property
    def _spread(self) -> Float[np.ndarray, " latent"]:
        return self._means.std(0)

    @cached_property
    def _linear(self) -> list[tuple[np.ndarray, float] | None]:
        """Slope and value at 0 of each axis that is a linear function of the latent."""
        return [_linear_function(self._means, column) for column in self.values.T]

    @cached_property
    def _inverse(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Matrix (latent, axis) and offset that give the latent of a place, if the axes decide on it."""
        slopes = np.array([np.zeros(self._means.shape[1]) if line is None else line[0] for line in self._linear])
        offsets = np.array([0.0 if line is None else line[1] for line in self._linear])
        scaled = slopes * self._spread / self._range[:, None]
        if np.linalg.matrix_rank(scaled, tol=1e-6) < scaled.shape[1]:
            return None
        inverse = self._spread[:, None] * np.linalg.pinv(scaled) / self._range
        return inverse, -inverse @ offsets

    def prepare(self) -> None:
        """Reckon what everything else needs, so that nothing waits for it later."""
        _ = self.density
        self.places_of(self.latents_at(self.limits.mean(1)[None]))

    @property
    def is_invertible(self) -> bool:
        """Whether a place has one latent."""
        return self._inverse is not None

    @cached_property
    def _searched(self) -> Int[np.ndarray, " row"]:
        rows = np.flatnonzero(np.isfinite(self._scaled[0]))
        return rows[spread_rows(len(rows), _N_SEARCHED)]

    @cached_property
    def _searched_scaled(self) -> Float[np.ndarray, "2 row"]:
        return self._scaled[:, self._searched]

    @cached_property
    def _searched_means(self) -> Float[np.ndarray, "row latent"]:
        return self._means[self._searched]

    @cached_property
    def _searched_values(self) -> Float[np.ndarray, "row 2"]:
        return self.values[self._searched]

    def latents_at(self, places: Float[np.ndarray, "place 2"]) -> Float[np.ndarray, "place latent"]:
        """Latents of places: where the axes decide on the latent (``z1, z2``, or a ``z1`` that is all there is),
        exactly; otherwise the mean of the posterior means of the 50 nearest particles (of 100,000 evenly spread)."""
        if self._inverse is not None:
            matrix, offset = self._inverse
            return places @ matrix.T + offset
        means = [self._searched_means[_smallest(self._squared(self._searched_scaled, p))].mean(0) for p in places]
        return np.array(means).reshape(-1, self._means.shape[1])

    def places_of(self, latents: Float[np.ndarray, "conformation latent"]) -> Float[np.ndarray, "conformation 2"]:
        """Where latents are drawn: exactly along axes that are linear functions of the latent; along others at the
        mean over the 50 particles with the nearest posterior means (of 100,000 evenly spread)."""
        places = np.empty((len(latents), 2))
        others = [axis for axis, line in enumerate(self._linear) if line is None]
        for axis, line in enumerate(self._linear):
            if line is not None:
                places[:, axis] = latents @ line[0] + line[1]
        if others:
            scale = np.where(self._spread > 0, self._spread, 1.0)
            for place, latent in zip(places, latents, strict=True):
                offset = (self._searched_means - latent) / scale
                near = _smallest(np.einsum("rl,rl->r", offset, offset))
                place[others] = self._searched_values[near].mean(0)[others]
        return places


def drawn_rows(n_particles: int) -> Int[np.ndarray, " row"]:
    """Rows of the particles that are drawn one by one."""
    return spread_rows(n_particles, N_DRAWN)


def rectangle(one: tuple[float, float], other: tuple[float, float]) -> Float[np.ndarray, "4 2"]:
    """Corners of the rectangle between two opposite ones."""
    (x1, x2), (y1, y2) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _limits(values: Float[np.ndarray, " particle"]) -> tuple[float, float]:
    low, high = np.percentile(values, _LIMITS)
    is_constant = high - low <= _LINEAR * max(abs(low), abs(high))  # but for the precision of what is measured
    margin = 0.5 if is_constant else _MARGIN * (high - low)
    return float(low - margin), float(high + margin)


def _smallest(squared: Float[np.ndarray, " row"]) -> Int[np.ndarray, " near"]:
    count = min(_N_NEAR, len(squared))
    return np.argpartition(squared, count - 1)[:count]


def _linear_function(
    latent: Float[np.ndarray, "particle latent"], values: Float[np.ndarray, " particle"]
) -> tuple[np.ndarray, float] | None:
    """Slope and value at 0 of the linear function of the latent that values are, or None.

    It is fitted to some particles and must hold for all; few particles tell nothing.
    """
    n_unknown = latent.shape[1] + 1
    if len(values) < 4 * n_unknown or not np.isfinite(values).all():
        return None
    rows = spread_rows(len(values), 1000)
    design = np.column_stack([latent, np.ones(len(latent))])
    solution, _, rank, _ = np.linalg.lstsq(design[rows], values[rows])
    if rank < n_unknown or np.abs(design @ solution - values).max() > _LINEAR * np.ptp(values):
        return None
    return solution[:-1], float(solution[-1])
