"""Scores of runs whose truth is made from the run itself, so that the right scores are known."""

import json
import shutil

import numpy as np
import pytest
import torch

from cryosphere.errors import InputError
from cryosphere.evaluation.evaluate import evaluate
from cryosphere.io.mrc import write_volume
from cryosphere.physics import gaussians
from cryosphere.simulation.truth import write_truth
from tests.run_factory import BOX_SIZE, PIXEL_SIZE, make_run

N_STATES, N_PARTICLES = 6, 48
BODIES = [list(range(20)), list(range(20, 40))]


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    """A run that knows every particle's state exactly, and the truth folder."""
    folder = tmp_path_factory.mktemp("perfect")
    latent = np.linspace(-1.5, 1.5, N_STATES)[:, None]
    state = np.arange(N_PARTICLES) % N_STATES
    run = make_run(folder / "run", latent_dim=1, n_particles=N_PARTICLES, latent=latent[state], spread=0.0)
    write_truth(folder / "truth", run.decode(latent), state, {"snr": 1.0, "moved": "all", "bodies": BODIES})
    return run, folder / "truth"


@pytest.fixture
def copied(perfect, tmp_path):
    """The same truth folder, to be spoiled."""
    run, truth = perfect
    shutil.copytree(truth, tmp_path / "truth")
    return run, tmp_path / "truth"


def test_a_perfect_run_has_perfect_scores(perfect):
    run, truth = perfect
    scores = evaluate(run, truth, overwrite=True, n_volumes=8)
    assert scores.rmsd["mean"] < 1e-3
    # Areas to 12/24 - 1/24 with 24 voxels.
    assert scores.fsc_auc["maximum"] == pytest.approx(11 / 24)
    assert scores.fsc_auc["mean"] == pytest.approx(11 / 24, abs=1e-4)
    assert scores.fsc_auc["n_images"] == 8
    assert "no volumes" in scores.fsc_auc["truth_volumes"]
    assert scores.ensemble["sac"] < 1e-2
    assert scores.ensemble["coverage"] < 1e-2
    assert scores.ensemble["lfc"] < 1e-3
    assert scores.populations["kl"] == pytest.approx(0, abs=1e-3)
    assert scores.populations["earth_movers_distance"] == pytest.approx(0, abs=1e-6)
    assert scores.geometry["changed_bonds_percent"] == pytest.approx(
        scores.geometry["changed_bonds_percent_truth"], abs=0.5
    )
    assert scores.geometry["changed_bonds_percent_before"] == 0
    assert scores.notes == ()


def test_nominal_and_best_single_structure_are_scored_beside(perfect):
    run, truth = perfect
    scores = evaluate(run, truth, overwrite=True, n_volumes=8)
    coordinates = np.load(truth / "coordinates.npy").astype(np.float64)
    state = np.load(truth / "state.npy")

    def mean_rmsd(structure):
        return np.mean([np.sqrt(((structure - coordinates[s]) ** 2).sum(1).mean()) for s in state])

    assert scores.rmsd["nominal"] == pytest.approx(mean_rmsd(run.structure.residue_positions))
    assert scores.rmsd["best_single"] == pytest.approx(mean_rmsd(coordinates[state].mean(0)))
    assert scores.rmsd["best_single"] < scores.rmsd["nominal"]
    assert scores.fsc_auc["best_single"] < scores.fsc_auc["mean"] - 0.005


def test_a_displaced_run_is_off_by_the_displacement(copied):
    run, truth = copied
    coordinates = np.load(truth / "coordinates.npy")
    np.save(truth / "coordinates.npy", coordinates + np.array([3, 0, 4], np.float32))
    scores = evaluate(run, truth, overwrite=True, n_volumes=8)
    assert scores.rmsd["mean"] == pytest.approx(5, abs=1e-3)
    assert scores.rmsd["median"] == pytest.approx(5, abs=1e-3)
    assert scores.ensemble["lfc"] < 1e-3
    assert scores.fsc_auc["mean"] < 0.8 * scores.fsc_auc["maximum"]


def test_a_truth_in_another_frame_is_pointed_out(copied):
    run, truth = copied
    np.save(truth / "coordinates.npy", np.load(truth / "coordinates.npy") + np.float32(48))
    scores = evaluate(run, truth, overwrite=True, n_volumes=8)
    assert "structure.origin" in scores.notes[0]
    assert "structure.origin" in scores.table()


