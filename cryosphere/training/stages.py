"""The plan of a training run on the marginal likelihood: coarse to fine, few freedoms to many to few."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from cryosphere.config import Config

# Resolutions (Å) of the coarse stages.
_COARSEST, _COARSE, _MIDDLE = 28.0, 18.0, 14.0
# Images seen in a coarse stage, steps of a static one, images seen in a round at full resolution and the least and most
# rounds where epochs are not given.
_COARSE_VISITS, _STATIC_STEPS, _FINE_VISITS = 4096, 60, 24_000
_LEAST_ROUNDS, _MOST_ROUNDS = 2, 5
# Factor of the learning rates in rounds after the first.
_LATER_RATE = 0.5
# Images compared with one set of conformations.
_COARSE_BLOCK, _FINE_BLOCK = 512, 1024
# Weight of the geometry terms before the last stage: bodies that are not yet right must be able to part.
_LOOSE_GEOMETRY = 0.1
# Divisions that are fitted and compared.
MOST_CANDIDATES = 5
_USUAL_OWN_SAMPLES = 4


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own optimiser.

    Attributes
    ----------
    name : str
        For the user and the metrics.
    kind : str
        ``still``: one structure for all images; ``latent``: the marginal likelihood; ``trial``: that, in one more
        latent dimension, kept if the held-out images gain;
        ``merge``: divisions worth fitting are named, no steps; ``bodies``: ``latent`` for one of them;
        ``control``: that with shuffled segments, to compare with;
        ``turn``: that from one part on a full turn, kept if the held-out images gain;
        ``unfold``: that from a latent laid out along the motion, kept unless the held-out images lose;
        ``refine``: noise spectra and, if wanted, poses are refined, no steps.
    resolution : float, optional
        Å; None is full resolution.
    visits : int
        Images to be seen.
    block : int
        Images compared with one set of conformations.
    rate, segment_rate, geometry : float
        Factors of the learning rates and of the geometry's weights.
    node_share : float
        Factor of the number of shared conformations.
    candidate : int
        Of ``bodies``: which.
    has_fresh_borders : bool
        Whether bodies begin with fresh borders, so that what drifted inside them is forgotten.
    is_fork : bool
        Whether the model at its start is what later rivals start from.
    is_optional : bool
        Whether it is left out once the rounds before it have brought the held-out images no more.
    """

    name: str
    kind: Literal["still", "latent", "trial", "merge", "bodies", "control", "refine", "turn", "unfold"]
    resolution: float | None
    visits: int = 0
    block: int = _COARSE_BLOCK
    rate: float = 1.0
    segment_rate: float = 1.0
    geometry: float = 1.0
    node_share: float = 1.0
    candidate: int = 0
    has_fresh_borders: bool = False
    is_fork: bool = False
    is_optional: bool = False

    @property
    def is_round(self) -> bool:
        """Whether it is a round at full resolution."""
        return self.kind == "latent" and self.resolution is None


def plan(config: Config, n_training: int, divides: bool) -> list[Stage]:
    """Stages of a run.

    Parameters
    ----------
    config : Config
    n_training : int
        Images to train on.
    divides : bool
        Whether the number of bodies is to be chosen.
    """
    epochs = config.training.epochs
    visits = epochs * n_training if epochs else max(n_training, _FINE_VISITS)
    opening = Stage("open the latent", "latent", _COARSEST, _COARSE_VISITS, 512, 3.0, 0.0, _LOOSE_GEOMETRY, 0.5)
    segments = config.segments
    searches = segments.method != "chain" and not segments.regions and segments.n_segments != 1
    still = _STATIC_STEPS * config.training.batch_size
    stages = [
        Stage("static fit", "still", _COARSEST, still, rate=3.0),
        Stage("static fit", "still", _COARSE, still // 2, rate=2.0),
        opening,
    ]
    if searches:
        stages.append(replace(opening, name="look for a wide turn", kind="turn", rate=1.0, node_share=1.0))
    stages.append(Stage("find bodies", "latent", _COARSE, _COARSE_VISITS, 512, 3.0, 0.5, _LOOSE_GEOMETRY))
    stages.append(replace(stages[-1], name="unfold the latent", kind="unfold", rate=1.7))
    fit = Stage("fit bodies", "latent", _MIDDLE, _COARSE_VISITS, 512, 1.7, 1.0, _LOOSE_GEOMETRY)
    if divides:
        stages.append(Stage("merge what moves as one", "merge", _COARSE))
        stages += [replace(fit, kind="bodies", candidate=number) for number in range(MOST_CANDIDATES)]
        stages.append(replace(fit, name="shuffled segments, for comparison", kind="control"))
    else:
        stages.append(replace(fit, is_fork=True))
    if config.model.latent_dim == "auto":  # both sides of a contest see as many images
        stages.append(replace(fit, name="fit bodies further"))
        stages.append(replace(fit, name="try another dimension", kind="trial", visits=2 * _COARSE_VISITS))
    for number in range(1 if epochs else _MOST_ROUNDS):
        optional = number >= _LEAST_ROUNDS
        stages.append(Stage("refine noise and poses", "refine", None if number else _MIDDLE, is_optional=optional))
        rate = 1.0 if number == 0 else _LATER_RATE
        whole = Stage("full resolution", "latent", None, visits, _FINE_BLOCK, rate, is_optional=optional)
        stages.append(replace(whole, has_fresh_borders=number == 0))
    return stages


def n_own_samples(config: Config, latent_dim: int) -> int:
    """Further conformations for every image, from the encoder."""
    if config.training.own_samples is not None:
        return config.training.own_samples
    return 0 if latent_dim <= 2 else _USUAL_OWN_SAMPLES


def rate_factor(fraction: float) -> float:
    """Learning-rate factor after a share of a stage's steps: up over the first tenth, then a cosine down to 5 %."""
    return min(1.0, 10 * fraction + 1e-3) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * fraction)))
