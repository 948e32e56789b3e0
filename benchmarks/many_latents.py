"""Time and memory of `analyze` on many particles: python many_latents.py RUN COUNT

The particles of a trained run are repeated until there are COUNT of them, in a folder of its own that is deleted.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from cryosphere.analysis.analyze import analyze
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_posterior, save_table


def repeat(folder: Path, count: int, to: Path) -> None:
    """Copy a run with its particles repeated."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("analysis", "evaluation", "prepared", "tensorboard"))
    run = Run.load(to)
    posterior, table = run.posterior, run.table
    rows = np.arange(count) % table.n_particles
    per_particle = {f.name for f in fields(table)} - {"input_row", "n_input"}
    repeated = {
        name: value[rows]
        for name in per_particle
        if isinstance(value := getattr(table, name), np.ndarray) and not name.startswith("group_")
    }
    save_table(run.layout.particles, replace(table, **repeated))
    many = {name: value[rows] for name, value in vars(posterior).items() if name not in ("index", "nodes")}
    save_posterior(run.layout.posterior, replace(posterior, index=np.arange(count), **many), run.weights_hash())


def main(folder: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        repeat(folder, count, Path(temporary) / "run")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.monotonic()
        result = analyze(Path(temporary) / "run")
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        written = sum(path.stat().st_size for path in result.files)
    known = {"run": folder.name, "particles": count, "latent_dim": result.components.n_components}
    known |= {"nodes": len(result.ensemble.sample.latent), "seconds": round(seconds, 1)}
    print(json.dumps(known | {"peak_gb": peak / 2**20, "peak_before_gb": before / 2**20, "written_mb": written / 1e6}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(float(sys.argv[2])))
