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
        kernel.spread(one.new_zeros(1, 1, 2), one, one, 8, 3.0)
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
        respect to coordinates, weights and sigma.
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
    """Spread, transform and crop some images at a time: no grid outlives its turn, forwards or backwards."""

    @staticmethod
    def forward(ctx, coordinates, weights, sigma, size, window, box_size):
        ctx.save_for_backward(coordinates, weights, sigma)
        ctx.size, ctx.window = size, window
        kernel = kernel_for(coordinates.device.type, coordinates.dtype)
        factor = _factor(size, box_size, coordinates.dtype, coordinates.device)
        spectrum = torch.empty(len(coordinates), *factor.shape, dtype=factor.dtype, device=factor.device)
        for rows in _turns(coordinates, size):
            grid = kernel.spread(coordinates[rows], weights, sigma, size, window)
            _crop(torch.fft.rfft2(grid), factor, spectrum[rows])
        return spectrum

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        coordinates, weights, sigma = ctx.saved_tensors
        kernel = kernel_for(coordinates.device.type, coordinates.dtype)
        factor = _factor(ctx.size, slope.shape[1], coordinates.dtype, coordinates.device)
        to_coordinates = torch.empty_like(coordinates)
        to_weights, to_sigma = torch.zeros_like(weights), torch.zeros_like(sigma)
        for rows in _turns(coordinates, ctx.size):
            grid = _uncrop(slope[rows], factor, ctx.size)
            to_coordinates[rows], of_weights, of_sigma = kernel.gather(
                grid, coordinates[rows], weights, sigma, ctx.window
            )
            to_weights += of_weights
            to_sigma += of_sigma
        return to_coordinates, to_weights, to_sigma, None, None, None


def _turns(coordinates: Tensor, size: int) -> list[slice]:
    """Slices of images, about equally long."""
    values = _VALUES_ON_CPU if coordinates.device.type == "cpu" else _VALUES_ON_GPU
    count = len(coordinates)
    turns = math.ceil(count * size**2 / values)
    return [slice(count * turn // turns, count * (turn + 1) // turns) for turn in range(turns)]


@lru_cache(maxsize=8)
def _factor(size: int, box_size: int, dtype: torch.dtype, device: torch.device) -> Complex[Tensor, "y half"]:
    """What moves the origin of a grid's transform from point n // 2 to the corner, and scales it to the box."""
    y = torch.fft.fftfreq(box_size, d=1 / box_size, dtype=torch.float64)
    x = torch.arange(box_size // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi * (size // 2) / size * (y[:, None] + x)
    scale = torch.full_like(angle, (box_size / size) ** 2)
    return torch.polar(scale, angle).to(device, dtype.to_complex())


def _crop(grid: Complex[Tensor, "image y half"], factor: Complex[Tensor, "y2 half2"], result: Tensor) -> None:
    """Write the frequencies of a box, times a factor, into ``result``.

    On the Nyquist row of an even box both signs of the frequency fall together: it is their mean (as in
    ``fourier.resize``).
    """
    box_size, half = factor.shape
    upper, lower = (box_size + 1) // 2, box_size // 2
    torch.mul(grid[:, :upper, :half], factor[:upper], out=result[:, :upper])
    torch.mul(grid[:, grid.shape[1] - lower :, :half], factor[upper:], out=result[:, upper:])
    if box_size % 2 == 0 and grid.shape[1] > box_size:
        result[:, upper] = (result[:, upper] + grid[:, upper, :half] * factor[upper]) / 2


def _uncrop(slope: Complex[Tensor, "image y half"], factor: Complex[Tensor, "y half"], size: int) -> Tensor:
    """Gradient of grids, from that of what :func:`_crop` makes of their transforms."""
    box_size, half = factor.shape
    upper, lower = (box_size + 1) // 2, box_size // 2
    # The inverse transform counts frequencies once for x and once for -x, except where the two are one.
    twice = torch.full_like(factor[0], 0.5)
    twice[0] = 1.0
    if size % 2 == 0 and half == size // 2 + 1:
        twice[-1] = 1.0
    adjoint = factor.conj() * twice
    full = slope.new_zeros(len(slope), size, size // 2 + 1)
    torch.mul(slope[:, :upper], adjoint[:upper], out=full[:, :upper, :half])
    torch.mul(slope[:, upper:], adjoint[upper:], out=full[:, size - lower :, :half])
    if box_size % 2 == 0 and size > box_size:
        full[:, size - lower, :half] /= 2
        full[:, upper, :half] = full[:, size - lower, :half]
    return torch.fft.irfft2(full, s=(size, size), norm="forward")
