"""A simulated closed → open transition of adenylate kinase (MDAnalysisTests), from trajectory file to structures."""

from __future__ import annotations

import numpy as np

from cryosphere.evaluation.evaluate import evaluate
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.conformations import read_conformations
from cryosphere.simulation.particles import simulate
from cryosphere.training.train import train


def test_a_transition_from_molecular_dynamics_is_recovered(adk_trajectory, tmp_path):
    trajectory, topology = adk_trajectory
    conformations = read_conformations(trajectory, topology)
    assert conformations.n_states == 98
    settings = SimulationSettings(n_particles=1500, box_size=48, pixel_size=2.0, snr=0.2, seed=1)
    simulate(conformations, settings, tmp_path / "set")
    config = {
        "particles": {"file": str(tmp_path / "set" / "particles.star")},
        "structure": {"file": str(tmp_path / "set" / "nominal.cif")},
        "training": {"epochs": 20, "batch_size": 32, "learning_rate": 2e-3, "device": "cpu"},
        "inference": {"n_conformations": 32},
        "output": {"tensorboard": False},
    }
    run = train(config, tmp_path / "run", show_progress=False)
    scores = evaluate(run, tmp_path / "set" / "truth")
    assert scores.n_residues == 214
    print(scores.table())
    assert scores.rmsd["ratio_to_best_single"] < 0.8
    assert np.isfinite(scores.fsc_auc["mean"])
