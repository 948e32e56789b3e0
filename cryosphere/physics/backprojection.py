"""Maps from images: slices inserted into three-dimensional transforms, and these divided and inverted.

For images whose transform is ``y = C · V(Aᵀ(kx, ky, 0)) + noise of variance 1`` (C the transfer function times the
whitening filter), the map that is most likely under a Gaussian prior has, where slices are dense,
``V = Σ q C* y / (Σ q C² + 1/τ)`` with weights q of the images and the prior's variance τ (Scheres, J. Struct. Biol.
180 (2012) 519, equation 6). Here 1/τ is a constant share of the mean Σ q C² in a shell, which keeps sparse frequencies
from blowing up; the number by which noise asks to weigh a whole shell down is left to ``shell_correlation``. Sums over
slices go by trilinear weights to a grid twice as fine as the box's; what that does to the map is divided out in the
end (sinc² along every axis).
"""

from __future__ import annotations

from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from scipy import fft
from torch import Tensor

from cryosphere.physics.compiled import in_threads
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import soft_sphere
from cryosphere.physics.noise import shell_index
from cryosphere.records import CTFParameters

# Grid points for every frequency of the box, along an axis.
PADDING = 2
# 1/τ as a share of the mean of Σ q C² in a shell, as if the signal-to-noise ratio of every shell were 100.
REGULARISATION = 0.01
# Over so many voxels maps end beyond the sphere that fits into the box; images know little of the corners.
_EDGE_VOXELS = 3.0
# Planes of a transform that are divided and inverted together: neighbours along x lie together in memory.
_PLANES = 16


class Backprojection:
    """Sums over slices of several maps.

    Parameters
    ----------
    n_maps : int
    box_size : int
        Pixels along an edge of images and maps.
    pixel_size : float
        Å.
    """

    def __init__(self, n_maps: int, box_size: int, pixel_size: float) -> None:
        from cryosphere.physics.backprojection_numba import row_starts

        self.box_size, self.pixel_size = box_size, pixel_size
        self.starts, length = row_starts(self._reach)
        self.sums = np.zeros((n_maps, length, 3), np.float32)

    @staticmethod
    def n_bytes(box_size: int) -> float:
        """Memory of the sums of one map."""
        return 12.0 * 2 / 3 * np.pi * (PADDING * box_size / 2 + 3.5) ** 3

    @property
    def _reach(self) -> int:
        """Grid points within which all slices lie, less than Nyquist."""
        return PADDING * self.box_size // 2

    @cached_property
    def _points(self) -> tuple[Int[np.ndarray, " point"], Float[np.ndarray, "point 2"]]:
        """Indices and frequencies (kx, ky; cycles per box) of those entries of a half transform that are inserted.

        They are below Nyquist and, of the column kx = 0, those that are not another's complex conjugate.
        """
        size = self.box_size
        ky, kx = np.meshgrid(np.fft.fftfreq(size, 1 / size), np.arange(size // 2 + 1.0), indexing="ij")
        wanted = (4 * (kx**2 + ky**2) < size**2) & ((kx > 0) | (ky >= 0))
        return np.flatnonzero(wanted), np.column_stack([kx[wanted], ky[wanted]]).astype(np.float32)

    def insert(
        self,
        fourier: Complex[Tensor, "image y half"],
        rotmat: Float[Tensor, "image 3 3"],
        ctf: CTFParameters,
        whitening: Float[Tensor, "image shell"],
        weights: Float[np.ndarray, "image map"],
    ) -> None:
        """Add images to the maps' sums.

        Parameters
        ----------
        fourier : tensor of shape (image, y, half)
            Centred half transforms, whitened.
        rotmat, ctf, whitening
            Of the images, as a :class:`~cryosphere.records.ParticleBatch` has them.
        weights : array of shape (image, map)
            At least 0.
        """
        index, points = self._points
        kx, ky = torch.from_numpy(points / (self.box_size * self.pixel_size)).T
        shell = shell_index(self.box_size).flatten()[index]
        transfer = contrast_transfer(kx[None], ky[None], ctf)[:, 0] * whitening[:, shell]
        values = fourier.flatten(1)[:, index] * transfer
        powers = transfer.square()
        values[:, 0] *= 0.5  # frequency 0 is its own conjugate, the others stand for two
        powers[:, 0] *= 0.5
        self._insert(rotmat.contiguous().numpy(), values.numpy(), powers.numpy(), weights.astype(np.float32))

    def _insert(self, rotmat: np.ndarray, values: np.ndarray, powers: np.ndarray, weights: np.ndarray) -> None:
        """Add points to the sums; every thread has planes of its own, with as many points as the others."""
        from cryosphere.physics.backprojection_numba import ENTRY, cube_cells, insert, sort_points

        image, table = np.nonzero(weights > 0)
        owners = np.searchsorted(image, np.arange(len(weights) + 1))
        cells = cube_cells(weights.shape[1])
        order, layers = sort_points(rotmat, self._points[1], self._reach, cells)
        given = (self.sums.reshape(-1), self.starts, rotmat, self._points[1], values, powers)
        tables = owners, table * (self.sums.shape[1] * ENTRY), weights[image, table]
        wanted = np.linspace(0, len(order), torch.get_num_threads() + 1)[1:-1]
        cuts = np.unique([0, *np.searchsorted(layers, wanted), len(layers) - 1]).tolist()
        calls = []
        for first, last in pairwise(cuts):
            part = order[layers[max(first - 1, 0)] : layers[last]]  # the layer before has corners on the first plane
            top = last * cells if last < len(layers) - 1 else len(self.starts)
            calls.append(partial(insert, part, first * cells, top, *given, *tables))
        in_threads(calls)

    def shell_power(self, maps: list[int]) -> Float[np.ndarray, " shell"]:
        """Mean of Σ q C² of some maps together in every shell of the box, on the fine grid."""
        from cryosphere.physics.backprojection_numba import mean_power

        return mean_power(self.sums, np.array(maps), self.starts, self._reach, self.box_size // 2 + 1)

    def volume(self, maps: list[int]) -> Float[np.ndarray, "z y x"]:
        """The map of some maps' sums together, float32; the sum along z of it gives the images."""
        from cryosphere.physics.backprojection_numba import divide

        size, reach = self.box_size, self._reach
        prior = REGULARISATION * self.shell_power(maps) + np.finfo(np.float32).tiny
        kept = (np.arange(size) - size // 2) % (2 * reach)
        spectrum = np.zeros((reach + 1, size, size), np.complex64)
        planes = np.empty((_PLANES, 2 * reach, 2 * reach), np.complex64)
        for x in range(0, reach, _PLANES):
            divide(x, self.sums, np.array(maps), self.starts, reach, prior, planes)
            part = fft.ifft(fft.ifft(planes, axis=1)[:, kept], axis=2)[..., kept]
            spectrum[x : min(x + _PLANES, reach)] = part[: reach - x]
        volume = np.empty((size,) * 3, np.float32)
        for z in range(size):
            volume[z] = fft.irfft(spectrum[:, z], 2 * reach, axis=0)[kept].T
        blur = (np.sinc((np.arange(size) - size // 2) / (2 * reach)) ** 2).astype(np.float32)
        window = (1 + REGULARISATION) * soft_sphere(size, size / 2, _EDGE_VOXELS).numpy()
        return volume * window / (blur[:, None, None] * blur[:, None] * blur)
