"""What a run knows of every particle, as named columns."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import numpy as np

from cryosphere.analysis.latent import principal_components
from cryosphere.errors import InputError
from cryosphere.runs.run import Run

_OF_ANALYSIS = ("state", "angle(", "shift(", "screw(", "distance(", "dihedral(", "std(angle(", "std(shift(")


def known_columns(run: Run) -> list[str]:
    """Names of the columns that a run has: latents, their standard deviations, principal components, evidence."""
    numbers = range(1, run.latent_dim + 1)
    return [
        *(f"z{i}" for i in numbers),
        *(f"std(z{i})" for i in numbers),
        *(f"pc{i}" for i in numbers),
        *(f"std(pc{i})" for i in numbers),
        *("effective_sample_size", "log_evidence"),
    ]


def read_columns(run: Run, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read columns of a run: one value per particle, in the order of ``run.posterior.index``.

    Raises
    ------
    InputError
        There is no such column (the nearest name is given), or it comes with ``cryosphere analyze``.
    """
    known = known_columns(run)
    for name in names:
        if name not in known:
            if name.startswith(_OF_ANALYSIS):
                raise InputError(
                    f"{run.folder} has no column {name!r} yet; run `cryosphere analyze {run.folder}` first."
                )
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{run.folder} has no column {name!r}; {there}")
    posterior = run.posterior
    mean, covariance = posterior.mean.astype(np.float64), posterior.covariance
    columns = {"effective_sample_size": posterior.effective_sample_size, "log_evidence": posterior.log_evidence}
    components = principal_components(mean)
    scores = components.scores(mean)
    for i in range(run.latent_dim):
        axis = components.axes[i]
        columns[f"z{i + 1}"], columns[f"std(z{i + 1})"] = posterior.mean[:, i], posterior.std[:, i]
        columns[f"pc{i + 1}"] = scores[:, i]
        columns[f"std(pc{i + 1})"] = np.sqrt(np.einsum("i,nij,j->n", axis, covariance, axis).clip(min=0.0))
    return {name: columns[name] for name in names}
