"""Read particle images in batches and bring them into the form the model compares with its renderings."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.errors import InputError
from cryosphere.io.mrc import read_images
from cryosphere.physics.fourier import circular_mask, translate
from cryosphere.records import ParticleBatch, ParticleTable

# Images per optics group from which the noise is estimated.
_NOISE_SAMPLE = 500


class ParticleImages:
    """Memory-mapped particle images of a table, prepared batch by batch.

    Every image is made protein-bright, its background mean (outside the particle) subtracted, divided by the
    standard deviation of the noise of its optics group, and centred by the known shift in Fourier space.

    Parameters
    ----------
    table : ParticleTable
    mask_radius : float
        Å; the background lies beyond (or in the corners beyond the inscribed circle, whichever is larger).
    invert : bool
        Whether protein is dark in the files.
    """

    def __init__(self, table: ParticleTable, mask_radius: float, invert: bool = False) -> None:
        self.table = table
        self.sign = -1.0 if invert else 1.0
        radius = min(mask_radius / table.pixel_size, 0.5 * table.box_size)
        self.background = circular_mask(table.box_size, radius, 1e-3) < 0.5
        self.noise_std = self._estimate_noise()

    def _estimate_noise(self) -> Float[Tensor, " group"]:
        """Standard deviation of background pixels per optics group, from evenly spread images."""
        stds = torch.ones(len(self.table.optics_group_names))
        for group in range(len(stds)):
            rows = np.flatnonzero(self.table.optics_group == group)
            if len(rows) == 0:
                continue
            chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _NOISE_SAMPLE)).astype(int)]
            pixels = self._read(chosen)[:, self.background]
            stds[group] = (pixels - pixels.mean(1, keepdim=True)).std().clamp_min(torch.finfo(torch.float32).tiny)
        return stds

    def _read(self, rows: Int[np.ndarray, " batch"]) -> Float[Tensor, "batch y x"]:
        table = self.table
        images = read_images(table.stack_paths, table.stack_index[rows], table.image_index[rows])
        finite = np.isfinite(images).all(axis=(1, 2))
        if not finite.all():
            row = rows[np.flatnonzero(~finite)[0]]
            raise InputError(
                f"{table.stack_paths[table.stack_index[row]]}: image {table.image_index[row] + 1} (row {row + 1} of "
                f"{table.source.name}) has pixels that are not finite numbers; leave it out or extract it again."
            )
        return self.sign * torch.from_numpy(images)

    def batch(self, rows: Int[np.ndarray, " batch"]) -> ParticleBatch:
        """Prepared images of some rows with their poses and CTFs, on the CPU."""
        table = self.table
        images = self._read(rows)
        images = images - images[:, self.background].mean(1)[:, None, None]
        images = images / self.noise_std[torch.from_numpy(table.optics_group[rows])][:, None, None]
        shift = torch.tensor(table.shift[rows] / table.pixel_size, dtype=torch.float32)
        return ParticleBatch(
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            images=translate(images, shift),
            rotmat=torch.tensor(table.rotmat[rows], dtype=torch.float32),
            ctf=table.ctf_parameters(rows),
        )
