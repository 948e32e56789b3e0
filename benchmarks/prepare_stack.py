"""Time and memory of preparing particle images: python prepare_stack.py FOLDER [--images 100000] [--box 128] …"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from cryosphere.config import ParticlesConfig
from cryosphere.io.mrc import write_stack
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.prepared import StackOrder, prepare
from cryosphere.particles.sampling import on_common_grid
from cryosphere.records import ParticleTable

PIXEL_SIZE, RADIUS = 1.5, 70.0
# Images of a batch that is written again and again: what is measured does not look at pixels.
POOL = 1000


def peak_gb() -> float:
    """Largest memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def write_set(folder: Path, n_images: int, box: int, n_stacks: int) -> ParticleTable:
    """Noise in several stacks of float32, and a table with random shifts."""
    random = np.random.default_rng(0)
    pool = random.normal(size=(POOL, box, box)).astype(np.float32)
    stack_index = np.arange(n_images) * n_stacks // n_images
    counts = np.bincount(stack_index, minlength=n_stacks)
    paths = tuple(folder / f"stack{number:05d}.mrcs" for number in range(n_stacks))
    for path, count in zip(paths, counts.tolist(), strict=True):
        batches = (pool[: min(POOL, count - start)] for start in range(0, count, POOL))
        write_stack(path, batches, n_images=count, pixel_size=PIXEL_SIZE)
    one = np.ones(n_images)
    return ParticleTable(
        source=folder / "particles.star",
        stack_paths=paths,
        stack_index=stack_index,
        image_index=np.arange(n_images) - np.repeat(np.cumsum(counts) - counts, counts),
        rotmat=np.broadcast_to(np.eye(3), (n_images, 3, 3)).copy(),
        shift=random.normal(scale=5.0, size=(n_images, 2)),
        **{name: 1e4 * one for name in ("defocus_u", "defocus_v")},
        **{name: 0 * one for name in ("defocus_angle", "phase_shift", "b_factor")},
        scale=one,
        voltage_kv=300 * one,
        spherical_aberration_mm=2.7 * one,
        amplitude_contrast=0.1 * one,
        optics_group=np.zeros(n_images, dtype=np.int64),
        optics_group_names=("one",),
        box_size=box,
        pixel_size=PIXEL_SIZE,
    )


def images_per_second(images: ParticleImages, n_batches: int) -> float:
    """Batches of 256 random images as training reads them, per second of CPU."""
    random = np.random.default_rng(1)
    start = time.process_time()
    for _ in range(n_batches):
        images.batch(random.integers(0, images.table.n_particles, 256))
    return 256 * n_batches / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--box", type=int, default=128)
    parser.add_argument("--stacks", type=int, default=100)
    parser.add_argument("--pixel-size", type=float)
    parser.add_argument("--type", default="float16")
    parser.add_argument("--batches", type=int, default=0, help="batches of 256 read afterwards, both ways")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        table = write_set(folder, given.images, given.box, given.stacks)
        print(f"{given.images} images of {given.box} px in {given.stacks} stacks; peak so far {peak_gb():.2f} GB")
        start, busy = time.perf_counter(), time.process_time()
        table = on_common_grid(table, given.pixel_size)
        images = ParticleImages(table, RADIUS)
        order = StackOrder.of(ParticlesConfig(file=table.source, stack=given.type), table, RADIUS)
        prepared = prepare(order, images, folder / "prepared", say=print)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        print(f"{seconds:.1f} s ({busy:.1f} s of CPU), {given.images / seconds:.0f} images/s, peak {peak_gb():.2f} GB")
        if given.batches:
            print(f"read from their files: {images_per_second(images, given.batches):.0f} images per second of CPU")
            images.source = prepared
            print(f"read from the stack:   {images_per_second(images, given.batches):.0f} images per second of CPU")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
