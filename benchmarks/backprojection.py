"""Images per second and peak memory of maps from images: python backprojection.py [--tfs] [--out FILE]

One state with its half-maps, from a stack of noise on disk, on one thread; every box in a process of its own. CPU
seconds, as the machine is busy. ``--tfs`` also inserts the same images with torch-fourier-slice, where it is installed:
twice, as that has no weights of its own but those of its interpolation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from speed_set import make_table

from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.backprojection import Backprojection
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import frequency_grid
from cryosphere.training.memory import peak_resident

# Box (pixels), images, and images at a time.
CASES = [(64, 4000, 512), (128, 2048, 512), (256, 732, 244)]
PIXEL_SIZE = 1.5


def measure(box_size: int, count: int, batch_size: int, with_library: bool) -> dict:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        table = make_table(Path(place), count, box_size, PIXEL_SIZE)
        images = ParticleImages(table, 0.4 * box_size * PIXEL_SIZE)
        rows = [np.arange(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
        insert_one(Backprojection(2, box_size, PIXEL_SIZE), images, rows[0][:2])  # compiled now
        before = peak_resident()
        sums, seconds = Backprojection(2, box_size, PIXEL_SIZE), np.zeros(2)
        for part in rows:
            seconds += insert_one(sums, images, part)
        start = time.process_time()

        for maps in ([0], [1], [0, 1]):
            sums.volume(maps)
        row = {
            "box": box_size,
            "images": count,
            "read_ms": round(1e3 * seconds[0] / count, 3),
            "insert_ms": round(1e3 * seconds[1] / count, 3),
            "images_per_s": round(count / seconds.sum()),
            "three_maps_s": round(time.process_time() - start, 2),
            "table_mb": round(sums.sums.nbytes / 2e6),
            "peak_mb": round(peak_resident() / 1e6),
            "peak_before_mb": round(before / 1e6),
        }
        if with_library:
            row["torch_fourier_slice_ms"] = round(library_ms(images, rows[0][:16]), 3)
        return row


def insert_one(sums: Backprojection, images: ParticleImages, rows: np.ndarray) -> np.ndarray:
    """CPU seconds of reading and of inserting a batch, its images in the halves in turn."""
    times = [time.process_time()]
    batch = images.batch(rows)
    times.append(time.process_time())
    sums.insert(batch.fourier, batch.rotmat, batch.ctf, batch.whitening, np.eye(2)[rows % 2])
    times.append(time.process_time())
    return np.diff(times)


def library_ms(images: ParticleImages, rows: np.ndarray) -> float:
    """CPU ms for every image in torch-fourier-slice: images times CTF, and squared CTF, padded to twice the box."""
    from torch_fourier_slice import insert_central_slices_rfft_3d

    batch, size = images.batch(rows), images.table.box_size
    kx, ky = frequency_grid(size, PIXEL_SIZE)
    start = time.process_time()
    transfer = contrast_transfer(kx, ky, batch.ctf)
    for values in (batch.fourier * transfer, transfer.square().to(torch.complex64)):
        real = torch.fft.fftshift(torch.fft.irfft2(values, s=(size, size)), dim=(-2, -1))
        padded = torch.nn.functional.pad(real, [size // 2] * 4)
        spectrum = torch.fft.fftshift(torch.fft.rfft2(torch.fft.ifftshift(padded, dim=(-2, -1))), dim=-2)
        insert_central_slices_rfft_3d(spectrum, (2 * size,) * 3, batch.rotmat.mT, fftfreq_max=0.5)
    return 1e3 * (time.process_time() - start) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tfs", action="store_true", help="torch-fourier-slice too")
    parser.add_argument("--machine", default="", help="what to call the machine in the results")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rows.append(pool.apply(measure, (*case, options.tfs)))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps({"machine": options.machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
