"""The demo on three seeds: mean per-image RMSD relative to the best single structure, and the time it took.

    python benchmarks/demo_seeds.py [FOLDER]

Writes benchmarks/results/demo_seeds.json. The bar is a ratio of at most 0.6 on each seed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does

from cryosphere.pipelines.demo import demo

RESULT = Path(__file__).parent / "results" / "demo_seeds.json"


def main(folder: Path) -> None:
    rows = []
    for seed in (1, 2, 3):
        started = time.monotonic()
        result = demo(folder / f"seed{seed}", seed=seed, show_progress=False)
        scores = result.scores
        rows.append(
            {
                "seed": seed,
                "rmsd_mean": round(scores.rmsd["mean"], 3),
                "rmsd_best_single": round(scores.rmsd["best_single"], 3),
                "rmsd_nominal": round(scores.rmsd["nominal"], 3),
                "ratio_to_best_single": round(scores.rmsd["ratio_to_best_single"], 3),
                "fsc_area_mean": round(scores.fsc_auc["mean"], 4),
                "changed_bonds_percent": round(scores.geometry["changed_bonds_percent"], 2),
                "best_epoch": result.run.epoch,
                "minutes": round((time.monotonic() - started) / 60, 1),
            }
        )
        print(rows[-1], flush=True)
    RESULT.write_text(json.dumps({"cores": os.cpu_count(), "seeds": rows}, indent=2) + "\n")
    ratios = [row["ratio_to_best_single"] for row in rows]
    print(f"ratio: mean {sum(ratios) / 3:.3f}, worst {max(ratios):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
