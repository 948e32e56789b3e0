"""Train cryoDRGN on a simulated set and score the volume of every image like `cryosphere evaluate` scores ours.

    python benchmarks/cryodrgn_volumes.py SET OUTPUT --epochs 20 --width 256

SET is a folder that `cryosphere simulate` or `cryosphere benchmark accuracy` wrote. Needs the command `cryodrgn`
(or the one that --cryodrgn names). Prints one line of JSON: mean, standard deviation and median FSC area over 100
evenly spread images, and the minutes of training.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shlex
import subprocess
import time
from pathlib import Path

import mrcfile
import numpy as np

from cryosphere.evaluation import metrics
from cryosphere.inference.ensemble import spread_rows
from cryosphere.io.mrc import read_volume
from cryosphere.simulation.truth import read_truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=256, help="nodes of every hidden layer")
    parser.add_argument("--zdim", type=int, default=8)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--cryodrgn", default="cryodrgn", help="command line that starts cryoDRGN")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    star, work = arguments.set / "particles.star", arguments.output
    truth = read_truth(arguments.set / "truth")
    box_size, pixel_size = int(truth.info["box_size"]), float(truth.info["pixel_size"])

    def call(*words) -> None:
        subprocess.run([*shlex.split(arguments.cryodrgn), *map(str, words)], check=True)

    started = time.monotonic()
    call("parse_pose_star", star, "-D", box_size, "-o", work / "pose.pkl")
    call("parse_ctf_star", star, "-D", box_size, "--Apix", pixel_size, "-o", work / "ctf.pkl")
    widths = ["--enc-dim", arguments.width, "--dec-dim", arguments.width]
    inputs = ["--poses", work / "pose.pkl", "--ctf", work / "ctf.pkl", "--zdim", arguments.zdim]
    call(
        "train_vae", star, *inputs, "-n", arguments.epochs, *widths, "-o", work / "run",
        "--uninvert-data", "--no-analysis", "--seed", 1, "--no-amp",
    )  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    latents = _latents(work / "run", arguments.epochs)
    states = truth.state
    rows = np.flatnonzero(np.isin(states, list(truth.volumes)))
    rows = rows[spread_rows(len(rows), arguments.images)]
    np.savetxt(work / "z.txt", latents[rows])
    weights = work / "run" / f"weights.{arguments.epochs}.pkl"
    call(
        "eval_vol", weights, "-c", work / "run" / "config.yaml", "--zfile", work / "z.txt", "-o", work / "volumes",
        "--Apix", pixel_size,
    )  # fmt: skip
    shells = metrics.shell_index(box_size)
    areas = []
    for path, state in zip(sorted((work / "volumes").glob("vol_*.mrc")), states[rows].tolist(), strict=True):
        with mrcfile.open(path) as mrc:
            found = metrics.fourier_volume(np.array(mrc.data))
        true = metrics.fourier_volume(read_volume(truth.volumes[state]).volume)
        areas.append(metrics.fsc_area(metrics.fourier_shell_correlation(found, true, shells), box_size))
    scores = {"mean": np.mean(areas), "std": np.std(areas), "median": np.median(areas), "minutes": minutes}
    print(json.dumps({name: round(float(value), 4) for name, value in scores.items()}))


def _latents(run: Path, epoch: int) -> np.ndarray:
    """Means of the images' latents, as cryoDRGN writes them."""
    with (run / f"z.{epoch}.pkl").open("rb") as file:
        return pickle.load(file)  # made by the program that was just run


if __name__ == "__main__":
    main()
