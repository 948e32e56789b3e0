"""The contrast transfer function in RELION's convention."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.conventions import ELECTRON_WAVELENGTH_A, ELECTRON_WAVELENGTH_B
from cryosphere.physics.aberrations import symmetric_phase
from cryosphere.records import CTFParameters


def electron_wavelength(voltage_kv: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Relativistic wavelength of electrons in Å (RELION ``CTF::initialise``)."""
    volt = 1e3 * voltage_kv
    return ELECTRON_WAVELENGTH_A / torch.sqrt(volt * (1 + ELECTRON_WAVELENGTH_B * volt))


def contrast_transfer(
    kx: Float[Tensor, "y half"], ky: Float[Tensor, "y half"], parameters: CTFParameters
) -> Float[Tensor, "batch y half"]:
    """Evaluate the CTF of every image.

    Parameters
    ----------
    kx, ky : tensors of shape (y, half)
        Spatial frequencies in Å⁻¹.
    parameters : CTFParameters
        Fields of shape (batch,).

    Returns
    -------
    Tensor of shape (batch, y, half)
        ``scale · exp(-B k²/4) · sin(π λ Δf k² - ½ π Cs λ³ k⁴ + phase_shift + asin(w))``, less the phase of the even
        Zernike terms within the sine; at k = 0 without phase shift this is +w. Formula: see ``conventions`` (RELION
        ``CTF::getCTF``).
    """
    p = {name: value[:, None, None] for name, value in vars(parameters).items() if name != "even_zernike"}
    wavelength = electron_wavelength(p["voltage_kv"])
    mean, difference = 0.5 * (p["defocus_u"] + p["defocus_v"]), 0.5 * (p["defocus_u"] - p["defocus_v"])
    along, across = (torch.pi * wavelength * difference * f(2 * p["defocus_angle"]) for f in (torch.cos, torch.sin))
    spherical_aberration = 1e7 * p["spherical_aberration_mm"]
    k2 = kx**2 + ky**2
    # k² cos 2(θ - angle) = (kx² - ky²) cos 2 angle + 2 kx ky sin 2 angle: one multiplication per term and pixel
    phase = torch.addcmul(p["phase_shift"] + torch.asin(p["amplitude_contrast"]), torch.pi * wavelength * mean, k2)
    phase = torch.addcmul(phase, along, kx**2 - ky**2)
    phase = torch.addcmul(phase, across, 2 * kx * ky)
    phase = torch.addcmul(phase, -0.5 * torch.pi * spherical_aberration * wavelength**3, k2**2)
    if parameters.even_zernike is not None:
        phase = phase - symmetric_phase(kx, ky, parameters.even_zernike)
    return p["scale"] * torch.exp(-0.25 * p["b_factor"] * k2) * torch.sin(phase)
