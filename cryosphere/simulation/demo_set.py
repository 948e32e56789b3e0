"""The particle set of the demo: adenylate kinase on its way from closed (PDB 1AKE) to open (4AKE)."""

from __future__ import annotations

from pathlib import Path

from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.particles import Progress, SimulationSummary, simulate
from cryosphere.simulation.paths import read_path
from cryosphere.simulation.shipped_data import shipped_path

N_STATES = 50
BOX_SIZE, PIXEL_SIZE, SNR = 64, 1.5, 0.05


def demo_conformations() -> Conformations:
    """States between the closed and the open structure that come with the package, all atoms."""
    return read_path(shipped_path("adk/closed.cif"), shipped_path("adk/open.cif"), N_STATES, align="none")


def simulate_demo(
    folder: Path, *, seed: int = 0, n_particles: int = 5000, n_volumes: int = N_STATES, progress: Progress | None = None
) -> SimulationSummary:
    """Write the particle set; the same seed and number of particles give the same images.

    Parameters
    ----------
    folder : Path
        Made by this call, as :func:`~cryosphere.simulation.particles.simulate` does.
    seed : int
    n_particles : int
    n_volumes : int
        All-atom volumes of the truth.
    progress : callable, optional
        As of ``simulate``.
    """
    settings = SimulationSettings(
        n_particles=n_particles, box_size=BOX_SIZE, pixel_size=PIXEL_SIZE, snr=SNR, seed=seed, n_volumes=n_volumes
    )
    return simulate(demo_conformations(), settings, folder, progress=progress)
