"""Training on the marginal likelihood, from small simulated sets to posteriors."""

import numpy as np
import pytest
import torch

import cryosphere
from cryosphere.analysis.ensemble import Ensemble
from cryosphere.analysis.segments import segment_motions
from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError, RunError
from cryosphere.io.mrc import write_stack
from cryosphere.physics.noise import coloured_noise
from cryosphere.runs.checkpoints import load_checkpoint
from cryosphere.simulation.truth import read_truth
from cryosphere.training import stages
from cryosphere.training.marginal import MarginalTrainer
from tests.particle_sets import write_particle_set

pytestmark = pytest.mark.usefixtures("short_stages")


def settings(folder, **sections):
    plain = {
        "particles": {"file": str(folder / "particles.star")},
        "structure": {"file": str(folder / "nominal.cif"), "origin": "center", "gaussian_at": "calpha"},
        "segments": {"patches": 4},
        "training": {"device": "cpu", "batch_size": 16, "held_out": 0.15},
        "output": {"tensorboard": False},
    }
    return {name: {**plain.get(name, {}), **sections.get(name, {})} for name in {**plain, **sections}}


def train(folder, out, said=None, **sections):
    say = (lambda sentence: None) if said is None else said.append
    return cryosphere.train(settings(folder, **sections), out, show_progress=False, say=say)


@pytest.fixture(scope="module")
def swinging(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("swing") / "set", 500, snr=1.0)


def replace_images(folder, change):
    import mrcfile

    with mrcfile.open(folder / "particles.mrcs") as mrc:
        images = np.array(mrc.data)
    (folder / "particles.mrcs").unlink()
    changed = change(images).astype(np.float32)
    write_stack(folder / "particles.mrcs", [changed], n_images=len(changed), pixel_size=4.0)


def spread_of_structures(run):
    positions = run.conformations(particles=np.arange(0, run.table.n_particles, 7))
    return float(np.sqrt(((positions - positions.mean(0)) ** 2).sum(2).mean()))


def test_motion_is_recovered_and_judged(swinging, tmp_path):
    said = []
    run = train(swinging, tmp_path / "run", said)
    scores = cryosphere.evaluate(run, swinging / "truth")
    assert scores.rmsd["ratio_to_best_single"] < 0.5
    assert run.verdict["motion"] == "supported"
    assert len(run.verdict["segments"]) == len(run.segment_names)
    assert run.verdict["evidence"]["model"] > run.verdict["evidence"]["still"] > run.verdict["evidence"]["nominal"]
    assert {item["what"] for item in run.tried} >= {"merging", "segments", "latent dimension"}
    assert run.latent_dim == 1
    assert any("Motion: supported" in line for line in said)
    assert load_checkpoint(run.layout.last_checkpoint)["patience"] == 1
    posterior = run.posterior
    assert posterior.is_shared and np.isfinite(posterior.log_evidence).all()
    assert np.all(posterior.effective_sample_size >= 1)
    drawn = run.sample_posterior(np.arange(50), 200)
    assert np.abs(drawn.mean(1) - posterior.mean[:50]).max() < 0.5


def test_killed_and_resumed_equals_uninterrupted(swinging, tmp_path, monkeypatch):
    whole = train(swinging, tmp_path / "whole")
    count, step = [0], MarginalTrainer._run_block

    def dies(self, *arguments):
        count[0] += 1
        if count[0] == 9:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(MarginalTrainer, "_run_block", dies)
    checkpoints = {"checkpoint_minutes": 1e-9}
    with pytest.raises(KeyboardInterrupt):
        train(
            swinging, tmp_path / "killed", training=checkpoints | {"device": "cpu", "batch_size": 16, "held_out": 0.15}
        )
    monkeypatch.setattr(MarginalTrainer, "_run_block", step)
    config = settings(swinging, training=checkpoints)
    resumed = cryosphere.train(config, tmp_path / "killed", resume=True, show_progress=False)
    first, second = (run.model.state_dict() for run in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) or name == "contrast" for name in first)
    assert torch.equal(first["contrast"].nan_to_num(), second["contrast"].nan_to_num())
    assert np.array_equal(whole.posterior.log_likelihood, resumed.posterior.log_likelihood)


def test_another_plan_is_not_resumed_and_values_that_are_not_finite_stop_training(swinging, tmp_path, monkeypatch):
    fit = MarginalTrainer._step

    def spoils(self, stage, *arguments):
        terms = fit(self, stage, *arguments)
        if stage.kind == "latent":
            self.model.decoder.static.data.fill_(torch.nan)
        return terms

    monkeypatch.setattr(MarginalTrainer, "_step", spoils)
    with pytest.raises(RunError, match=r"in stage 'open the latent', block [0-9]*: .* not"):
        train(swinging, tmp_path / "run")
    monkeypatch.setattr(stages, "_MOST_ROUNDS", 4)
    with pytest.raises(RunError, match="another version"):
        cryosphere.train(settings(swinging), tmp_path / "run", resume=True, show_progress=False)


