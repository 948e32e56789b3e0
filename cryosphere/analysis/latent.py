"""Principal components of the posterior means, traversals along them, and k-means conformations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError

# A traversal leaves out the thinly populated ends.
TRAVERSAL_PERCENTILES = (5.0, 95.0)
_KMEANS_STARTS = 5


@dataclass(frozen=True)
class PrincipalComponents:
    """Orthogonal directions of the posterior means by falling variance.

    ``axes`` has one unit row per component, its largest entry positive, so that the sign is reproducible.
    """

    mean: Float[np.ndarray, " latent"]
    axes: Float[np.ndarray, "component latent"]
    variances: Float[np.ndarray, " component"]

    @property
    def n_components(self) -> int:
        """Number of components, which is the dimension of the latent space."""
        return len(self.variances)

    @property
    def explained(self) -> Float[np.ndarray, " component"]:
        """Share of the variance along each component; 0 if nothing varies."""
        total = self.variances.sum()
        return self.variances / total if total > 0 else np.zeros_like(self.variances)

    def scores(self, latent: Float[np.ndarray, "particle latent"]) -> Float[np.ndarray, "particle component"]:
        """Coordinates of latents along the components."""
        return (latent - self.mean) @ self.axes.T


@dataclass(frozen=True)
class Conformers:
    """Chosen particles that stand for parts of the ensemble, in an order that makes sense as a film.

    ``rows`` are rows of the posterior; ``populations`` are the shares of all particles nearest to each (sum 1);
    ``membership`` says for every particle which one that is.
    """

    rows: Int[np.ndarray, " conformer"]
    latent: Float[np.ndarray, "conformer latent"]
    populations: Float[np.ndarray, " conformer"]
    membership: Int[np.ndarray, " particle"]


def principal_components(latent: Float[np.ndarray, "particle latent"]) -> PrincipalComponents:
    """Find the principal components of latents (eigenvectors of their covariance)."""
    latent = np.asarray(latent, dtype=np.float64)
    mean = latent.mean(0)
    offset = latent - mean
    variances, vectors = np.linalg.eigh(offset.T @ offset / len(latent))
    axes = vectors.T[::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    return PrincipalComponents(mean, axes * np.sign(largest), variances[::-1].clip(min=0.0))


def traverse(
    latent: Float[np.ndarray, "particle latent"],
    components: PrincipalComponents,
    component: int,
    n_points: int = 10,
) -> Conformers:
    """Take the real particles nearest to evenly spaced points along a principal component.

    Parameters
    ----------
    latent : array of shape (particle, latent)
        Posterior means.
    components : PrincipalComponents
        Of these latents.
    component : int
        From 0.
    n_points : int
        Points between the 5th and the 95th percentile of the scores, on the line through the mean; a particle may
        be nearest to several.

    Returns
    -------
    Conformers
        Populations count the particles whose score is nearest to each point's.

    Raises
    ------
    InputError
        The component does not exist, or fewer than two points.
    """
    if not 0 <= component < components.n_components:
        raise InputError(
            f"Principal component {component + 1} does not exist: the latent space has {components.n_components}; "
            f"choose 1 to {components.n_components}."
        )
    if n_points < 2:
        raise InputError(f"A traversal has at least 2 points, {n_points} asked for.")
    scores = components.scores(latent)
    stops = np.linspace(*np.percentile(scores[:, component], TRAVERSAL_PERCENTILES), n_points)
    off_axis = (np.delete(scores, component, axis=1) ** 2).sum(1)
    rows = np.array([((scores[:, component] - stop) ** 2 + off_axis).argmin() for stop in stops])
    membership = np.searchsorted(0.5 * (stops[1:] + stops[:-1]), scores[:, component])
    return Conformers(rows, latent[rows], _populations(membership, n_points), membership)


def kmeans(latent: Float[np.ndarray, "particle latent"], n_clusters: int, seed: int = 0) -> Conformers:
    """Divide the posterior means into clusters and take the particle nearest to each centre.

    Clusters are ordered along the first principal component.

    Raises
    ------
    InputError
        There are fewer distinct latents than clusters.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(latent, axis=0))
    if not 1 <= n_clusters <= distinct:
        raise InputError(
            f"k-means with {n_clusters} clusters is impossible: there are {distinct} distinct posterior means; "
            f"ask for 1 to {distinct}."
        )
    points = np.asarray(latent, dtype=np.float64)
    fitted = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed).fit(points)
    order = principal_components(points).scores(fitted.cluster_centers_)[:, 0].argsort(kind="stable")
    membership = order.argsort()[fitted.labels_]
    rows = np.array([((points - centre) ** 2).sum(1).argmin() for centre in fitted.cluster_centers_[order]])
    return Conformers(rows, latent[rows], _populations(membership, n_clusters), membership)


def _populations(membership: Int[np.ndarray, " particle"], count: int) -> Float[np.ndarray, " conformer"]:
    return np.bincount(membership, minlength=count) / len(membership)
