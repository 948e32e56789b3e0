"""The Bayes limit against full images of the simulator, pixel by pixel, and against what a posterior must obey."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.evaluation import bayes_limit as module
from cryosphere.evaluation.bayes_limit import bayes_limit
from cryosphere.io.mrc import read_images
from cryosphere.io.star import read_particles
from cryosphere.io.structures import read_structure
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.hinges import Hinge, hinge_conformations
from cryosphere.simulation.imager import Imager
from cryosphere.simulation.matching import atoms_of_residues, take_residues
from cryosphere.simulation.particles import prepare_conformations, simulate
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.simulation.truth import read_truth

N_STATES = 9


@pytest.fixture(scope="module")
def states():
    """Nine states of the last 40 residues of adenylate kinase, ten of which turn."""
    structure = read_structure(shipped_path("adk/closed.cif"))
    rows = np.arange(174, 214)
    part = take_residues(structure, rows, atoms_of_residues(structure, rows))
    hinge = Hinge("A:205-214", (0.0, 1.6), np.array([0.0, 0, 1]), part.residue_positions[29])
    return hinge_conformations(part, [hinge], N_STATES)


def _simulate(states, folder, **values):
    defaults = {"n_particles": 60, "box_size": 32, "pixel_size": 2.5, "snr": 0.02, "seed": 3}
    settings = SimulationSettings(**{**defaults, **values})
    simulate(states, settings, folder)
    return settings


def _direct_weights(states, settings, folder, corners):
    """Posterior from the simulator's own exact images of every state, by a sum over the full Fourier plane."""
    truth, table = read_truth(folder / "truth"), read_particles(folder / "particles.star")
    if truth.rotmat is not None:
        table = replace(table, rotmat=truth.rotmat, shift=truth.shift)
    rows, box = np.arange(table.n_particles), settings.box_size
    imager = Imager(prepare_conformations(states), settings)
    contrast = np.ones(len(rows)) if truth.contrast is None else truth.contrast
    scale = truth.info["signal_scale"] * contrast[:, None, None]
    noisy = np.fft.fft2(read_images(table.stack_paths, table.stack_index, table.image_index).astype(np.float64))
    k = np.fft.fftfreq(box, 1 / box)
    radius = np.hypot(k[:, None], k)
    used = (np.abs(k) < box / 2)[:, None] & (np.abs(k) < box / 2) if corners else radius <= box // 2 - 0.5
    spectrum = truth.info.get("noise_spectrum", np.ones(box // 2 + 1))
    power = np.interp(radius, np.arange(box // 2 + 1), spectrum)
    weight = (used & (radius > 0)) / power / box**2
    log_likelihood = np.empty((len(rows), states.n_states))
    for state in range(states.n_states):
        clean = np.fft.fft2(scale * imager.images(table, np.full(len(rows), state), rows).numpy())
        log_likelihood[:, state] = -0.5 * (weight * np.abs(noisy - clean) ** 2).sum((1, 2))
    prior = np.ones(states.n_states) if settings.populations is None else np.array(settings.populations)
    posterior = prior * np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    return posterior / posterior.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("corners", "values"),
    [
        (False, {}),
        (True, {}),
        (False, {"box_size": 33, "forward": "residues", "contrast_spread": 0.4}),
        (
            True,
            {
                "noise": "coloured",
                "populations": tuple(np.linspace(1, 3, N_STATES)),
                "rotation_error_deg": 8.0,
                "shift_error": 2.0,
            },
        ),
    ],
)
def test_weights_are_those_of_the_simulators_own_images(states, tmp_path, corners, values):
    settings = _simulate(states, tmp_path / "set", **{"snr": 0.1, **values})
    expected = _direct_weights(states, settings, tmp_path / "set", corners)
    limit = bayes_limit(tmp_path / "set", states, corners=corners)
    # Slices are interpolated, which errs by 2 % of the signal: no more than so much of a probability.
    np.testing.assert_allclose(limit.weights, expected, atol=0.03)
    assert 0.2 < expected.max(1).mean() < 0.9
    truth = read_truth(tmp_path / "set" / "truth")
    mean = np.einsum("is,srx->irx", limit.weights, truth.coordinates.astype(float))
    error = np.sqrt(((mean - truth.coordinates[truth.state]) ** 2).sum(2).mean(1))
    np.testing.assert_allclose(limit.rmsd, error, rtol=1e-6)
    assert limit.mean == pytest.approx(error.mean())


def test_the_posterior_is_calibrated_and_better_than_any_single_structure(states, tmp_path):
    """If weights are right, the weight of the true state is on average the sum of their squares."""
    _simulate(states, tmp_path / "set", n_particles=1500, forward="residues", box_size=24, pixel_size=3.5)
    limit = bayes_limit(tmp_path / "set", states, n_images=1500)
    truth = read_truth(tmp_path / "set" / "truth")
    difference = limit.weights[np.arange(1500), truth.state] - (limit.weights**2).sum(1)
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(1500)
    single = truth.coordinates.mean(0)
    squares = ((truth.coordinates - single) ** 2).sum(2).mean(1)[truth.state]
    assert (limit.rmsd**2).mean() < 0.9 * squares.mean()


def test_chosen_images_and_chunks_change_nothing(states, tmp_path, monkeypatch):
    _simulate(states, tmp_path / "set")
    whole = bayes_limit(tmp_path / "set", states)
    seen = []
    monkeypatch.setattr(module, "_TABLE_NUMBERS", 1)
    monkeypatch.setattr(module, "_SLICE_NUMBERS", 30_000)
    monkeypatch.setattr(module, "_STRUCTURE_NUMBERS", 500)
    some = bayes_limit(tmp_path / "set", states, n_images=7, progress=lambda *call: seen.append(call))
    assert some.rows.tolist() == [0, 10, 20, 30, 39, 49, 59]
    np.testing.assert_allclose(some.weights, whole.weights[some.rows], atol=1e-5)
    np.testing.assert_allclose(some.rmsd, whole.rmsd[some.rows], atol=1e-4)
    assert seen == [("Bayes limit", 1, N_STATES)] * N_STATES


def test_other_conformations_and_other_folders_are_refused(states, tmp_path):
    _simulate(states, tmp_path / "set", n_particles=4)
    fewer = replace(states, residue_positions=states.residue_positions[1:], atom_positions=states.atom_positions[1:])
    with pytest.raises(InputError, match="9 states of 40 residues, the conformations given are 8 of 40"):
        bayes_limit(tmp_path / "set", fewer)
    with pytest.raises(InputError, match=r"Å from the states of .*centred or not"):
        bayes_limit(tmp_path / "set", states, centre=False)
    info = tmp_path / "set" / "truth" / "info.json"
    content = json.loads(info.read_text())
    del content["pixel_size"]
    info.write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not say its pixel_size"):
        bayes_limit(tmp_path / "set", states)
