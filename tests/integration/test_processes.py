"""Several processes give what one gives: gradients, metrics, posteriors, resumed runs."""

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tqdm import tqdm

from cryosphere import distributed
from cryosphere.cli import main
from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError
from cryosphere.inference.posterior import compute_posterior
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.records import CTFParameters, ParticleBatch
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.run import Run
from cryosphere.runs.tables import load_posterior, read_metrics
from cryosphere.training.elbo import ElboTrainer
from cryosphere.training.encoding import prepare_encoder
from cryosphere.training.marginal import MarginalTrainer
from cryosphere.training.metrics import Metrics
from cryosphere.training.stages import Stage
from cryosphere.training.steps import Division, GradientSum
from cryosphere.training.train import load_inputs, train
from tests.particle_sets import SHORT_TRAINING, write_particle_set
from tests.processes import in_processes

PAPER = {"model": {"preset": "paper"}, "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3}}
OWN_SAMPLES = {"model": {"latent_dim": 3}, "training": {"batch_size": 16}, "segments": {"n_segments": 3}}


@pytest.fixture(scope="module")
def particle_set(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("processes") / "set", 200, snr=0.5)


def settings(folder, changes):
    return {
        "particles": {"file": str(folder / "particles.star")},
        "structure": {"file": str(folder / "nominal.cif"), "origin": "center", "gaussian_at": "calpha"},
        "output": {"tensorboard": False},
        **changes,
        "training": {"device": "cpu", "held_out": 0.1, **changes.get("training", {})},
    }


def in_double(batch: ParticleBatch) -> ParticleBatch:
    def double(value):
        if value.is_complex():
            return value.to(torch.complex128)
        return value.double() if value.is_floating_point() else value

    values = dict(vars(batch))
    ctf = CTFParameters(**{name: double(value) for name, value in vars(values.pop("ctf")).items() if value is not None})
    return ParticleBatch(ctf=ctf, **{name: double(value) for name, value in values.items()})


def trainer_in_double(kind, folder: Path, run: Path, changes):
    config = parse_config(settings(folder, changes), folder)
    table, structure = load_inputs(config)
    torch.manual_seed(0)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config)
    images = ParticleImages(table, model.mask_radius)
    prepare_encoder(model, images, np.arange(table.n_particles), model.nominal_sites)
    model.double()
    single = images.batch
    images.batch = lambda rows: in_double(single(rows))
    return kind(model, images, config, RunLayout(run), "", show_progress=False)


def no_bar() -> tqdm:
    return tqdm(disable=True)


def write_gradients(kind, folder: Path, out: Path, changes, n_images: int) -> None:
    """Gradients after the steps of one block of images, by every process into a file of its own."""
    distributed.join()
    trainer = trainer_in_double(kind, folder, out, changes)
    trainer.model.train()
    rows = trainer.training_rows[:n_images]
    if kind is ElboTrainer:
        trainer._step(rows, trainer.images.batch(rows[distributed.share(len(rows))]), no_bar())
    else:
        stage = Stage("fit", "latent", None, n_images, n_images)
        trainer.optimiser = trainer._make_optimiser(stage)
        places = Division(len(rows), 16).places.numpy()
        trainer._run_block(stage, 1, rows, trainer.images.batch(rows[places]), no_bar())
    trainer._settle_terms(trainer.progress.sums, lambda before: "in the test")
    gradients = {name: p.grad.numpy() for name, p in trainer.model.named_parameters() if p.grad is not None}
    sums = np.array(list(trainer.progress.sums.values()))
    np.savez(out / f"process-{distributed.rank()}.npz", sums=sums, **gradients)


@pytest.mark.parametrize(
    ("kind", "changes", "n_images"),
    [
        (ElboTrainer, PAPER, 11),
        (MarginalTrainer, {"training": {"batch_size": 16}}, 65),
        (MarginalTrainer, OWN_SAMPLES, 65),
    ],
    ids=["elbo", "marginal", "own samples"],
)
def test_gradients_of_three_processes_are_those_of_one(particle_set, tmp_path, kind, changes, n_images):
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    write_gradients(kind, particle_set, alone, changes, n_images)
    in_processes(3, write_gradients, kind, particle_set, together, changes, n_images)
    expected = np.load(alone / "process-0.npz")
    whole = np.concatenate([expected[name].ravel() for name in expected])
    assert any("segmentation" in name and np.abs(expected[name]).max() > 0 for name in expected)
    for number in range(3):
        found = np.load(together / f"process-{number}.npz")
        assert set(found) == set(expected)
        difference = np.concatenate([(found[name] - expected[name]).ravel() for name in expected])
        assert np.linalg.norm(difference) < 1e-6 * np.linalg.norm(whole)


