"""Known motion recovered, and a killed run continued bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation

from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError, InputError, RunError
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.model.decoder import Decoder
from cryosphere.particles.selection import split_held_out
from cryosphere.pipelines.checked_training import train as checked_train
from cryosphere.runs.checkpoints import load_checkpoint
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.run import Run
from cryosphere.training.elbo import ElboTrainer, convergence
from cryosphere.training.train import train
from tests.particle_sets import ARM, configuration, write_particle_set


@pytest.fixture(scope="module")
def particle_set(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("training") / "set", 1500, snr=0.5)


def rmsd_to_truth(run: Run, folder: Path) -> tuple[float, float]:
    """Mean per-image RMSD of E[x | image], and of the best single structure."""
    truth = np.load(folder / "truth" / "coordinates.npy")[np.load(folder / "truth" / "state.npy")]
    predicted = run.conformations()

    def mean_rmsd(positions):
        return np.sqrt(((positions - truth) ** 2).sum(-1).mean(-1)).mean()

    return mean_rmsd(predicted), mean_rmsd(truth.mean(0))


def superposed_rmsd(first, second) -> float:
    """RMSD after the best superposition."""
    first, second = first - first.mean(0), second - second.mean(0)
    return Rotation.align_vectors(first, second)[1] / np.sqrt(len(first))


SLOW = {"learning_rate": 3e-4, "segmentation_learning_rate": 3e-3}


@pytest.mark.parametrize(
    ("variant", "epochs", "bar"),
    [
        ({"model": {"encoder": "score"}}, 10, 0.5),
        ({"model": {"encoder": "pixels"}, "training": SLOW}, 20, 0.8),  # 0.54 to 0.73 with four seeds
        ({"model": {"encoder": "free"}}, 20, 0.5),
        ({"model": {"encoder": "score", "motion": "sequential"}}, 10, 0.5),
        ({"model": {"encoder": "score"}, "loss": {"data": "correlation", "continuity": 0.1, "clash": 0.1}}, 10, 0.5),
    ],
    ids=["scores", "pixels", "free latents", "sequential", "correlation"],
)
def test_a_known_motion_is_recovered(particle_set, tmp_path, variant, epochs, bar):
    training = {"epochs": epochs, "learning_rate": 3e-3, **variant.get("training", {})}
    run = train(configuration(particle_set, **{**variant, "training": training}), tmp_path / "run", show_progress=False)
    reached, single = rmsd_to_truth(run, particle_set)
    assert reached < bar * single
    structures = run.decode(run.posterior.mean[::50])
    nominal = run.structure.residue_positions
    for arm in (slice(0, ARM), slice(ARM, 2 * ARM)):
        assert max(superposed_rmsd(positions[arm], nominal[arm]) for positions in structures) < 1.0


def test_the_paper_preset_trains(particle_set, tmp_path):
    values = configuration(particle_set, model={"preset": "paper"}, training={"epochs": 1})
    for section in ("segments", "loss"):
        del values[section]
    del values["model"]["encoder"]
    run = train(values, tmp_path / "run", show_progress=False)
    assert run.config.loss.data == "correlation" and run.config.loss.objective == "elbo"
    assert run.config.model.encoder == "pixels" and run.config.segments.method == "chain"
    assert np.isfinite(run.posterior.mean).all()
    assert np.isnan(run.posterior.effective_sample_size).all()


def command(folder: Path, run: str, *options: str) -> list[str]:
    program = "import sys; from cryosphere.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-c", program, "train", str(folder / "config.yaml"), "-o", str(folder / run), *options]


def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(particle_set, tmp_path):
    values = configuration(particle_set, training={"epochs": 4, "batch_size": 16, "checkpoint_minutes": 1e-3})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    subprocess.run(command(tmp_path, "whole", "--no-posterior"), check=True, capture_output=True)

    layout = RunLayout(tmp_path / "killed")
    process = subprocess.Popen(command(tmp_path, "killed", "--no-posterior"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    state = {"epoch": 0, "step": 0}
    while not (state["epoch"] >= 1 and 2 <= state["step"] <= 60):
        assert process.poll() is None, "the run ended before it could be killed in mid-epoch"
        assert time.monotonic() < deadline
        if layout.last_checkpoint.exists():
            state = load_checkpoint(layout.last_checkpoint)
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    interrupted = load_checkpoint(layout.last_checkpoint)
    assert interrupted["epoch"] < 4

    with open(layout.metrics, "a") as file:
        file.write('{"epoch": 99, "tr')
    subprocess.run(command(tmp_path, "killed", "--resume", "--no-posterior"), check=True, capture_output=True)
    whole, resumed = (load_checkpoint(RunLayout(tmp_path / name).last_checkpoint) for name in ("whole", "killed"))
    assert whole["model"].keys() == resumed["model"].keys()
    for name, weights in whole["model"].items():
        assert torch.equal(weights.nan_to_num(-7.0), resumed["model"][name].nan_to_num(-7.0)), name
    metrics = [
        [json.loads(line) for line in RunLayout(tmp_path / name).metrics.read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    assert [record["epoch"] for record in metrics[1]] == [1, 2, 3, 4]
    for one, other in zip(*metrics, strict=True):
        assert one["train"] == other["train"]
        assert one["held_out"] == other["held_out"]


def test_a_set_that_is_read_in_runs_resumes_bit_for_bit_too(particle_set, tmp_path, monkeypatch):
    monkeypatch.setattr("cryosphere.training.order._CACHED_BYTES", 1000)
    monkeypatch.setattr("cryosphere.training.order._RUN_BYTES", 4 * 24**2 * 8)
    monkeypatch.setattr("cryosphere.training.order._TOGETHER_VALUES", 24**2 * 48)
    values = configuration(particle_set, training={"epochs": 3, "batch_size": 16, "checkpoint_minutes": 1e-9})
    whole = train(values, tmp_path / "whole", show_progress=False, posterior=False)
    count, step = [0], ElboTrainer._step

    def dies(self, *arguments):
        count[0] += 1
        if count[0] == 18:
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(ElboTrainer, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(values, tmp_path / "killed", show_progress=False, posterior=False)
    monkeypatch.setattr(ElboTrainer, "_step", step)
    assert load_checkpoint(RunLayout(tmp_path / "killed").last_checkpoint)["step"] % 3 == 2  # amid what is read at once
    resumed = train(values, tmp_path / "killed", resume=True, show_progress=False, posterior=False)
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights.nan_to_num(-7.0), resumed.model.state_dict()[name].nan_to_num(-7.0)), name


def test_a_finished_run_resumes_to_itself_and_other_settings_or_inputs_are_refused(particle_set, tmp_path):
    values = configuration(particle_set)
    train(values, tmp_path / "run", show_progress=False)
    before = (tmp_path / "run" / "posterior.npz").read_bytes()
    train(values, tmp_path / "run", resume=True, show_progress=False)
    assert (tmp_path / "run" / "posterior.npz").read_bytes() == before

    changed = configuration(particle_set, segments={"n_segments": 3})
    with pytest.raises(RunError, match=r"was started with segments\.n_segments = 2, now it is 3"):
        train(changed, tmp_path / "run", resume=True, show_progress=False)
    other = write_particle_set(tmp_path / "other", 1500, seed=5)
    with pytest.raises(RunError, match="made from other inputs"):
        train(configuration(other), tmp_path / "run", resume=True, show_progress=False)
    with pytest.raises(RunError, match="exists; pass --resume"):
        train(values, tmp_path / "run", show_progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not a run folder, so it is not touched"):
        train(values, tmp_path / "mine", overwrite=True, show_progress=False)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("place", [12, 0], ids=["in the particle", "in the background"])
def test_pixels_that_are_not_finite_are_named(particle_set, tmp_path, place):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("particles.star", "nominal.cif", "particles.mrcs"):
        (broken / name).write_bytes((particle_set / name).read_bytes())
    with open(broken / "particles.mrcs", "r+b") as file:
        file.seek(1024 + 4 * (6 * 24 * 24 + place * 24 + place))
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(InputError, match=r"particles\.mrcs: image 7 \(row 6 of particles\.star, from 0\) has pixels"):
        train(configuration(broken), tmp_path / "run", show_progress=False)


def test_a_loss_that_is_not_finite_stops_training_and_is_not_kept(particle_set, tmp_path, monkeypatch):
    decode = Decoder.forward

    def broken(self, latent, still=False):
        motions = decode(self, latent, still)
        return replace(motions, translation=motions.translation * float("nan"))

    monkeypatch.setattr(Decoder, "forward", broken)
    with pytest.raises(RunError, match=r"epoch 1, step 1: .*continuity.* is not finite.*last.pt is from before"):
        train(configuration(particle_set), tmp_path / "run", show_progress=False)
    state = load_checkpoint(RunLayout(tmp_path / "run").last_checkpoint)
    assert state["epoch"] == state["step"] == 0
    learned = [name for name in state["model"] if name != "contrast"]  # which this objective leaves unknown (NaN)
    assert all(torch.isfinite(state["model"][name]).all() for name in learned)


def test_a_posterior_belongs_to_its_weights(particle_set, tmp_path):
    values = configuration(particle_set)
    run = train(values, tmp_path / "run", posterior=False, show_progress=False)
    with pytest.raises(RunError, match="missing"):
        _ = run.posterior
    before = ensure_posterior(run).posterior
    with torch.no_grad():
        run.model.decoder.network[-1].bias += 0.5
    with pytest.raises(RunError, match="is of other weights"):
        _ = Run(run.layout, run.config, run.table, run.structure, run.model, run.epoch).posterior
    assert not np.array_equal(ensure_posterior(run).posterior.mean, before.mean)


def test_a_run_stopped_before_its_first_epoch_resumes_only_with_its_own_inputs(particle_set, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ElboTrainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(configuration(particle_set), tmp_path / "run", show_progress=False)
    other = write_particle_set(tmp_path / "other", 1500, seed=5)
    with pytest.raises(RunError, match="made from other inputs"):
        train(configuration(other), tmp_path / "run", resume=True, show_progress=False)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("particles.star", "nominal.cif", "particles.mrcs"):
        (moved / name).write_bytes((particle_set / name).read_bytes())
    run = train(configuration(moved), tmp_path / "run", resume=True, show_progress=False)
    assert run.table.stack_paths == (moved / "particles.mrcs",)
    assert len(run.posterior.index) == 1500


def test_the_sign_of_the_images_is_detected(particle_set, tmp_path):
    said = []
    values = configuration(particle_set)
    checked_train(values, tmp_path / "run", posterior=False, show_progress=False, say=said.append)
    assert any(sentence.startswith("Contrast: the images agree") for sentence in said)
    wrong = configuration(particle_set)
    wrong["particles"]["invert"] = True
    with pytest.raises(ConfigError, match=r"particles\.invert: true gives .* dark .* set particles\.invert: false"):
        checked_train(wrong, tmp_path / "wrong", show_progress=False)
    assert not (tmp_path / "wrong").exists()


def test_rows_that_share_an_image_stay_together():
    image = np.repeat(np.arange(50), 3)
    training, held_out = split_held_out(np.zeros(150, int), image, 0.2, seed=0)
    assert len(held_out) == 30
    assert not set(image[training]) & set(image[held_out])
    assert sorted([*training, *held_out]) == list(range(150))
    assert len(split_held_out(np.zeros(1, int), np.zeros(1, int), 0.5, seed=0)[0]) == 1


def test_the_end_of_the_held_out_loss_is_told():
    assert convergence(list(10 * np.exp(-np.arange(40.0)))) == "flattened"
    assert convergence(list(np.linspace(10, 0, 40))) == "falling"
    assert convergence([5.0, 4.0, 3.0]) == "falling"
    assert convergence([*np.linspace(10, 0, 20), *np.linspace(0, 3, 20)]) == "rising"
    assert convergence(list(np.linspace(0, 3, 40))) == "rising"


def test_tensorboard_events_are_written_where_it_is_installed(particle_set, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    values = configuration(particle_set, output={"tensorboard": True}, training={"epochs": 1})
    run = train(values, tmp_path / "run", posterior=False, show_progress=False)
    assert list(run.layout.tensorboard.glob("events*"))


def test_a_run_folder_is_enough_after_inputs_have_gone(tmp_path):
    folder = write_particle_set(tmp_path / "set", 30)
    train(configuration(folder), tmp_path / "run", show_progress=False)
    before = Run.load(tmp_path / "run").conformations()
    folder.rename(tmp_path / "moved")
    assert np.array_equal(Run.load(tmp_path / "run").conformations(), before)
    assert parse_config(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()), tmp_path, check_files=False)
