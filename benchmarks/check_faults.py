"""`cryosphere check` on simulated sets with one planted fault each: which it names.

    python benchmarks/check_faults.py [FOLDER] [SEEDS] [PARTICLES]

Adenylate kinase, closed to open, 64 px of 1.5 Å, SNR 0.05, 200 kV, astigmatism 0 to 2,000 Å; the nominal structure
is the closed end. Faults are planted in the STAR file or the structure of one set per seed. Writes
benchmarks/results/check_faults.json; the bar is every fault named, alone, and none on the clean set.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does

import gemmi
import numpy as np
import pandas as pd
import starfile

from cryosphere.preflight.check import check
from cryosphere.simulation.acquisition import SimulatedOptics, SimulationSettings
from cryosphere.simulation.particles import simulate
from cryosphere.simulation.paths import read_path
from cryosphere.simulation.shipped_data import shipped_path

RESULT = Path(__file__).parent / "results" / "check_faults.json"
PIXEL_SIZE = 1.5
OFFSET = np.array([9.0, -10.0, 44.0**0.5])  # 15 Å


def main(folder: Path, n_seeds: int, n_particles: int) -> None:
    rows = []
    for seed in range(1, n_seeds + 1):
        images = folder / f"seed{seed}"
        if not (images / "particles.star").is_file():
            make_set(images, seed, n_particles)
        for fault, plant in FAULTS.items():
            started = time.process_time()
            report = check(plant(images, fault.replace(" ", "-")))
            rows.append(
                {
                    "seed": seed,
                    "planted": fault,
                    "named": [verdict.code for verdict in report.verdicts],
                    "sentences": [str(verdict) for verdict in report.verdicts],
                    "n_images": report.diagnosis.n_images,
                    "cpu_seconds": round(time.process_time() - started, 1),
                }
            )
            print(seed, f"{fault:16}", rows[-1]["named"], rows[-1]["n_images"], rows[-1]["cpu_seconds"], flush=True)
    right = sum(row["named"] == ([] if row["planted"] == "clean" else [row["planted"]]) for row in rows)
    print(confusion(rows).to_string())
    print(f"{right} of {len(rows)} right")
    summary = {"n_particles": n_particles, "seeds": n_seeds, "right": right, "of": len(rows), "rows": rows}
    RESULT.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def make_set(folder: Path, seed: int, n_particles: int) -> None:
    conformations = read_path(shipped_path("adk/closed.cif"), shipped_path("adk/open.cif"), 50, align="none")
    settings = SimulationSettings(
        n_particles=n_particles,
        box_size=64,
        pixel_size=PIXEL_SIZE,
        snr=0.05,
        seed=seed,
        astigmatism=2000.0,
        optics_groups=(SimulatedOptics(voltage_kv=200.0),),
    )
    simulate(conformations, settings, folder)


def confusion(rows: list[dict]) -> pd.DataFrame:
    named = [" + ".join(row["named"]) or "none" for row in rows]
    return pd.crosstab(pd.Series([row["planted"] for row in rows], name="planted"), pd.Series(named, name="named"))


def star_fault(change: Callable[[pd.DataFrame, pd.DataFrame], None]) -> Callable[[Path, str], dict]:
    """A fault in the particle table: ``change`` edits optics and particles."""

    def plant(folder: Path, name: str) -> dict:
        blocks = starfile.read(folder / "particles.star")
        change(blocks["optics"], blocks["particles"])
        starfile.write(blocks, folder / f"{name}.star", overwrite=True)
        return {"particles": {"file": f"{folder / name}.star"}, "structure": {"file": str(folder / "nominal.cif")}}

    return plant


def structure_fault(move: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, str], dict]:
    """A fault in the structure: ``move`` changes an atom's position."""

    def plant(folder: Path, name: str) -> dict:
        structure = gemmi.read_structure(str(folder / "nominal.cif"))
        for site in structure[0].all():
            site.atom.pos = gemmi.Position(*move(np.array(site.atom.pos.tolist())))
        structure.make_mmcif_document().write_file(str(folder / f"{name}.cif"))
        return {
            "particles": {"file": str(folder / "particles.star")},
            "structure": {"file": str(folder / f"{name}.cif")},
        }

    return plant


def invert_angles(optics: pd.DataFrame, particles: pd.DataFrame) -> None:
    rot, tilt, psi = (particles[f"rlnAngle{name}"].copy() for name in ("Rot", "Tilt", "Psi"))
    particles["rlnAngleRot"], particles["rlnAngleTilt"], particles["rlnAnglePsi"] = -psi, -tilt, -rot


def scale_shifts(factor: float) -> Callable[[pd.DataFrame, pd.DataFrame], None]:
    def change(optics: pd.DataFrame, particles: pd.DataFrame) -> None:
        for column in ("rlnOriginXAngst", "rlnOriginYAngst"):
            particles[column] *= factor

    return change


def swap_defocus(optics: pd.DataFrame, particles: pd.DataFrame) -> None:
    u, v = particles["rlnDefocusU"].copy(), particles["rlnDefocusV"].copy()
    particles["rlnDefocusU"], particles["rlnDefocusV"] = v, u


def set_optics(column: str, change: Callable[[float], float]) -> Callable[[pd.DataFrame, pd.DataFrame], None]:
    def edit(optics: pd.DataFrame, particles: pd.DataFrame) -> None:
        optics[column] = [change(value) for value in optics[column]]

    return edit


def shuffle(optics: pd.DataFrame, particles: pd.DataFrame) -> None:
    particles["rlnImageName"] = np.random.default_rng(0).permutation(particles["rlnImageName"].to_numpy())


def flip_sign(optics: pd.DataFrame, particles: pd.DataFrame) -> None:
    particles["rlnPhaseShift"] = 180.0


FAULTS = {
    "clean": star_fault(lambda optics, particles: None),
    "sign": star_fault(flip_sign),
    "hand": structure_fault(lambda position: position * [1, 1, -1]),
    "inverted angles": star_fault(invert_angles),
    "shifts negated": star_fault(scale_shifts(-1.0)),
    "shifts pixels": star_fault(scale_shifts(1 / PIXEL_SIZE)),
    "U and V": star_fault(swap_defocus),
    "pixel size": star_fault(set_optics("rlnImagePixelSize", lambda size: 1.05 * size)),
    "off centre": structure_fault(lambda position: position + OFFSET),
    "voltage": star_fault(set_optics("rlnVoltage", lambda kv: 300.0)),
    "no match": star_fault(shuffle),
}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        Path(arguments[0]) if arguments else Path(tempfile.mkdtemp()),
        int(arguments[1]) if len(arguments) > 1 else 5,
        int(arguments[2]) if len(arguments) > 2 else 5000,
    )