def test_images_of_noise_alone_give_no_motion(tmp_path):
    folder = write_particle_set(tmp_path / "set", 400, snr=1.0)
    generator = torch.Generator().manual_seed(1)
    replace_images(folder, lambda images: coloured_noise(images.shape, torch.ones(13), generator).numpy())
    said = []
    run = train(folder, tmp_path / "run", said)
    assert run.verdict["motion"] == "not supported"
    assert load_checkpoint(run.layout.last_checkpoint)["patience"] == 3
    assert any(line.startswith("No motion found") for line in said)
    assert spread_of_structures(run) < 1e-3


def test_a_static_protein_gets_no_motion(tmp_path):
    folder = write_particle_set(tmp_path / "set", 400, snr=0.5, populations=(1.0, *[0.0] * 11))
    run = train(folder, tmp_path / "run")
    assert spread_of_structures(run) < 0.4
    nominal = run.structure.residue_positions
    found = run.conformations(particles=np.array([0]))[0]
    assert np.sqrt(((found - nominal) ** 2).sum(1).mean()) < 0.5


@pytest.mark.parametrize("what", ["constant", "contrasts"])
def test_odd_images_do_not_stop_training(tmp_path, what):
    folder = write_particle_set(tmp_path / "set", 150, snr=1.0)
    factor = np.random.default_rng(0).lognormal(0, 1.2, 150)[:, None, None]

    def change(images):
        if what == "constant":
            return np.where(np.arange(150)[:, None, None] % 10 == 0, 3.0, images)
        return images * factor

    replace_images(folder, change)
    run = train(folder, tmp_path / "run")
    assert np.isfinite(run.posterior.mean).all()
    assert np.isfinite(run.conformations(particles=np.arange(150))).all()


def test_few_images_train_and_the_user_is_told(tmp_path):
    folder = write_particle_set(tmp_path / "set", 60, snr=1.0)
    said = []
    run = train(folder, tmp_path / "run", said)
    assert any("60 particles are few" in line for line in said)
    assert run.verdict["motion"] == "undecided"
    assert np.isfinite(run.conformations(particles=np.array([0, 59]))).all()


def test_three_dimensions_use_the_score_encoder(swinging, tmp_path):
    run = train(swinging, tmp_path / "run", model={"latent_dim": 3})
    posterior = run.posterior
    assert posterior.mean.shape == (500, 3) and not posterior.is_shared
    assert np.isfinite(posterior.covariance).all() and np.isfinite(posterior.log_evidence).all()
    assert cryosphere.evaluate(run, swinging / "truth").rmsd["ratio_to_best_single"] < 0.8


def test_poses_are_refined_and_kept_with_the_run(tmp_path):
    folder = write_particle_set(tmp_path / "set", 200, snr=2.0, rotation_error_deg=2.0, shift_error=1.0)
    run = train(folder, tmp_path / "run", particles={"file": str(folder / "particles.star"), "refine_poses": True})
    images = run.open_images()
    assert float(images.pose_rotvec.norm(dim=1).median()) > 0.005
    kept = load_checkpoint(run.layout.best_checkpoint)
    assert torch.equal(kept["pose_shift"], images.pose_shift)


@pytest.mark.parametrize(
    "sections",
    [{}, {"training": {"own_samples": 0}}, {"model": {"latent_dim": 3}, "training": {"own_samples": 0}}],
)
def test_an_encoder_that_nothing_taught_is_refused(swinging, tmp_path, sections):
    with pytest.raises(ConfigError, match="needs an encoder that was trained"):
        parse_config(settings(swinging, inference={"method": "encoder"}, **sections), tmp_path)


def test_chain_segments_and_regions_train_too(swinging, tmp_path):
    region = {"chain": "A", "first": 21, "last": 40, "n_segments": 1}
    run = train(swinging, tmp_path / "regions", segments={"regions": [region]})
    assert np.all(run.segment_weights()[:20] == 0)
    still = run.conformations(particles=np.array([0, 1]))[:, :20]
    assert np.abs(still - run.structure.residue_positions[:20]).max() < 1e-3
    chain = train(swinging, tmp_path / "chain", segments={"method": "chain", "n_segments": 2}, model={"latent_dim": 1})
    assert len(chain.segment_names) == 2


def test_swing_is_measured_in_degrees(swinging, tmp_path):
    """One arm swings by 0 to 40° about x, seen from the other; true angles with the run's own parts and axis."""
    run = train(swinging, tmp_path / "run", segments={"n_segments": 2})
    truth, ensemble = read_truth(swinging / "truth"), Ensemble(run)
    number = ensemble.names.index("angle(s1)" if ensemble.reference == 1 else "angle(s2)")
    motions, particles = ensemble.motions, ensemble.of_particles()
    true = motions.measure(motions.bodies(truth.coordinates.astype(np.float64)))[truth.state, number]
    assert np.ptp(true) == pytest.approx(40, abs=4)
    found = particles.motion[:, number]
    assert np.corrcoef(true, found)[0, 1] > 0.98
    assert np.abs(found - true).mean() < 4
    assert 0.2 < particles.motion_std[:, number].mean() < 4
    segment = segment_motions(ensemble, 2)[1 - ensemble.reference]
    assert abs(segment.rotation_axis[0]) > np.cos(np.radians(30))
