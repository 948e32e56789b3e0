"""Maps of states from the particle images, with half-maps and their Fourier shell correlation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from cryosphere.errors import InputError, RunError
from cryosphere.particles.loading import read_ahead
from cryosphere.particles.selection import half_set_rows
from cryosphere.physics.backprojection import Backprojection
from cryosphere.physics.fourier import soft_sphere
from cryosphere.physics.shell_correlation import (
    resolution_at,
    transform_correlation,
    volume_shells,
    weigh_shells,
    wiener_weights,
)
from cryosphere.progress import Bar
from cryosphere.runs.run import Run
from cryosphere.training.memory import free_ram

# Correlations of half-maps at which resolution is told: theirs, and that of a map with a model.
HALF_MAP_THRESHOLD, MODEL_THRESHOLD = 0.143, 0.5
# Weights under this are left out: they would cost as much as any other.
_LEAST_WEIGHT = 1e-3
# Sum of weights that each half needs.
_LEAST_PARTICLES = 2.0
# Images and pixels that are read and inserted together, at most.
_BATCH, _BATCH_PIXELS = 512, 16_000_000
# Share of the free memory that sums may take.
_USABLE = 0.5


@dataclass(frozen=True)
class StateMap:
    """A state's map from its images.

    Attributes
    ----------
    volume : array of shape (z, y, x)
        Of all images, every shell weighed down as its signal-to-noise ratio asks (Wiener).
    unweighed : array of shape (z, y, x)
        The same without that; its sum along z gives the images in the files' grey values.
    half_maps : pair of arrays of shape (z, y, x)
        Of the two halves, not weighed down.
    half_weights : pair of float
        Sum of the particles' weights in each half.
    frequency : array of shape (shell,)
        Å⁻¹, up to, not including, Nyquist.
    fsc, fsc_unmasked : arrays of shape (shell,)
        Of the half-maps inside a soft sphere of the run's mask radius, and in the whole box.
    finest : float
        Å at Nyquist.
    fsc_model : array of shape (shell,), optional
        Of the unweighed map and the state's model, inside the same sphere.
    """

    volume: Float[np.ndarray, "z y x"]
    unweighed: Float[np.ndarray, "z y x"]
    half_maps: tuple[Float[np.ndarray, "z y x"], Float[np.ndarray, "z y x"]]
    half_weights: tuple[float, float]
    frequency: Float[np.ndarray, " shell"]
    fsc: Float[np.ndarray, " shell"]
    fsc_unmasked: Float[np.ndarray, " shell"]
    finest: float
    fsc_model: Float[np.ndarray, " shell"] | None = None

    def resolution(self, threshold: float = HALF_MAP_THRESHOLD) -> float:
        """Å at which the masked half-maps' correlation falls under a threshold; Nyquist where it never does."""
        return resolution_at(threshold, self.frequency, self.fsc, self.finest)

    @property
    def model_resolution(self) -> float:
        """Å at which the correlation with the model falls under 0.5; ``nan`` without a model."""
        if self.fsc_model is None:
            return np.nan
        return resolution_at(MODEL_THRESHOLD, self.frequency, self.fsc_model, self.finest)


def backproject_states(
    run: Run, weights: Float[np.ndarray, "state particle"], names: Sequence[str], show_progress: bool = False
) -> Iterator[StateMap]:
    """Reconstruct a map of every state from the images, each weighted.

    The images are whitened with the noise spectra, and have the poses, that training ended with; all count with a
    contrast of 1. Halves are those of the refinement where the table has them, else random; rows of one image are in
    the same. As many states as memory holds are summed in one pass over the images.

    Parameters
    ----------
    run : Run
    weights : array of shape (state, particle)
        Of the posterior's particles (``run.posterior.index``), at least 0.
    names : sequence of str
        Of the states, for messages.
    show_progress : bool
        Show a progress bar on stderr.

    Yields
    ------
    StateMap
        In the order of the states.

    Raises
    ------
    InputError
        Weights are not of this form, or a state has too few particles.
    RunError
        Image stacks are missing, or memory does not hold one state.
    """
    weights = _checked_weights(run, weights, names)
    is_second = np.ones(run.table.n_particles, dtype=bool)
    is_second[half_set_rows(run.table, 1, run.config.training.seed)] = False
    _check_halves(weights, is_second, names)
    _check_stacks(run, weights)
    at_once = _states_at_once(run)
    n_visits = sum((weights[start : start + at_once] > 0).any(0).sum() for start in range(0, len(weights), at_once))
    with Bar(total=int(n_visits), desc="backproject", unit="image", disable=not show_progress) as bar:
        for start in range(0, len(weights), at_once):
            part = weights[start : start + at_once]
            sums = _insert_images(run, part, is_second, bar)
            for state, own in enumerate(part):
                yield _state_map(run, sums, state, (float(own[~is_second].sum()), float(own[is_second].sum())))