def test_swapped_states_are_scored_by_image_but_not_by_ensemble(copied):
    run, truth = copied
    state = np.load(truth / "state.npy")
    np.save(truth / "state.npy", N_STATES - 1 - state)
    scores = evaluate(run, truth, overwrite=True, n_volumes=8)
    assert scores.rmsd["mean"] > scores.rmsd["best_single"]
    assert scores.ensemble["sac"] < 1e-2
    assert scores.populations["earth_movers_distance"] == pytest.approx(0, abs=1e-6)


def test_true_volumes_are_used_where_they_are(copied):
    run, truth = copied
    (truth / "volumes").mkdir()
    coordinates = np.load(truth / "coordinates.npy")
    values = (run.structure.amplitudes, run.structure.sigmas)
    amplitudes, sigmas = (torch.tensor(value, dtype=torch.float32) for value in values)
    for name, state in (("state_0001.mrc", 1), ("state_0004.mrc", 4)):
        volume = gaussians.volume(torch.from_numpy(coordinates[state]), amplitudes, sigmas, BOX_SIZE, PIXEL_SIZE)
        write_volume(truth / "volumes" / name, volume.numpy(), PIXEL_SIZE)
    scores = evaluate(run, truth, overwrite=True)
    assert scores.fsc_auc["n_images"] == 2 * N_PARTICLES // N_STATES
    assert scores.fsc_auc["mean"] == pytest.approx(11 / 24, abs=1e-4)
    assert scores.fsc_auc["truth_volumes"] == "the truth folder's, of 2 of 6 states"
    # The volumes are read, not computed: with the other state's volume the score falls.
    shutil.copy(truth / "volumes" / "state_0004.mrc", truth / "volumes" / "state_0001.mrc")
    assert evaluate(run, truth, overwrite=True, n_volumes=8).fsc_auc["mean"] < 11 / 24 - 0.005


def test_scores_are_written_beside_errors_of_every_image(perfect):
    run, truth = perfect
    scores = evaluate(run, truth, overwrite=True, n_volumes=5)
    assert scores.fsc_auc["n_images"] == 5
    written = json.loads((run.layout.evaluation / "scores.json").read_text())
    assert written["rmsd"] == scores.rmsd
    lines = (run.layout.evaluation / "per_image.csv").read_text().splitlines()
    assert lines[0] == "particle,true_state,nearest_state,rmsd_angstrom"
    assert len(lines) == N_PARTICLES + 1
    assert lines[8] == f"7,{7 % N_STATES},{7 % N_STATES},0.0000"
    with pytest.raises(InputError, match="--overwrite"):
        evaluate(run, truth)


def test_segments_are_not_scored_without_true_bodies(copied):
    run, truth = copied
    (truth / "info.json").write_text('{"snr": 1.0, "moved": "all"}')
    scores = evaluate(run, truth, overwrite=True, n_volumes=1)
    assert scores.segments["ari"] is None
    assert "–" in scores.table()


def _remove(name):
    return lambda truth: (truth / name).unlink()


def _change(name, change):
    return lambda truth: np.save(truth / name, change(np.load(truth / name)))


def _fewer_residues(truth):
    _change("coordinates.npy", lambda x: x[:, :-1])(truth)
    (truth / "info.json").write_text("{}")


def _volumes_of_another_box(truth):
    (truth / "volumes").mkdir()
    for state in range(N_STATES):
        write_volume(truth / "volumes" / f"state_{state:04d}.mrc", np.ones((8, 8, 8), np.float32), PIXEL_SIZE)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_remove("coordinates.npy"), r"coordinates\.npy is missing"),
        (_remove("state.npy"), r"state\.npy is missing"),
        (_remove("info.json"), r"info\.json is missing"),
        (_fewer_residues, "39 residues.* has 40"),
        (_change("coordinates.npy", lambda x: x[:, :-1]), "'bodies' .* outside 0 to 38"),
        (_change("state.npy", lambda s: s[:-1]), "47 particles, the run has 48"),
        (_change("state.npy", lambda s: s + 1), "names states 1 to 6"),
        (_volumes_of_another_box, r"8 x 8 x 8 voxels.* 24 of 4 Å"),
    ],
)
def test_unfit_truth_folders_are_refused_and_nothing_is_written(copied, spoil, words):
    run, truth = copied
    shutil.rmtree(run.layout.evaluation, ignore_errors=True)
    spoil(truth)
    before = set(run.folder.iterdir())
    with pytest.raises(InputError, match=words):
        evaluate(run, truth)
    assert set(run.folder.iterdir()) == before


def test_a_missing_truth_folder_is_named(perfect, tmp_path):
    with pytest.raises(InputError, match="no_truth does not exist"):
        evaluate(perfect[0], tmp_path / "no_truth")
