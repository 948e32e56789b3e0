"""Two models from two halves, and what their agreement is called."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.config_files import dump_config, parse_config
from cryosphere.particles.selection import half_set_rows, training_rows
from cryosphere.pipelines.half_sets import compare_half_sets, main_motion_correlation
from cryosphere.runs.run import Run
from tests.particle_sets import configuration, write_particle_set


def test_halves_share_no_image_and_follow_the_refinement_where_it_named_them(tmp_path):
    from dataclasses import replace

    from cryosphere.io.star import read_particles

    folder = write_particle_set(tmp_path / "set", 40)
    table = read_particles(folder / "particles.star")
    first, second = (half_set_rows(table, half, seed=0) for half in (1, 2))
    assert len(np.intersect1d(first, second)) == 0 and len(first) + len(second) == 40
    named = replace(table, half_set=np.tile([1, 2], 20))
    assert half_set_rows(named, 2, seed=0).tolist() == list(range(1, 40, 2))
    config = parse_config(configuration(folder, particles={"half_set": 1}), folder)
    training, held_out = training_rows(named, config)
    assert set(training) | set(held_out) == set(range(0, 40, 2)) and len(held_out) > 0


def test_star_files_name_their_half_sets(tmp_path, star_blocks, write_star, make_stack):
    from cryosphere.io.star import read_particles

    make_stack(tmp_path / "stack.mrcs")
    assert read_particles(write_star(tmp_path / "without.star", star_blocks)).half_set is None
    star_blocks["particles"]["rlnRandomSubset"] = [1, 2, 2, 1]
    assert read_particles(write_star(tmp_path / "with.star", star_blocks)).half_set.tolist() == [1, 2, 2, 1]
    star_blocks["particles"]["rlnRandomSubset"] = [1, 1, 1, 1]
    assert read_particles(write_star(tmp_path / "one.star", star_blocks)).half_set is None


def test_correlation_of_motions():
    generator = np.random.default_rng(0)
    direction = generator.normal(size=(5, 3))
    z = generator.normal(size=300)
    one = z[:, None, None] * direction
    assert main_motion_correlation(one, one + 7.0) == pytest.approx(1.0)
    assert abs(main_motion_correlation(one, generator.permutation(z)[:, None, None] * direction)) < 0.2
    assert main_motion_correlation(one, np.zeros_like(one)) == 0.0


def test_the_command_trains_both_and_compares(tmp_path, monkeypatch):
    folder = write_particle_set(tmp_path / "set", 160, snr=2.0)
    sections = {"loss": {"objective": "elbo"}, "model": {"encoder": "pixels"}, "segments": {"method": "chain"}}
    config = parse_config(configuration(folder, **sections), folder)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["train", "config.yaml", "-o", "halves", "--half-sets", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "Half sets:" in result.output
    found = json.loads((tmp_path / "halves" / "half_sets.json").read_text())
    assert found["n_particles"] == 160 and -1 <= found["correlation"] <= 1 and len(found["residue_rmsd"]) == 40
    assert len(found["n_bodies"]) == 2 and -1 <= found["body_agreement"] <= 1
    runs = [Run.load(tmp_path / "halves" / half) for half in ("half1", "half2")]
    weights = [run.model.decoder.state_dict()["network.0.weight"] for run in runs]
    assert not np.allclose(*weights, atol=1e-2)
    assert compare_half_sets(runs[0], runs[0]).body_agreement == 1
    with torch.no_grad():
        for run in runs:
            assert run.posterior.is_shared  # read while it is that of these weights
            run.model.decoder.network[-1].weight.zero_()
    still = compare_half_sets(*runs)
    assert still.verdict == "no motion in either half" and still.n_bodies == [1, 1]
    again = CliRunner().invoke(main, ["train", "config.yaml", "-o", "halves", "--half-sets", "--quiet"])
    assert again.exit_code == 1 and "--resume" in again.output
    (tmp_path / "halves" / "mine.txt").write_text("keep")
    other = CliRunner().invoke(main, ["train", "config.yaml", "-o", "halves", "--half-sets", "--overwrite"])
    assert other.exit_code == 1 and (tmp_path / "halves" / "mine.txt").read_text() == "keep"
