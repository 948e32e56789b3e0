"""Small particle sets for tests: two helical arms about a hinge, one of which swings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from cryosphere.records import Atoms, Structure
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.particles import simulate

ARM = 20
GAP = 3.2
# In place of constants of the program, for sets of a few hundred small images.
SHORT_TRAINING = {
    "cryosphere.training.stages._COARSE_VISITS": 512,
    "cryosphere.training.stages._STATIC_STEPS": 20,
    "cryosphere.training.stages._FINE_VISITS": 1000,
    "cryosphere.training.stages._MOST_ROUNDS": 2,
    "cryosphere.model.vae._USUAL_NODES": {1: 16, 2: 32},
    "cryosphere.model.vae._MANY_NODES": 32,
    "cryosphere.training.evidence._NODES": {1: 64, 2: 96},
}


def two_arms() -> Structure:
    """Cα trace of two 20-residue helices that leave the origin at a right angle, 60 electrons per residue."""
    turn, rise, radius = np.radians(100.0), 1.5, 2.3
    step = np.arange(ARM)
    helix = np.column_stack([radius * np.cos(turn * step), radius * np.sin(turn * step), GAP + rise * step])
    first = helix[::-1] @ Rotation.from_euler("y", 90, degrees=True).as_matrix().T
    positions = np.concatenate([first, helix])
    n = len(positions)
    atoms = Atoms(positions.copy(), np.full(n, "C"), np.full(n, "CA"), np.full(n, 30.0), np.arange(n))
    return Structure(
        source="arms.cif",
        chain_ids=np.full(n, "A"),
        residue_numbers=np.arange(1, n + 1),
        insertion_codes=np.full(n, ""),
        residue_names=np.full(n, "GLN"),
        kinds=np.full(n, "protein"),
        residue_positions=positions,
        amplitudes=np.full(n, 68.0),
        sigmas=np.full(n, 2.0),
        bonded=np.ones(n - 1, dtype=bool),
        atoms=atoms,
        frame_shift=np.zeros(3),
    )


def swinging_arm(n_states: int = 12, degrees: float = 40.0, axis: str = "x") -> Conformations:
    """The second arm swings about an axis through the hinge: x, out of the arms' plane, or -y, away from the other."""
    structure = two_arms()
    states = np.repeat(structure.residue_positions[None], n_states, axis=0)
    for state, angle in enumerate(np.linspace(0, degrees, n_states)):
        swing = Rotation.from_euler(axis[-1], -angle if axis.startswith("-") else angle, degrees=True).as_matrix()
        states[state, ARM:] = states[state, ARM:] @ swing.T
    bodies = (np.arange(ARM), np.arange(ARM, 2 * ARM))
    return Conformations(structure, states, states.copy(), "the second arm swings", bodies)


def write_particle_set(
    folder: Path, n_particles: int, *, box_size: int = 24, snr: float = 1.0, seed: int = 0, states=None, **more
):
    """Simulate images of the swinging arm, or other states, with the training renderer's Gaussians; give the folder."""
    settings = SimulationSettings(
        n_particles=n_particles,
        box_size=box_size,
        pixel_size=4.0,
        snr=snr,
        seed=seed,
        forward="residues",
        **{"shift_range": 4.0, "defocus_range": (4000.0, 9000.0), **more},
    )
    simulate(swinging_arm() if states is None else states, settings, folder)
    return folder


def configuration(folder: Path, **sections) -> dict:
    """A configuration for such a set, small enough to train in seconds, with the objective of the paper (elbo)."""
    values = {
        "segments": {"method": "chain", "n_segments": 2, "prior_std": 3.0},
        "model": {"latent_dim": 1, "encoder": "pixels", "encoder_layers": [32], "decoder_layers": [16]},
        "loss": {"objective": "elbo"},
        "training": {"epochs": 2, "batch_size": 32, "held_out": 0.1, "device": "cpu"},
        "inference": {"n_conformations": 16},
    }
    return _with_inputs(folder, values, sections)


def marginal_configuration(folder: Path, **sections) -> dict:
    """A configuration for such a set with the usual objective, encoder and segments, and small networks."""
    values = {
        "model": {"encoder_layers": [32], "decoder_layers": [16]},
        "training": {"epochs": 2, "held_out": 0.2, "device": "cpu"},
    }
    return _with_inputs(folder, values, sections)


def _with_inputs(folder: Path, values: dict, sections: dict) -> dict:
    inputs = {
        "particles": {"file": str(folder / "particles.star")},
        "structure": {"file": str(folder / "nominal.cif"), "origin": "center", "gaussian_at": "calpha"},
        "output": {"tensorboard": False},
    }
    values = {**inputs, **values}
    return {name: {**values.get(name, {}), **sections.get(name, {})} for name in {**values, **sections}}
