"""The program as a user meets it: help, exit codes, one-sentence errors, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from cryosphere.cli import _COMMANDS, main
from tests.particle_sets import configuration, write_particle_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("main") / "set", 60)


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_every_command_has_help_with_an_example(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    if name != "simulate":
        assert f"cryosphere {name}" in result.output
    assert name in invoke("--help").output


def test_wrong_usage_exits_with_2():
    assert invoke("train").exit_code == 2
    assert invoke("fly").exit_code == 2
    assert invoke("train", "c.yaml", "-o", "run", "--device", "abacus").exit_code == 2


def test_importing_the_package_is_light():
    program = (
        "import sys, cryosphere; heavy = {'torch', 'matplotlib', 'pandas', 'gemmi', 'qtpy'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'train' in dir(cryosphere)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_public_names_all_load():
    import cryosphere

    for name in cryosphere.__all__:
        assert getattr(cryosphere, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'teleport'"):
        cryosphere.teleport  # noqa: B018


def test_init_then_train_from_the_command_line(folder, tmp_path, short_stages):
    config = tmp_path / "config.yaml"
    result = invoke("init", folder / "particles.star", folder / "nominal.cif", "-o", config)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(config)
    text = config.read_text()
    assert "60 particles, box 24 px, 4 Å/px" in text
    result = invoke(
        "train", config, "-o", tmp_path / "run", "--set", "training.epochs=1", "--set", "inference.n_conformations=4",
        "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "run")
    assert "images" in result.stderr or "image" in result.stderr
    assert "Held-out images (3), nats per image against pure noise: nominal structure" in result.stderr
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "posterior.npz"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    again = invoke("init", folder / "particles.star", folder / "nominal.cif", "-o", config)
    assert again.exit_code == 1
    assert config.read_text() == text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epoch=3"], "did you mean 'training.epochs'"),
        (["segments.n_segments=99"], "99 segments, but there are only 40 residues"),
        (["segments.n_segments=auto", "segments.regions=[{chain: Q, n_segments: 1}]"], "chain 'Q' is not in"),
        (["segments.regions=[{chain: A, n_segments: 1}]"], "with segments.regions each region has its own"),
        (["loss.objective=marginal", "model.motion=sequential"], "(the paper's) needs loss.objective 'elbo'"),
        (["particles.file=/nowhere.star"], "does not exist"),
        (["model.encoder=free", "inference.method=encoder"], "no latent for held-out images"),
    ],
)
def test_mistakes_are_one_sentence_exit_1_and_leave_nothing(folder, tmp_path, overrides, message):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(folder)))
    options = [option for override in overrides for option in ("--set", override)]
    result = invoke("train", config, "-o", tmp_path / "run", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") <= 2
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_debug_shows_the_traceback(tmp_path):
    result = invoke("--debug", "train", tmp_path / "absent.yaml", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ConfigError"


def test_run_folders_that_are_not_there_or_not_runs_are_named(tmp_path):
    for command in (["analyze"], ["evaluate"]):
        arguments = [*command, tmp_path / "no_run", *([tmp_path] if command == ["evaluate"] else [])]
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "not a run folder" in result.stderr


def test_a_reduced_demo_runs_and_its_folder_is_safe(tmp_path, short_stages):
    options = ("--particles", 120, "--epochs", 1, "--quiet")
    result = invoke("demo", "-o", tmp_path / "demo", *options)
    assert result.exit_code == 0, result.output
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 10
    for name in (
        "ensemble.cif",
        "coordinates.npy",
        "demo.png",
        "volumes",
        "run/analysis",
        "run/report.html",
        "config.yaml",
    ):
        assert (tmp_path / "demo" / name).exists(), name
    second = invoke("demo", "-o", tmp_path / "demo", *options)
    assert second.exit_code == 1
    assert "--overwrite" in second.stderr
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "data.mrc").write_text("dear")
    third = invoke("demo", "-o", mine, "--overwrite", *options)
    assert third.exit_code == 1
    assert (mine / "data.mrc").exists()


def test_a_damaged_checkpoint_is_named(folder, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(folder)))
    assert invoke("train", config, "-o", tmp_path / "run", "--no-posterior").exit_code == 0
    checkpoint: Path = tmp_path / "run" / "checkpoints" / "last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    result = invoke("train", config, "-o", tmp_path / "run", "--resume")
    assert result.exit_code == 1
    assert "last.pt: not a readable checkpoint" in result.stderr


def test_a_full_gpu_is_said_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("cryosphere.config_files.read_config", fail)
    result = invoke("train", tmp_path / "config.yaml", "-o", tmp_path / "run")
    assert result.exit_code == 1 and result.stderr.startswith("Error: the GPU's memory is full.")
    result = invoke("--debug", "train", tmp_path / "config.yaml", "-o", tmp_path / "run")
    assert isinstance(result.exception, torch.OutOfMemoryError)
