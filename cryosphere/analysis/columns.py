"""Numbers of every particle by name: latents, motions, states; those of the analysis, or measured when asked for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Shaped

from cryosphere.analysis.latent import principal_components
from cryosphere.errors import InputError, RunError
from cryosphere.runs.run import Run

STORE = "particles.npz"
# Columns that only an analysis gives.
_OF_ANALYSIS = re.compile(r"^(state|state_probability|(std\()?mode\d+\)?|umap\d+)$")
_MOTION = re.compile(r"^\w+\(.*\)$")
_STD = re.compile(r"^std\((.*)\)$")


def read_columns(run: Run, names: Sequence[str]) -> dict[str, Shaped[np.ndarray, " particle"]]:
    """Values of every particle, in the order of ``run.posterior.index``.

    ``z1`` …, ``std(z1)`` … (posterior mean and standard deviation of the latent), ``pc1`` … (its principal components),
    ``effective_sample_size``, ``log_evidence``; of an analysis ``state`` (from 1), ``state_probability``, ``mode1`` …
    (Å), motions such as ``angle(s2)`` with ``std(angle(s2))``. Motions that the analysis does not have are measured.

    Parameters
    ----------
    run : Run
        With its posterior.
    names : sequence of str

    Raises
    ------
    InputError
        A name is not known (the nearest is given), or needs ``cryosphere analyze`` first.
    """
    stored = _stored(run)
    found, measured = {}, []
    for name in names:
        plain = re.sub(r"\s+", "", name)
        if plain in stored:
            found[name] = stored[plain]
        elif (own := _of_posterior(run, plain)) is not None:
            found[name] = own
        elif _OF_ANALYSIS.match(plain) and not stored:
            raise no_analysis(run, f"{name}: ")
        elif _MOTION.match(_STD.sub(r"\1", plain)):
            measured.append(name)
        else:
            near = difflib.get_close_matches(plain, known_columns(run), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known_columns(run))}"
            raise InputError(f"particles of {run.folder} have no {name!r}; {hint}")
    return {**found, **_measured(run, measured, stored)}


def known_columns(run: Run) -> list[str]:
    """Names that :func:`read_columns` knows without measuring."""
    numbers = range(1, run.latent_dim + 1)
    own = [*(f"z{i}" for i in numbers), *(f"std(z{i})" for i in numbers), *(f"pc{i}" for i in numbers)]
    stored = _stored(run)
    own += ["effective_sample_size", "log_evidence"]
    return [*own, *(name for name in stored if name not in own and not name.startswith("_"))]


def state_probabilities(run: Run) -> Float[np.ndarray, "particle state"]:
    """Posterior probability of every state of the analysis, for every particle in the order of the posterior.

    Raises
    ------
    InputError
        The run has no analysis.
    """
    stored = _stored(run)
    if "_probability" not in stored:
        raise no_analysis(run)
    return stored["_probability"]


def no_analysis(run: Run, asked: str = "") -> InputError:
    """What to say where an analysis is wanted and there is none of the run's present weights."""
    if (run.layout.analysis / STORE).is_file():
        return InputError(
            f"{asked}the analysis in {run.folder} is of other weights than the run's; run `cryosphere analyze "
            f"{run.folder} --overwrite`."
        )
    return InputError(f"{asked}{run.folder} has no analysis; run `cryosphere analyze {run.folder}` first.")


def has_analysis(run: Run) -> bool:
    """Whether the run has an analysis of its present weights."""
    return bool(_stored(run))


def write_columns(
    path: Path,
    columns: dict[str, np.ndarray],
    probability: Float[np.ndarray, "particle state"],
    weights_hash: str,
    reference: int | None,
) -> None:
    """Store columns and states of an analysis, with the weights and the reference segment that they are of."""
    tied = {"_weights": np.array(weights_hash), "_reference": np.array(-1 if reference is None else reference)}
    np.savez(path, **tied, _probability=probability, **columns)


def _stored(run: Run) -> dict[str, np.ndarray]:
    """Columns of the analysis, none where there is no analysis of this posterior."""
    path = run.layout.analysis / STORE
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["_weights"]) != run.weights_hash():
                return {}
            return {name: archive[name] for name in archive.files if name != "_weights"}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}); run `cryosphere analyze {run.folder} --overwrite`.") from None


def _of_posterior(run: Run, name: str) -> np.ndarray | None:
    """Columns that the posterior alone gives."""
    posterior = run.posterior
    if name in ("effective_sample_size", "log_evidence"):
        return getattr(posterior, name)
    match = re.fullmatch(r"(?P<std>std\()?(?P<kind>z|pc)(?P<number>[1-9]\d*)(?(std)\))", name)
    if match is None or int(match["number"]) > run.latent_dim or (match["std"] and match["kind"] == "pc"):
        return None
    index = int(match["number"]) - 1
    if match["kind"] == "pc":
        means = posterior.mean.astype(np.float64)
        return principal_components(means).scores(means)[:, index]
    return (posterior.std if match["std"] else posterior.mean)[:, index]


def _measured(run: Run, names: Sequence[str], stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Motions that are not stored, seen from the reference of the analysis where there is one."""
    if not names:
        return {}
    from cryosphere.analysis.ensemble import Ensemble
    from cryosphere.analysis.motions import MotionName

    motions = {name: MotionName.parse(_STD.sub(r"\1", name.strip())) for name in names}
    distinct = list(dict.fromkeys(motions.values()))
    reference = int(stored["_reference"]) if "_reference" in stored else "largest"
    ensemble = Ensemble(run, distinct, None if reference == -1 else reference, with_usual=False)
    values = ensemble.of_particles()
    columns = {}
    for name, motion in motions.items():
        source = values.motion_std if _STD.match(name.strip()) else values.motion
        columns[name] = source[:, distinct.index(motion)]
    return columns
