"""The least a training step can take on a machine: operations and bytes counted, ceilings measured."""

from __future__ import annotations

import math
import time

import torch

# Operations per element: a real FFT (per pixel and doubling), a residue's share of one rotation forward and back.
_FFT, _TURN = 2.5, 100
# Bytes that Adam moves per parameter: weight, gradient and both moments read, all but the gradient written.
_ADAM_BYTES = 28


def ceilings(seconds: float = 1.0) -> dict[str, float]:
    """Operations and bytes per second that a matrix product and a copy reach (the best of all within a time)."""
    a, b = torch.randn(2, 1024, 1024)
    source = torch.randn(16_000_000)
    target = torch.empty_like(source)
    product = _best(lambda: torch.mm(a, b), seconds)
    copy = _best(lambda: target.copy_(source), seconds)
    return {"flops": 2 * 1024**3 / product, "bytes_per_second": 2 * 4 * len(source) / copy}


def _best(function, seconds: float) -> float:
    end, best = time.perf_counter() + seconds, math.inf
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def floor(case, model, machine: dict[str, float]) -> dict[str, float]:
    """Least milliseconds per image for the operations, and for the bytes, of a step of the paper's recipe.

    Networks take 6 operations per weight and image (4 where the input needs no gradient, which is left out of account);
    images are transformed once, their renderings twice, each forward and back; a Gaussian touches a window of 5 σ with
    two operations per pixel on the way to the image and six on the way back. Bytes are those of the images, read once
    and written once as what the loss compares, and of the optimiser's state.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    pixels = case.box_size**2
    window = (2 * math.ceil(5 * float(model.renderer.sigmas.min()) / model.pixel_size) + 1) ** 2
    operations = 6 * weights
    operations += 6 * _FFT * pixels * 2 * math.log2(case.box_size)
    operations += 8 * case.n_residues * window + _TURN * case.n_residues * case.n_segments
    moved = 4 * pixels * 2 + _ADAM_BYTES * weights / case.batch_size
    return {
        "operations": round(1e3 * operations / machine["flops"], 4),
        "bytes": round(1e3 * moved / machine["bytes_per_second"], 4),
    }
