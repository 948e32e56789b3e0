"""Contrast distributions, latent nodes and importance weights against numerical integration."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from cryosphere.model.latents import log_normal, prior_nodes
from cryosphere.model.losses import ContrastPrior, estimate_contrast, improve_contrast, log_likelihood_ratio
from cryosphere.model.mixture import EncodedImages, _balance
from cryosphere.runs.grid import PosteriorGrid


@pytest.mark.parametrize(
    ("overlap", "power", "mean", "std"), [(3.0, 5.0, 0.8, 0.3), (-2.0, 4.0, 0.5, 0.2), (40, 50, 1, 0.05)]
)
def test_contrast_is_integrated_out(overlap, power, mean, std):
    def integrand(a):
        return math.exp(a * overlap - 0.5 * a**2 * power) * stats.norm.pdf(a, mean, std)

    wanted = math.log(integrate.quad(integrand, mean - 12 * std, mean + 12 * std, points=[overlap / power])[0])
    prior = ContrastPrior(torch.tensor([mean]).double(), torch.tensor([std]).double())
    found = log_likelihood_ratio(torch.tensor([overlap]).double(), torch.tensor([power]).double(), prior)
    assert float(found) == pytest.approx(wanted, abs=1e-6)


def test_without_a_distribution_the_best_contrast_is_taken_and_none_is_negative():
    found = log_likelihood_ratio(torch.tensor([3.0, -3.0]), torch.tensor([2.0, 2.0]))
    assert found.tolist() == pytest.approx([max(a * 3 - a**2 for a in np.linspace(0, 4, 401)), 0.0], abs=1e-4)


def test_contrasts_are_found_by_moments_and_kept_by_expectation_maximisation():
    generator = torch.Generator().manual_seed(0)
    power = 5 + 20 * torch.rand(40_000, generator=generator).double()
    contrast = 0.7 + 0.2 * torch.randn(40_000, generator=generator).double()
    overlap = contrast * power + power.sqrt() * torch.randn(40_000, generator=generator).double()
    mean, std = estimate_contrast(overlap, power)
    assert float(mean) == pytest.approx(0.7, abs=0.01) and float(std) == pytest.approx(0.2, abs=0.02)
    value = torch.tensor([0.3, 0.5]).double()
    for _ in range(300):
        value = improve_contrast(torch.ones(40_000, 1).double(), overlap[:, None], power[:, None], *value)
    assert value.tolist() == pytest.approx([0.7, 0.2], abs=0.02)


def test_images_that_anticorrelate_have_no_contrast():
    mean, std = estimate_contrast(torch.tensor([-1.0, -2.0]), torch.tensor([3.0, 3.0]))
    assert float(mean) == 0 and float(std) == 0


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_averages_over_prior_nodes_are_those_of_the_normal_distribution(latent_dim):
    nodes = prior_nodes(512, latent_dim, torch.Generator().manual_seed(3)).double()
    assert torch.allclose(nodes.mean(0), torch.zeros(latent_dim).double(), atol=0.06)
    assert torch.allclose(nodes.T @ nodes / 512, torch.eye(latent_dim).double(), atol=0.06)
    smooth = torch.exp(-0.5 * (nodes**2).sum(1)).mean()
    assert float(smooth) == pytest.approx(2 ** (-latent_dim / 2), rel=0.02)


def test_log_normal_is_scipys():
    z = torch.tensor([[0.3, -1.2]]).double()
    wanted = stats.norm.logpdf([0.3, -1.2], [0.1, 0.2], [0.5, 2.0]).sum()
    found = log_normal(z, torch.tensor([0.1, 0.2]).double(), torch.tensor([0.5, 2.0]).double().log())
    assert float(found) == pytest.approx(wanted)


@pytest.mark.parametrize("n_own", [0, 8])
def test_weights_of_shared_and_own_candidates_integrate_a_known_likelihood(n_own):
    """Likelihood N(z; m, s²): its integral over the prior is N(m; 0, 1 + s²)."""
    generator = torch.Generator().manual_seed(5)
    means = torch.linspace(-1.5, 1.5, 200)[:, None].double()
    encoded = EncodedImages(means * 0.8, torch.full_like(means, math.log(0.5)))
    totals = []
    for _ in range(40):
        drawn = encoded.draw(torch.randint(200, (16,), generator=generator), generator)
        shared = torch.cat([prior_nodes(16, 1, generator).double(), drawn])
        own = encoded.draw(torch.arange(200).repeat_interleave(n_own), generator).view(200, n_own, 1)
        latent = torch.cat([shared.expand(200, -1, -1), own], dim=1)
        likelihood = log_normal(latent - means[:, None], 0.0, math.log(0.4))
        totals.append(torch.exp(likelihood + _balance(latent, shared, encoded, torch.arange(200), 16, n_own)).sum(1))
    found = torch.stack(totals).mean(0)
    wanted = torch.tensor(stats.norm.pdf(means[:, 0].numpy(), 0, math.sqrt(1 + 0.4**2)))
    assert float((found / wanted - 1).abs().max()) < 0.1
    assert float((found / wanted - 1).mean().abs()) < 0.02


@pytest.mark.parametrize(("latent_dim", "count", "width"), [(1, 96, 0.06), (2, 256, 0.35)])
def test_posteriors_on_the_grid_are_those_of_a_normal_likelihood(latent_dim, count, width):
    nodes = prior_nodes(count, latent_dim).numpy()
    generator = np.random.default_rng(0)
    centre = generator.normal(size=(30, latent_dim)) * 0.6
    squares = ((nodes[None] - centre[:, None]) ** 2).sum(2)
    likelihood = -0.5 * squares / width**2
    grid = PosteriorGrid(nodes, dense=True)
    weights = grid.weights(likelihood)
    mean = weights @ grid.latent
    wanted = centre / (1 + width**2)
    assert np.abs(mean - wanted).max() < 0.35 * width
    spread = np.sqrt(np.einsum("bq,bqi->bi", weights, (grid.latent - mean[:, None]) ** 2))
    assert spread.mean() == pytest.approx(width / math.sqrt(1 + width**2), rel=0.15)
    evidence = np.log(np.exp(grid.log_weights(likelihood)).sum(1))
    exact = stats.norm.logpdf(centre, 0, math.sqrt(1 + width**2)).sum(1) + latent_dim * math.log(
        math.sqrt(2 * math.pi) * width
    )
    assert np.abs(evidence - exact).max() < 0.3


def test_wild_likelihoods_beyond_the_outermost_nodes_are_not_made_likely():
    nodes = prior_nodes(576, 2).numpy().astype(float)
    place = np.array([0.3, -1.2])
    far = np.linalg.norm(nodes, axis=1) > 1.8
    wild = 3000 * np.sin(np.arange(len(nodes)) ** 2.0)
    likelihood = 200 - 30 * ((nodes - place) ** 2).sum(1) + np.where(far, np.minimum(wild, -500) * (nodes[:, 0] > 0), 0)
    grid = PosteriorGrid(nodes, dense=True)
    assert (likelihood @ grid._operator).max() > 500  # what interpolation alone makes of it
    mean = grid.weights(likelihood[None]) @ grid.latent
    assert np.linalg.norm(mean[0] - place) < 0.05


def test_a_grid_that_is_not_dense_is_its_nodes():
    grid = PosteriorGrid(np.array([[0.0], [1.0]]), dense=False)
    assert grid.weights(np.log([[1.0, 3.0]]))[0].tolist() == pytest.approx([0.25, 0.75])
