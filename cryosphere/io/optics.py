"""Optics groups of a particle table, whatever program wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError

ASSUMED_AMPLITUDE_CONTRAST = 0.1
# kV; a value outside is not one (300000 is in volts).
VOLTAGE_RANGE_KV = (10.0, 3000.0)


@dataclass(frozen=True)
class Optics:
    """Optics groups in use (kV, mm, fraction, Å/px, pixels); ``group`` is each particle's row in them.

    Aberrations are None where no group has any; see ``records.ParticleTable``.
    """

    names: tuple[str, ...]
    group: Int[np.ndarray, " particle"]
    voltage_kv: Float[np.ndarray, " group"]
    spherical_aberration_mm: Float[np.ndarray, " group"]
    amplitude_contrast: Float[np.ndarray, " group"]
    pixel_size: Float[np.ndarray, " group"]
    box_size: Int[np.ndarray, " group"] | None
    notes: tuple[str, ...]
    beam_tilt: Float[np.ndarray, "group 2"] | None = None
    odd_zernike: Float[np.ndarray, "group odd"] | None = None
    even_zernike: Float[np.ndarray, "group even"] | None = None
    magnification: Float[np.ndarray, "group 2 2"] | None = None


def refuse_impossible(path: Path, optics: Optics) -> None:
    """Refuse optics groups with impossible values by name."""
    low, high = VOLTAGE_RANGE_KV
    voltage, contrast = optics.voltage_kv, optics.amplitude_contrast
    checks = (
        ("rlnVoltage", voltage, (voltage > low) & (voltage < high), f"{low:g} to {high:g} kV"),
        ("pixel size", optics.pixel_size, optics.pixel_size > 0, "more than 0 Å"),
        ("rlnAmplitudeContrast", contrast, np.abs(contrast) <= 1, "a fraction"),
    )
    for what, values, valid, expected in checks:
        if not valid.all():
            row = np.flatnonzero(~valid)[0]
            raise InputError(
                f"{path}, optics group {optics.names[row]}: {what} is {values[row]:g}, expected {expected}; correct it."
            )
