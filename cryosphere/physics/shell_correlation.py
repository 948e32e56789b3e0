"""Fourier shell correlation of two volumes, and the resolution that it tells."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor


def volume_shells(size: int) -> Int[Tensor, "z y half"]:
    """Shell of width 1 / edge of every voxel of the half transform; beyond Nyquist all fall into the shell n // 2."""
    full, half = torch.fft.fftfreq(size, d=1 / size) ** 2, torch.fft.rfftfreq(size, d=1 / size) ** 2
    radius = torch.sqrt(full[:, None, None] + full[None, :, None] + half[None, None, :])
    return radius.round().long().clamp(max=size // 2)


def shell_sums(
    first: Complex[Tensor, "z y half"],
    second: Complex[Tensor, "z y half"],
    shells: Int[Tensor, "z y half"],
    size: int,
) -> Float[Tensor, " shell"]:
    """Σ Re(first · second*) over every shell, both halves of the transform counted."""
    product = (first * second.conj()).real.double()
    product[..., 1 : (size + 1) // 2] *= 2
    return torch.bincount(shells.flatten(), product.flatten(), size // 2 + 1)


def transform_correlation(
    first: Complex[Tensor, "z y half"],
    second: Complex[Tensor, "z y half"],
    shells: Int[Tensor, "z y half"],
    size: int,
) -> Float[np.ndarray, " shell"]:
    """Fourier shell correlation of half transforms up to, not including, Nyquist; 0 where one has nothing."""
    both = shell_sums(first, first, shells, size) * shell_sums(second, second, shells, size)
    curve = shell_sums(first, second, shells, size) / both.sqrt().clamp_min(1e-30)
    return curve[: size // 2].numpy()


def resolution_at(
    threshold: float, frequency: Float[np.ndarray, " shell"], curve: Float[np.ndarray, " shell"], finest: float
) -> float:
    """Å at which a curve first falls under a threshold, linear between shells.

    Parameters
    ----------
    threshold : float
    frequency, curve : arrays of shape (shell,)
        Å⁻¹, and the correlation.
    finest : float
        What is given where it never does, Å. A curve below already in the first shell gives ``inf``.
    """
    below = np.flatnonzero(curve[1:] < threshold) + 1
    if not len(below):
        return finest
    shell = below[0]
    if shell == 1:
        return math.inf
    step = (curve[shell - 1] - threshold) / (curve[shell - 1] - curve[shell])
    return float(1 / (frequency[shell - 1] + step * (frequency[shell] - frequency[shell - 1])))


def weigh_shells(
    volume: Float[np.ndarray, "z y x"], weights: Float[np.ndarray, " shell"]
) -> Float[np.ndarray, "z y x"]:
    """Multiply every shell of a volume's transform by a number; those beyond the last by the last.

    Correlations of whole volumes stay what they are where no number is 0.
    """
    shells = volume_shells(len(volume)).clamp(max=len(weights) - 1)
    factor = torch.from_numpy(np.asarray(weights, dtype=np.float32))[shells]
    return torch.fft.irfftn(torch.fft.rfftn(torch.from_numpy(volume)) * factor, s=volume.shape).numpy()


def wiener_weights(fsc: Float[np.ndarray, " shell"]) -> Float[np.ndarray, " shell"]:
    """What the shells of a map are to be weighed with, by the correlation F of its half-maps.

    2F / (1 + F), the share of signal in the power of the whole map (Rosenthal & Henderson, J. Mol. Biol. 333 (2003)
    721, equation 19). F is smoothed (¼, ½, ¼), never rises, and is 0.001 at least: a filter that jumps from shell to
    shell would make rings.
    """
    ends = np.concatenate([fsc[:1], fsc, fsc[-1:]])
    smooth = 0.25 * ends[:-2] + 0.5 * ends[1:-1] + 0.25 * ends[2:]
    falling = np.minimum.accumulate(smooth).clip(1e-3, 1.0)
    return 2 * falling / (1 + falling)
