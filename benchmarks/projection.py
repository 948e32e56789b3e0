"""Time of projecting Gaussians, forwards and backwards, per image: python projection.py [--threads 2] [--cpu-time] …

The compiled kernel and plain torch in turns in one process, the shortest of several repeats; errors are against plain
torch in double precision, of images and of the gradient of positions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cryosphere.physics import spreading, spreading_numba, spreading_torch
from cryosphere.physics.gaussians import grid_size, project_fourier
from cryosphere.physics.rotations import random_rotmats

SIGMA, BATCH = 2.0, 32
# Box (pixels), Å per pixel, residues: a small and a fine box, one without oversampling, box sizes at one pixel size,
# and numbers of residues.
CASES = [(64, 3.5, 1294), (256, 1.2, 1294), (256, 1.05, 1294)]
CASES += [(box, 2.4, 1294) for box in (64, 128, 192, 256, 384, 512)]
CASES += [(128, 2.4, count) for count in (200, 1000, 5000)] + [(256, 2.4, 10_000), (256, 2.4, 50_000)]
KERNELS = {"compiled": spreading_numba, "torch": spreading_torch}


def globule(n_images: int, n_residues: int) -> torch.Tensor:
    """Residues evenly within a ball of a protein's density (135 Å³ each), another for every image."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(n_images, n_residues, 3, generator=generator), dim=-1)
    distance = torch.rand(n_images, n_residues, 1, generator=generator) ** (1 / 3)
    return direction * distance * (135 * n_residues * 3 / (4 * torch.pi)) ** (1 / 3)


def model(n_images: int, n_residues: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Positions, amplitudes, widths and poses."""
    rotmat = random_rotmats(n_images, torch.Generator().manual_seed(1)).to(dtype)
    one = torch.ones(n_residues, dtype=dtype)
    return globule(n_images, n_residues).to(dtype).requires_grad_(), 40 * one, SIGMA * one, rotmat


def projected(clock, kernel, n_images: int, box: int, pixel: float, n_residues: int, dtype=torch.float32):
    """Half Fourier images, the gradient of positions, and seconds forwards and backwards."""
    spreading.kernel_for = lambda *_: kernel
    arguments = model(n_images, n_residues, dtype)
    slope = torch.randn(n_images, box, box // 2 + 1, 2, generator=torch.Generator().manual_seed(2))
    slope = torch.view_as_complex(slope).to(dtype.to_complex())
    times = [clock()]
    fourier = project_fourier(*arguments, box, pixel)
    times.append(clock())
    fourier.backward(slope)
    times.append(clock())
    return fourier.detach(), arguments[0].grad, times[1] - times[0], times[2] - times[1]


def spread_alone(clock, kernel, n_images: int, box: int, pixel: float, n_residues: int):
    """Seconds of spreading and of gathering, without the transforms, in the same turns."""
    size = grid_size(box, pixel, SIGMA)
    spacing = pixel * box / size
    positions, amplitudes, sigmas, _ = model(n_images, n_residues, torch.float32)
    coordinates, sigma = (positions.detach()[..., :2] / spacing).contiguous(), sigmas / spacing
    first, height = spreading._filled_rows(coordinates, sigma, size, 5.0)
    shifted = coordinates - torch.tensor([0, first + height // 2])
    seconds = [0.0, 0.0]
    for rows in spreading._turns(coordinates, height * size):
        times = [clock()]
        images = kernel.spread(shifted[rows], amplitudes, sigma, height, size, 5.0)
        times.append(clock())
        kernel.gather(images, shifted[rows], amplitudes, sigma, 5.0)
        times.append(clock())
        seconds = [seconds[0] + times[1] - times[0], seconds[1] + times[2] - times[1]]
    return seconds


def measure(clock: Callable[[], float], box: int, pixel: float, n_residues: int, repeats: int) -> dict:
    """One line of the table, in ms per image."""
    row = {"box": box, "pixel_size": pixel, "residues": n_residues, "grid": grid_size(box, pixel, SIGMA)}
    names = ("forward", "backward", "spread", "gather")
    best = {name: [float("inf")] * len(names) for name in KERNELS}
    for repeat in range(repeats):
        for name, kernel in KERNELS.items():
            n_images = BATCH if name == "compiled" else max(1, min(BATCH, 20_000 // n_residues))
            if name == "torch" and repeat > 2:
                continue
            case = n_images, box, pixel, n_residues
            seconds = [*projected(clock, kernel, *case)[2:], *spread_alone(clock, kernel, *case)]
            best[name] = [min(old, 1e3 * new / n_images) for old, new in zip(best[name], seconds, strict=True)]
    for name, times in best.items():
        row[name] = {key: round(value, 4) for key, value in zip(names, times, strict=True)}
        row[name]["whole"] = round(times[0] + times[1], 4)
    row["times_faster"] = round(row["torch"]["whole"] / row["compiled"]["whole"], 1)
    found = projected(clock, spreading_numba, 2, box, pixel, n_residues)[:2]
    wanted = projected(clock, spreading_torch, 2, box, pixel, n_residues, torch.float64)[:2]
    errors = [float(torch.linalg.norm(a - b) / torch.linalg.norm(b)) for a, b in zip(found, wanted, strict=True)]
    return row | {"error_image": float(f"{errors[0]:.1e}"), "error_gradient": float(f"{errors[1]:.1e}")}


def line(row: dict) -> str:
    """One line of the printed table."""
    new, old = row["compiled"], row["torch"]
    parts = [
        f"{row['box']:5d} {row['pixel_size']:5.1f} {row['residues']:8d} {row['grid']:5d}",
        f"{new['forward']:17.3f} {new['backward']:8.3f} {new['whole']:6.3f} ({new['spread']:.3f} {new['gather']:.3f})",
        f"{old['whole']:7.2f} {row['times_faster']:5.1f}x",
        f"{row['error_image']:.0e} {row['error_gradient']:.0e}",
    ]
    return " | ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="of all threads, for a busy machine")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--machine", default="", help="what to call the machine in the results")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    rows = []
    print("  box  Å/px residues  grid | compiled: forward backward  whole (spread gather) | torch whole | error")
    for case in CASES:
        row = measure(clock, *case, options.repeats)
        rows.append(row)
        print(line(row), flush=True)
    if options.out:
        results = {"machine": options.machine, "threads": options.threads, "clock": clock.__name__, "batch": BATCH}
        results |= {"sigma": SIGMA, "unit": "ms per image", "rows": rows}
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
