"""How well a placed structure explains a map: correlation inside a mask, Fourier shell correlation, resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.gaussians import density_grid
from cryosphere.physics.shell_correlation import resolution_at, shell_sums, transform_correlation, volume_shells
from cryosphere.placement.density import FittingMap, filtered, squared_frequencies

# Atoms are drawn this wide (voxels); the radial filter that is fitted to the map takes the width out again.
_ATOM_SIGMA_VOXELS = 1.0
# The mask is where atoms blurred by so much (Å) reach this share of the density inside the structure.
_MASK_SIGMA_A = 3.0
_MASK_LEVEL = 0.2
FSC_THRESHOLD = 0.5


@dataclass(frozen=True)
class Agreement:
    """Map and model compared.

    Attributes
    ----------
    simulated : tensor of shape (z, y, x)
        Density of the atoms as the map would show it: every shell scaled to what the map has of it.
    correlation : float
        Pearson correlation of map and ``simulated`` over the soft mask about the structure.
    frequency, fsc : arrays of shape (shell,)
        Å⁻¹, and the Fourier shell correlation of both inside the mask.
    resolution : float
        Å where the FSC falls to 0.5, or where the grid ends if it does not; ``inf`` if it never reaches 0.5.
    n_independent : float
        Independent numbers that the correlation rests on: Fourier coefficients of the simulated density inside the
        mask, counted by their power (participation number) and by the share of the box that the mask fills.
    """

    simulated: Float[Tensor, "z y x"]
    correlation: float
    frequency: Float[np.ndarray, " shell"]
    fsc: Float[np.ndarray, " shell"]
    resolution: float
    n_independent: float


def compare(grid: FittingMap, points: Float[Tensor, "atom 3"], electrons: Float[Tensor, " atom"]) -> Agreement:
    """Compare a map with atoms at points (Å, model frame)."""
    size, spacing = grid.size, grid.spacing
    density = _atom_density(grid, points, electrons)
    mask = _mask(grid, density, points)
    shells = volume_shells(size)
    masked = torch.fft.rfftn(grid.volume * mask)
    model = torch.fft.rfftn(density)
    transfer = shell_sums(masked, model, shells, size) / shell_sums(model, model, shells, size).clamp_min(1e-30)
    transfer[-1] = 0.0  # the corners beyond Nyquist
    simulated = torch.fft.irfftn(model * transfer.clamp_min(0.0)[shells].float(), s=density.shape)
    curve = transform_correlation(masked, torch.fft.rfftn(density * mask), shells, size)
    frequency = np.arange(len(curve)) / (size * spacing)
    return Agreement(
        simulated=simulated,
        correlation=weighted_correlation(grid.volume, simulated, mask),
        frequency=frequency,
        fsc=curve,
        resolution=resolution_at(FSC_THRESHOLD, frequency, curve, 2 * spacing),
        n_independent=_participation(simulated, mask),
    )


def mask_about(
    grid: FittingMap, points: Float[Tensor, "atom 3"], electrons: Float[Tensor, " atom"]
) -> Float[Tensor, "z y x"]:
    """Soft mask about atoms: 1 on the structure, falling to 0 within some Å."""
    return _mask(grid, _atom_density(grid, points, electrons), points)


def _atom_density(grid: FittingMap, points: Tensor, electrons: Tensor) -> Float[Tensor, "z y x"]:
    sigmas = torch.full_like(electrons, _ATOM_SIGMA_VOXELS * grid.spacing)
    return density_grid(points, electrons, sigmas, grid.size, grid.spacing)


def significance(first: Agreement, second: Agreement) -> float:
    """By how many standard errors one correlation is above another (Fisher's z).

    As many independent numbers are counted as the one that has more of them rests on.
    """
    count = max(first.n_independent, second.n_independent, 4.0)
    difference = math.atanh(min(first.correlation, 0.9999)) - math.atanh(min(second.correlation, 0.9999))
    return difference * math.sqrt((count - 3) / 2)


def _mask(grid: FittingMap, density: Tensor, points: Tensor) -> Float[Tensor, "z y x"]:
    blur = max(_MASK_SIGMA_A**2 - (_ATOM_SIGMA_VOXELS * grid.spacing) ** 2, 0.0)
    blurred = filtered(density, torch.exp(-2 * math.pi**2 * blur * squared_frequencies(grid)))
    index = (points / grid.spacing).round().long() + grid.size // 2
    x, y, z = index[((index >= 0) & (index < grid.size)).all(1)].T
    if not len(x):
        return torch.zeros_like(density)
    level = (blurred / (_MASK_LEVEL * blurred[z, y, x].median())).clamp(0, 1)
    return level**2 * (3 - 2 * level)


def _participation(volume: Tensor, mask: Tensor) -> float:
    """(Σ power)² / Σ power² over the Fourier coefficients of what varies inside a mask, times the share it fills."""
    share = mask.double().mean().clamp_min(1e-30)
    varying = mask * (volume - (mask * volume).sum() / mask.sum().clamp_min(1e-30))
    power = torch.fft.fftn(varying).abs().double() ** 2
    return float(power.sum() ** 2 / (power**2).sum().clamp_min(1e-300) * share.clamp(max=1.0)) if power.any() else 0.0


def weighted_correlation(first: Float[Tensor, ...], second: Float[Tensor, ...], mask: Float[Tensor, ...]) -> float:
    """Pearson correlation with weights; 0 if either is constant."""
    weight = mask.double() / mask.double().sum().clamp_min(1e-30)
    first = first.double() - (weight * first).sum()
    second = second.double() - (weight * second).sum()
    norm = (weight * first**2).sum() * (weight * second**2).sum()
    return float((weight * first * second).sum() / norm.sqrt().clamp_min(1e-30))
