"""The page of a run that was trained on images: averages beside the model, the stored check, versions."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import pytest

import cryosphere
from cryosphere.analysis.view_averages import average_views
from tests.particle_sets import SHORT_TRAINING, marginal_configuration, write_particle_set


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_particle_set(folder / "set", 500, snr=1.0)
    with pytest.MonkeyPatch.context() as patch:
        for place, value in (SHORT_TRAINING | {"cryosphere.training.stages._COARSE_VISITS": 640}).items():
            patch.setattr(place, value)
        return cryosphere.train(marginal_configuration(folder / "set"), folder / "run", show_progress=False)


def test_training_keeps_the_check_and_the_versions(run):
    found = json.loads(run.layout.check.read_text())
    assert found["comparison"]["n_images"] == 200
    assert found["faults"] == [] or all({"code", "sentence", "remedy"} <= set(fault) for fault in found["faults"])
    versions = json.loads(run.layout.versions.read_text())
    assert versions["cryosphere"] == version("cryosphere") and versions["torch"] == version("torch")


def test_averages_of_the_model_resemble_those_of_the_particles(run):
    thirds = np.argsort(np.argsort(run.posterior.mean[:, 0])) * 3 // len(run.posterior.index)
    averages = average_views(run, thirds, 3, n_views=2, n_each=40)
    assert averages.counts.shape == (3, 2) and averages.counts.max() <= 40
    model, still = averages.correlations(averages.model), averages.correlations(averages.still)
    assert np.nanmean(model) > 0.9
    assert np.nanmean(model) > np.nanmean(still)
    # of the other third's particles the model says something else
    swapped = averages.correlations(averages.model[::-1])
    assert np.nanmean(model[[0, 2]]) > np.nanmean(swapped[[0, 2]])


def test_the_page_tells_check_averages_and_verdict(run):
    text = cryosphere.write_report(run).read_text(encoding="utf-8")
    assert "The check before training compared 200 images" in text
    assert 'alt="Average of ' in text and "Correlation over all" in text
    assert "standard errors" in text and "models were compared" in text
    assert version("torch") in text
    before = run.layout.report.read_bytes()
    assert cryosphere.write_report(run.folder, overwrite=True).read_bytes() == before  # nothing in it is random


def test_images_that_have_gone_are_said(run, tmp_path):
    (stack,) = run.table.stack_paths
    stack.rename(stack.with_suffix(".gone"))
    path = cryosphere.write_report(run, tmp_path / "page.html")
    stack.with_suffix(".gone").rename(stack)
    assert "No averages of particles" in path.read_text(encoding="utf-8")
