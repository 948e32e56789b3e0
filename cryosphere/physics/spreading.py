"""Spreading of sums of Gaussians onto grids by the fastest kernel there is, and the transform to band-limited images.

``spreading_torch`` says what is computed and runs anywhere; ``spreading_numba`` is for CPUs and ``spreading_triton``
for CUDA. A kernel is a module with ``spread``, its adjoint ``gather``, and ``spread_volume``.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from importlib import import_module
from subprocess import SubprocessError
from types import ModuleType

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Grid values made at a time: few enough to stay in a processor's cache, or many enough to keep a GPU busy.
_VALUES_ON_CPU, _VALUES_ON_GPU = 2**20, 2**27


_KERNELS = {
    ("cpu", torch.float32): "numba",
    ("cpu", torch.float64): "numba",
    ("cuda", torch.float32): "triton",
}


@lru_cache
def kernel_for(device_type: str, dtype: torch.dtype) -> ModuleType:
    """Fastest kernel for tensors of a device type and precision that works here, tried on one Gaussian.

    Without numba or Triton, or without the C compiler that Triton asks for, that is plain torch; on a GPU with a
    warning that says why.
    """
    one = torch.ones(1, dtype=dtype, device=device_type)
    try:
        kernel = import_module(f"cryosphere.physics.spreading_{_KERNELS[device_type, dtype]}")
        kernel.spread(one.new_zeros(1, 1, 2), one, one, 8, 8, 3.0)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, ImportError, OSError, RuntimeError, SubprocessError) as error:
        if device_type == "cuda" and not isinstance(error, KeyError):
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"Projecting in plain torch, not with Triton: {reason}", stacklevel=2)
        return import_module("cryosphere.physics.spreading_torch")
    return kernel


def spread_fourier(
    coordinates: Float[Tensor, "image gaussian 2"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    size: int,
    window: float,
    box_size: int,
) -> Complex[Tensor, "image y half"]:
    """Spread Gaussians onto square grids, and crop the grids' transforms to a smaller box.

    Parameters
    ----------
    coordinates : tensor of shape (image, gaussian, 2)
        x and y in grid units from the grid point ``size // 2``.
    weights, sigma : tensors of shape (gaussian,)
        Heights, and widths in grid units.
    size, box_size : int
        Points along an edge of the grid and of the box: equal, or the grid's is larger and even.
    window : float
        Widths at which a Gaussian is cut.

    Returns
    -------
    complex tensor of shape (image, box_size, box_size // 2 + 1)
        In the form of ``fourier.image_to_fourier``, scaled to keep the mean of the image. It has gradients with
        respect to coordinates, weights and sigma. Its rounding depends on which images are made together.
    """
    return _SpreadFourier.apply(coordinates, weights, sigma, size, window, box_size)


def spread_volume(
    coordinates: Float[Tensor, "gaussian 3"],
    weights: Float[Tensor, " gaussian"],
    sigma: Float[Tensor, " gaussian"],
    size: int,
    window: float,
) -> Float[Tensor, "z y x"]:
    """Spread Gaussians onto a cubic grid, in the terms of :func:`spread_fourier`; no gradient flows through it."""
    kernel = kernel_for(coordinates.device.type, coordinates.dtype)
    return kernel.spread_volume(coordinates.detach(), weights.detach(), sigma.detach(), size, window)


class _SpreadFourier(torch.autograd.Function):
    """Spread, transform and crop some images at a time: no grid outlives its turn, forwards or backwards.

    Rows on which nothing lies are neither filled nor transformed, nor are columns of frequencies that are cropped.
    """

    @staticmethod
    def forward(ctx, coordinates, weights, sigma, size, window, box_size):
        first, height = _filled_rows(coordinates, sigma, size, window)
        middle = first + height // 2
        if middle:
            coordinates = coordinates - coordinates.new_tensor([0, middle])
        ctx.save_for_backward(coordinates, weights, sigma)
        ctx.size, ctx.window, ctx.height = size, window, height
        kernel = kernel_for(coordinates.device.type, coordinates.dtype)
        ctx.factor = factor = _Factor(size, box_size, first, coordinates.dtype, coordinates.device)
        spectrum = torch.empty(len(coordinates), *factor.kept.shape, dtype=factor.kept.dtype, device=coordinates.device)
        for some in _turns(coordinates, height * size):
            grid = kernel.spread(coordinates[some], weights, sigma, height, size, window)
            for few in _turns(grid, size**2):  # whole grids are larger
                factor.crop(_transform(grid[few], size, box_size), spectrum[some][few])
        return spectrum

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        coordinates, weights, sigma = ctx.saved_tensors
        kernel = kernel_for(coordinates.device.type, coordinates.dtype)
        to_coordinates = torch.empty_like(coordinates)
        to_weights, to_sigma = torch.zeros_like(weights), torch.zeros_like(sigma)
        for some in _turns(coordinates, ctx.height * ctx.size):
            at = coordinates[some]
            grid = at.new_empty(len(at), ctx.height, ctx.size)
            for few in _turns(grid, ctx.size**2):
                lines = torch.fft.ifft(ctx.factor.uncrop(slope[some][few]), dim=1, norm="forward")[:, : ctx.height]
                grid[few] = torch.fft.irfft(lines, n=ctx.size, norm="forward")
            to_coordinates[some], of_weights, of_sigma = kernel.gather(grid, at, weights, sigma, ctx.window)
            to_weights += of_weights
            to_sigma += of_sigma
        return to_coordinates, to_weights, to_sigma, None, None, None


def _filled_rows(coordinates: Tensor, sigma: Tensor, size: int, window: float) -> tuple[int, int]:
    """First row (counted from the middle one, ``size // 2``) and number of rows on which Gaussians lie in any image.

    All rows on a GPU, which would have to be waited for, and where a coordinate or width is no number.
    """
    lowest, highest = -(size // 2), size - size // 2
    if coordinates.device.type != "cpu" or not coordinates.numel():
        return lowest, size
    reach = window * max(0.0, float(sigma.max())) + 2  # rounded to whole grid points
    down, up = (float(end) for end in coordinates[..., 1].aminmax())
    if not (down - reach < highest and up + reach >= lowest) or math.isinf(reach):
        return lowest, size
    first = math.floor(max(lowest, down - reach))
    return first, math.ceil(min(highest, up + reach + 1)) - first


def _transform(grid: Float[Tensor, "image row x"], size: int, box_size: int) -> Complex[Tensor, "image y half"]:
    """Transforms of grids of which only the first rows are given, cropped to the columns of a box."""
    if box_size == size:
        return torch.fft.rfft2(grid, s=(size, size))
    return torch.fft.fft(torch.fft.rfft(grid)[..., : box_size // 2 + 1], n=size, dim=1)


def _turns(images: Tensor, values_per_image: int) -> list[slice]:
    """Slices of images, about equally long, of which so many values at a time suit the device."""
    count, values = len(images), _VALUES_ON_CPU if images.device.type == "cpu" else _VALUES_ON_GPU
    turns = min(count, math.ceil(count * values_per_image / values))
    return [slice(count * turn // turns, count * (turn + 1) // turns) for turn in range(turns)]


class _Factor:
    """Cropping of grids' transforms to a smaller box, and what moves their origin from the first point to the middle.

    On the Nyquist row of an even box both signs of the frequency fall together: it is their mean (as in
    ``fourier.resize``).

    Attributes
    ----------
    kept : complex tensor of shape (box y, half)
        Factor of what is kept; on a Nyquist row of two signs, of the negative one.
    positive : complex tensor of shape (half,)
        Factor of the positive Nyquist row, where there are two.
    share : tensor of shape (half,)
        By which gradients are multiplied for a real grid's inverse transform, which counts frequencies once for x and
        once for -x, except where the two are one.

    Parameters
    ----------
    size, box_size : int
        Points along an edge of the grid and of the box.
    first : int
        The grid's first row, counted from its middle one.
    """

    def __init__(self, size: int, box_size: int, first: int, dtype: torch.dtype, device: torch.device) -> None:
        self.size, self.upper, self.lower = size, (box_size + 1) // 2, box_size // 2
        along_x = _shift(size, box_size, -(size // 2), dtype, device)[: box_size // 2 + 1]
        along_x = torch.cat([along_x[: self.upper], along_x[self.upper :].conj()])
        along_y = _shift(size, box_size, first, dtype, device)
        self.kept = along_y[:, None] * along_x
        self.has_both_signs = box_size % 2 == 0 and size > box_size
        if self.has_both_signs:
            self.positive = along_y[self.upper].conj() * along_x / 2
            self.kept[self.upper] /= 2
        self.share = torch.full_like(along_x.real, 0.5)
        self.share[0] = 1.0
        if size % 2 == 0 and size == box_size:
            self.share[-1] = 1.0

    def crop(self, columns: Complex[Tensor, "image y half"], result: Complex[Tensor, "image y2 half"]) -> None:
        """Write the rows of a box into ``result``."""
        upper, lower = self.upper, self.lower
        torch.mul(columns[:, :upper], self.kept[:upper], out=result[:, :upper])
        torch.mul(columns[:, self.size - lower :], self.kept[upper:], out=result[:, upper:])
        if self.has_both_signs:
            result[:, upper] += columns[:, upper] * self.positive

    def uncrop(self, slope: Complex[Tensor, "image y half"]) -> Complex[Tensor, "image y2 half"]:
        """Gradient of what :meth:`crop` takes, from that of what it makes, for the inverse transform to a real grid."""
        upper, lower = self.upper, self.lower
        adjoint = self.kept.conj() * self.share
        columns = slope.new_zeros(len(slope), self.size, slope.shape[2])
        torch.mul(slope[:, :upper], adjoint[:upper], out=columns[:, :upper])
        torch.mul(slope[:, upper:], adjoint[upper:], out=columns[:, self.size - lower :])
        if self.has_both_signs:
            torch.mul(slope[:, upper], self.positive.conj() * self.share, out=columns[:, upper])
        return columns


@lru_cache(maxsize=64)
def _shift(size: int, box_size: int, first: int, dtype: torch.dtype, device: torch.device) -> Complex[Tensor, " k"]:
    """What moves the origin of transforms along an axis by ``first`` points back, scaled from a grid to a box."""
    frequency = torch.fft.fftfreq(box_size, d=1 / box_size, dtype=torch.float64)
    angle = -2 * math.pi * first / size * frequency
    return torch.polar(torch.full_like(angle, box_size / size), angle).to(device, dtype.to_complex())
