"""Free energy over one or two motions: −ln p in kT, its basins, and the easiest path between two places."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from cryosphere.analysis.flooding import flood
from cryosphere.analysis.sample import weighted_percentiles
from cryosphere.errors import InputError

# Boltzmann's constant times Avogadro's, kJ/mol/K.
_GAS_CONSTANT = 8.314462618e-3
_BINS = {1: 120, 2: 60}
# Width of the smoothing in bins, and how far the map goes beyond the conformations, in widths of the smoothing.
_SMOOTHING, _MARGIN = 1.5, 3.0
# Percentiles of the motions that the map reaches to; a bin must hold this share of what a mean one does.
_REACH = (0.1, 99.9)
_LEAST_DENSITY = 1e-3
# kT by which a basin must be deeper than the lowest pass out of it.
_LEAST_DEPTH = 1.0


@dataclass(frozen=True)
class Landscape:
    """Free energy over one or two motions.

    Attributes
    ----------
    names, units : tuples of str
        Of the motions.
    edges : tuple of arrays
        Borders of the bins along each motion.
    energy : array of shape (bin,) or (bin, bin)
        kT, 0 at the lowest place; NaN where hardly any particle is. The first axis is the first motion.
    error : array of the same shape
        Standard deviation over resampled particles, kT.
    basins : int array of the same shape
        Basin (from 1, the deepest first) that each bin drains to; 0 where the energy is NaN.
    minima : array of shape (basin, motion)
        Lowest place of every basin.
    populations : array of shape (basin,)
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    edges: tuple[Float[np.ndarray, " edge"], ...]
    energy: np.ndarray
    error: np.ndarray
    basins: np.ndarray
    minima: Float[np.ndarray, "basin motion"]
    populations: Float[np.ndarray, " basin"]

    @property
    def centres(self) -> list[Float[np.ndarray, " bin"]]:
        """Middles of the bins along each motion."""
        return [0.5 * (edges[1:] + edges[:-1]) for edges in self.edges]

    def bin_of(self, place: Float[np.ndarray, " motion"]) -> tuple[int, ...]:
        """Bin that a place is in.

        Raises
        ------
        InputError
            It is outside the map, or where there are no particles.
        """
        index = tuple(
            int(np.searchsorted(edges, value, side="right")) - 1 for edges, value in zip(self.edges, place, strict=True)
        )
        inside = all(0 <= i < n for i, n in zip(index, self.energy.shape, strict=True))
        if not inside or np.isnan(self.energy[index]):
            words = ", ".join(f"{n} = {v:.4g}" for n, v in zip(self.names, place, strict=True))
            raise InputError(f"there are no particles at {words}; choose a place inside the landscape.")
        return index

    def nearest(self, place: Float[np.ndarray, " motion"]) -> Float[np.ndarray, " motion"]:
        """Middle of the nearest bin that has particles."""
        places = np.stack(np.meshgrid(*self.centres, indexing="ij"), axis=-1)[np.isfinite(self.energy)]
        width = np.array([edges[1] - edges[0] for edges in self.edges])
        return places[(((places - place) / width) ** 2).sum(1).argmin()]

    def write(self, path: Path) -> None:
        """Write everything as an ``.npz`` file (``edges1``, ``edges2`` and the fields of this class)."""
        edges = {f"edges{i}": edge for i, edge in enumerate(self.edges, start=1)}
        rest = {name: np.array(value) for name, value in vars(self).items() if name != "edges"}
        np.savez(path, **edges, **rest)


def kt_in_kj_per_mol(temperature: float) -> float:
    """One kT at a temperature (K), in kJ/mol."""
    return _GAS_CONSTANT * temperature


def free_energy(
    names: tuple[str, ...],
    units: tuple[str, ...],
    values: Float[np.ndarray, "conformation motion"],
    block_weights: Float[np.ndarray, "block conformation"],
    resamples: Int[np.ndarray, "resample block"],
) -> Landscape:
    """Free energy −ln p (kT) of weighted conformations over one or two of their motions.

    The density is a histogram, smoothed with a normal distribution of 1.5 bins' width; its error is the standard
    deviation over resampled lots of particles. Basins are what drains to a minimum that lies 1 kT or more below the
    lowest pass out of it.

    Parameters
    ----------
    names, units : tuples of str
        Of the motions, one or two.
    values : array of shape (conformation, motion)
    block_weights : array of shape (block, conformation)
        Sum 1.
    resamples : int array of shape (resample, block)
        How often each lot counts in each resample.
    """
    n_bins = _BINS[values.shape[1]]
    weights = block_weights.sum(0)
    edges = tuple(_edges(weighted_percentiles(column, weights, _REACH), n_bins) for column in values.T)
    inside = np.all([(e[0] <= v) & (v < e[-1]) for e, v in zip(edges, values.T, strict=True)], axis=0)
    values, block_weights = values[inside], block_weights[:, inside]
    shape = (n_bins,) * values.shape[1]
    index = np.stack([np.searchsorted(e, v, side="right") - 1 for e, v in zip(edges, values.T, strict=True)])
    flat = np.ravel_multi_index(index, shape)
    counts = np.stack([np.bincount(flat, weights, minlength=n_bins ** len(shape)) for weights in block_weights])
    densities = _smoothed(np.concatenate([counts.sum(0, keepdims=True), resamples @ counts]).reshape(-1, *shape))
    density, resampled = densities[0], densities[1:]
    thin = density < _LEAST_DENSITY / density.size
    with np.errstate(divide="ignore"):
        energy = np.where(thin, np.nan, -np.log(density / density.max()))
        error = np.log(resampled.clip(min=1e-12) / resampled.sum(tuple(range(1, resampled.ndim)), keepdims=True)).std(0)
    basins, minima = find_basins(energy)
    centres = [0.5 * (e[1:] + e[:-1]) for e in edges]
    places = np.array([[c[i] for c, i in zip(centres, place, strict=True)] for place in minima]).reshape(-1, len(names))
    shares = ndimage.sum_labels(density, basins, np.arange(1, len(minima) + 1)) / density.sum()
    return Landscape(names, units, edges, energy, np.where(thin, np.nan, error), basins, places, np.asarray(shares))


