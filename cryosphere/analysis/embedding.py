"""UMAP of posterior means, where umap-learn is installed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cryosphere.errors import InputError
from cryosphere.inference.ensemble import spread_rows

# Particles that the embedding is fitted to.
_FITTED = 20_000


def embed(means: Float[np.ndarray, "particle latent"], seed: int = 0) -> Float[np.ndarray, "particle 2"]:
    """Embed posterior means in two dimensions (McInnes, Healy & Melville, arXiv 1802.03426).

    It is fitted to at most 20,000 evenly spread particles, the others are placed among these. Distances and areas in
    it mean nothing.

    Raises
    ------
    InputError
        ``umap-learn`` is not installed, or there are too few particles.
    """
    try:
        from umap import UMAP
    except ImportError:
        raise InputError("UMAP is not installed; `pip install umap-learn`, or leave --umap out.") from None
    rows = spread_rows(len(means), _FITTED)
    if len(rows) < 16:
        raise InputError(f"UMAP needs 16 particles or more, the run has {len(rows)}.")
    model = UMAP(n_components=2, random_state=seed, n_jobs=1).fit(means[rows])
    return model.embedding_ if len(rows) == len(means) else model.transform(means)
