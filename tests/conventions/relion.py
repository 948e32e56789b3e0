"""RELION as an oracle: run its programs where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest


def require(program: str) -> None:
    """Skip a test, with the reason, where a RELION program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package relion)")


def run(*arguments: str, cwd: Path) -> None:
    """Run a RELION program quietly; its output is shown if it fails."""
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def write_map(path: Path, volume: np.ndarray, pixel_size: float) -> None:
    """Write a map with mrcfile alone."""
    with mrcfile.new(path) as file:
        file.set_data(volume.astype(np.float32))
        file.voxel_size = pixel_size


def read_stack(path: Path) -> np.ndarray:
    """Read images with mrcfile alone."""
    with mrcfile.open(path) as file:
        return file.data.reshape(-1, *file.data.shape[-2:]).astype(np.float64)


PARTICLE_COLUMNS = (
    "rlnAngleRot rlnAngleTilt rlnAnglePsi rlnOriginXAngst rlnOriginYAngst rlnDefocusU rlnDefocusV rlnDefocusAngle "
    "rlnPhaseShift rlnCtfBfactor rlnCtfScalefactor rlnOpticsGroup rlnImageName"
).split()
OPTICS_COLUMNS = (
    "rlnOpticsGroupName rlnOpticsGroup rlnVoltage rlnSphericalAberration rlnAmplitudeContrast rlnImagePixelSize "
    "rlnImageSize rlnImageDimensionality"
).split()


def write_star(
    path: Path, optics: list[list], particles: list[list], extra_optics_columns: tuple[str, ...] = ()
) -> None:
    """Write a RELION 3.1 STAR file by hand (rows in the order of the column tuples above)."""
    lines = ["# version 30001", ""]
    optics_columns = [*OPTICS_COLUMNS, *extra_optics_columns]
    for name, columns, rows in (("optics", optics_columns, optics), ("particles", PARTICLE_COLUMNS, particles)):
        lines += [f"data_{name}", "", "loop_"]
        lines += [f"_{column} #{number}" for number, column in enumerate(columns, start=1)]
        lines += [" ".join(map(str, row)) for row in rows] + ["", ""]
    path.write_text("\n".join(lines))


def random_particles(rng: np.random.Generator, count: int, shift: float = 4.0) -> list[list]:
    """Rows with random poses, shifts (Å), strong astigmatism and a phase plate in every second optics group."""
    rows = []
    for number in range(count):
        tilt = np.degrees(np.arccos(rng.uniform(-1, 1)))
        rot, psi, angle = rng.uniform(-180, 180), rng.uniform(-180, 180), rng.uniform(0, 180)
        u, v = rng.uniform(8000, 20000, 2)
        x, y = rng.uniform(-shift, shift, 2)
        group = number % 2 + 1
        phase, b_factor, scale = 90.0 * (group == 2), rng.uniform(0, 60), rng.uniform(0.7, 1.2)
        image = f"{number + 1:06d}@images.mrcs"
        rows.append([rot, tilt, psi, x, y, u, v, angle, phase, b_factor, scale, group, image])
    return rows


def optics_groups(box_size: int, pixel_size: float) -> list[list]:
    """Two groups: 300 kV / 2.7 mm / 0.1 and 200 kV / 1.4 mm / 0.07."""
    return [
        ["one", 1, 300.0, 2.7, 0.1, pixel_size, box_size, 2],
        ["two", 2, 200.0, 1.4, 0.07, pixel_size, box_size, 2],
    ]


def compare_below_nyquist(ours: np.ndarray, theirs: np.ndarray, limit: float = 0.9) -> tuple[float, float, np.ndarray]:
    """Correlation, scale (theirs ≈ scale · ours), correlation of every shell; below ``limit`` Nyquist, without DC."""
    box_size = ours.shape[-1]
    frequency = np.fft.fftfreq(box_size)
    radius = np.hypot(frequency[:, None], frequency[None, :]) * box_size
    a, b = np.fft.fft2(ours), np.fft.fft2(theirs)
    shells = np.round(radius).astype(int)
    inside = (radius > 0.5) & (radius < limit * box_size / 2)

    def products(where):
        x, y = a[:, where], b[:, where]
        return np.real(np.vdot(x, y)), np.vdot(x, x).real, np.vdot(y, y).real

    cross, power_a, power_b = products(inside)
    per_shell = []
    for shell in range(1, int(limit * box_size / 2)):
        c, pa, pb = products(shells == shell)
        per_shell.append(c / np.sqrt(pa * pb))
    return cross / np.sqrt(power_a * power_b), cross / power_a, np.array(per_shell)


def shell_correlations(first: np.ndarray, second: np.ndarray, limit: float = 0.8) -> np.ndarray:
    """Fourier shell correlation from shell 1 on, up to ``limit`` Nyquist."""
    size = len(first)
    k = np.fft.fftfreq(size, 1 / size)
    shells = np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int)
    a, b = np.fft.fftn(first), np.fft.fftn(second)
    curve = []
    for shell in range(1, int(limit * size / 2) + 1):
        x, y = a[shells == shell], b[shells == shell]
        curve.append(np.real(np.vdot(x, y)) / np.sqrt(np.vdot(x, x).real * np.vdot(y, y).real))
    return np.array(curve)
