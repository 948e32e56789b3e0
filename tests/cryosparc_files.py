"""cryoSPARC datasets written with numpy alone, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

STACK_BOX = 8


def particle_columns(n_particles: int = 4) -> dict[str, np.ndarray]:
    """Fields of a valid dataset of particles in one stack (``stack.mrcs``), to be changed by a test."""
    generator = np.random.default_rng(7)

    def single(values) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype=np.float32), n_particles).copy()

    return {
        "uid": generator.permutation(np.arange(n_particles, dtype=np.uint64) + 9_000_000_000_000_000_001),
        "blob/path": np.full(n_particles, b">stack.mrcs"),
        "blob/idx": np.arange(n_particles, dtype=np.uint32),
        "blob/shape": np.full((n_particles, 2), STACK_BOX, dtype=np.uint32),
        "blob/psize_A": single(1.5),
        "blob/sign": single(1.0),
        "ctf/type": np.full(n_particles, b"spline"),
        "ctf/exp_group_id": np.full(n_particles, 3, dtype=np.uint32),
        "ctf/accel_kv": single(300.0),
        "ctf/cs_mm": single(2.7),
        "ctf/amp_contrast": single(0.1),
        "ctf/df1_A": generator.uniform(1e4, 2e4, n_particles).astype(np.float32),
        "ctf/df2_A": generator.uniform(1e4, 2e4, n_particles).astype(np.float32),
        "ctf/df_angle_rad": generator.uniform(-1.5, 1.5, n_particles).astype(np.float32),
        "ctf/phase_shift_rad": single(0.0),
        "ctf/scale": single(1.0),
        "ctf/shift_A": np.zeros((n_particles, 2), np.float32),
        "ctf/tilt_A": np.zeros((n_particles, 2), np.float32),
        "ctf/trefoil_A": np.zeros((n_particles, 2), np.float32),
        "ctf/tetra_A": np.zeros((n_particles, 4), np.float32),
        "ctf/anisomag": np.zeros((n_particles, 4), np.float32),
        "ctf/bfactor": single(0.0),
        "alignments2D/pose": single(0.3),
        "alignments3D/split": np.arange(n_particles, dtype=np.uint32) % 2,
        "alignments3D/shift": generator.normal(size=(n_particles, 2)).astype(np.float32),
        "alignments3D/pose": generator.normal(size=(n_particles, 3)).astype(np.float32),
        "alignments3D/psize_A": single(1.5),
    }


def write_cs(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write columns as the structured array of a ``.cs`` file."""
    columns = {name: np.asarray(values) for name, values in columns.items()}
    data = np.zeros(
        len(next(iter(columns.values()))), [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    )
    for name, values in columns.items():
        data[name] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.save(file, data)
    return path


def only(columns: dict[str, np.ndarray], *slots: str) -> dict[str, np.ndarray]:
    """``uid`` and the fields of some slots."""
    return {name: values for name, values in columns.items() if name == "uid" or name.partition("/")[0] in slots}
