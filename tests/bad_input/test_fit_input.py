"""Maps and structures that cannot be fitted: one sentence each, and nothing written."""

from __future__ import annotations

import json

import numpy as np
import pytest

import cryosphere
from cryosphere.errors import InputError
from cryosphere.placement import search
from cryosphere.simulation.shipped_data import shipped_path
from tests.gemmi_maps import write_mrc

CLOSED = shipped_path("adk/closed.cif")


@pytest.fixture(autouse=True)
def fewer_rotations(monkeypatch):
    monkeypatch.setattr(search, "N_ROTATIONS", 200)


def refusal(folder, *arguments, **options) -> str:
    before = sorted(folder.iterdir())
    with pytest.raises(InputError) as caught:
        cryosphere.fit(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    assert sorted(folder.iterdir()) == before
    return text


@pytest.fixture
def noise(tmp_path):
    values = np.random.default_rng(0).normal(size=(32, 32, 32))
    return write_mrc(tmp_path / "noise.mrc", values, 3.0, (-48.0,) * 3)


def test_map_of_something_else(tmp_path, noise):
    text = refusal(tmp_path, CLOSED, noise, tmp_path / "placed.cif")
    assert "closed.cif finds no place in" in text and "noise.mrc" in text and "chance" in text


def test_empty_map(tmp_path):
    path = write_mrc(tmp_path / "flat.mrc", np.full((16, 16, 16), 2.5), 3.0)
    assert "has the value 2.5 in every voxel" in refusal(tmp_path, CLOSED, path, tmp_path / "placed.cif")


def test_map_with_voxels_that_are_not_numbers(tmp_path):
    values = np.ones((16, 16, 16))
    values[3, 4, 5] = values[0, 0, 0] = np.nan
    path = write_mrc(tmp_path / "nan.mrc", np.ones((16, 16, 16)), 3.0)
    with open(path, "r+b") as file:
        file.seek(1024)
        file.write(values.astype("<f4").tobytes())
    assert "has 2 voxels that are not numbers" in refusal(tmp_path, CLOSED, path, tmp_path / "placed.cif")


def test_missing_inputs(tmp_path, noise):
    assert "absent.mrc does not exist" in refusal(tmp_path, CLOSED, tmp_path / "absent.mrc", tmp_path / "p.cif")
    assert "absent.cif does not exist" in refusal(tmp_path, tmp_path / "absent.cif", noise, tmp_path / "p.cif")


def test_output_of_another_kind(tmp_path, noise):
    assert "expected .cif or .pdb" in refusal(tmp_path, CLOSED, noise, tmp_path / "placed.mrc")


@pytest.mark.parametrize("name", ["placed.cif", "placed_model.mrc", "placed.png", "placed.cxc"])
def test_existing_outputs_are_kept(tmp_path, noise, name):
    (tmp_path / name).write_text("mine")
    text = refusal(tmp_path, CLOSED, noise, tmp_path / "placed.cif")
    assert name in text and "--overwrite" in text
    assert (tmp_path / name).read_text() == "mine"


def test_inputs_are_never_replaced(tmp_path, noise):
    structure = tmp_path / "model.cif"
    structure.write_bytes(CLOSED.read_bytes())
    text = refusal(tmp_path, structure, noise, structure, overwrite=True)
    assert "model.cif is an input and would be replaced" in text
    model = noise.rename(tmp_path / "a_model.mrc")
    assert "a_model.mrc is an input" in refusal(tmp_path, structure, model, tmp_path / "a.cif", overwrite=True)


def test_domains_that_cannot_be_cut(tmp_path, noise):
    text = refusal(tmp_path, CLOSED, noise, tmp_path / "placed.cif", domains=40)
    assert "cannot be cut into 40 domains" in text and "or fewer" in text


def test_predicted_error_without_domains_or_of_another_sequence(tmp_path, noise):
    pae = tmp_path / "pae.json"
    pae.write_text(json.dumps({"predicted_aligned_error": [[0.0] * 5] * 5}))
    assert "--domains" in refusal(tmp_path, CLOSED, noise, tmp_path / "p.cif", pae_file=pae)
    text = refusal(tmp_path, CLOSED, noise, tmp_path / "p.cif", pae_file=pae, domains=3)
    assert "of another sequence" in text and "5 × 5" in text
