"""Aberrations beyond defocus and spherical aberration, in RELION's convention.

With M the magnification matrix of an optics group, RELION (``ObservationModel``, ``CTF::getCTF``) makes the image of
a projection P as ``P(Mk) · CTF(Mk) · exp(i φ(Mk))`` at frequency k, and shifts it. An image resampled by
:func:`undistort` is ``P(k) · CTF(k) · exp(i φ(k))``: what is left needs no matrix any more.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.physics.fourier import fourier_to_image, frequency_grid, image_to_fourier


def zernike(m: int, n: int, kx: Float[Tensor, "y half"], ky: Float[Tensor, "y half"]) -> Float[Tensor, "y half"]:
    """Zernike polynomial of angular order m and radial degree n ≥ \\|m\\| at frequencies in Å⁻¹.

    ``R(k) cos(mθ)``, for negative m ``R(k) sin(|m|θ)``, with θ = atan2(k_y, k_x) (RELION ``Zernike::Z_cart``: the
    unit circle is 1 Å⁻¹).
    """
    order = abs(m)
    radius = torch.sqrt(kx**2 + ky**2)
    radial = torch.zeros_like(radius)
    for k in range((n - order) // 2 + 1):
        divisor = math.factorial(k) * math.factorial((n + order) // 2 - k) * math.factorial((n - order) // 2 - k)
        radial = radial + (-1) ** k * math.factorial(n - k) / divisor * radius ** (n - 2 * k)
    angle = order * torch.atan2(ky, kx)
    return radial * (torch.cos(angle) if m >= 0 else torch.sin(angle))


def odd_order(index: int) -> tuple[int, int]:
    """(m, n) of coefficient ``index`` of ``rlnOddZernike`` (RELION ``Zernike::oddIndexToMN``)."""
    k = (math.isqrt(1 + 4 * index) - 1) // 2
    n = 2 * k + 1
    return 2 * (index - k * k - k) - n, n


def even_order(index: int) -> tuple[int, int]:
    """(m, n) of coefficient ``index`` of ``rlnEvenZernike`` (RELION ``Zernike::evenIndexToMN``)."""
    k = math.isqrt(index)
    return 2 * (index - k * k - k), 2 * k


def symmetric_phase(
    kx: Float[Tensor, "y half"], ky: Float[Tensor, "y half"], even_zernike: Float[Tensor, "batch even"]
) -> Float[Tensor, "batch y half"]:
    """Phase (rad) that RELION adds to its γ where its CTF is ``-sin γ``; it is subtracted within our sine."""
    basis = torch.stack([zernike(*even_order(index), kx, ky) for index in range(even_zernike.shape[1])])
    return torch.einsum("bc,cyx->byx", even_zernike, basis)


def antisymmetric_phase(
    kx: Float[Tensor, "y half"],
    ky: Float[Tensor, "y half"],
    odd_zernike: Float[Tensor, "batch odd"],
    beam_tilt: Float[Tensor, "batch 2"],
    spherical_aberration_mm: Float[Tensor, " batch"],
    wavelength: Float[Tensor, " batch"],
) -> Float[Tensor, "batch y half"]:
    """Phase φ of the factor exp(iφ) that beam tilt and odd Zernike terms put on images.

    Parameters
    ----------
    kx, ky : tensors of shape (y, half)
        Å⁻¹.
    odd_zernike : tensor of shape (batch, odd)
        ``rlnOddZernike``, rad; may have no columns.
    beam_tilt : tensor of shape (batch, 2)
        (x, y), rad: ``-2π Cs λ² k² (t·k)`` (RELION ``TiltHelper::insertTilt``).
    spherical_aberration_mm, wavelength : tensors of shape (batch,)
        mm and Å.
    """
    coma = -2 * torch.pi * 1e7 * spherical_aberration_mm * wavelength**2
    tilt = beam_tilt[:, 0, None, None] * kx + beam_tilt[:, 1, None, None] * ky
    phase = coma[:, None, None] * (kx**2 + ky**2) * tilt
    for index in range(odd_zernike.shape[1]):
        phase = phase + odd_zernike[:, index, None, None] * zernike(*odd_order(index), kx, ky)
    return phase


def demodulate(images: Float[Tensor, "batch y x"], phase: Float[Tensor, "y half"]) -> Float[Tensor, "batch y x"]:
    """Take an antisymmetric phase off images; the power of signal and noise stays as it is."""
    factor = torch.polar(torch.ones_like(phase), -phase)
    return fourier_to_image(image_to_fourier(images) * factor, images.shape[-1])


def undistort(images: Float[Tensor, "batch y x"], magnification: Float[Tensor, "2 2"]) -> Float[Tensor, "batch y x"]:
    """Resample images so that their Fourier transform at k is the one they had at M⁻¹k.

    Trigonometric interpolation along x and then along y: nothing is blurred. What turns up from beyond the box is
    what lies at its other edge.

    Parameters
    ----------
    images : tensor of shape (batch, y, x)
    magnification : tensor of shape (2, 2)
        M, near the identity: RELION's ``rlnMagMat00`` … ``rlnMagMat11``.
    """
    (m00, m01), (m10, m11) = magnification.tolist()
    determinant = m00 * m11 - m01 * m10
    along_x = _stretch(images, determinant / m11, m10 / m11)
    along_y = _stretch(along_x.transpose(1, 2), m11, m01).transpose(1, 2)
    return abs(determinant) * along_y


def undistorted_shift(
    shift: Float[Tensor, "batch 2"], magnification: Float[Tensor, "batch 2 2"]
) -> Float[Tensor, "batch 2"]:
    """Shift, in any unit, that images have after :func:`undistort`: M⁻ᵀ of the one before."""
    return torch.linalg.solve(magnification.mT, shift[..., None])[..., 0]


def _stretch(images: Tensor, scale: float, shear: float) -> Tensor:
    """Values at (scale · x + shear · y, y), coordinates from pixel n // 2."""
    size = images.shape[-1]
    k, y = frequency_grid(size, 1.0, images.dtype, images.device)[0][0], torch.arange(size) - size // 2
    y = y.to(images)
    spectrum = torch.fft.rfft(torch.fft.ifftshift(images, dim=-1), dim=-1)
    angle = 2 * torch.pi * shear * y[:, None] * k
    weight = torch.where((k > 0) & (k < 0.5), 2.0, 1.0) / size
    weight = torch.where(k * abs(scale) > 0.5, 0.0, weight).to(images.dtype)
    back = torch.polar(weight[:, None].expand(-1, size).contiguous(), 2 * torch.pi * scale * k[:, None] * y)
    return ((spectrum * torch.polar(torch.ones_like(angle), angle)) @ back).real
