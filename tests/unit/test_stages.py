"""The plan of training: contests are fair, and as many images are seen as were asked for."""

from pathlib import Path

import pytest

from cryosphere.config_files import parse_config
from cryosphere.training.stages import MOST_CANDIDATES, plan


def make_plan(divides, **sections):
    values = {"particles": {"file": "a.star"}, "structure": {"file": "b.cif"}, **sections}
    return plan(parse_config(values, Path(), check_files=False), 9000, divides)


def test_shuffled_segments_see_as_many_images_as_the_segments_they_are_compared_with():
    stages = make_plan(divides=True)
    kinds = [stage.kind for stage in stages]
    control = kinds.index("control")
    contest = stages[control - MOST_CANDIDATES : control + 1]
    assert [stage.kind for stage in contest[:-1]] == ["bodies"] * MOST_CANDIDATES
    assert len({(stage.visits, stage.resolution, stage.rate) for stage in contest}) == 1


@pytest.mark.parametrize("divides", [True, False])
def test_both_dimensions_see_as_many_images_before_they_are_compared(divides):
    stages = make_plan(divides, segments={"n_segments": "auto" if divides else 3})
    trial = next(number for number, stage in enumerate(stages) if stage.kind == "trial")
    further = stages[trial - 1]
    first = next(stage for stage in stages if stage.kind == "bodies" or stage.is_fork)
    assert further.kind == "latent" and not further.is_fork
    assert stages[trial].visits == first.visits + further.visits
    assert stages[trial].resolution == first.resolution == further.resolution
    fixed = make_plan(divides, model={"latent_dim": 2}, segments={"n_segments": "auto" if divides else 3})
    assert not {"trial"} & {stage.kind for stage in fixed}


def test_only_the_first_round_begins_with_fresh_borders_and_the_full_rate():
    rounds = [stage for stage in make_plan(True) if stage.is_round]
    assert [stage.has_fresh_borders for stage in rounds] == [True] + [False] * (len(rounds) - 1)
    assert all(stage.rate < rounds[0].rate for stage in rounds[1:])


def test_epochs_are_passes_over_the_images_at_full_resolution():
    rounds = [stage for stage in make_plan(True, training={"epochs": 3}) if stage.is_round]
    assert [stage.visits for stage in rounds] == [27_000]
