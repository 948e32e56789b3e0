"""States of an ensemble: groups of like conformations, how many particles are in each, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cryosphere.analysis.flooding import flood
from cryosphere.errors import InputError

Clustering = Literal["density", "gmm", "kmeans", "hierarchical"]
# Conformations drawn from the ensemble to be divided.
_DRAWS = 4_000
# Components of a mixture that are tried.
_MOST_COMPONENTS = 10
# Conformations are told apart by no less than this share of the ensemble's spread.
_RESOLUTION = 0.05
# kT by which a peak of the density must rise above the passes to higher ones to be a state.
_LEAST_DEPTH = 1.0
# A peak with a smaller share of the ensemble is no state.
_LEAST_SHARE = 0.005
# Neighbours between which a pass may lead.
_NEIGHBOURS = 12
_STARTS = 2
# Particles whose memberships say how sure populations are, and resamples of them.
_JUDGED, _RESAMPLES = 5_000, 100
# Most steps of the expectation maximisation, and the change of a share at which it ends.
_EM_STEPS, _EM_PRECISION = 300, 1e-6
# Longest extrapolation, in steps.
_FARTHEST = 1000.0
# Share of resamples inside a stated interval: one standard deviation of a normal distribution.
_INTERVAL = (15.87, 84.13)


@dataclass(frozen=True)
class Division:
    """A division of the space of modes into states: a conformation is in that of the nearest labelled place.

    Attributes
    ----------
    places : array of shape (place, mode)
        Å.
    state : int array of shape (place,)
        State, from 0.
    tried : tuple of (states, BIC)
        Numbers that were compared.
    is_by_valleys : bool
        Whether valleys in the density decided on the number of states.
    """

    places: Float[np.ndarray, "place mode"]
    state: Int[np.ndarray, " place"]
    tried: tuple[tuple[int, float], ...] = ()
    is_by_valleys: bool = False

    @property
    def n_states(self) -> int:
        """Number of states."""
        return int(self.state.max()) + 1

    def states_of(self, coordinates: Float[np.ndarray, "conformation mode"]) -> Int[np.ndarray, " conformation"]:
        """State (from 0) of conformations."""
        return self.state[cKDTree(self.places).query(coordinates)[1]]

    def memberships(
        self, coordinates: Float[np.ndarray, "conformation mode"]
    ) -> Float[np.ndarray, "conformation state"]:
        """1 for the state that a conformation is in, 0 for the others."""
        return np.eye(self.n_states)[self.states_of(coordinates)]


def divide(
    coordinates: Float[np.ndarray, "conformation mode"],
    weights: Float[np.ndarray, " conformation"],
    clustering: Clustering = "density",
    n_states: int | None = None,
    seed: int = 0,
) -> Division:
    """Divide weighted conformations into states, in order along the first mode.

    ``density``: states are peaks of the density with valleys of 1 kT or more between them, so that a continuous motion
    is one state; with ``n_states``, so many with the deepest valleys. ``gmm``: components of a normal mixture, as many
    as have the lowest BIC. ``kmeans`` and ``hierarchical`` (Ward) need ``n_states``.

    Parameters
    ----------
    coordinates : array of shape (conformation, mode)
        Å.
    weights : array of shape (conformation,)
    clustering : str
    n_states : int, optional
    seed : int
        Of draws and starts.

    Raises
    ------
    InputError
        A number of states is missing or impossible.
    """
    check_clustering(clustering, n_states)
    generator = np.random.default_rng(seed)
    weights = weights / weights.sum()
    spread = float(np.sqrt((weights @ (coordinates - weights @ coordinates) ** 2).sum()))
    n_distinct = len(np.unique(coordinates[weights > 0], axis=0))
    if n_states is not None and n_states > n_distinct:
        raise InputError(f"{n_states} states are impossible: the ensemble has {n_distinct} different conformations.")
    tried: tuple[tuple[int, float], ...] = ()
    if spread < 1e-6:
        places, labels = coordinates[:1], np.zeros(1, dtype=int)
    elif clustering == "density":
        rows = np.flatnonzero(weights > 0)
        if len(rows) > _DRAWS:
            rows = np.sort(generator.choice(rows, _DRAWS, replace=False))
        places, labels = coordinates[rows], _peaks(coordinates[rows], weights[rows], _RESOLUTION * spread, n_states)
    else:
        places = coordinates[generator.choice(len(coordinates), _DRAWS, p=weights)]
        labels, tried = _clusters(places / spread, clustering, n_states, min(n_distinct, _MOST_COMPONENTS), seed)
    present = np.unique(labels)
    first = [places[labels == label, 0].mean() for label in present]
    order = present[np.argsort(first, kind="stable")]
    by_valleys = clustering == "density" and n_states is None
    return Division(places, np.argsort(order)[np.searchsorted(np.sort(order), labels)], tried, by_valleys)


def check_clustering(clustering: str, n_states: int | None) -> None:
    """Refuse what cannot be asked for, before anything is computed."""
    if n_states is not None and n_states < 1:
        raise InputError(f"{n_states} states asked for; give 1 or more.")
    if clustering in ("kmeans", "hierarchical") and n_states is None:
        raise InputError(f"{clustering} cannot tell the number of states; give it, or use density or gmm.")


def _clusters(
    drawn: np.ndarray, clustering: Clustering, n_states: int | None, most: int, seed: int
) -> tuple[np.ndarray, tuple[tuple[int, float], ...]]:
    """Labels of drawn conformations, and the numbers of states that were compared."""
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.mixture import GaussianMixture

    if clustering == "kmeans":
        return KMeans(n_states, n_init=_STARTS, random_state=seed).fit_predict(drawn), ()
    if clustering == "hierarchical":
        return AgglomerativeClustering(n_states, linkage="ward").fit_predict(drawn), ()
    counts = range(1, most + 1) if n_states is None else [n_states]
    options = {"reg_covar": _RESOLUTION**2, "n_init": _STARTS, "random_state": seed, "max_iter": 500}
    fits = [GaussianMixture(count, **options).fit(drawn) for count in counts]
    tried = tuple((count, float(fit.bic(drawn))) for count, fit in zip(counts, fits, strict=True))
    labels = fits[int(np.argmin([bic for _, bic in tried]))].predict(drawn)
    if n_states is not None and (found := len(np.unique(labels))) < n_states:
        raise InputError(
            f"{n_states} states are impossible by gmm: only {found} of its components have conformations of their own; "
            "ask for fewer, or use kmeans."
        )
    return labels, tried


def _peaks(
    places: np.ndarray, weights: np.ndarray, width: float, n_states: int | None
) -> Int[np.ndarray, " conformation"]:
    """Peak of the density that each conformation climbs to.

    The density is a sum of normal distributions, flooded from above along a graph of neighbours. Peaks of less depth
    than 1 kT or with less than 0.5 % of the ensemble are no states; with ``n_states``, all but so many.
    """
    tree = cKDTree(places)
    squared = (places**2).sum(1)[:, None] + (places**2).sum(1) - 2 * places @ places.T
    height = np.log(np.exp(-0.5 * squared.clip(min=0) / width**2) @ weights)
    near = tree.query(places, k=min(_NEIGHBOURS, len(places)))[1].reshape(len(places), -1)
    pairs = np.unique(np.sort(_connected(places, near), axis=1), axis=0)
    found = flood(height, pairs)
    depth = found.depth
    while True:  # peaks that hold next to nothing end first
        peaks = np.flatnonzero(depth >= _LEAST_DEPTH)
        shares = np.bincount(found.peak_of(_LEAST_DEPTH), weights / weights.sum(), minlength=len(places))
        small = peaks[(shares[peaks] < _LEAST_SHARE) & np.isfinite(depth[peaks])]
        if not len(small):
            break
        depth[small[shares[small].argmin()]] = 0.0
    if n_states is not None and n_states > len(peaks):
        raise InputError(
            f"{n_states} states are impossible by density, which has {len(peaks)} with valleys of "
            f"{_LEAST_DEPTH:g} kT between them; use kmeans, which divides a continuous motion too."
        )
    return found.peak_of(_LEAST_DEPTH if n_states is None else np.sort(depth)[-n_states])


def _connected(places: np.ndarray, near: np.ndarray) -> Int[np.ndarray, "pair 2"]:
    """Pairs of neighbours, and the shortest links between parts of the graph that are apart."""
    graph = coo_array(
        (np.ones(near.size), (np.repeat(np.arange(len(near)), near.shape[1]), near.ravel())), (len(near),) * 2
    )
    pairs = [np.stack(graph.coords, axis=1)]
    count, part = connected_components(graph, directed=False)
    while count > 1:
        inside = np.flatnonzero(part == part[0])
        outside = np.flatnonzero(part != part[0])
        distance, nearest = cKDTree(places[inside]).query(places[outside])
        link = int(distance.argmin())
        pairs.append(np.array([[inside[nearest[link]], outside[link]]]))
        part[part == part[outside[link]]] = part[0]
        count -= 1
    found = np.concatenate(pairs)
    return found[found[:, 0] != found[:, 1]]


@dataclass(frozen=True)
class Populations:
    """Shares of the particles in every state, with the bounds of a 68 % interval."""

    share: Float[np.ndarray, " state"]
    low: Float[np.ndarray, " state"]
    high: Float[np.ndarray, " state"]


def binomial_interval(count: int, total: int) -> tuple[float, float]:
    """A 68 % interval of a share of which ``count`` of ``total`` draws were, at one standard deviation (E. B. Wilson,
    J. Am. Stat. Assoc. 22, 209, 1927)."""
    share = count / total
    middle, half = share + 0.5 / total, np.sqrt(share * (1 - share) / total + 0.25 / total**2)
    return float(max(0.0, (middle - half) / (1 + 1 / total))), float(min(1.0, (middle + half) / (1 + 1 / total)))


def populations(
    memberships: Float[np.ndarray, "particle state"], prior: Float[np.ndarray, " state"], seed: int = 0
) -> Populations:
    """Populations most likely to give the particles' images, with intervals from resampled particles.

    Memberships divided by the prior are likelihoods of the states, from which expectation maximisation finds the
    shares. Where images do not tell states apart the likelihoods are flat, and resamples differ much: the intervals
    hold the particles' chance number and their posteriors' uncertainty both.

    Parameters
    ----------
    memberships : array of shape (particle, state)
        Posterior probabilities; rows sum to 1.
    prior : array of shape (state,)
        Prior probabilities that they were formed with.
    seed : int
        Of the resamples.
    """
    n_particles = len(memberships)
    likelihoods = memberships / prior
    share = _most_likely(likelihoods, np.ones((1, n_particles)))[0]
    judged = np.linspace(0, n_particles - 1, min(n_particles, _JUDGED)).astype(int)
    chance = np.full(len(judged), 1 / len(judged))
    counts = np.random.default_rng(seed).multinomial(len(judged), chance, size=_RESAMPLES).astype(np.float64)
    resampled = _most_likely(likelihoods[judged], counts)
    deviation = (resampled - resampled.mean(0)) * np.sqrt(len(judged) / n_particles)
    low, high = np.percentile(deviation, _INTERVAL, axis=0)
    return Populations(share, (share + low).clip(min=0.0), (share + high).clip(max=1.0))


def _most_likely(
    likelihoods: Float[np.ndarray, "particle state"], counts: Float[np.ndarray, "resample particle"]
) -> Float[np.ndarray, "resample state"]:
    """Mixture proportions by expectation maximisation where particles are counted so often, with squared extrapolation
    (SQUAREM; Varadhan & Roland, Scand. J. Stat. 35, 335, 2008), as its steps are small where likelihoods are flat."""
    total = counts.sum(1, keepdims=True)

    def improved(share: np.ndarray) -> np.ndarray:
        density = share @ likelihoods.T
        seen = np.divide(counts, density, out=np.zeros_like(density), where=counts > 0)
        return share * (seen @ likelihoods) / total

    share = np.full((len(counts), likelihoods.shape[1]), 1 / likelihoods.shape[1])
    for _ in range(_EM_STEPS):
        first = improved(share)
        second = improved(first)
        step, bend = first - share, second - 2 * first + share
        size, curve = (np.linalg.norm(part, axis=1, keepdims=True) for part in (step, bend))
        far = -np.clip(size / np.maximum(curve, 1e-300), 1.0, _FARTHEST)
        ahead = (share - 2 * far * step + far**2 * bend).clip(min=1e-12)
        ahead = improved(ahead / ahead.sum(1, keepdims=True))
        change, share = np.abs(ahead - share).max(), ahead
        if change < _EM_PRECISION:
            break
    return share
