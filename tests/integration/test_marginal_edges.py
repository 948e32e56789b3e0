"""Training on the marginal likelihood at its edges: odd images, hardly any images, hardly any conformations."""

import json

import mrcfile
import numpy as np
import pytest
import torch

from cryosphere.runs.run import Run
from cryosphere.training.train import train
from tests.particle_sets import marginal_configuration, write_particle_set

pytestmark = pytest.mark.usefixtures("short_stages")
N_IMAGES = 200


@pytest.fixture(scope="module")
def swinging(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("edges") / "set", N_IMAGES, snr=1.0)


def trained(particles, output, **sections) -> Run:
    return train(marginal_configuration(particles, **sections), output, show_progress=False)


def change_images(folder, change):
    with mrcfile.open(folder / "particles.mrcs", mode="r+") as mrc:
        mrc.data[:] = change(np.array(mrc.data))


def spread_of_structures(run) -> float:
    """Root mean squared distance (Å) of the images' expected structures from their mean."""
    positions = run.conformations().astype(np.float64)
    return float(np.sqrt(((positions - positions.mean(0)) ** 2).sum(2).mean()))


def rmsd_to_truth(run, folder) -> tuple[float, float]:
    """Mean over images of the RMSD of E[x | image], and of the best single structure."""
    truth = np.load(folder / "truth" / "coordinates.npy")[np.load(folder / "truth" / "state.npy")]
    predicted = run.conformations(), truth.mean(0)
    return tuple(float(np.sqrt(((positions - truth) ** 2).sum(-1).mean(-1)).mean()) for positions in predicted)


def test_the_same_seed_gives_the_same_weights_whatever_else_was_drawn(swinging, tmp_path):
    config = {"model": {"latent_dim": 1}, "segments": {"patches": 4}}
    first = trained(swinging, tmp_path / "first", **config).model.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        np.random.seed(99)  # noqa: NPY002
        second = trained(swinging, tmp_path / "second", **config).model.state_dict()
    other = trained(swinging, tmp_path / "other", training={"seed": 1}, **config).model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name].nan_to_num(), second[name].nan_to_num()) for name in first)
    assert not torch.equal(first["decoder.network.0.weight"], other["decoder.network.0.weight"])


def test_images_without_content_leave_the_model_still(tmp_path):
    folder = write_particle_set(tmp_path / "set", N_IMAGES)
    change_images(folder, lambda images: np.full_like(images, 3.0))
    run = trained(folder, tmp_path / "run")
    assert run.verdict["motion"] != "supported"
    assert spread_of_structures(run) < 1e-3
    assert np.isfinite(run.posterior.log_evidence).all()


def test_motion_is_found_through_a_hundredfold_spread_of_contrasts(swinging, tmp_path, monkeypatch):
    monkeypatch.setattr("cryosphere.training.stages._COARSE_VISITS", 2048)
    folder = write_particle_set(tmp_path / "set", N_IMAGES, snr=1.0)
    factor = np.exp(np.random.default_rng(0).uniform(np.log(0.1), np.log(10), (N_IMAGES, 1, 1)))
    change_images(folder, lambda images: images * factor)
    run = trained(folder, tmp_path / "run", model={"latent_dim": 1})
    assert np.isfinite(run.posterior.covariance).all() and np.isfinite(run.posterior.log_evidence).all()
    reached, single = rmsd_to_truth(run, folder)
    assert reached < 0.75 * single


@pytest.mark.parametrize("n_images", [1, 3])
def test_a_handful_of_images_trains_and_nothing_is_claimed(tmp_path, n_images):
    folder = write_particle_set(tmp_path / "set", n_images)
    run = trained(folder, tmp_path / "run")
    assert len(run.posterior.index) == n_images
    assert run.verdict["motion"] == "undecided"
    assert np.isfinite(run.conformations()).all()


def test_as_few_conformations_as_may_be_asked_for_give_a_posterior(swinging, tmp_path):
    run = trained(swinging, tmp_path / "run", model={"latent_dim": 2}, inference={"n_conformations": 2})
    assert run.posterior.nodes.shape == (2, 2)
    assert np.isfinite(run.posterior.mean).all() and np.isfinite(run.conformations()).all()


def test_many_dimensions_and_the_pixel_encoder_give_finite_posteriors(swinging, tmp_path):
    run = trained(swinging, tmp_path / "run", model={"latent_dim": 3, "encoder": "pixels"})
    assert np.isfinite(run.posterior.covariance).all() and np.isfinite(run.posterior.log_evidence).all()
    assert np.all(run.posterior.effective_sample_size >= 1)
    reached, single = rmsd_to_truth(run, swinging)
    assert reached < 0.6 * single


@pytest.mark.parametrize("least_gain, rounds", [(np.inf, 2), (-np.inf, 4)])
def test_rounds_at_full_resolution_end_when_they_gain_no_more(swinging, tmp_path, monkeypatch, least_gain, rounds):
    monkeypatch.setattr("cryosphere.training.stages._MOST_ROUNDS", 4)
    monkeypatch.setattr("cryosphere.training.stages._FINE_VISITS", 200)
    monkeypatch.setattr("cryosphere.training.marginal._LEAST_GAIN", least_gain)
    run = trained(
        swinging, tmp_path / "run", model={"latent_dim": 1}, segments={"n_segments": 2}, training={"epochs": None}
    )
    stages = [json.loads(line)["stage"] for line in run.layout.metrics.read_text().splitlines()]
    assert stages.count("full resolution") == rounds


def test_no_more_images_are_seen_than_epochs_ask_for(swinging, tmp_path):
    run = trained(swinging, tmp_path / "run", model={"latent_dim": 1}, segments={"n_segments": 2})
    records = [json.loads(line) for line in run.layout.metrics.read_text().splitlines()]
    first = next(number for number, record in enumerate(records) if record["stage"] == "full resolution")
    assert records[-1]["step"] - records[first - 1]["step"] == 2 * (N_IMAGES - N_IMAGES // 5)
