"""Maps of atoms by gemmi's density calculator, written with mrcfile; structures moved by gemmi."""

from __future__ import annotations

from pathlib import Path

import gemmi
import mrcfile
import numpy as np
from scipy.spatial.transform import Rotation


def gaussian_map(models: list[gemmi.Model], resolution: float, pixel_size: float, size: int, origin) -> np.ndarray:
    """Electron density of all atoms of some models, Gaussian of σ = 0.225 resolution, as [z, y, x]."""
    calculator = gemmi.DensityCalculatorE()
    calculator.grid.unit_cell = gemmi.UnitCell(*[size * pixel_size] * 3, 90, 90, 90)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(size, size, size)
    calculator.d_min, calculator.blur = 2 * pixel_size, 8 * np.pi**2 * (0.225 * resolution) ** 2
    for model in models:
        boxed = model.clone()
        boxed.transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(*(-np.asarray(origin)).tolist())))
        for site in boxed.all():
            site.atom.b_iso = 0.0
        calculator.add_model_density_to_grid(boxed)
    return calculator.grid.array.transpose(2, 1, 0).copy()


def write_mrc(path: Path, volume: np.ndarray, pixel_size: float, origin=(0.0, 0.0, 0.0)) -> Path:
    """A map with its place in the header's origin fields."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        mrc.set_volume()
        mrc.voxel_size = pixel_size
        mrc.header.origin.x, mrc.header.origin.y, mrc.header.origin.z = origin
    return path


def moved_structure(structure: gemmi.Structure, seed: int, shift=(30.0, -50.0, 20.0)) -> gemmi.Structure:
    """Turned at random and shifted."""
    turn = Rotation.random(random_state=np.random.default_rng(seed)).as_matrix()
    copy = structure.clone()
    copy[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(turn.tolist()), gemmi.Vec3(*map(float, shift))))
    return copy


def calpha(structure: gemmi.Structure | Path) -> np.ndarray:
    """Cα positions of the first model."""
    if not isinstance(structure, gemmi.Structure):
        structure = gemmi.read_structure(str(structure))
    return np.array([site.atom.pos.tolist() for site in structure[0].all() if site.atom.name == "CA"])


def rmsd(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square distance without superposition."""
    return float(np.sqrt(((first - second) ** 2).sum(1).mean()))
