"""What is said of a training's length, from its records alone."""

from cryosphere.training.advice import compared_loss, describe_convergence, final_records


def _rounds(held_out, kind="marginal"):
    return [
        {"epoch": i, "stage": "full resolution", "resolution": 7.0, "train": {kind: 0.0}, "held_out": {kind: value}}
        for i, value in enumerate(held_out, start=4)
    ]


COARSE = {"epoch": 3, "stage": "fit bodies", "resolution": 14.0, "train": {}, "held_out": {"marginal": -99.0}}


def test_a_loss_that_still_falls_asks_for_more_epochs():
    said = describe_convergence([COARSE, *_rounds([-5.0, -6.0, -7.0])], 6)
    assert "lowest in epoch 6 (-7.000" in said
    assert "more training.epochs may do better" in said


def test_a_loss_that_has_ended_to_fall_does_not():
    said = describe_convergence([COARSE, *_rounds([-5.0, -7.0, -6.0, -6.5])], 5)
    assert "lowest in epoch 5" in said
    assert "none of the 2 after it did better" in said
    assert "may do better" not in said


def test_coarser_stages_are_not_compared():
    assert [record["epoch"] for record in final_records([COARSE, *_rounds([-1.0, -2.0])])] == [4, 5]


def test_without_held_out_images_there_is_no_advice():
    records = [{"epoch": 1, "train": {"total": 1.0}, "held_out": None}]
    assert "no images were held out" in describe_convergence(records, 1)


def test_epochs_of_the_earlier_objective():
    flat = [{"epoch": i, "train": {"total": 0.0}, "held_out": {"total": max(10.0 - i, 5.0)}} for i in range(1, 20)]
    assert "has flattened" in describe_convergence(flat, 5)


def test_one_structure_is_compared_by_its_data_term():
    record = {"stage": "static fit", "train": {"data": -76.0, "marginal": 0.0}, "held_out": {"marginal": -77.0}}
    assert (compared_loss(record, "train"), compared_loss(record, "held_out")) == (-76.0, -77.0)
