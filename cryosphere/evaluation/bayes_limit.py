"""The Bayes limit of a simulated set: how near to the truth its images allow anyone to come.

Every image is compared with every true state in its true pose, with its CTF, noise spectrum, signal scale and
contrast, by the renderer that generated it. The mean structure under the resulting posterior has the least expected
squared error of all predictions; its RMSD to the truth is the limit that a method is measured against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryosphere.config import choose_device
from cryosphere.errors import InputError
from cryosphere.evaluation.metrics import per_image_rmsd
from cryosphere.inference.ensemble import spread_rows
from cryosphere.io.mrc import read_images
from cryosphere.io.particles import read_particles
from cryosphere.physics import fourier, noise
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.slices import SliceTable, band_points, conformation_table, take_slices, volume_table
from cryosphere.records import ParticleTable
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.imager import Imager
from cryosphere.simulation.particles import STAR, TRUTH, Progress, prepare_conformations
from cryosphere.simulation.truth import Truth, read_truth

# Numbers held at once for the transforms of a chunk of states (1 GB with what making them needs), for the slices of
# a batch of images, and for the structures of a batch of images.
_TABLE_NUMBERS, _SLICE_NUMBERS, _STRUCTURE_NUMBERS = 60_000_000, 40_000_000, 20_000_000
# Å; states further from the truth folder's than this are others.
_SAME_STATES_A = 0.01


@dataclass(frozen=True)
class BayesLimit:
    """Posterior over the true states of some images, and how far its mean structure is from the truth.

    Attributes
    ----------
    rows : int array of shape (image,)
        Rows of the particle file.
    weights : float64 array of shape (image, state)
        Posterior probability of every state; rows sum to 1.
    rmsd : float64 array of shape (image,)
        Å; of the posterior's mean structure from the true one, all residues, no superposition.
    """

    rows: Int[np.ndarray, " image"]
    weights: Float[np.ndarray, "image state"]
    rmsd: Float[np.ndarray, " image"]

    @property
    def mean(self) -> float:
        """The limit: mean RMSD over images, Å."""
        return float(self.rmsd.mean())


@dataclass(frozen=True)
class _Images:
    """What the likelihood needs of some images at the chosen points of Fourier space.

    ``overlap`` is the image times everything that stands between slice and image, ``power`` the square of that;
    both are whitened and weighted, so that log p = Re Σ conj(overlap) slice - ½ Σ power |slice|² + a constant.
    """

    rotmat: Float[Tensor, "image 3 3"]
    overlap: Complex[Tensor, "image point"]
    power: Float[Tensor, "image point"]


def bayes_limit(
    folder: Path | str,
    conformations: Conformations,
    *,
    n_images: int = 1000,
    corners: bool = False,
    centre: bool = True,
    device: str = "cpu",
    progress: Progress | None = None,
) -> BayesLimit:
    """Compute the Bayes limit of a set that ``simulate`` wrote.

    The prior is the populations of the set over its states, which must be fine enough a grid of their family: with
    steps below about one and a half standard deviations of the posterior the limit is that of the continuous family
    within 1 % (in each dimension).

    Parameters
    ----------
    folder : path
        The simulated set.
    conformations : Conformations
        What it was simulated from, as given to ``simulate``.
    n_images : int
        Images, evenly spread, that are looked at.
    corners : bool
        Whether to use the frequencies beyond circular Nyquist too, which RELION and most programs leave out. They
        hold up to a fifth of what images say of small motions. Volumes then are computed on a finer grid.
    centre : bool
        As it was given to ``simulate``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    progress : callable, optional
        Called with (what, number of further states done, number of states).

    Raises
    ------
    InputError
        The folder is not of ``simulate``, or the conformations are not those it was made from.
    """
    folder = Path(folder)
    truth = read_truth(folder / TRUTH)
    settings = _settings_of(truth, folder, device)
    states = prepare_conformations(conformations, centre)
    _check_states(states, truth, folder)
    rows = spread_rows(len(truth.state), n_images)
    index, points, band = _points(settings.box_size, corners)
    images = _prepare(read_particles(folder / STAR), truth, settings, rows, index, points)
    parts = []
    for table in _tables(states, settings, band):
        parts.append(_log_likelihood(images, table, points))
        if progress:
            progress("Bayes limit", table.n_volumes, states.n_states)
    weights = torch.softmax(torch.cat(parts, dim=1).double() + _log_prior(truth), dim=1).numpy()
    return BayesLimit(rows, weights, _errors(weights, truth, truth.state[rows]))


def _settings_of(truth: Truth, folder: Path, device: str) -> SimulationSettings:
    """What of the simulation's settings the images' signal depends on."""
    info = truth.info
    try:
        return SimulationSettings(
            n_particles=len(truth.state),
            box_size=int(info["box_size"]),
            pixel_size=float(info["pixel_size"]),
            snr=float(info["snr"]),
            forward=info["forward"],
            b_factor=None if info["b_factor"] == "file" else float(info["b_factor"]),
            device=choose_device(device),
        )
    except KeyError as error:
        raise InputError(
            f"{folder / TRUTH} does not say its {error.args[0]}: the Bayes limit needs a set that "
            "`cryosphere simulate` wrote."
        ) from None


def _check_states(states: Conformations, truth: Truth, folder: Path) -> None:
    found, expected = states.residue_positions.shape, truth.coordinates.shape
    if found != expected:
        raise InputError(
            f"{folder} was simulated from {expected[0]} states of {expected[1]} residues, the conformations given are "
            f"{found[0]} of {found[1]}; give those that it was simulated from."
        )
    apart = float(np.abs(states.residue_positions - truth.coordinates).max())
    if apart > _SAME_STATES_A:
        raise InputError(
            f"The conformations are up to {apart:.2f} Å from the states of {folder}; give those that it was simulated "
            "from, centred or not as it was."
        )


def _points(box_size: int, corners: bool) -> tuple[Int[Tensor, " point"], Float[Tensor, "point 2"], int]:
    """Index and (x, y) frequency of the points of a half plane but frequency 0, and the band that slices need."""
    if not corners:
        index, points = band_points(box_size, box_size // 2)
        return index[1:], points[1:], box_size // 2
    y = torch.fft.fftfreq(box_size, d=1 / box_size)[:, None].expand(-1, box_size // 2 + 1)
    x = torch.arange(box_size // 2 + 1, dtype=y.dtype)[None, :].expand(box_size, -1)
    below_nyquist = (x < box_size / 2) & (y.abs() < box_size / 2)
    index = torch.nonzero((below_nyquist & ((x > 0) | (y > 0))).flatten()).flatten()
    points = torch.stack([x.flatten()[index], y.flatten()[index]], dim=1)
    return index, points, math.ceil(float(points.norm(dim=1).max()) + 0.5)


def _prepare(
    table: ParticleTable,
    truth: Truth,
    settings: SimulationSettings,
    rows: Int[np.ndarray, " image"],
    index: Int[Tensor, " point"],
    points: Float[Tensor, "point 2"],
) -> _Images:
    """Read images, centre them by the true shift, and whiten them."""
    box_size, pixel_size = settings.box_size, settings.pixel_size
    shift = (table.shift if truth.shift is None else truth.shift)[rows] / pixel_size
    rotmat = (table.rotmat if truth.rotmat is None else truth.rotmat)[rows]
    contrast = np.ones(len(rows)) if truth.contrast is None else truth.contrast[rows]
    angle = -2 * math.pi / box_size * (torch.tensor(shift, dtype=torch.float32) @ points.T)
    pixels = read_images(table.stack_paths, table.stack_index[rows], table.image_index[rows])
    spectra = fourier.image_to_fourier(torch.from_numpy(pixels)).flatten(1)[:, index]
    centred = spectra * torch.polar(torch.ones_like(angle), angle)
    ctf = contrast_transfer(*fourier.frequency_grid(box_size, pixel_size), table.ctf_parameters(rows))
    scale = torch.tensor(truth.info["signal_scale"] * contrast / pixel_size**2, dtype=torch.float32)
    transfer = scale[:, None] * ctf.flatten(1)[:, index]
    weight = 2 / box_size**2 / _noise_power(truth, box_size).flatten()[index]
    device = torch.device(settings.device)
    return _Images(
        torch.tensor(rotmat, dtype=torch.float32, device=device),
        (centred * transfer * weight).to(device),
        (transfer.square() * weight).to(device),
    )


def _noise_power(truth: Truth, box_size: int) -> Float[Tensor, "y half"]:
    spectrum = truth.info.get("noise_spectrum")
    shells = torch.ones(box_size // 2 + 1) if spectrum is None else torch.tensor(spectrum, dtype=torch.float32)
    return noise.radial_filter(float(truth.info.get("noise_std", 1.0)) ** 2 * shells, box_size)


def _tables(states: Conformations, settings: SimulationSettings, band: int) -> Iterator[SliceTable]:
    """Transforms of all states, some at a time."""
    count = max(1, _TABLE_NUMBERS // (2 * (4 * band + 1) ** 2 * (2 * band + 1)))
    edge = settings.box_size * settings.pixel_size
    box_size = max(settings.box_size, 2 * band)
    imager = Imager(states, replace(settings, box_size=box_size, pixel_size=edge / box_size))
    for start in range(0, states.n_states, count):
        some = range(start, min(start + count, states.n_states))
        if settings.forward == "residues":
            positions = imager.residue_positions[some.start : some.stop]
            yield conformation_table(positions, imager.amplitudes, imager.sigmas, edge, band)
        else:
            volumes = torch.stack([imager.volume(state) for state in some])
            yield volume_table(volumes * (edge / box_size) ** 3, band)


def _log_likelihood(
    images: _Images, table: SliceTable, points: Float[Tensor, "point 2"]
) -> Float[Tensor, "image state"]:
    """log p(image | state) but for a constant of each image, on the CPU."""
    count, parts = table.n_volumes, []
    points = points.to(images.rotmat)
    step = max(1, _SLICE_NUMBERS // (len(points) * 2 * count))
    for start in range(0, len(images.rotmat), step):
        batch = slice(start, start + step)
        slices = take_slices(table, images.rotmat[batch], points)
        overlap, power = images.overlap[batch], images.power[batch]
        agreement = torch.einsum("ip,ipk->ik", overlap.real, slices[..., :count])
        agreement += torch.einsum("ip,ipk->ik", overlap.imag, slices[..., count:])
        squares = torch.einsum("ip,ipk->ik", power, slices.square_())
        parts.append((agreement - 0.5 * (squares[:, :count] + squares[:, count:])).cpu())
    return torch.cat(parts)


def _log_prior(truth: Truth) -> Float[Tensor, " state"]:
    weights = truth.info.get("populations")
    weights = torch.ones(len(truth.coordinates)) if weights is None else torch.tensor(weights, dtype=torch.float64)
    return torch.log(weights / weights.sum())


def _errors(
    weights: Float[np.ndarray, "image state"], truth: Truth, state: Int[np.ndarray, " image"]
) -> Float[np.ndarray, " image"]:
    """RMSD of every posterior's mean structure from the truth."""
    flat = truth.coordinates.reshape(len(truth.coordinates), -1).astype(np.float64)
    step = max(1, _STRUCTURE_NUMBERS // flat.shape[1])
    errors = []
    for start in range(0, len(state), step):
        batch = slice(start, start + step)
        mean = (weights[batch] @ flat).reshape(-1, *truth.coordinates.shape[1:])
        errors.append(per_image_rmsd(mean, truth.coordinates[state[batch]]))
    return np.concatenate(errors)
