"""The whole method on adenylate kinase: simulate, train, analyze, export, evaluate, and say what happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryosphere.analysis.analyze import analyze
from cryosphere.config_files import read_config
from cryosphere.errors import RunError
from cryosphere.evaluation.evaluate import evaluate
from cryosphere.evaluation.scores import Scores
from cryosphere.export.coordinates import export_coordinates
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.selection import select_traversal
from cryosphere.export.volumes import export_volumes
from cryosphere.io.atomic import atomic_output
from cryosphere.pipelines.checked_training import train
from cryosphere.report.write import write_report
from cryosphere.runs.run import Run
from cryosphere.simulation.demo_set import BOX_SIZE, SNR, simulate_demo
from cryosphere.simulation.particles import SimulationSummary
from cryosphere.simulation.progress import ProgressBars
from cryosphere.training.initialise import write_template

MARKER = "cryosphere-demo.txt"
N_CONFORMATIONS = 10


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: its folder, the run, the scores, and ten lines that tell it."""

    folder: Path
    run: Run
    scores: Scores
    lines: tuple[str, ...]


def demo(
    folder: Path | str,
    *,
    seed: int = 0,
    n_particles: int = 5000,
    epochs: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda sentence: None,
) -> DemoResult:
    """Recover the closed → open motion of adenylate kinase from simulated images.

    Images come from all atoms of a path between PDB 1AKE and 4AKE (box 64 px, 1.5 Å/px, SNR 0.05); the nominal
    structure is the closed end; the model knows nothing else.

    Parameters
    ----------
    folder : path
        Made by this call: ``particles/``, ``config.yaml``, ``run/``, ``ensemble.cif``, ``coordinates.npy``,
        ``volumes/`` and ``demo.png``.
    seed : int
        Of the simulation and the training.
    n_particles : int
    epochs : int, optional
        ``training.epochs``. The defaults take a few minutes on two CPU cores.
    overwrite : bool
        Whether the folder of an earlier demo may be replaced.
    show_progress : bool
        Progress bars on stderr.
    say : callable
        Receives each sentence meant for the user while it runs.
    """
    folder = Path(folder)
    _make_folder(folder, overwrite)
    say("1/5 simulate: a path from closed (PDB 1AKE) to open (4AKE), images from all atoms")
    simulated = _simulate(folder / "particles", seed, n_particles, show_progress)
    say("2/5 train")
    particles, nominal = simulated.folder / "particles.star", simulated.folder / "nominal.cif"
    settings = {("training", "epochs"): epochs, ("training", "seed"): seed}
    write_template(particles, nominal, None, folder / "config.yaml", settings=settings)
    config = read_config(folder / "config.yaml")
    run = train(config, folder / "run", show_progress=show_progress, say=say)
    say("3/5 analyze, and a page about it")
    analyze(run, show_progress=show_progress)
    write_report(run, show_progress=show_progress)
    say("4/5 export: structures, coordinates, volumes")
    _export(folder, run, show_progress)
    say("5/5 evaluate against the known truth")
    scores = evaluate(run, simulated.folder / "truth", show_progress=show_progress)
    from cryosphere.pipelines.demo_picture import draw

    draw(folder / "demo.png", run, simulated.folder / "truth")
    return DemoResult(folder, run, scores, _tell(folder, simulated, run, scores))


def _make_folder(folder: Path, overwrite: bool) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise RunError(f"{folder}: exists; pass --overwrite to replace an earlier demo, or another -o.")
        if not (folder / MARKER).exists():
            raise RunError(f"{folder}: exists and is not a demo's folder, so it is not overwritten; choose another -o.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder / MARKER) as temporary:
        temporary.write_text("Made by `cryosphere demo`, which may replace this folder.\n")


def _simulate(folder: Path, seed: int, n_particles: int, show_progress: bool) -> SimulationSummary:
    with ProgressBars(show_progress) as progress:
        return simulate_demo(folder, seed=seed, n_particles=n_particles, progress=progress)


def _export(folder: Path, run: Run, show_progress: bool) -> None:
    chosen = select_traversal(run, 1, N_CONFORMATIONS)
    export_ensemble(run, chosen, folder / "ensemble.cif", show_progress=show_progress)
    export_volumes(run, chosen, folder / "volumes", show_progress=show_progress)
    export_coordinates(run, folder / "coordinates.npy", show_progress=show_progress)


def _tell(folder: Path, simulated: SimulationSummary, run: Run, scores: Scores) -> tuple[str, ...]:
    """Ten lines: the question, the answer, how sure, and where to look."""
    rmsd, geometry = scores.rmsd, scores.geometry
    sizes = np.bincount(run.segment_weights().argmax(1))
    return (
        f"Adenylate kinase, closed → open: {simulated.n_particles} images of {BOX_SIZE} px at SNR {SNR}, "
        f"ends {simulated.end_to_end_rmsd:.1f} Å apart.",
        f"Start: the closed structure alone, {rmsd['nominal']:.2f} Å (mean Cα RMSD) from the truth of each image.",
        f"Recovered each image's structure to {rmsd['mean']:.2f} Å (median {rmsd['median']:.2f}); "
        f"the best single structure is at {rmsd['best_single']:.2f} Å: {rmsd['ratio_to_best_single']:.2f} of it.",
        f"Segments in space: {len(sizes)}, of {', '.join(map(str, sorted(sizes, reverse=True)))} residues.",
        f"Geometry: {geometry['changed_bonds_percent']:.1f} % of consecutive Cα distances changed by over 0.4 Å, "
        f"{geometry['clashes_per_1000']:.1f} clashes per 1000 residues.",
        f"Mean FSC area {scores.fsc_auc['mean']:.3f}; the nominal structure has {scores.fsc_auc['nominal']:.3f}, "
        f"the most this box allows is {scores.fsc_auc['maximum']:.3f}.",
        f"Picture of it all:         {folder / 'demo.png'}",
        f"A page about the run:      {run.layout.report} (plots and tables: {run.layout.analysis})",
        f"{N_CONFORMATIONS} structures, all atoms:  {folder / 'ensemble.cif'} (maps of them in {folder / 'volumes'})",
        f"Your own data:             cryosphere init particles.star model.cif, then train, analyze, export "
        f"(as in {folder / 'config.yaml'})",
    )
