"""Segments without support are stilled as long as the images do not miss them together."""

import numpy as np
import pytest
import torch

from cryosphere.particles.dataset import ParticleImages
from cryosphere.training import evidence
from tests.particle_sets import ARM
from tests.unit.test_bodies import arms_model

ROWS = np.arange(400)


@pytest.fixture
def swinging(tmp_path):
    model = arms_model(np.repeat([0, 1], ARM), tmp_path)
    with torch.no_grad():
        model.decoder.network[-1].weight += torch.randn(
            model.decoder.network[-1].weight.shape, generator=torch.Generator().manual_seed(1)
        )
    return model


def judged(model, monkeypatch, gain):
    """Verdict where conformations are worth ``gain(first arm moves, second arm moves)`` nats to every image."""

    def worth(model, images, rows, conformations, level):
        sites = conformations.numpy()
        moves = [float(sites[:, part].std(0).max()) > 0.1 for part in (slice(0, ARM - 6), slice(ARM + 6, 2 * ARM))]
        noise = np.random.default_rng(int(1000 * sites.std())).normal(size=len(rows))
        rounding = 1e-6 * np.random.default_rng(len(sites)).uniform(len(sites) > 1, 2, size=len(rows))
        return 20 + gain(*moves) + noise + rounding

    monkeypatch.setattr(evidence, "marginal_evidence", worth)
    return evidence.segment_support(model, object.__new__(ParticleImages), ROWS)  # nobody looks at them


def moving_arms(model):
    with torch.no_grad():
        spread = model.decode(torch.linspace(-2, 2, 20)[:, None]).std(0).max(-1).values
    return [bool(spread[: ARM - 6].max() > 0.1), bool(spread[ARM + 6 :].max() > 0.1)]


def test_an_arm_that_nothing_speaks_for_is_stilled_and_the_other_is_not(swinging, monkeypatch):
    verdict = judged(swinging, monkeypatch, lambda first, second: 5.0 * first)
    assert [segment["is_stilled"] for segment in verdict["segments"]] == [False, True]
    assert moving_arms(swinging) == [True, False]


def test_of_two_arms_that_can_stand_in_for_each_other_one_goes_on_moving(swinging, monkeypatch):
    verdict = judged(swinging, monkeypatch, lambda first, second: 5.0 * (first or second))
    assert [segment["motion"] for segment in verdict["segments"]] == ["not supported"] * 2
    assert sum(segment["is_stilled"] for segment in verdict["segments"]) == 1
    assert sum(moving_arms(swinging)) == 1 and verdict["motion"] == "supported"


def test_where_nothing_speaks_for_either_arm_there_is_no_motion(swinging, monkeypatch):
    verdict = judged(swinging, monkeypatch, lambda first, second: 0.0)
    assert [segment["is_stilled"] for segment in verdict["segments"]] == [True, True]
    assert moving_arms(swinging) == [False, False] and verdict["motion"] == "not supported"
