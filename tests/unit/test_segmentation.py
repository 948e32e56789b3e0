import numpy as np
import pytest
import torch

from cryosphere.config import RegionConfig, SegmentsConfig
from cryosphere.errors import ConfigError
from cryosphere.model.segmentation import Segmentation, regions_of
from cryosphere.records import Atoms, Structure


def make_structure(chains=(("A", range(1, 41)), ("B", range(101, 131)))):
    chain_ids = np.array([name for name, numbers in chains for _ in numbers])
    numbers = np.array([number for _, numbers in chains for number in numbers])
    n = len(numbers)
    blank = np.full(n, "")
    atoms = Atoms(np.zeros((0, 3)), np.array([], str), np.array([], str), np.zeros(0), np.zeros(0, int))
    return Structure(
        "model.pdb", chain_ids, numbers, blank, np.full(n, "ALA"), np.full(n, "protein"),
        np.random.default_rng(0).normal(size=(n, 3)), np.ones(n), np.full(n, 2.0), np.ones(n - 1, bool), atoms,
        np.zeros(3),
    )  # fmt: skip


def segmentation(structure, config):
    return Segmentation(structure.n_residues, regions_of(structure, config), config.temperature)


def test_whole_assembly_is_tiled_evenly_and_rows_sum_to_one():
    structure = make_structure()
    model = segmentation(structure, SegmentsConfig(n_segments=7))
    weights = model.weights(model.mean())
    assert torch.allclose(weights.sum(1), torch.ones(70))
    assert torch.equal(weights.argmax(1), torch.arange(7).repeat_interleave(10))


def test_weights_against_the_formula_in_numpy():
    structure = make_structure()
    config = SegmentsConfig(n_segments=3, temperature=0.3)
    model = segmentation(structure, config)
    parameters = model.sample(model.noise(torch.Generator().manual_seed(1)))
    r = np.arange(70)[:, None]
    centre, width, logit = (value.detach().numpy() for value in vars(parameters).values())
    exponent = np.exp((-0.5 * (r - centre) ** 2 / width**2 + logit) / 0.3)
    expected = exponent / exponent.sum(1, keepdims=True)
    assert np.allclose(model.weights(parameters).detach().numpy(), expected, atol=1e-4)


def test_named_regions_have_their_own_segments_and_the_rest_stays_fixed():
    structure = make_structure()
    regions = [
        RegionConfig(chain="B", first=111, last=130, n_segments=2),
        RegionConfig(chain="A", last=20, n_segments=2, starts=[1, 6], prior_std=3.0),
    ]
    model = segmentation(structure, SegmentsConfig(regions=regions))
    weights = model.weights(model.mean()).detach().numpy()
    inside = np.r_[0:20, 50:70]
    assert np.allclose(weights[inside].sum(1), 1, atol=1e-6)
    assert np.all(np.delete(weights, inside, axis=0) == 0)
    assert np.all(weights[:20, :2] == 0)
    assert np.all(weights[50:, 2:] == 0)
    assert weights[:20].argmax(1).tolist() == [2] * 5 + [3] * 15
    assert model.names == ["B:111-130 segment 1", "B:111-130 segment 2", "A:1-20 segment 1", "A:1-20 segment 2"]
    assert model.centre.prior_std.tolist() == [10, 10, 3, 3]


def test_kl_against_torch_distributions():
    model = segmentation(make_structure(), SegmentsConfig(n_segments=4))
    with torch.no_grad():
        model.centre.mean += torch.randn(4, generator=torch.Generator().manual_seed(2))
    pairs = [
        (p, torch.distributions.Normal(p.prior_mean, p.prior_std)) for p in (model.centre, model.width, model.logit)
    ]
    kls = [
        torch.distributions.kl_divergence(torch.distributions.Normal(p.mean, p.log_std.exp()), prior).sum()
        for p, prior in pairs
    ]
    segments, proportions = model.kl()
    assert torch.allclose(segments, kls[0] + kls[1], rtol=1e-5)
    assert torch.allclose(proportions, kls[2], rtol=1e-5)


def test_the_evaluation_is_the_posterior_mean_and_training_samples():
    model = segmentation(make_structure(), SegmentsConfig(n_segments=4))
    assert torch.equal(model.weights(model.mean()), model.weights(model.mean()))
    generator = torch.Generator().manual_seed(0)
    first, second = (model.sample(model.noise(generator)).centre for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"chain": "C", "n_segments": 1}, "chain 'C' is not in model.pdb, which has chains A, B"),
        ({"chain": "A", "first": 99, "n_segments": 1}, "residue 99 is not among residues 1-40 of chain A"),
        ({"chain": "A", "first": 9, "last": 3, "n_segments": 1}, "last (3) comes before first (9)"),
        ({"chain": "A", "last": 3, "n_segments": 4}, "4 segments, but there are only 3 residues"),
        ({"chain": "A", "n_segments": 2, "starts": [5, 10]}, "starts: expected 2 ascending residue numbers"),
        ({"chain": "A", "n_segments": 2, "starts": [1, 77]}, "starts: residue 77"),
    ],
)
def test_regions_that_do_not_fit_are_named(region, message):
    with pytest.raises(ConfigError) as caught:
        regions_of(make_structure(), SegmentsConfig(regions=[RegionConfig(**region)]))
    assert message in str(caught.value)


def test_too_many_segments_and_overlaps_are_refused():
    with pytest.raises(ConfigError, match="71 segments, but there are only 70 residues"):
        regions_of(make_structure(), SegmentsConfig(n_segments=71))
    twice = [RegionConfig(chain="A", n_segments=1), RegionConfig(chain="A", first=40, n_segments=1)]
    with pytest.raises(ConfigError, match="overlaps an earlier region at A/40"):
        regions_of(make_structure(), SegmentsConfig(regions=twice))
