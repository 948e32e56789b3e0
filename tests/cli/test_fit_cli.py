"""``cryosphere fit`` and what follows it, from the command line."""

from __future__ import annotations

import json

import gemmi
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.placement import fitting, search
from cryosphere.simulation.shipped_data import shipped_path
from tests.gemmi_maps import calpha, gaussian_map, moved_structure, rmsd, write_mrc


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A structure turned by 20° and shifted, and its map at 10 Å; a search small enough for a test."""
    monkeypatch.setattr(search, "N_ROTATIONS", 500)
    monkeypatch.setattr(fitting, "_KEPT", 8)
    closed = gemmi.read_structure(str(shipped_path("adk/closed.cif")))
    origin = (-54.0,) * 3
    write_mrc(tmp_path / "map.mrc", gaussian_map([closed[0]], 10.0, 3.0, 36, origin), 3.0, origin)
    moved_structure(closed, seed=1).make_mmcif_document().write_file(str(tmp_path / "model.cif"))
    return tmp_path, closed


def test_fit_prints_json_writes_its_files_and_keeps_what_is_there(inputs):
    folder, closed = inputs
    arguments = ("fit", folder / "model.cif", folder / "map.mrc", "-o", folder / "placed.cif")
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["hand"] == "as given" and found["correlation"] > 0.99
    np.testing.assert_allclose(found["box_centre"], np.zeros(3))
    assert "refining the best placements" in result.stderr and "rotation" in result.stderr
    assert rmsd(calpha(folder / "placed.cif"), calpha(closed)) < 0.25
    again = invoke(*arguments)
    assert again.exit_code == 1 and "--overwrite" in again.stderr and not again.stdout


def test_fit_of_missing_files_is_one_sentence(tmp_path):
    result = invoke("fit", tmp_path / "absent.cif", tmp_path / "absent.mrc", "-o", tmp_path / "placed.cif")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert invoke("fit", tmp_path / "absent.cif").exit_code == 2


def test_init_takes_the_box_centre_from_a_map(tmp_path, star_blocks, write_star, make_stack):
    make_stack(tmp_path / "stack.mrcs")
    star = write_star(tmp_path / "particles.star", star_blocks)
    write_mrc(tmp_path / "map.mrc", np.random.default_rng(0).normal(size=(8, 8, 8)), 1.5, (100.0, 20.0, -7.5))
    model = shipped_path("adk/closed.cif")
    result = invoke("init", star, model, "--map", tmp_path / "map.mrc", "-o", tmp_path / "config.yaml")
    assert result.exit_code == 0, result.output
    assert "the middle of the map" not in result.stderr
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["structure"]["origin"] == [106.0, 26.0, -1.5]
    write_mrc(tmp_path / "map.mrc", np.random.default_rng(0).normal(size=(8, 8, 12)), 1.5)
    again = invoke("init", star, model, "--map", tmp_path / "map.mrc", "-o", tmp_path / "config.yaml", "--overwrite")
    assert again.exit_code == 0 and "18 x 12 x 12 Å wide, the particles' box 12 Å" in again.stderr
