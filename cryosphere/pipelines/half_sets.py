"""Two models from two independent halves of the images and two seeds, and how far they agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryosphere import distributed
from cryosphere.config import Config
from cryosphere.errors import RunError
from cryosphere.evaluation.bodies import merge_segments, rand_index
from cryosphere.inference.ensemble import hard_segments, spread_rows
from cryosphere.io.atomic import atomic_output
from cryosphere.pipelines.checked_training import train
from cryosphere.runs.run import Run

HALVES = ("half1", "half2")
RESULT = "half_sets.json"
# Correlation of the main motion between the halves from which it is called reproducible, or weakly so.
_REPRODUCIBLE, _WEAK = 0.7, 0.3
# Particles, evenly spread, whose conformations are compared.
_MOST_PARTICLES = 2000
# Of these, those by which it is seen what moves as one body.
_N_MERGING = 50
# Å rms about their mean; conformations that move less do not move.
_NO_MOTION_A = 1e-3


@dataclass(frozen=True)
class HalfSetAgreement:
    """How far the conformations of two independent models agree, particle by particle, without superposition.

    Attributes
    ----------
    mean_rmsd : float
        Å; mean over particles of the RMSD between E[x | image] of the two models.
    spread : float
        Å; root mean square distance of a model's conformations from their mean, mean of both models.
    correlation : float
        Of the projections on the main motion of both models together, over particles.
    residue_rmsd : list of float
        Å; root mean square distance of every residue between the models.
    verdict : str
        ``reproducible``, ``weak``, ``not reproducible``, or ``no motion in either half``.
    n_segments, n_bodies : list of int
        Of each model: its segments, and what is left of them after merging those that move as one (of residues that
        are in a segment).
    body_agreement : float
        Adjusted Rand index of the bodies of both.
    n_particles : int
        Particles compared.
    """

    mean_rmsd: float
    spread: float
    correlation: float
    residue_rmsd: list[float]
    verdict: str
    n_segments: list[int]
    n_bodies: list[int]
    body_agreement: float
    n_particles: int

    def sentence(self) -> str:
        """The result in words."""
        return (
            f"Half sets: {self.verdict}. The main motion correlates with {self.correlation:.2f} over "
            f"{self.n_particles} particles; conformations differ by {self.mean_rmsd:.2f} Å rms, and move by "
            f"{self.spread:.2f} Å about their mean. Rigid bodies: {self.n_bodies[0]} and {self.n_bodies[1]}, adjusted "
            f"Rand index {self.body_agreement:.2f}. (Both look at the same noise in an image: agreement bounds the "
            "error of the models, not that of an image.)"
        )


def train_half_sets(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda sentence: None,
    check: bool = True,
) -> HalfSetAgreement:
    """Train a model on each half of the images, from different weights, and compare what they say of every particle.

    Parameters
    ----------
    config : Config
    folder : Path
        Gets the run folders ``half1`` and ``half2`` and ``half_sets.json``.
    resume, overwrite, device, show_progress, say, check
        As for ``train``; a half that is done is trained no more on ``resume``.

    Raises
    ------
    RunError, InputError, ConfigError
        As ``train``; a folder with other things in it is not touched.
    """
    folder = Path(folder)
    known = {*HALVES, RESULT}
    if folder.is_dir() and any(item.name not in known for item in folder.iterdir()):
        raise RunError(f"{folder}: holds other files than half sets, so it is not touched; choose another -o.")
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for number, name in enumerate(HALVES, start=1):
        say(f"Half set {number}:")
        particles = config.particles.model_copy(update={"half_set": number})
        half = config.model_copy(update={"particles": particles})
        begun = (folder / name).exists()
        runs.append(
            train(
                half,
                folder / name,
                resume=resume and begun,
                overwrite=overwrite,
                device=device,
                show_progress=show_progress,
                say=say,
                stack_of=folder / HALVES[0],
                check=check,
            )
        )
    agreement = compare_half_sets(*runs)
    if distributed.is_main():
        with atomic_output(folder / RESULT, overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(agreement), indent=2) + "\n", encoding="utf-8")
    return agreement


def compare_half_sets(first: Run, second: Run) -> HalfSetAgreement:
    """Compare E[x | image] of the same particles, and the bodies, under two models of the same structure."""
    rows = spread_rows(len(first.posterior.index), _MOST_PARTICLES)
    one, other = (
        np.concatenate([positions for _, positions in run.expected_coordinates(rows)]).astype(np.float64)
        for run in (first, second)
    )
    squares = ((one - other) ** 2).sum(2)
    spread = float(np.mean([np.sqrt(((x - x.mean(0)) ** 2).sum(2).mean()) for x in (one, other)]))
    correlation = main_motion_correlation(one, other)
    some = spread_rows(len(rows), _N_MERGING)
    labels = [hard_segments(run.segment_weights()) for run in (first, second)]
    nominal = first.structure.residue_positions
    bodies = [
        merge_segments(found, nominal, positions[some]) for found, positions in zip(labels, (one, other), strict=True)
    ]
    inside = (labels[0] >= 0) & (labels[1] >= 0)
    word = "reproducible" if correlation > _REPRODUCIBLE else "weak" if correlation > _WEAK else "not reproducible"
    if spread < _NO_MOTION_A:
        word = "no motion in either half"
    return HalfSetAgreement(
        mean_rmsd=float(np.sqrt(squares.mean(1)).mean()),
        spread=spread,
        correlation=correlation,
        residue_rmsd=[float(value) for value in np.sqrt(squares.mean(0))],
        verdict=word,
        n_segments=[len(run.segment_names) for run in (first, second)],
        n_bodies=[len(np.unique(found[inside])) for found in bodies],
        body_agreement=rand_index(*(found[inside] for found in bodies)),
        n_particles=len(rows),
    )


def main_motion_correlation(
    one: Float[np.ndarray, "particle residue 3"], other: Float[np.ndarray, "particle residue 3"]
) -> float:
    """Correlation of two sets of conformations of the same particles along the first component of their mean; 0 if
    either does not move."""
    first, second = ((x - x.mean(0)).reshape(len(x), -1) for x in (one, other))
    total = first + second
    left = total @ total.T if len(total) < total.shape[1] else None
    if left is not None:
        direction = total.T @ np.linalg.eigh(left)[1][:, -1]
    else:
        direction = np.linalg.eigh(total.T @ total)[1][:, -1]
    a, b = first @ direction, second @ direction
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float(a @ b / scale) if scale > 1e-9 * max(np.abs(direction).max(), 1e-300) else 0.0