def test_parts_of_a_step_give_the_gradient_of_the_whole(particle_set, tmp_path):
    gradients = []
    for at_a_time in (None, 3):
        trainer = trainer_in_double(ElboTrainer, particle_set, tmp_path, PAPER)
        trainer.gradient_sum.at_a_time = at_a_time
        rows = trainer.training_rows[:11]
        trainer._step(rows, trainer.images.batch(rows), no_bar())
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
    assert torch.linalg.norm(gradients[0] - gradients[1]) < 1e-10 * torch.linalg.norm(gradients[0])


def test_out_of_memory_halves_the_part_and_goes_on():
    weight, said, seen = torch.nn.Parameter(torch.zeros(())), [], []

    def terms_of(part):
        seen.append(part.stop - part.start)
        if seen[-1] > 3:
            raise torch.OutOfMemoryError("no more")
        return {"total": weight * torch.arange(part.start, part.stop).double().mean()}

    gradient_sum = GradientSum(say=said.append)
    terms = gradient_sum([weight], terms_of, ["total"], 10, 10)
    assert weight.grad == pytest.approx(4.5) and terms["total"] == 0
    assert seen == [10, 5, 3, 3, 3, 1] and gradient_sum.at_a_time == 3
    assert said[-1] == "The device's memory is too small for 5 images at a time: going on with 3."


def check_sharing() -> None:
    distributed.join()
    values = torch.arange(14.0).view(7, 2)
    own = values[distributed.share(7)]
    assert torch.equal(distributed.gather(own), values)
    assert torch.equal(distributed.gather(values[:0]), values[:0])
    first, second = torch.ones(2), torch.full((), float(distributed.rank()))
    distributed.add_up([first, second])
    assert first.tolist() == [3, 3] and second == 3
    for n_images, size in ((10, 4), (9, 4), (2, 4), (12, 12)):
        division = Division(n_images, size)
        numbers = torch.arange(n_images)
        assert torch.equal(division.gather(numbers[division.places]), numbers)
        begin = 0
        for step in division.steps():
            assert torch.equal(division.places[step.own], numbers[begin : begin + step.n_images][step.place])
            begin += step.n_images
        assert begin == n_images


def test_shares_of_uneven_counts_come_back_in_order():
    in_processes(3, check_sharing)


def short_training(folder: Path, run: Path, changes, resume: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for place, value in SHORT_TRAINING.items():
            patch.setattr(place, value)
        train(settings(folder, changes), run, show_progress=False, resume=resume)


def compare_runs(one: RunLayout, other: RunLayout) -> None:
    metrics = [read_metrics(layout.metrics) for layout in (one, other)]
    assert len(metrics[0]) == len(metrics[1])
    for first, second in zip(*metrics, strict=True):
        assert first["held_out"] == pytest.approx(second["held_out"], rel=1e-2, abs=1e-3)
        for term in {"data", "marginal"} & first["train"].keys():  # the geometry's are of a few pairs that touch
            assert first["train"][term] == pytest.approx(second["train"][term], rel=1e-2)
    runs = [Run.load(layout.folder) for layout in (one, other)]
    assert np.array_equal(runs[0].posterior.index, runs[1].posterior.index)
    first, second = (run.conformations() for run in runs)  # the sign of a latent axis may differ
    assert rmsd(first, second) < 0.1 * rmsd(first, first.mean(0))


def rmsd(positions, others) -> float:
    return np.sqrt(((positions - others) ** 2).sum(-1).mean(-1)).mean()


def test_two_processes_train_like_one_on_the_evidence_lower_bound(particle_set, tmp_path):
    short_training(particle_set, tmp_path / "one", PAPER)
    in_processes(2, short_training, particle_set, tmp_path / "two", PAPER)
    compare_runs(RunLayout(tmp_path / "one"), RunLayout(tmp_path / "two"))


def test_two_processes_train_like_one_on_the_marginal_likelihood(particle_set, tmp_path):
    changes = {"segments": {"n_segments": 2}, "model": {"latent_dim": 1}, "training": {"batch_size": 16}}
    short_training(particle_set, tmp_path / "one", changes)
    in_processes(2, short_training, particle_set, tmp_path / "two", changes)
    compare_runs(RunLayout(tmp_path / "one"), RunLayout(tmp_path / "two"))


def test_the_command_in_two_processes_resumes_in_three(particle_set, tmp_path, monkeypatch):
    values = settings(particle_set, {**PAPER, "training": {**PAPER["training"], "epochs": 1}})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ["train", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "run"), "--no-check", "--quiet"]
    assert distributed.launch([*arguments, "--no-posterior"], 2) == 0
    (tmp_path / "run" / "posterior.npz").unlink(missing_ok=True)
    assert distributed.launch([*arguments, "--resume"], 3) == 0
    assert len(load_posterior(tmp_path / "run" / "posterior.npz")[0].mean) == 200


