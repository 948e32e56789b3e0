"""Seconds and peak memory of reading a large particle table, and of what follows before the first image.

    python benchmarks/read_star.py --particles 1000000 --stacks 5000

The table is like RELION's run_data.star: 26 columns, 2 optics groups, about 600 bytes per particle, one stack per
micrograph (sparse files). Every step runs in one process of its own after the table has been written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np

COLUMNS = (
    "rlnCoordinateX rlnCoordinateY rlnImageOriginalName rlnMicrographName rlnCtfMaxResolution rlnCtfFigureOfMerit "
    "rlnDefocusU rlnDefocusV rlnDefocusAngle rlnCtfBfactor rlnCtfScalefactor rlnPhaseShift rlnAngleRot rlnAngleTilt "
    "rlnAnglePsi rlnClassNumber rlnNormCorrection rlnRandomSubset rlnLogLikeliContribution "
    "rlnMaxValueProbDistribution rlnNrOfSignificantSamples rlnImageName rlnOpticsGroup rlnOriginXAngst "
    "rlnOriginYAngst rlnGroupNumber"
).split()
BOX = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=1_000_000)
    parser.add_argument("--stacks", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run_data.star"
        write_table(path, options.particles, options.stacks)
        print(f"{options.particles} particles, {options.stacks} stacks, {path.stat().st_size / 1e6:.0f} MB")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for name, seconds, cpu, peak in pool.apply(measure, (path,)):
                print(f"{name:<28} {seconds:6.1f} s   CPU {cpu:6.1f} s   peak {peak:5.2f} GB")


def measure(path: Path) -> list[tuple[str, float, float, float]]:
    """Name, seconds, CPU seconds, and peak memory of the process so far (GB) of every step."""
    from cryosphere.export.particles import export_particles
    from cryosphere.io.star import read_particles
    from cryosphere.io.star_rows import write_subset
    from cryosphere.particles.selection import split_held_out
    from cryosphere.runs.tables import load_table, save_table

    steps = []

    def timed(name, function, *arguments):
        start, cpu_start = time.perf_counter(), time.process_time()
        result = function(*arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        steps.append((name, time.perf_counter() - start, time.process_time() - cpu_start, peak))
        return result

    timed("imports", lambda: None)
    table = timed("read_particles", read_particles, path)
    timed("split_held_out", split_held_out, table.stack_index, table.image_index, 0.1, 0)
    timed("save_table", save_table, path.with_suffix(".npz"), table)
    timed("load_table", load_table, path.with_suffix(".npz"))
    timed("write_subset of every 2nd", write_subset, path, np.arange(0, table.n_particles, 2), path.with_name("s.star"))
    run, out = stand_in(table, path.parent), path.with_name("exported.star")
    timed("export z1 > 0, 4 columns", lambda: export_particles(run, out, select="z1 > 0", extra_columns=True))
    select = "z1 > 0 and rlnLogLikeliContribution > 1e5"
    timed("export by rlnLogLikeli…", lambda: export_particles(run, out, select=select, overwrite=True))
    return steps


def stand_in(table, folder: Path):
    """What an export needs of a run: a table and a posterior in two dimensions."""
    from cryosphere.records import Posterior
    from cryosphere.runs.layout import RunLayout

    n = table.n_particles
    rng = np.random.default_rng(1)
    posterior = Posterior(
        index=np.arange(n),
        mean=rng.normal(size=(n, 2)).astype(np.float32),
        covariance=np.tile(0.01 * np.eye(2, dtype=np.float32), (n, 1, 1)),
        effective_sample_size=np.ones(n, np.float32),
        log_evidence=np.ones(n, np.float32),
        nodes=np.zeros((0, 2), np.float32),
        log_likelihood=np.zeros((n, 0), np.float32),
    )
    return SimpleNamespace(
        table=table, posterior=posterior, latent_dim=2, folder=folder / "run", layout=RunLayout(folder / "run")
    )


def write_table(path: Path, n_particles: int, n_stacks: int, box: int = BOX) -> None:
    """Write the table and its stacks, in pieces."""
    rng = np.random.default_rng(0)
    per_stack = -(-n_particles // n_stacks)
    with open(path, "w") as file:
        file.write("\n# version 30001\n\ndata_optics\n\nloop_ \n_rlnOpticsGroup #1 \n_rlnOpticsGroupName #2 \n")
        file.write("_rlnAmplitudeContrast #3 \n_rlnSphericalAberration #4 \n_rlnVoltage #5 \n_rlnImagePixelSize #6 \n")
        file.write("_rlnImageSize #7 \n")
        file.writelines(f"{group:12d} group{group} 0.100000 2.700000 300.000000 1.060000 {box} \n" for group in (1, 2))
        file.write("\n\n# version 30001\n\ndata_particles\n\nloop_ \n")
        file.writelines(f"_{name} #{number} \n" for number, name in enumerate(COLUMNS, start=1))
        written = 0
        for stack in range(n_stacks):
            count = min(per_stack, n_particles - written)
            micrograph = f"Micrographs/FoilHole_{stack:08d}_Data_10985376_10985377_20180810_2123-{stack:06d}_DW"
            name = f"Extract/job133/{micrograph}.mrcs"
            write_stack(path.parent / name, per_stack, box)
            values = rng.uniform(-180, 180, (count, 16))
            for index, row in enumerate(values.tolist(), start=1):
                numbers = [f"{value:12.6f}" for value in row]
                image = f"{index:06d}@{name}"
                cells = [*numbers[:2], image, f"{micrograph}.mrc", *numbers[2:4], f"{18000 + row[4]:12.6f}"]
                cells += [
                    f"{17500 + row[5]:12.6f}",
                    numbers[6],
                    "    0.000000     1.000000     0.000000",
                    *numbers[7:10],
                ]
                cells += ["           1", numbers[10], f"           {index % 2 + 1}", f"{1e5 + row[11]:12.6e}"]
                cells += [numbers[12], "         450", image, f"           {stack % 2 + 1}", *numbers[13:15]]
                file.write(" ".join([*cells, f"{stack:12d}"]) + " \n")
            written += count


def write_stack(path: Path, n_images: int, box: int) -> None:
    """A stack of zeros that takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.zeros((1, 1, 1), np.float32))
        mrc.voxel_size = 1.06
        header = mrc.header.copy()
    header.nx = header.ny = header.mx = header.my = box
    header.nz, header.mz, header.ispg = n_images, 1, 0
    header.cella = (1.06 * box, 1.06 * box, 1.06)
    with open(path, "wb") as file:
        file.write(header.tobytes())
        file.truncate(1024 + 4 * n_images * box * box)


if __name__ == "__main__":
    main()
