"""What a run takes is announced as it then is; what does not fit is named with its remedy before anything is made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics import motions
from cryosphere.physics.gaussians import grid_size
from cryosphere.pipelines.checked_training import train
from cryosphere.preflight import resources
from cryosphere.preflight.check import check
from cryosphere.preflight.memory import Workload, requirements
from cryosphere.preflight.resources import Resources
from cryosphere.training import marginal, memory
from cryosphere.training.stages import Stage
from cryosphere.training.train import load_inputs
from tests.particle_sets import configuration, marginal_configuration, write_particle_set

ROOT = Path(__file__).parents[2]
# Announces, then trains on one block at full resolution, compares models at few conformations, and prints the bytes
# that were announced and those that it took at most.
MEASURED = """
import json, sys
from cryosphere.preflight.resources import Resources
from cryosphere.training import evidence, marginal, memory, train
marginal.plan = lambda *_: [marginal.Stage("full resolution", "latent", None, 64, 64)]
evidence._NODES = {1: 16}
told = []
check = lambda config, table, structure, say: told.append(Resources.of(config, table, structure))
train.train(json.loads(sys.argv[1]), sys.argv[2], show_progress=False, check=check)
print(sum(told[0].required.ram.values()), memory.peak_resident())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_particle_set(tmp_path_factory.mktemp("memory") / "set", 120)


@pytest.fixture
def values(folder) -> dict:
    return marginal_configuration(folder, model={"latent_dim": 1})


@pytest.fixture
def short_plan(monkeypatch):
    """One block of images at full resolution."""
    monkeypatch.setattr(marginal, "plan", lambda *_: [Stage("full resolution", "latent", None, 64, 64)])


@pytest.mark.skipif(sys.platform != "linux", reason="systems count the memory of a process differently")
@pytest.mark.parametrize(("box_size", "n_nodes"), [(24, 16), (56, 96)])
def test_a_run_takes_the_memory_that_was_announced(tmp_path, box_size, n_nodes):
    folder = write_particle_set(tmp_path / "set", 80, box_size=box_size)
    nodes = {"training": {"n_nodes": n_nodes}, "inference": {"n_conformations": 16}}
    values = marginal_configuration(folder, model={"latent_dim": 1}, segments={"n_segments": 2}, **nodes)
    peaks = []
    for run in ("first", "second"):  # the first may compile what is compiled once on a machine
        command = [sys.executable, "-c", MEASURED, json.dumps(values), str(tmp_path / run)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        announced, peak = (float(word) for word in done.stdout.split())
        peaks.append(peak)
    assert 0.9 < announced / min(peaks) < 1.5
    if n_nodes == 96:
        assert min(peaks) > 1e9, "the transforms must count"


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"latent_dim": 3, "encoder": "score", "encoder_layers": [7], "decoder_layers": [5, 6]}},
        {"model": {"latent_dim": 2, "encoder": "pixels", "encoder_layers": [7], "decoder_layers": [5]}},
        {"model": {"preset": "paper"}, "segments": {"n_segments": 3}},
        {
            "model": {"latent_dim": 2, "encoder": "free"},
            "loss": {"objective": "elbo"},
            "training": {"held_out": 0.0},
            "segments": {"method": "chain", "n_segments": 3},
        },
    ],
)
def test_the_workload_is_that_of_the_model(folder, sections):
    inputs = {"particles": {"file": "particles.star"}, "structure": {"file": "nominal.cif"}}
    config = parse_config({"segments": {"n_segments": 4}, **inputs, **sections}, folder)
    table, structure = load_inputs(config)
    work = Workload.of(config, table, structure)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if config.model.encoder == "score":  # so small a structure has fewer groups of residues
        missing = work.n_cached - model.encoder.features.n_features
        n_parameters += missing * config.model.encoder_layers[0]
    assert work.n_parameters == n_parameters
    assert (work.n_segments, work.latent_dim) == (model.segmentation.n_segments, model.latent_dim)
    assert work.band == model.level().band
    if config.loss.objective == "marginal":
        assert work.n_transformed >= model.n_nodes
    assert (work.n_compared > 0) == (config.inference.method == "weights" and config.model.latent_dim < 3)


