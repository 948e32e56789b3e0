"""Read particle images in batches and bring them into the form the model compares with its renderings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.particles.sources import ImageSource, OriginalImages
from cryosphere.physics.fourier import circular_mask, move_fourier
from cryosphere.physics.noise import radial_power, shell_index
from cryosphere.physics.rotations import rotvec_to_rotmat
from cryosphere.records import ParticleBatch, ParticleTable

# Images per optics group from which the noise is estimated.
_NOISE_SAMPLE = 500
# No shell of the noise is taken for weaker than this share of the median shell.
_LEAST_POWER = 0.02


class ParticleImages:
    """Particle images of a table, read and prepared batch by batch.

    Every image is made protein-bright, corrected for its optics group's aberrations, its background mean (outside the
    particle) subtracted, whitened with the radial noise spectrum of its optics group, and centred by its shift in
    Fourier space. Images of another box or pixel size than the table's are resampled first.

    Attributes
    ----------
    noise_power : tensor of shape (group, shell)
        Variance of the noise at the frequencies of every shell, in the files' grey values squared.
    pose_rotvec, pose_shift : tensors of shape (particle, 3) and (particle, 2)
        Corrections to the table's poses: ``rotmat = exp(rotvec) A`` (rad) and ``shift + correction`` (Å); zero at
        first (``inference.poses`` finds them).

    Parameters
    ----------
    table : ParticleTable
    mask_radius : float
        Å; the background lies beyond (or in the corners beyond the inscribed circle, whichever is larger).
    invert : bool
        Whether protein is dark in the files, after the table's own ``sign`` of each image.
    source : ImageSource, optional
        A prepared stack (``particles.prepared``), which has noise spectra of its own; by default the table's files.
    noise_power : tensor of shape (group, shell), optional
        Noise spectra where they are known; by default the source's, or estimated from images.
    """

    def __init__(
        self,
        table: ParticleTable,
        mask_radius: float,
        invert: bool = False,
        source: ImageSource | None = None,
        noise_power: Float[Tensor, "group shell"] | None = None,
    ) -> None:
        self.table, self.invert = table, invert
        self.source = OriginalImages(table, invert) if source is None else source
        radius = min(mask_radius / table.pixel_size, 0.5 * table.box_size)
        self.background = circular_mask(table.box_size, radius, 1e-3) < 0.5
        self._background_share = self.background.flatten() / self.background.sum()
        self.shells = shell_index(table.box_size)
        known = self.source.noise_power if noise_power is None else noise_power
        self.noise_power = self._estimate_noise() if known is None else known
        self.pose_rotvec = torch.zeros(table.n_particles, 3)
        self.pose_shift = torch.zeros(table.n_particles, 2)

    def _estimate_noise(self) -> Float[Tensor, "group shell"]:
        """Noise spectrum of every optics group from the background of evenly spread images."""
        n_groups, n_shells = len(self.table.optics_group_names), self.table.box_size // 2 + 1
        power = torch.ones(n_groups, n_shells)
        for group in range(n_groups):
            rows = np.flatnonzero(self.table.optics_group == group)
            if len(rows) == 0:
                continue
            chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _NOISE_SAMPLE)).astype(int)]
            power[group] = _sound_power(radial_power(self.source.read(chosen), self.background).float())
        return power

    def refine_noise(self, residual_power: Float[Tensor, "group shell"]) -> None:
        """Multiply the noise spectra by the power that was left in whitened images after the model's renderings.

        Parameters
        ----------
        residual_power : tensor of shape (group, shell)
            Mean squared residual, 1 where the spectrum was right; NaN where nothing was measured, which changes
            nothing.
        """
        factor = torch.where(torch.isfinite(residual_power), residual_power, torch.ones_like(residual_power))
        self.noise_power = torch.stack([_sound_power(power) for power in self.noise_power * factor.clamp(0.1, 10.0)])

    @contextmanager
    def uncorrected(self) -> Iterator[None]:
        """Within this, poses are those of the table."""
        kept = self.pose_rotvec, self.pose_shift
        self.pose_rotvec, self.pose_shift = (torch.zeros_like(values) for values in kept)
        try:
            yield
        finally:
            self.pose_rotvec, self.pose_shift = kept

    def with_background_at_zero(self, images: Float[Tensor, "batch y x"]) -> Float[Tensor, "batch y x"]:
        """Images less their mean outside the particle."""
        return images - (images.flatten(1) @ self._background_share)[:, None, None]

    def batch(
        self, rows: Int[np.ndarray, " batch"], pixels: Float[np.ndarray, "batch y x"] | None = None
    ) -> ParticleBatch:
        """Prepared images of some rows, transformed, with their poses and CTFs, on the CPU.

        Parameters
        ----------
        rows : int array of shape (batch,)
        pixels : array of shape (batch, y, x), optional
            What ``source.pixels(rows)`` gave, where that was read before.
        """
        table = self.table
        index = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        group = torch.from_numpy(np.asarray(table.optics_group[rows], dtype=np.int64))
        images = self.source.read(rows, pixels)
        if not self.source.has_background_at_zero:
            images = self.with_background_at_zero(images)
        whitening = self.noise_power[group].rsqrt()
        shift = torch.as_tensor(self.source.shift(rows), dtype=torch.float64) + self.pose_shift[index]
        # the images' origin goes to the first pixel on the way
        fourier = move_fourier(torch.fft.rfft2(images), shift / table.pixel_size - table.box_size // 2)
        fourier *= whitening.index_select(1, self.shells.flatten()).view(fourier.shape)
        rotmat = torch.tensor(table.rotmat[rows], dtype=torch.float32)
        return ParticleBatch(
            rows=index,
            optics_group=group,
            fourier=fourier,
            rotmat=rotvec_to_rotmat(self.pose_rotvec[index]) @ rotmat,
            ctf=table.ctf_parameters(rows),
            whitening=whitening,
        )


def _sound_power(power: Float[Tensor, " shell"]) -> Float[Tensor, " shell"]:
    """A spectrum without shells so weak (empty corners, constant images) that whitening would blow them up."""
    floor = _LEAST_POWER * power.median().clamp_min(torch.finfo(power.dtype).tiny / _LEAST_POWER)
    return power.clamp_min(float(floor))
