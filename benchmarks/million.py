"""One pass over a million particles, read as training reads them: peak memory and images per second.

    python benchmarks/million.py --boxes 128 256 -o benchmarks/results/million.json

The table is that of ``read_star.py`` (26 columns, 5,000 stacks); its stacks are sparse files, which take no room on the
disk and hold zeros: what a disk or a network costs is not in these times. Every box runs in a process of its own:
the table is read, noise spectra are estimated, and batches come in the order of an epoch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from read_star import write_table

# Values of images in a batch, as in a block of training at full resolution, and Å of the particle's radius.
BATCH_VALUES = 10_000_000
RADIUS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=1_000_000)
    parser.add_argument("--stacks", type=int, default=5000)
    parser.add_argument("--boxes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--most-images", type=int, help="end a pass after so many images")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    found = []
    for box in options.boxes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run_data.star"
            write_table(path, options.particles, options.stacks, box)
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                found.append(pool.apply(measure, (path, options.most_images)))
        print(json.dumps(found[-1]), flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(found, indent=2) + "\n")


def measure(path: Path, most_images: int | None) -> dict[str, float]:
    """Read the table, then its images in the order of an epoch."""
    from cryosphere.io.star import read_particles
    from cryosphere.particles.dataset import ParticleImages
    from cryosphere.training.order import TrainingOrder

    imports = peak_gb()
    table = read_particles(path)
    reading = peak_gb()
    images = ParticleImages(table, RADIUS)
    size = min(1024, BATCH_VALUES // table.box_size**2)
    order = TrainingOrder(table, np.arange(table.n_particles), seed=0).take(0, most_images or table.n_particles)
    start, cpu_start = time.perf_counter(), time.process_time()
    for first in range(0, len(order), size):
        images.batch(order[first : first + size])
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "particles": table.n_particles,
        "box_size": table.box_size,
        "images_read": len(order),
        "batch": size,
        "peak_gb_after_imports": round(imports, 2),
        "peak_gb_after_the_table": round(reading, 2),
        "peak_gb": round(peak_gb(), 2),
        "images_per_second": round(len(order) / seconds, 1),
        "images_per_second_of_cpu": round(len(order) / cpu, 1),
    }


def peak_gb() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
