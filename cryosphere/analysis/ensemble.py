"""What a run's conformations have in numbers: motions, modes, fluctuations; for the ensemble and for every particle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from cryosphere.analysis.bodies import POINTS_FOR_ROTATION, RigidMotions
from cryosphere.analysis.modes import fit_modes
from cryosphere.analysis.motions import Motion, MotionName, Motions
from cryosphere.analysis.sample import posterior_averages, sample_ensemble, weighted_percentiles
from cryosphere.analysis.states import Division
from cryosphere.errors import InputError
from cryosphere.inference.ensemble import hard_segments, spread_rows
from cryosphere.runs.run import Run

# Conformations decoded at a time; residues that stand for all in the modes.
_CHUNK = 256
_KEPT_RESIDUES = 1500
# Draws from the posterior of a particle that has latents of its own, for its states.
_DRAWS = 32
# Conformations whose displacements are ranked.
_RANKED = 500
# Resamples of the lots of particles, and the share of them inside a stated interval.
_RESAMPLES, _INTERVAL = 100, (15.87, 84.13)
# Share of the ensemble that a stated range covers.
RANGE_PERCENTILES = (5.0, 95.0)


@dataclass(frozen=True)
class Fluctuations:
    """How far residues move, Å, without superposition.

    ``rmsf`` is over the ensemble, ``rmsf_low`` and ``rmsf_high`` a 68 % interval from resampled particles;
    ``displacement`` are the 5th, 50th and 95th percentile of the distance from the nominal place.
    """

    rmsf: Float[np.ndarray, " residue"]
    rmsf_low: Float[np.ndarray, " residue"]
    rmsf_high: Float[np.ndarray, " residue"]
    displacement: Float[np.ndarray, "3 residue"]


class Ensemble:
    """The ensemble of a run, described by motions and modes.

    Parameters
    ----------
    run : Run
        With its posterior.
    names : sequence of MotionName
        Motions to measure.
    reference : int, "largest" or None
        Segment (from 0) that motions of one part are seen from; None: the frame of the map, as where there is only one.
    with_usual : bool
        Measure ``angle``, ``screw`` and ``shift`` of every segment but the reference, too.

    Attributes
    ----------
    sample : EnsembleSample
    labels : int array of shape (residue,)
        Segment (from 0) of every residue, -1 for none.
    motions : Motions
        Fitted to the ensemble.
    bodies : list of RigidMotions
        Of the motions' parts, in the conformations of the sample.
    values : array of shape (conformation, motion)
        Degrees or Å.
    modes : Modes
    coordinates : array of shape (conformation, mode)
        Å.
    fluctuations : Fluctuations
    """

    def __init__(
        self,
        run: Run,
        names: Sequence[MotionName] = (),
        reference: int | str | None = "largest",
        with_usual: bool = True,
    ) -> None:
        self.run = run
        self.labels = hard_segments(run.segment_weights())
        self.reference = _reference(reference, self.labels)
        usual = usual_motions(self.labels, self.reference) if with_usual else []
        self.motions = Motions(list(dict.fromkeys([*usual, *names])), run.structure, self.labels, self.reference)
        self.sample = sample_ensemble(run)
        self._pass()

    def _pass(self) -> None:
        """Decode the sample once, and keep what is needed of it."""
        run, sample, weights = self.run, self.sample, self.sample.weights
        nominal = run.structure.residue_positions.astype(np.float64)
        kept = spread_rows(run.n_residues, _KEPT_RESIDUES)
        thinned = np.empty((len(sample.latent), len(kept), 3), np.float32)
        first = np.zeros((len(sample.block_weights), *nominal.shape))
        second = np.zeros((len(sample.block_weights), len(nominal)))
        parts: list[list[RigidMotions]] = []
        for start in range(0, len(sample.latent), _CHUNK):
            rows = slice(start, start + _CHUNK)
            positions = run.decode(sample.latent[rows])
            thinned[rows] = positions[:, kept]
            parts.append(self.motions.bodies(positions))
            offset = (positions - nominal).reshape(len(positions), -1)
            block = sample.block_weights[:, rows]
            first += (block @ offset).reshape(first.shape)
            second += block @ (offset.reshape(len(offset), -1, 3) ** 2).sum(2)
        self.bodies = [
            RigidMotions(np.concatenate([p.rotmat for p in part]), np.concatenate([p.translation for p in part]))
            for part in zip(*parts, strict=True)
        ]
        self.motions.fit(self.bodies, weights)
        self.values = self.motions.measure(self.bodies)
        self._kept = kept
        self.modes = fit_modes(thinned, weights)
        self.coordinates = self.modes.coordinates(thinned)
        self.fluctuations = self._fluctuations(first, second, nominal)

    def _fluctuations(self, first: np.ndarray, second: np.ndarray, nominal: np.ndarray) -> Fluctuations:
        def rmsf(counts: np.ndarray) -> np.ndarray:
            total = counts @ self.sample.block_weights.sum(1)
            mean = np.tensordot(counts, first, 1) / total
            return np.sqrt((counts @ second / total - (mean**2).sum(-1)).clip(min=0.0))

        whole = rmsf(np.ones(len(first)))
        resampled = np.stack([rmsf(counts) for counts in self.sample.bootstrap(_RESAMPLES).astype(float)])
        low, high = np.percentile(resampled, _INTERVAL, axis=0)
        drawn = np.random.default_rng(0).choice(len(self.sample.latent), _RANKED, p=self.sample.weights)
        distance = [
            np.linalg.norm(self.run.decode(self.sample.latent[drawn[start : start + _CHUNK]]) - nominal, axis=2)
            for start in range(0, _RANKED, _CHUNK)
        ]
        low, high = np.minimum(low, whole), np.maximum(high, whole)
        return Fluctuations(whole, low, high, np.percentile(np.concatenate(distance), (5, 50, 95), axis=0))

    @property
    def names(self) -> list[str]:
        """The motions, as they are written."""
        return [str(motion.name) for motion in self.motions.motions]

    @property
    def means(self) -> Float[np.ndarray, " motion"]:
        """Mean of every motion over the ensemble."""
        return self.sample.weights @ self.values

    def percentiles(self, percentages: Sequence[float]) -> Float[np.ndarray, "motion percentage"]:
        """Percentiles of every motion over the ensemble."""
        found = [weighted_percentiles(column, self.sample.weights, percentages) for column in self.values.T]
        return np.array(found).reshape(len(found), len(percentages))

    def of_particles(
        self,
        division: Division | None = None,
        rows: Int[np.ndarray, " particle"] | None = None,
        show_progress: bool = False,
    ) -> ParticleValues:
        """What the images say of every particle: expected motions and modes with their standard deviations, states."""
        numbers = _Moments(self.motions.motions, self.means, self.modes.n_modes)
        owner = np.zeros((len(self.coordinates), 0))
        if division is not None:
            owner = division.memberships(self.coordinates)
        is_shared = self.run.posterior.is_shared

        def values_of(latent: np.ndarray) -> np.ndarray:
            found = self._numbers_at(latent, numbers.of)
            return np.concatenate([found, owner], axis=1) if is_shared else found

        parts = []
        for batch, averages in posterior_averages(self.run, values_of, rows, show_progress):
            moments, membership = np.split(averages, [2 * len(numbers.centre)], axis=1)
            if not is_shared:
                membership = self._drawn_memberships(batch, owner)
            parts.append([part.astype(np.float32) for part in (*numbers.mean_and_std(moments), membership)])
        mean, std, membership = (np.concatenate(part) for part in zip(*parts, strict=True))
        n = self.values.shape[1]
        return ParticleValues(mean[:, :n], std[:, :n], mean[:, n:], std[:, n:], membership)

    def _drawn_memberships(
        self, rows: Int[np.ndarray, " batch"], owner: Float[np.ndarray, "conformation state"]
    ) -> Float[np.ndarray, "batch state"]:
        """Posterior probability of states where particles have latents of their own: the share of draws whose nearest
        latent of the sample is in each."""
        drawn = self.run.sample_posterior(rows, _DRAWS, seed=int(rows[0]))
        return owner[self._latent_tree.query(drawn)[1]].mean(1)

    @cached_property
    def _latent_tree(self) -> cKDTree:
        return cKDTree(self.sample.latent)

    def coordinates_at(
        self, latent: Float[np.ndarray, "conformation latent"]
    ) -> Float[np.ndarray, "conformation mode"]:
        """Conformations at latents along the modes, Å."""
        return self._numbers_at(latent, lambda _, coordinates: coordinates)

    def _numbers_at(self, latent: Float[np.ndarray, "conformation latent"], numbers) -> np.ndarray:
        """Numbers of conformations at latents; those of the sample are known."""
        if latent.shape == self.sample.latent.shape and np.array_equal(latent, self.sample.latent):
            return numbers(self.values, self.coordinates)
        found = []
        for start in range(0, len(latent), _CHUNK):
            positions = self.run.decode(latent[start : start + _CHUNK])
            values = self.motions.measure(self.motions.bodies(positions))
            found.append(numbers(values, self.modes.coordinates(positions[:, self._kept])))
        return np.concatenate(found)


class _Moments:
    """Numbers of conformations whose averages give means and standard deviations of motions and modes.

    Angles that go on at their other end are averaged on the circle (Mardia & Jupp, Directional Statistics, 2000, §2.3):
    their mean is the direction of the mean of e^iv, their standard deviation √(−2 ln of its length).
    """

    def __init__(self, motions: Sequence[Motion], means: Float[np.ndarray, " motion"], n_modes: int) -> None:
        self.centre = np.concatenate([means, np.zeros(n_modes)])
        self.circular = np.array([*(motion.is_circular for motion in motions), *[False] * n_modes], dtype=bool)
        self.middle = np.array([motion.middle for motion in motions if motion.is_circular])

    def of(self, values: np.ndarray, coordinates: np.ndarray) -> Float[np.ndarray, "conformation number"]:
        """Centred numbers and their squares; of angles on the circle the cosine and sine from their middle."""
        every = np.concatenate([values, coordinates], axis=1)
        centred = every - self.centre
        turns = np.radians(every[:, self.circular] - self.middle)
        first, second = centred.copy(), centred**2
        first[:, self.circular], second[:, self.circular] = np.cos(turns), np.sin(turns)
        return np.concatenate([first, second], axis=1)

    def mean_and_std(self, averages: Float[np.ndarray, "batch number"]) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations from averages of these numbers."""
        first, second = np.split(averages, 2, axis=1)
        mean, std = first + self.centre, np.sqrt((second - first**2).clip(min=0.0))
        cosine, sine = first[:, self.circular], second[:, self.circular]
        mean[:, self.circular] = self.middle + np.degrees(np.arctan2(sine, cosine))
        length = np.hypot(cosine, sine).clip(1e-12, 1.0)
        std[:, self.circular] = np.degrees(np.sqrt(-2 * np.log(length)))
        return mean, std


