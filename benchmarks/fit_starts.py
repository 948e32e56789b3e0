"""``fit`` from random rotations and shifts: Cα RMSD to the truth, hand, and time.

    python benchmarks/fit_starts.py STRUCTURE [--resolution 10] [--pixel-size 3] [--starts 20] [--noise 0] [--mirror]

The map is gemmi's electron density of all atoms, Gaussian of σ = 0.225 × resolution, on a grid whose box is twice the
structure; ``--noise`` is white, in units of the map's standard deviation. Prints a line per start and writes a row
of benchmarks/results/fit_starts.json. The bar is 1 Å in every start.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does

import gemmi
import mrcfile
import numpy as np
import torch
from scipy.spatial.transform import Rotation

import cryosphere
from cryosphere.errors import CryosphereError

RESULT = Path(__file__).parent / "results" / "fit_starts.json"
SHIFT = 40.0  # Å, standard deviation along each axis


def write_map(path: Path, structure: gemmi.Structure, resolution: float, pixel_size: float, noise: float) -> None:
    """Density of a structure about its own place, with the origin in the header."""
    positions = np.array([site.atom.pos.tolist() for site in structure[0].all()])
    middle = 0.5 * (positions.min(0) + positions.max(0))
    size = 2 * int(np.ceil(np.ptp(positions, axis=0).max() / pixel_size))
    origin = middle - (size // 2) * pixel_size
    boxed = structure[0].clone()
    boxed.transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(*(-origin).tolist())))
    for site in boxed.all():
        site.atom.b_iso, site.atom.aniso = 0.0, gemmi.SMat33f(0, 0, 0, 0, 0, 0)
    calculator = gemmi.DensityCalculatorE()
    calculator.grid.unit_cell = gemmi.UnitCell(*[size * pixel_size] * 3, 90, 90, 90)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(size, size, size)
    calculator.d_min, calculator.blur = 2 * pixel_size, 8 * np.pi**2 * (0.225 * resolution) ** 2
    calculator.add_model_density_to_grid(boxed)
    volume = calculator.grid.array.transpose(2, 1, 0).copy()
    volume += noise * volume.std() * np.random.default_rng(0).normal(size=volume.shape)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume.astype(np.float32))
        mrc.set_volume()
        mrc.voxel_size = pixel_size
        mrc.header.origin.x, mrc.header.origin.y, mrc.header.origin.z = origin


def anchors(structure: gemmi.Structure) -> np.ndarray:
    return np.array([site.atom.pos.tolist() for site in structure[0].all() if site.atom.name == "CA"])


def moved(structure: gemmi.Structure, seed: int) -> gemmi.Structure:
    """Turned and shifted at random."""
    generator = np.random.default_rng(seed)
    turn = Rotation.random(random_state=generator).as_matrix()
    copy = structure.clone()
    copy[0].transform_pos_and_adp(
        gemmi.Transform(gemmi.Mat33(turn.tolist()), gemmi.Vec3(*generator.normal(0, SHIFT, 3).tolist()))
    )
    return copy


def reflected(path: Path) -> None:
    """Mirror a map in z in place, without our own code."""
    with mrcfile.open(path, mode="r+") as mrc:
        flipped = mrc.data[::-1]
        mrc.set_data(np.ascontiguousarray(np.roll(flipped, 1, axis=0) if len(flipped) % 2 == 0 else flipped))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("structure", type=Path)
    parser.add_argument("--resolution", type=float, default=10.0)
    parser.add_argument("--pixel-size", type=float, default=3.0)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--mirror", action="store_true")
    arguments = parser.parse_args()
    structure = gemmi.read_structure(str(arguments.structure))
    structure.remove_waters()
    structure.remove_hydrogens()
    truth, rows = anchors(structure), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_map(folder / "map.mrc", structure, arguments.resolution, arguments.pixel_size, arguments.noise)
        if arguments.mirror:
            reflected(folder / "map.mrc")
        for seed in range(arguments.starts):
            moved(structure, seed).write_pdb(str(folder / "start.pdb"))
            rows.append(one_start(folder, truth, arguments.mirror))
            print(seed, rows[-1], flush=True)
    write_row(arguments, rows)


def one_start(folder: Path, truth: np.ndarray, mirrored: bool) -> dict:
    started, cpu = time.monotonic(), time.process_time()
    try:
        result = cryosphere.fit(folder / "start.pdb", folder / "map.mrc", folder / "placed.cif", overwrite=True)
    except CryosphereError as error:
        return {"rmsd": None, "hand": str(error)}
    placed = anchors(gemmi.read_structure(str(folder / "placed.cif")))
    # In a mirrored map the truth is where the mirror image of the mirrored density is: where it was.
    rmsd = float(np.sqrt(((placed - truth) ** 2).sum(1).mean()))
    return {
        "rmsd": round(rmsd, 3),
        "hand": result.fit.hand,
        "hand_significance": round(result.fit.hand_significance, 1),
        "correlation": round(result.fit.agreement.correlation, 4),
        "n_alternatives": result.fit.n_alternatives,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def write_row(arguments: argparse.Namespace, rows: list[dict]) -> None:
    """Add the summary of this setting to the results, replacing an earlier one."""
    key = f"{arguments.structure.stem} {arguments.resolution:g} Å"
    key += (f" noise {arguments.noise:g}" if arguments.noise else "") + (" mirrored" if arguments.mirror else "")
    found = [row["rmsd"] for row in rows if row["rmsd"] is not None]
    hands = [row["hand"] for row in rows]
    table = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    table[key] = {
        "starts": len(rows),
        "within_1_A": sum(rmsd <= 1 for rmsd in found),
        "rmsd_worst": max(found, default=None),
        "rmsd_median": float(np.median(found)) if found else None,
        "hands": {hand: hands.count(hand) for hand in dict.fromkeys(hands)},
        "threads": torch.get_num_threads(),
        "cpu_seconds_mean": round(float(np.mean([row.get("cpu_seconds", 0.0) for row in rows])), 1),
        "seconds_worst": max(row.get("seconds", 0.0) for row in rows),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    print(key, table[key])


if __name__ == "__main__":
    main()