def test_the_posterior_takes_the_disk_that_was_announced(folder, values, tmp_path, short_plan):
    config = parse_config(values, tmp_path)
    run = train(config, tmp_path / "run", show_progress=False, check=False)
    needed = Resources.of(config, *load_inputs(config)).required.disk
    assert needed["posterior"] == pytest.approx(run.layout.posterior.stat().st_size, rel=0.2)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert 0.9 * sum(file.stat().st_size for file in files) < sum(needed.values()) + 1e6


def test_requirements_grow_with_what_they_depend_on(values, folder):
    config = parse_config(values, folder)
    work = replace(Workload.of(config, *load_inputs(config)), box_size=128, band=64, n_cached=876)
    before = requirements(work, "cpu", 5e8)
    assert before.gpu == {} and before.ram["program and inputs"] > 5e8
    more = requirements(replace(work, n_transformed=2 * work.n_transformed), "cpu", 5e8)
    one = work.n_transformed * 8 * (4 * 64 + 1) ** 2 * (2 * 64 + 1)
    assert sum(more.ram.values()) - sum(before.ram.values()) == pytest.approx(one)
    million = requirements(replace(work, n_particles=work.n_particles + 1_000_000), "cpu", 5e8)
    assert million.ram["particles"] - before.ram["particles"] == pytest.approx(1e6 * (60 + 2 * 876))
    on_gpu = requirements(work, "cuda", 5e8)
    assert sum(on_gpu.gpu.values()) > one and sum(on_gpu.ram.values()) < sum(before.ram.values()) - 0.9 * one


def test_check_says_what_a_run_takes_and_what_is_there(values):
    report = check(values)
    for name in ("memory", "disk"):
        told = report.as_dict()["facts"][name]
        assert told["needed_bytes"] == pytest.approx(sum(told["parts_bytes"].values()))
        assert 0 < told["needed_bytes"] < told["free_bytes"]
    memory_line, disk_line = report.lines()[len(report.facts) - 2 : len(report.facts)]
    assert re.match(r"memory +about [\d.]+ .B \(\d.* there\): program and inputs [\d.]+ .B", memory_line)
    assert re.match(r"disk +about .* there in the current folder\).*; coordinates of every particle", disk_line)


@pytest.mark.parametrize(("ram", "is_refused"), [(1e8, True), (8e8, False)])
def test_too_little_memory_is_a_fault_and_training_refuses_what_certainly_does_not_fit(
    folder, values, tmp_path, monkeypatch, ram, is_refused
):
    monkeypatch.setattr(resources, "resident", lambda: 5e8)
    monkeypatch.setattr(resources, "free_ram", lambda: ram - 5e8)
    config = parse_config(values, tmp_path)
    (verdict,) = Resources.of(config, *load_inputs(config)).verdicts()
    assert verdict.code == "memory" and verdict.fatal == is_refused
    assert "of memory, of which" in verdict.sentence and verdict.sentence.endswith(":")
    if is_refused:
        with pytest.raises(ConfigError, match=r"--no-check trains all the same"):
            train(config, tmp_path / "run", show_progress=False)
        assert not (tmp_path / "run").exists()


def test_a_full_disk_is_refused_with_the_run_folder(values, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "free_disk", lambda folder: 1e3)
    config = parse_config(values, tmp_path)
    with pytest.raises(ConfigError, match=r"of disk, .* 0 MB are there in .*run"):
        train(config, tmp_path / "run", show_progress=False)


def test_training_says_in_one_line_what_it_takes(values, tmp_path, short_plan):
    said = []
    train(parse_config(values, tmp_path), tmp_path / "run", show_progress=False, posterior=False, say=said.append)
    (line,) = [sentence for sentence in said if sentence.startswith("The run takes about")]
    assert "of memory (" in line and f"there in {tmp_path / 'run'}" in line


