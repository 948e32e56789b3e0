"""What optics groups do to their images and reading undoes: anisotropic magnification, beam tilt, odd aberrations."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.physics.aberrations import antisymmetric_phase, demodulate, undistort, undistorted_shift
from cryosphere.physics.ctf import electron_wavelength
from cryosphere.physics.fourier import frequency_grid
from cryosphere.records import ParticleTable


class AberrationCorrection:
    """Images of a table's optics groups as a microscope without magnification errors, beam tilt and coma would give.

    Symmetric aberrations stay; the CTF has them.

    Parameters
    ----------
    table : ParticleTable
        Its ``group_magnification``, ``group_beam_tilt`` and ``group_odd_zernike`` are corrected.
    """

    def __init__(self, table: ParticleTable) -> None:
        self.magnification = table.group_magnification
        self.phases = None if table.group_beam_tilt is None and table.group_odd_zernike is None else _phases(table)

    def correct(
        self, images: Float[Tensor, "batch y x"], optics_group: Int[np.ndarray, " batch"]
    ) -> Float[Tensor, "batch y x"]:
        """Images on the table's common grid, corrected; unchanged where there is nothing to correct."""
        if self.magnification is None and self.phases is None:
            return images
        corrected = images.clone()
        for group in np.unique(optics_group):
            chosen = torch.from_numpy(np.flatnonzero(optics_group == group))
            part = images[chosen]
            if self.magnification is not None and not np.array_equal(self.magnification[group], np.eye(2)):
                part = undistort(part, torch.from_numpy(self.magnification[group]))
            if self.phases is not None and bool(self.phases[group].any()):
                part = demodulate(part, self.phases[group])
            corrected[chosen] = part
        return corrected

    def shift(
        self, shift: Float[np.ndarray, "batch 2"], optics_group: Int[np.ndarray, " batch"]
    ) -> Float[np.ndarray, "batch 2"]:
        """Shifts (Å) of corrected images from those of the images before."""
        if self.magnification is None:
            return shift
        given = torch.from_numpy(np.asarray(shift, dtype=np.float64))
        return undistorted_shift(given, torch.from_numpy(self.magnification[optics_group])).numpy()


def _phases(table: ParticleTable) -> Float[Tensor, "group y half"]:
    """Antisymmetric phase of every optics group on the table's grid."""
    n_groups = len(table.optics_group_names)
    voltage, aberration = np.ones(n_groups), np.zeros(n_groups)
    voltage[table.optics_group] = table.voltage_kv
    aberration[table.optics_group] = table.spherical_aberration_mm
    beam_tilt = np.zeros((n_groups, 2)) if table.group_beam_tilt is None else table.group_beam_tilt
    odd_zernike = np.zeros((n_groups, 0)) if table.group_odd_zernike is None else table.group_odd_zernike
    phase = antisymmetric_phase(
        *frequency_grid(table.box_size, table.pixel_size, torch.float64),
        torch.from_numpy(odd_zernike),
        torch.from_numpy(beam_tilt),
        torch.from_numpy(aberration),
        electron_wavelength(torch.from_numpy(voltage)),
    )
    return phase.float()