def test_the_mistake_of_a_user_ends_all_processes_and_is_told_once(tmp_path, capfd):
    assert distributed.launch(["train", str(tmp_path / "none.yaml"), "-o", str(tmp_path / "run")], 2) == 1
    assert capfd.readouterr().err.count("Error: ") == 1


def test_a_batch_smaller_than_the_processes_is_refused(particle_set, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 17)
    with pytest.raises(ConfigError, match="16 images cannot be shared out to 17 processes"):
        trainer_in_double(ElboTrainer, particle_set, tmp_path, PAPER)


def check_posterior_of_few_images(folder: Path) -> None:
    distributed.join()
    config = parse_config(settings(folder, OWN_SAMPLES), folder)
    table, structure = load_inputs(config)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config)
    posterior = compute_posterior(model, ParticleImages(table, model.mask_radius), config.inference)
    assert posterior.mean.shape == (200, 3) and np.isfinite(posterior.mean).all()


def test_a_process_without_images_has_the_posterior_of_the_others(particle_set):
    in_processes(2, check_posterior_of_few_images, particle_set)


def train_with_slow_files(particle_set: Path, run: Path) -> None:
    """The first process takes a second to write what it knows of an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ["RANK"] == "0":
            plain = Metrics.append
            patch.setattr(Metrics, "append", lambda *values: (time.sleep(1.0), plain(*values)))
        train(settings(particle_set, {**PAPER, "training": {"epochs": 1}}), run, show_progress=False, posterior=False)


def test_others_wait_for_the_files_of_the_first(particle_set, tmp_path):
    in_processes(2, train_with_slow_files, particle_set, tmp_path / "run")
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 1


def part_late(folder: Path) -> None:
    """The first process comes to its end a second after the others; all note when they have parted."""
    own = folder / f"parted-{os.environ['RANK']}"
    atexit.register(lambda: own.write_text(str(time.time())))  # called after what joining registers
    distributed.join()
    distributed.wait()
    if distributed.is_main():
        time.sleep(1.0)
        (folder / "end").write_text(str(time.time()))


def test_no_process_leaves_before_all_have_come_to_their_end(tmp_path):
    in_processes(3, part_late, tmp_path)
    end, *parted = (float((tmp_path / name).read_text()) for name in ("end", "parted-1", "parted-2", "parted-0"))
    assert min(parted) >= end
    assert parted[-1] == max(parted)  # it holds the store


@pytest.mark.parametrize(("error", "status"), [(ConfigError("wrong"), 1), (MemoryError(), distributed.CRASHED)])
def test_a_failure_ends_a_process_that_others_wait_for(tmp_path, monkeypatch, error, status):
    def fail(*_):
        raise error

    statuses = []
    monkeypatch.setattr(distributed, "count", lambda: 2)
    monkeypatch.setattr(distributed, "abandon", statuses.append)
    monkeypatch.setattr("cryosphere.config_files.read_config", fail)
    with pytest.raises((SystemExit, MemoryError)):
        main(["train", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "run")])
    assert statuses == [status]


def test_whoever_ends_a_launch_ends_its_processes(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/$RANK.part\nmv {tmp_path}/$RANK.part {tmp_path}/$RANK\nexec sleep 60\n"
    )
    python.chmod(0o700)
    call = (
        f"import sys; from cryosphere import distributed; sys.executable = {str(python)!r}; distributed.launch([], 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", call])
    until = time.monotonic() + 60
    while not all((tmp_path / name).exists() for name in "01"):
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) == 128 + signal.SIGTERM
    for name in "01":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)


def test_several_commands_of_srun_are_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match="started this command 8 times"):
        distributed.join()