def test_a_device_that_is_not_here_is_only_estimated(values, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = parse_config(values | {"training": {"device": "cuda"}}, tmp_path)
    found = Resources.of(config, *load_inputs(config))
    assert "gpu" not in found.free and [fact.name for fact in found.facts()] == ["memory", "GPU memory", "disk"]
    assert found.verdicts() == []


@pytest.mark.parametrize(
    ("line", "files", "free"),
    [
        ("0::/job/step", {"job/memory.max": 5000, "job/memory.current": 2000, "job/step/memory.max": "max"}, [3000]),
        (
            "0::/job",
            {"job/memory.max": 5000, "job/memory.current": 2000, "job/memory.stat": "inactive_file 700"},
            [3700],
        ),
        ("0::/", {"memory.max": 900, "memory.current": 100}, [800]),
        ("0::/job", {}, []),
        (
            "4:cpu,memory:/job",
            {"memory/job/memory.limit_in_bytes": 800, "memory/job/memory.usage_in_bytes": 300},
            [500],
        ),
        ("4:cpu:/job", {"job/memory.limit_in_bytes": 800, "job/memory.usage_in_bytes": 300}, []),
    ],
)
def test_limits_of_control_groups_count(tmp_path, line, files, free):
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    (tmp_path / "membership").write_text(line + "\n")
    assert list(memory._free_of_groups(tmp_path / "membership", root)) == free


def test_the_process_has_the_memory_that_it_takes():
    before, free = memory.resident(), memory.free_ram()
    block = np.ones(50_000_000)
    assert 3.9e8 < memory.resident() - before < 4.5e8
    assert memory.peak_resident() >= 0.99 * memory.resident() and free > 0
    del block


def model_and_bytes(config, folder, n_segments):
    """A model with the table of its images, and the bytes of an image and of a conformation."""
    config = parse_config(config, folder)
    table, structure = load_inputs(config)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config)
    fine = grid_size(table.box_size, table.pixel_size, 2.0)
    decoded = memory.conformation_bytes(structure.n_residues, n_segments, "blended")
    return table, model, memory.image_bytes(table.box_size, fine, structure.n_residues), decoded


@pytest.mark.parametrize(("n_images", "n_fitting", "expected"), [(32, 64, 32), (32, 32, 32), (33, 32, 17), (5, 0.3, 1)])
def test_images_at_a_time_fit_and_divide_evenly(folder, values, n_images, n_fitting, expected):
    _, model, image, decoded = model_and_bytes(configuration(folder), folder, 2)
    assert memory.images_at_a_time(model, n_images, free=1.001 * n_fitting * (image + decoded)) == expected
    values = values | {"segments": {"n_segments": 3}}
    _, model, image, decoded = model_and_bytes(values, folder, 3)
    assert memory.images_at_a_time(model, n_images, free=1.001 * n_fitting * image + n_images * decoded) == expected


def test_parts_are_no_larger_than_what_the_machine_has_free(folder, monkeypatch):
    _, model, image, decoded = model_and_bytes(configuration(folder), folder, 2)
    assert memory.images_at_a_time(model, 40) == 40
    monkeypatch.setattr(memory, "free_ram", lambda: 5.5 * (image + decoded) / memory._USABLE)
    assert memory.images_at_a_time(model, 40) == 5


def test_a_step_of_so_many_images_takes_the_memory_counted(folder, monkeypatch):
    """What autograd keeps between forward and backward is less than what is counted, which has room for the peak, too.

    Compiled loops keep less: the count is that of plain torch, which accelerators run.
    """
    monkeypatch.setattr(motions, "is_compiled", lambda tensor: False)
    config = configuration(folder, segments={"n_segments": 4})
    table, model, image, decoded = model_and_bytes(config, folder, 4)
    batch = ParticleImages(table, model.mask_radius).batch(np.arange(64))
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sites = model.decode_sites(torch.randn(64, 1), model.segment_weights())
        loss = model.data_loss(batch, sites).sum()
    counted = 64 * (image + decoded)
    assert loss.requires_grad and 0.2 * counted < sum(kept.values()) < counted
