"""Cubature points of posteriors as float32 files hold them, semi-definite ones among them."""

import numpy as np
import pytest

from cryosphere.runs.run import cubature_points


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_points_have_the_mean_and_covariance_of_posteriors_of_any_rank(rank):
    # An image whose weights fall on few shared conformations has a covariance of low rank; rounded to float32 its
    # zero eigenvalues become small negative ones.
    random = np.random.default_rng(rank)
    factor = random.normal(size=(500, 3, rank))
    covariance = (factor @ factor.transpose(0, 2, 1)).astype(np.float32)
    mean = random.normal(size=(500, 3)).astype(np.float32)
    points = cubature_points(mean, covariance)
    offset = points - mean[:, None]
    assert points.mean(1) == pytest.approx(mean, abs=1e-5)
    assert np.einsum("bpi,bpj->bij", offset, offset) / 6 == pytest.approx(covariance, abs=1e-3)
