"""The order in which images are trained on."""

import numpy as np

from cryosphere.training.order import TrainingOrder


def test_every_pass_has_all_rows_and_any_place_is_the_same_from_anywhere():
    rows = np.array([3, 5, 8, 13, 21, 34, 55])
    whole = TrainingOrder(rows, seed=2).take(0, 21)
    for start in (0, 7, 14):
        assert sorted(whole[start : start + 7]) == rows.tolist()
    assert whole[:7].tolist() != whole[7:14].tolist()
    order = TrainingOrder(rows, seed=2)
    for place, count in ((12, 9), (0, 3), (5, 4), (6, 15), (20, 1)):
        assert order.take(place, count).tolist() == whole[place : place + count].tolist()
    assert TrainingOrder(rows, seed=3).take(0, 21).tolist() != whole.tolist()
