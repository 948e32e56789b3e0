import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from cryosphere.model import losses
from cryosphere.training.schedules import cyclical_ramp, kl_weights, learning_rate_factor


def test_likelihood_ratio_is_the_best_over_all_contrasts():
    generator = torch.Generator().manual_seed(0)
    rendered = torch.rand(1, 9, 9, generator=generator, dtype=torch.float64)
    images = 0.7 * rendered + torch.randn(1, 9, 9, generator=generator, dtype=torch.float64)
    y, x = images.numpy(), rendered.numpy()
    best = minimize_scalar(lambda a: 0.5 * ((y - abs(a) * x) ** 2).sum())
    expected = 0.5 * (y**2).sum() - best.fun
    overlap, power = (images * rendered).sum((-2, -1)), (rendered**2).sum((-2, -1))
    assert losses.log_likelihood_ratio(overlap, power).item() == pytest.approx(expected, rel=1e-8)
    assert losses.log_likelihood_ratio(-power, power).item() == 0


def test_correlation_against_numpy_and_its_bounds():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    other = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    ones = torch.ones(8, 8, dtype=torch.float64)
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(images, other, strict=True)]
    assert np.allclose(losses.correlation(images, other, ones).numpy(), expected)
    assert torch.allclose(losses.correlation(images, 3 * images + 5, ones), torch.ones(3, dtype=torch.float64))


def brute_force_clash(positions):
    per_image = []
    for image in positions:
        overlaps = [
            (4 - np.linalg.norm(image[i] - image[j])) ** 2
            for i in range(len(image))
            for j in range(i + 2, len(image))
            if np.linalg.norm(image[i] - image[j]) < 4
        ]
        per_image.append(np.mean(overlaps) if overlaps else 0.0)
    return np.mean(per_image)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(1.0, 30.0))
def test_clash_with_neighbour_list_equals_all_pairs(seed, spread):
    positions = spread * np.random.default_rng(seed).normal(size=(3, 30, 3))
    result = losses.clash(torch.tensor(positions)).item()
    assert result == pytest.approx(brute_force_clash(positions), rel=1e-6, abs=1e-9)


def test_clash_beyond_the_nominal_asks_for_no_more_than_the_nominal_has():
    nominal = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [3.5, 0, 0], [0, 9, 0]], dtype=torch.float64)
    moved = nominal + torch.tensor([[0.2, 0, 0], [0, 0, 0], [0, 0, 0], [0, -4.95, 0]], dtype=torch.float64)
    near, far = 3.5 - 3.3, 4.3 - float(torch.linalg.norm(moved[3] - moved[0]))
    assert losses.clash(nominal[None], nominal) == 0
    assert losses.clash(moved[None], nominal).item() == pytest.approx((near**2 + far**2) / 2)
    assert torch.autograd.gradcheck(lambda positions: losses.clash(positions, nominal), moved[None].requires_grad_())


def test_clash_has_the_right_gradient():
    positions = 3 * torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.autograd.gradcheck(losses.clash, positions.requires_grad_())


def test_continuity_is_the_mean_squared_change_of_bond_lengths():
    positions = torch.tensor([[[0.0, 0, 0], [3.0, 0, 0], [3.0, 5, 0], [90.0, 0, 0]]])
    value = losses.continuity(positions, torch.tensor([0, 1]), torch.tensor([3.8, 3.8]))
    assert value.item() == pytest.approx((0.8**2 + 1.2**2) / 2, rel=1e-5)
    assert losses.continuity(positions, torch.tensor([], dtype=torch.long), torch.tensor([])).item() == 0


def test_squared_norm_has_the_right_gradient():
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert losses.squared_norm(weights).item() == pytest.approx((weights**2).sum().item())
    assert torch.autograd.gradcheck(losses.squared_norm, weights.requires_grad_())


def test_kl_to_standard_normal_against_torch():
    generator = torch.Generator().manual_seed(4)
    mean, log_std = torch.randn(2, 5, 3, generator=generator)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0)).sum(1)
    assert torch.allclose(losses.kl_to_standard_normal(mean, log_std), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "fraction", "expected"),
    [
        ("warm_up", 0.0, (0, 0, 0)),
        ("warm_up", 0.25, (0.5, 0.5, 0.5)),
        ("warm_up", 0.9, (1, 1, 1)),
        ("paper", 0.05, (0.1, 0.1, 0.5)),
        ("paper", 0.15, (0.3, 0.3, 1.0)),
        ("paper", 0.2, (0.4, 0.4, 0.0)),
        ("paper", 1.0, (1, 1, 1)),
    ],
)
def test_kl_schedules(schedule, fraction, expected):
    assert tuple(vars(kl_weights(schedule, fraction)).values()) == pytest.approx(expected)


def test_cyclical_ramp_has_five_cycles():
    values = np.array([cyclical_ramp(f) for f in np.linspace(0, 0.999, 1000)])
    assert (np.diff(values) < -0.5).sum() == 4
    assert (values == 1).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("schedule", "fraction", "expected"),
    [
        ("constant", 0.9, 1.0),
        ("multi_step", 0.49, 1.0),
        ("multi_step", 0.6, 0.1),
        ("multi_step", 0.75, pytest.approx(0.01)),
        ("warm_up_cosine", 0.049, pytest.approx(1.0, abs=0.02)),
        ("warm_up_cosine", 1.0, pytest.approx(0.05)),
    ],
)
def test_learning_rate_schedules(schedule, fraction, expected):
    assert learning_rate_factor(schedule, fraction, [0.5, 0.75]) == expected


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_the_expected_contrast_is_the_mean_of_its_posterior(spread):
    """By numerical integration over the contrast a of exp(a overlap - a² power / 2) N(a; mean, spread²)."""
    overlap, power, mean = torch.tensor([30.0, -4.0, 90.0]), torch.tensor([25.0, 30.0, 100.0]), 0.8
    prior = losses.ContrastPrior(torch.full((3,), mean), torch.full((3,), spread))
    a = np.linspace(-3, 4, 200_001)
    for number, found in enumerate(losses.expected_contrast(overlap, power, prior).tolist()):
        log = a * float(overlap[number]) - 0.5 * a**2 * float(power[number]) - 0.5 * ((a - mean) / spread) ** 2
        weight = np.exp(log - log.max())
        assert found == pytest.approx((a * weight).sum() / weight.sum(), rel=1e-5)
    assert losses.expected_contrast(overlap, power).tolist() == pytest.approx([1.2, 0.0, 0.9])