def _edges(ends: Float[np.ndarray, " 2"], n_bins: int) -> Float[np.ndarray, " edge"]:
    low, high = ends.tolist()
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    margin = _MARGIN * _SMOOTHING * (high - low) / (n_bins - 2 * _MARGIN * _SMOOTHING)
    return np.linspace(low - margin, high + margin, n_bins + 1)


def _smoothed(densities: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(densities, (0, *(_SMOOTHING,) * (densities.ndim - 1)), mode="constant")


def find_basins(energy: np.ndarray, least_depth: float = _LEAST_DEPTH) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Divide a landscape into the basins of its minima that lie ``least_depth`` (kT) or more below the lowest pass.

    Returns
    -------
    basins : int array
        From 1 by rising energy of the minimum; 0 where the energy is NaN.
    minima : list of index tuples
    """
    inside = np.isfinite(energy)
    number = np.cumsum(inside).reshape(energy.shape) - 1
    owner = flood(-energy[inside], number.ravel()[_neighbour_pairs(inside)]).peak_of(least_depth)
    lowest = np.unique(owner)
    lowest = lowest[np.argsort(energy[inside][lowest], kind="stable")]
    basins = np.zeros(energy.shape, dtype=int)
    basins[inside] = np.argsort(lowest)[np.searchsorted(np.sort(lowest), owner)] + 1
    return basins, [tuple(place) for place in np.argwhere(inside)[lowest].tolist()]


def _neighbour_pairs(inside: np.ndarray) -> Int[np.ndarray, "pair 2"]:
    """Pairs of bins that touch, at corners too, by their place in the flattened map; both must be inside."""
    flat = np.arange(inside.size).reshape(inside.shape)
    pairs = []
    for step in product((-1, 0, 1), repeat=inside.ndim):
        if step > (0,) * inside.ndim:
            here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, inside.shape, strict=True))
            there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, inside.shape, strict=True))
            both = inside[here] & inside[there]
            pairs.append(np.stack([flat[here][both], flat[there][both]], axis=1))
    return np.concatenate(pairs)


def easiest_path(
    landscape: Landscape, start: Float[np.ndarray, " motion"], end: Float[np.ndarray, " motion"]
) -> Float[np.ndarray, "point motion"]:
    """Path of least resistance ∫ exp(F / kT) ds between two places, along which the flux between them is largest
    (Berkowitz et al., J. Chem. Phys. 79, 5563, 1983); lengths count in bins.

    Raises
    ------
    InputError
        A place is outside the map, or nothing leads from one to the other.
    """
    first, last = landscape.bin_of(start), landscape.bin_of(end)
    shape = landscape.energy.shape
    resistance = np.exp(landscape.energy).ravel()
    pairs = _neighbour_pairs(np.isfinite(landscape.energy))
    places = np.stack(np.unravel_index(pairs, shape), axis=-1)
    cost = resistance[pairs].mean(1) * np.linalg.norm(places[:, 1] - places[:, 0], axis=1)
    graph = coo_array((cost, tuple(pairs.T)), shape=(resistance.size,) * 2).tocsr()
    begin, goal = (int(np.ravel_multi_index(place, shape)) for place in (first, last))
    _, before = dijkstra(graph, directed=False, indices=begin, return_predecessors=True)
    steps = [goal]
    while steps[-1] != begin:
        if before[steps[-1]] < 0:
            raise InputError("nothing leads from one place to the other: no particles lie between them.")
        steps.append(int(before[steps[-1]]))
    index = np.stack(np.unravel_index(steps[::-1], shape), axis=1)
    return np.stack([centres[index[:, i]] for i, centres in enumerate(landscape.centres)], axis=1)


def conformations_on_path(
    path: Float[np.ndarray, "point motion"],
    values: Float[np.ndarray, "conformation motion"],
    weights: Float[np.ndarray, " conformation"],
    n_points: int,
) -> Int[np.ndarray, " conformer"]:
    """Populated conformations nearest to evenly spaced points of a path; none twice running."""
    scale = np.ptp(values, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path / scale, axis=0), axis=1))]
    stops = np.linspace(0, steps[-1], n_points)
    wanted = np.stack([np.interp(stops, steps, column) for column in (path / scale).T], axis=1)
    populated = np.flatnonzero(weights > 1e-3 / len(weights))
    near = ((wanted[:, None] - (values / scale)[populated]) ** 2).sum(-1).argmin(1)
    rows = populated[near]
    return rows[np.r_[True, np.diff(rows) != 0]]
