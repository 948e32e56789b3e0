"""Size of the page of ``cryosphere report`` and the time it takes, on a made-up run of many particles.

    PYTHONPATH=. python benchmarks/report.py --particles 500000 -o benchmarks/results/report.json

The run has random weights and a posterior over shared latents; its images do not exist, so that the averages of
particles are not in these numbers.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=500_000)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    from cryosphere.analysis.analyze import analyze
    from cryosphere.report.write import write_report
    from cryosphere.runs.run import Run
    from tests.run_factory import make_run

    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", n_particles=options.particles, shared=True)
        start = time.perf_counter()
        analyze(run)
        analysed = time.perf_counter()
        path = write_report(Run.load(run.folder))
        found = {
            "particles": options.particles,
            "analyze_seconds": round(analysed - start, 1),
            "report_seconds": round(time.perf_counter() - analysed, 1),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        }
    print(json.dumps(found))
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
