"""Images and volumes of all atoms as exact Fourier sums.

``F(k) = Σ_e f_e(|k|) Σ_{j of e} exp(-B_j k² / 4) exp(-2πi k·r_j)`` is evaluated at the frequencies of the
box. The inner sum is separable in the axes, so that it is one matrix product per element and image. Nothing
is windowed, gridded or aliased, and nothing is shared with the renderer that trains (``physics.gaussians``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryosphere.physics import fourier
from cryosphere.physics.form_factors import scattering_factor

# Complex numbers held at once for the phase factors of a batch of images.
_PHASES_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class Scatterers:
    """What the atoms are, without where they are: rows of each element, and their B factors (Å²)."""

    elements: tuple[str, ...]
    rows: tuple[Tensor, ...]
    b_factors: tuple[Tensor, ...]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return sum(len(rows) for rows in self.rows)


def group_scatterers(elements: np.ndarray, b_factors: Float[np.ndarray, " atom"]) -> Scatterers:
    """Sort atoms by element."""
    names = tuple(str(name) for name in np.unique(elements))
    rows = tuple(torch.as_tensor(np.flatnonzero(elements == name)) for name in names)
    b_tensor = torch.as_tensor(np.asarray(b_factors), dtype=torch.float32)
    return Scatterers(names, rows, tuple(b_tensor[index] for index in rows))


def _phase_factors(
    coordinates: Float[Tensor, "... atom"],
    b_factors: Float[Tensor, " atom"],
    frequencies: Float[Tensor, " k"],
) -> Complex[Tensor, "... atom k"]:
    """exp(-B k² / 4 - 2πi k x); at the Nyquist frequency the mean over both signs, which is real."""
    angle = -2 * torch.pi * coordinates[..., None] * frequencies
    envelope = torch.exp(-0.25 * b_factors.to(coordinates)[:, None] * frequencies**2)
    return torch.polar(envelope.expand_as(angle).contiguous(), angle)


def _lines(box_size: int, pixel_size: float, half: bool) -> tuple[Tensor, int | None]:
    """Frequencies of one axis in Å⁻¹ and the index of Nyquist, if the box has one."""
    frequencies = (torch.fft.rfftfreq if half else torch.fft.fftfreq)(box_size, d=pixel_size)
    return frequencies, box_size // 2 if box_size % 2 == 0 else None


def _axis_factors(coordinates, b_factors, box_size, pixel_size, half=False):
    frequencies, nyquist = _lines(box_size, pixel_size, half)
    factors = _phase_factors(coordinates, b_factors, frequencies.to(coordinates))
    if nyquist is not None:
        factors[..., nyquist] = factors[..., nyquist].real.to(factors.dtype)
    return factors


def _element_factor(element: str, k_squared: Tensor) -> Float[Tensor, ...]:
    return torch.as_tensor(scattering_factor(element, k_squared.cpu().double().numpy())).to(k_squared)


def images_per_chunk(n_atoms: int, box_size: int) -> int:
    """Number of images to render at a time so that memory stays below 200 MB."""
    return max(1, _PHASES_PER_CHUNK // (n_atoms * (box_size + box_size // 2 + 1)))


def project_atoms(
    positions: Float[Tensor, "batch atom 3"],
    scatterers: Scatterers,
    rotmat: Float[Tensor, "batch 3 3"],
    shift: Float[Tensor, "batch 2"],
    box_size: int,
    pixel_size: float,
) -> Complex[Tensor, "batch y half"]:
    """Project all atoms along z and give the half Fourier image.

    Parameters
    ----------
    positions : tensor of shape (batch, atom, 3)
        Å, model frame.
    scatterers : Scatterers
        Elements and B factors of these atoms.
    rotmat, shift : tensors of shape (batch, 3, 3) and (batch, 2)
        Pose as in ``conventions``: an atom lands at (A r)_xy - shift (Å) from pixel n // 2.
    box_size, pixel_size : int (pixels), float (Å)

    Returns
    -------
    complex tensor of shape (batch, y, x // 2 + 1)
        In the form of ``fourier.image_to_fourier``; the image is the projected potential sampled at the
        pixels. What lies outside the box comes in again on the other side: the caller sees to it that nothing
        does.
    """
    posed = torch.einsum("bij,baj->bai", rotmat[:, :2], positions) - shift[:, None]
    kx, ky = fourier.frequency_grid(box_size, pixel_size, positions.dtype, positions.device)
    total = torch.zeros(len(posed), *kx.shape, dtype=torch.complex64, device=positions.device)
    for element, rows, b_factors in zip(scatterers.elements, scatterers.rows, scatterers.b_factors, strict=True):
        x, y = posed[:, rows, 0], posed[:, rows, 1]
        along_x = _axis_factors(x, b_factors, box_size, pixel_size, half=True)
        along_y = _axis_factors(y, b_factors, box_size, pixel_size)
        total += (along_y.transpose(1, 2) @ along_x) * _element_factor(element, kx**2 + ky**2)
    return total / pixel_size**2


def atom_volume(
    positions: Float[Tensor, "atom 3"], scatterers: Scatterers, box_size: int, pixel_size: float
) -> Float[Tensor, "z y x"]:
    """Potential of all atoms on a cubic grid, band-limited to it; origin at voxel n // 2, per Å³.

    Parameters
    ----------
    positions : tensor of shape (atom, 3)
        Å, model frame.
    scatterers : Scatterers
        Elements and B factors.
    box_size, pixel_size : int (voxels), float (Å)
    """
    kx, ky = fourier.frequency_grid(box_size, pixel_size, positions.dtype, positions.device)
    kz = torch.fft.fftfreq(box_size, d=pixel_size).to(positions)
    spectrum = torch.zeros(box_size, *kx.shape, dtype=torch.complex64, device=positions.device)
    for element, rows, b_factors in zip(scatterers.elements, scatterers.rows, scatterers.b_factors, strict=True):
        along_x = _axis_factors(positions[rows, 0], b_factors, box_size, pixel_size, half=True)
        along_y = _axis_factors(positions[rows, 1], b_factors, box_size, pixel_size)
        along_z = _axis_factors(positions[rows, 2], b_factors, box_size, pixel_size)
        for plane in range(box_size):
            factor = _element_factor(element, kx**2 + ky**2 + kz[plane] ** 2)
            spectrum[plane] += ((along_y * along_z[:, plane, None]).T @ along_x) * factor
    volume = torch.fft.irfftn(spectrum, s=(box_size,) * 3)
    return torch.fft.fftshift(volume) / pixel_size**3
