"""The run that comes with the package: copied into the user's cache folder, its images made there; no Qt, no napari."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryosphere.errors import InputError, RunError
from cryosphere.inference.likelihoods import log_likelihoods
from cryosphere.io.folders import atomic_folder
from cryosphere.io.structures import read_structure
from cryosphere.records import Structure
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.run import Run
from cryosphere.runs.tables import load_table, save_table
from cryosphere.simulation.demo_set import simulate_demo
from cryosphere.simulation.particles import Progress
from cryosphere.simulation.shipped_data import shipped_path

# Of the particle set that the shipped run was trained on (data/README.md).
SEED = 0
_SHIPPED = "demo_run"
_PARTICLES, _STAR, _STACK = "particles", "particles.star", "particles.mrcs"
# Images whose log-likelihoods are computed again, and how far (nats) they may be from the stored ones.
_CHECKED, _NATS = 50, 0.05


def cache_folder() -> Path:
    """The package's folder among the user's caches.

    ``$XDG_CACHE_HOME/cryosphere`` where that is set; else ``%LOCALAPPDATA%\\cryosphere`` (Windows),
    ``~/Library/Caches/cryosphere`` (macOS) or ``~/.cache/cryosphere``.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "cryosphere"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "cryosphere"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "cryosphere"


def demo_run(cache: Path | None = None) -> Path:
    """Run folder of the demo in the cache, copied there where it is not yet; its images may still be missing.

    Parameters
    ----------
    cache : Path, optional
        By default :func:`cache_folder`.

    Raises
    ------
    InputError
        The installation lacks the run, or the cache cannot be written to.
    """
    shipped = RunLayout(shipped_path(f"{_SHIPPED}/{RunLayout(Path()).config.name}").parent)
    edition = hashlib.sha256(shipped.posterior.read_bytes()).hexdigest()[:8]
    folder = (cache_folder() if cache is None else cache) / f"adenylate-kinase-{edition}"
    layout = RunLayout(folder / "run")
    if not layout.config.is_file():
        with atomic_folder(folder, marker=f"run/{layout.config.name}") as temporary:
            shutil.copytree(shipped.folder, temporary / "run")
            particles = folder.resolve() / _PARTICLES
            table = replace(load_table(shipped.particles), source=particles / _STAR, stack_paths=(particles / _STACK,))
            save_table(RunLayout(temporary / "run").particles, table)
    return layout.folder


def has_images(run_folder: Path) -> bool:
    """Whether the images of the demo's run are there."""
    return (run_folder.parent / _PARTICLES / _STACK).is_file()


def make_images(run_folder: Path, progress: Progress | None = None) -> None:
    """Simulate the images that the demo's run was trained on, beside its folder.

    Parameters
    ----------
    run_folder : Path
        As :func:`demo_run` gives it.
    progress : callable, optional
        Called with (what, number of further items done, total); what it raises ends the simulation.

    Raises
    ------
    RunError
        The images are others than those of training, as the random numbers of this PyTorch are; none are left then.
    """
    run = Run.load(run_folder)
    particles = run_folder.parent / _PARTICLES
    simulate_demo(particles, seed=SEED, n_particles=run.table.n_particles, n_volumes=0, progress=progress)
    off = likelihood_difference(run)
    if off > _NATS:
        shutil.rmtree(particles)
        raise RunError(
            f"The demo's particle images cannot be shown: this PyTorch draws other random numbers than the one that "
            f"made them (log-likelihoods differ by up to {off:.3g} nats); the rest works."
        )


def likelihood_difference(run: Run) -> float:
    """Largest difference (nats) of the images' log-likelihoods from those stored, over 50 images and all nodes."""
    rows = np.unique(np.linspace(0, run.table.n_particles - 1, _CHECKED).astype(int))
    nodes = run.posterior.nodes
    model = run.model
    sites = model.decode_sites(model.nominal_positions.new_tensor(nodes)).detach()
    found = log_likelihoods(model, run.open_images(), rows, sites, model.level()).numpy()
    return float(np.abs(found - run.posterior.log_likelihood[rows]).max())


def known_open_structure(run_folder: Path) -> Structure:
    """The open structure (PDB 4AKE), the known other end of the motion, in the frame of the run's nominal structure.

    Raises
    ------
    InputError
        As ``io.structures.read_structure``.
    """
    nominal = read_structure(next(RunLayout(run_folder).structure.iterdir()))
    closed, opened = (read_structure(shipped_path(f"adk/{name}.cif")) for name in ("closed", "open"))
    if len(nominal.residue_positions) != len(closed.residue_positions):
        raise InputError(f"{run_folder}: its structure is not that of adenylate kinase; delete the folder.")
    return opened.translated((nominal.residue_positions - closed.residue_positions).mean(0))
