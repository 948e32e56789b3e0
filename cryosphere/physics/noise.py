"""Noise of particle images: its radial power spectrum, filters made of one, and noise drawn from one.

A spectrum has one value per shell r = 0 … box // 2 of |k| in cycles per box, and is the variance per frequency in
units in which white noise of standard deviation 1 is 1 in every shell. Between shells it is linear, beyond Nyquist
constant.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from cryosphere.errors import ConfigError
from cryosphere.physics.fourier import fourier_to_image, frequency_grid, image_to_fourier, radial_frequency

# Pixels over which the background fades out towards its edge.
_EDGE_PIXELS = 3
# Steps that undo the window's blur: fewer leave a bias in the lowest shells, many more amplify the scatter.
_SHARPENING_STEPS = 4
# Images that are transformed at a time (memory).
_BATCH = 64


def shell_index(box_size: int, device: torch.device | str | None = None) -> Int[Tensor, "y half"]:
    """Shell of every frequency of the half Fourier image; corners beyond Nyquist belong to the last shell."""
    return _nearest_shell(box_size, box_size).to(device)


def radial_filter(shell_values: Float[Tensor, " shell"], box_size: int) -> Float[Tensor, "y half"]:
    """Spread values per shell over the half Fourier image: linear between shells, constant beyond Nyquist."""
    return _spread(shell_values, box_size, box_size)


def apply_filter(
    images: Float[Tensor, "batch y x"], shell_values: Float[Tensor, " shell"]
) -> Float[Tensor, "batch y x"]:
    """Multiply images in Fourier space by a radial function that is given per shell."""
    return _multiply(images, radial_filter(shell_values, images.shape[-1]))


def whiten(images: Float[Tensor, "batch y x"], spectrum: Float[Tensor, " shell"]) -> Float[Tensor, "batch y x"]:
    """Filter images so that noise of the given spectrum (above 0 everywhere) becomes white with variance 1."""
    return _multiply(images, radial_filter(spectrum, images.shape[-1]).rsqrt())


def coloured_noise(
    shape: tuple[int, int, int], spectrum: Float[Tensor, " shell"], generator: torch.Generator
) -> Float[Tensor, "batch y x"]:
    """Draw Gaussian noise of a radial power spectrum, in the spectrum's precision.

    It is white noise ``torch.randn(shape)`` of the same generator, filtered: a flat spectrum of 1 gives that back.
    """
    white = torch.randn(shape, generator=generator, dtype=spectrum.dtype, device=generator.device)
    return _multiply(white, radial_filter(spectrum.to(white.device), shape[-1]).sqrt())


def coloured_spectrum(
    box_size: int, pixel_size: float, ratio: float, corner_resolution: float
) -> Float[Tensor, " shell"]:
    """Give a spectrum that falls smoothly to a plateau, as noise of ice and camera does, float64.

    Parameters
    ----------
    box_size : int
        Pixels.
    pixel_size : float
        Å per pixel.
    ratio : float
        Power at frequency 0 over that of the plateau; 1 is white noise.
    corner_resolution : float
        Å; at this resolution the excess over the plateau has fallen to a quarter.

    Returns
    -------
    Tensor of shape (box_size // 2 + 1,)
        ``P(k) ∝ 1 + (ratio - 1) / (1 + (k · corner_resolution)²)²``, scaled so that pixels have variance 1.
    """
    k = torch.arange(box_size // 2 + 1, dtype=torch.float64) / (box_size * pixel_size)
    spectrum = 1 + (ratio - 1) / (1 + (k * corner_resolution) ** 2) ** 2
    power = radial_filter(spectrum, box_size)
    return spectrum * box_size**2 / (power * _multiplicity(box_size)).sum()


def pixel_variance(spectrum: Float[Tensor, " shell"], box_size: int) -> Float[Tensor, ""]:
    """Variance of the pixels of noise of a spectrum, in float64: the mean over all frequencies."""
    power = radial_filter(spectrum.double(), box_size)
    return (power * _multiplicity(box_size)).sum() / box_size**2


def radial_power(images: Float[Tensor, "batch y x"], background: Bool[Tensor, "y x"]) -> Float[Tensor, " shell"]:
    """Estimate the radial power spectrum of noise from the pixels that hold nothing else.

    The background fades out over 3 pixels to its edge (the image's border is one), each image's weighted background
    mean is subtracted, and the power of the zero-padded images is averaged over shells and images and divided by
    the summed squared window. As the window blurs a steep spectrum, and the subtracted mean takes power from the
    lowest shells, four steps ``P ← P · measured / expected(P)`` follow, where ``expected`` is exactly what noise of
    spectrum P gives through the same window; each ratio is smoothed with weights ¼, ½, ¼ over shells. Shell 0, whose
    power is gone with the mean, is given the value of shell 1.

    With 200 images of a spectrum that falls 10 : 1, shells r ≥ 2 come out within 10 % from all pixels beyond 0.4 box
    of the centre and within 20 % from the corners beyond the inscribed circle; shell 1 of the latter may be 30 % off.

    Parameters
    ----------
    images : Tensor of shape (batch, y, x)
        Any mean; noise that does not change over an image.
    background : bool Tensor of shape (y, x)
        Pixels to estimate from.

    Returns
    -------
    Tensor of shape (box // 2 + 1,)
        Variance per frequency, 1 in every shell for white noise of standard deviation 1. Dtype and device of the
        images.

    Raises
    ------
    ConfigError
        If no pixel is background.
    """
    box_size = images.shape[-1]
    if not background.any():
        raise ConfigError(f"No pixel of the {box_size}-pixel images is background: make the particle's mask smaller.")
    window = _fade(background)
    on_device = window.to(images)
    total = torch.zeros(box_size // 2 + 1, dtype=torch.float64)
    for batch in images.split(_BATCH):
        mean = (batch * on_device).sum((-2, -1), keepdim=True) / on_device.sum()
        fourier = torch.fft.rfft2((batch - mean) * on_device, s=(2 * box_size, 2 * box_size))
        total += _shell_mean(fourier.abs().square().sum(0).cpu().double(), box_size)
    measured = total / (len(images) * window.square().sum())
    spectrum = measured.clone()
    for _ in range(_SHARPENING_STEPS):
        spectrum[0] = spectrum[1]
        ratio = measured / _expected_power(spectrum, window).clamp(min=torch.finfo(torch.float64).tiny)
        ratio[0] = ratio[1]
        spectrum = spectrum * _smooth(ratio)
    spectrum[0] = spectrum[1]
    return spectrum.to(images)


def _expected_power(spectrum: Float[Tensor, " shell"], window: Float[Tensor, "y x"]) -> Float[Tensor, " shell"]:
    """Give the power that :func:`radial_power` measures, on average, in noise n of a known spectrum.

    The transformed image is w (n - Σ b n) with b = w / Σ w. With the noise's autocovariance C its power is the
    transform of C times the window's autocorrelation, less twice the real part of conj(ŵ) times the transform of
    w · (C ∗ b), plus |ŵ|² times the variance of the mean, Σ b (C ∗ b).
    """
    box_size = window.shape[-1]
    grid = (2 * box_size, 2 * box_size)
    padded = pad(window, (0, box_size, 0, box_size))
    mean_weights = padded / padded.sum()
    transform = torch.fft.rfft2(padded)
    power = _spread(spectrum, grid[0], box_size)
    with_mean = torch.fft.irfft2(power * torch.fft.rfft2(mean_weights), s=grid)
    autocovariance = torch.fft.irfft2(power, s=grid)
    autocorrelation = torch.fft.irfft2(transform.abs().square(), s=grid)
    expected = (
        torch.fft.rfft2(autocovariance * autocorrelation).real
        - 2 * (transform.conj() * torch.fft.rfft2(padded * with_mean)).real
        + transform.abs().square() * (mean_weights * with_mean).sum()
    )
    return _shell_mean(expected, box_size) / window.square().sum()


def _fade(background: Bool[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """Window that is 0 outside the background and rises to 1 over 3 pixels inside it (raised cosine), float64."""
    height, width = background.shape
    reach = _EDGE_PIXELS
    outside = pad(~background.cpu(), (reach,) * 4, value=True)
    distance = torch.full(background.shape, float(reach), dtype=torch.float64)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            near = outside[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            distance[near] = distance[near].clamp(max=math.hypot(dy, dx))
    return torch.sin(0.5 * torch.pi * distance / reach).square()


def _smooth(values: Float[Tensor, " shell"]) -> Float[Tensor, " shell"]:
    """Weighted mean ¼, ½, ¼ of every shell and its neighbours; the ends are repeated."""
    longer = torch.cat([values[:1], values, values[-1:]])
    return 0.25 * longer[:-2] + 0.5 * longer[1:-1] + 0.25 * longer[2:]


def _multiply(images: Float[Tensor, "batch y x"], weights: Float[Tensor, "y half"]) -> Float[Tensor, "batch y x"]:
    return fourier_to_image(image_to_fourier(images) * weights.to(images), images.shape[-1])


def _shell_radius(grid_size: int, box_size: int) -> Float[Tensor, "y half"]:
    """Radius in shells of a box, at the frequencies of a half Fourier image of ``grid_size`` pixels, float64."""
    return radial_frequency(*frequency_grid(grid_size, 1.0, torch.float64)) * box_size


def _nearest_shell(grid_size: int, box_size: int) -> Int[Tensor, "y half"]:
    return torch.round(_shell_radius(grid_size, box_size)).long().clamp(max=box_size // 2)


def _spread(shell_values: Float[Tensor, " shell"], grid_size: int, box_size: int) -> Float[Tensor, "y half"]:
    """Values of a radial function at the frequencies of a half Fourier image of ``grid_size`` pixels."""
    last = box_size // 2
    assert len(shell_values) == last + 1, "one value per shell"
    radius = _shell_radius(grid_size, box_size).clamp(max=last)
    lower = radius.floor().long().clamp(max=last - 1)
    weight = (radius - lower).to(shell_values)
    lower = lower.to(shell_values.device)
    return torch.lerp(shell_values[lower], shell_values[lower + 1], weight)


def _multiplicity(grid_size: int) -> Float[Tensor, " half"]:
    """How often the full Fourier image has the values of each column of the half one, float64."""
    columns = torch.full((grid_size // 2 + 1,), 2.0, dtype=torch.float64)
    columns[0] = 1
    if grid_size % 2 == 0:
        columns[-1] = 1
    return columns


def _shell_mean(power: Float[Tensor, "y half"], box_size: int) -> Float[Tensor, " shell"]:
    """Mean over the frequencies of every shell of the full Fourier image, float64 on the CPU."""
    grid_size = power.shape[0]
    shell = _nearest_shell(grid_size, box_size).flatten()
    count = _multiplicity(grid_size).expand(power.shape)
    zeros = torch.zeros(box_size // 2 + 1, dtype=torch.float64)
    total = zeros.index_add(0, shell, (power * count).flatten())
    return total / zeros.index_add(0, shell, count.flatten())