def masked_correlation(
    run: Run, first: Float[np.ndarray, "z y x"], second: Float[np.ndarray, "z y x"]
) -> Float[np.ndarray, " shell"]:
    """Fourier shell correlation inside a soft sphere of the run's mask radius, up to, not including, Nyquist."""
    radius = min(run.model.mask_radius / run.table.pixel_size, 0.5 * run.table.box_size)
    mask = soft_sphere(run.table.box_size, radius).numpy()
    return _correlation(first * mask, second * mask)


def _correlation(first: np.ndarray, second: np.ndarray) -> Float[np.ndarray, " shell"]:
    size = len(first)
    transforms = (torch.fft.rfftn(torch.from_numpy(volume)) for volume in (first, second))
    return transform_correlation(*transforms, volume_shells(size), size)


def _checked_weights(run: Run, weights: np.ndarray, names: Sequence[str]) -> Float[np.ndarray, "state row"]:
    """Weights of all rows of the table, negligible ones 0."""
    index = run.posterior.index
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (len(names), len(index)):
        raise InputError(
            f"weights: expected an array of shape ({len(names)}, {len(index)}), one row for every state and one column "
            f"for every particle of {run.layout.posterior}, found {given.shape}."
        )
    wrong = np.argwhere(~(np.isfinite(given) & (given >= 0)))
    if len(wrong):
        state, particle = wrong[0]
        raise InputError(
            f"weights: {names[state]} has the weight {given[state, particle]:g} for particle row {index[particle]} "
            "(from 0); weights must be 0 or more."
        )
    spread = np.zeros((len(given), run.table.n_particles), np.float32)
    spread[:, np.searchsorted(run.table.input_rows, index)] = np.where(given < _LEAST_WEIGHT, 0, given)
    return spread


def _check_halves(weights: np.ndarray, is_second: Bool[np.ndarray, " row"], names: Sequence[str]) -> None:
    for own, name in zip(weights, names, strict=True):
        halves = own[~is_second].sum(), own[is_second].sum()
        if min(halves) < _LEAST_PARTICLES:
            raise InputError(
                f"{name}: too few particles for a map: its halves have {halves[0]:.1f} and {halves[1]:.1f} (weights "
                f"counted), {_LEAST_PARTICLES:g} are needed in each; choose more particles or fewer states."
            )


def _check_stacks(run: Run, weights: np.ndarray) -> None:
    """Refuse to start where stacks of the images are missing and no prepared ones stand for them."""
    if run.open_prepared() is not None:
        return
    used = np.unique(run.table.stack_index[(weights > 0).any(0)])
    missing = [path for path in (run.table.stack_paths[stack] for stack in used) if not path.exists()]
    if missing:
        raise RunError(
            f"{run.folder}: maps from images need the image stacks, of which {len(missing)} are missing (first: "
            f"{missing[0]}); put them back, or export volumes without --from-images."
        )


def _states_at_once(run: Run) -> int:
    """States whose sums memory holds together."""
    needed, free = 2 * Backprojection.n_bytes(run.table.box_size), free_ram()
    if needed > free:
        raise RunError(
            f"{run.folder}: maps from images of {run.table.box_size} pixels need {needed / 1e9:.2g} GB of memory, "
            f"{free / 1e9:.2g} GB are free; end other programs, or use a machine with more."
        )
    return max(1, int(_USABLE * free / needed))


def _insert_images(run: Run, weights: np.ndarray, is_second: Bool[np.ndarray, " row"], bar: Bar) -> Backprojection:
    """Sums of the states' halves: tables 2 s and 2 s + 1 are those of state s."""
    sums = Backprojection(2 * len(weights), run.table.box_size, run.table.pixel_size)
    rows = np.flatnonzero((weights > 0).any(0))
    size = max(1, min(_BATCH, _BATCH_PIXELS // run.table.box_size**2))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    with closing(read_ahead(run.open_images(), parts, n_ahead=1)) as batches:
        for part, batch in zip(parts, batches, strict=True):
            own = np.zeros((len(part), len(weights), 2), np.float32)
            own[np.arange(len(part)), :, is_second[part].astype(int)] = weights[:, part].T
            sums.insert(batch.fourier, batch.rotmat, batch.ctf, batch.whitening, own.reshape(len(part), -1))
            bar.update(len(part))
    return sums


def _state_map(run: Run, sums: Backprojection, state: int, half_weights: tuple[float, float]) -> StateMap:
    first, second = (sums.volume([2 * state + half]) for half in range(2))
    curve = masked_correlation(run, first, second)
    box_size, pixel_size = run.table.box_size, run.table.pixel_size
    unweighed = sums.volume([2 * state, 2 * state + 1])
    return StateMap(
        volume=weigh_shells(unweighed, wiener_weights(curve)),
        unweighed=unweighed,
        half_maps=(first, second),
        half_weights=half_weights,
        frequency=np.arange(len(curve)) / (box_size * pixel_size),
        fsc=curve,
        fsc_unmasked=_correlation(first, second),
        finest=2 * pixel_size,
    )