@dataclass(frozen=True)
class ParticleValues:
    """Expectations under the posterior of every particle, with the standard deviations of the posteriors."""

    motion: Float[np.ndarray, "particle motion"]
    motion_std: Float[np.ndarray, "particle motion"]
    mode: Float[np.ndarray, "particle mode"]
    mode_std: Float[np.ndarray, "particle mode"]
    membership: Float[np.ndarray, "particle state"]


def usual_motions(labels: Int[np.ndarray, " residue"], reference: int | None) -> list[MotionName]:
    """``angle``, ``screw`` and ``shift`` of every segment but the reference; small ones only shift."""
    names = []
    for segment in np.unique(labels[labels >= 0]).tolist():
        if segment != reference:
            kinds = ("angle", "screw", "shift") if (labels == segment).sum() >= POINTS_FOR_ROTATION else ("shift",)
            names += [MotionName(kind, (f"s{segment + 1}",)) for kind in kinds]
    return names


def _reference(reference: int | str | None, labels: Int[np.ndarray, " residue"]) -> int | None:
    """Number (from 0) of the reference segment."""
    present = np.unique(labels[labels >= 0])
    if reference not in ("largest", None) and reference not in present:
        last = int(present.max(initial=-1)) + 1
        raise InputError(f"the reference s{int(reference) + 1} is no segment of the run, which has s1 to s{last}.")
    if reference is None or len(present) < 2:
        return None  # one segment is seen from the map
    return int(np.bincount(labels[labels >= 0]).argmax()) if reference == "largest" else int(reference)
