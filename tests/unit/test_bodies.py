"""Bodies in space: weights, merging by motion, and models carried over to other bodies."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from cryosphere.config_files import parse_config
from cryosphere.model.bodies import BodySegmentation
from cryosphere.model.decoder import Decoder
from cryosphere.model.division import make_segmentation
from cryosphere.model.latents import prior_nodes
from cryosphere.model.regrouping import merging_path, shuffled_bodies, with_bodies
from cryosphere.model.vae import CryoSphere
from cryosphere.physics.motions import fit_rigid_motions
from cryosphere.records import SegmentMotions
from cryosphere.structure.contacts import contact_graph
from cryosphere.training.folds import unfold
from cryosphere.training.imitation import learn_motions
from tests.particle_sets import ARM, two_arms

BOX, PIXEL = 24, 4.0


def arms_model(labels, tmp_path, **model):
    values = {
        "particles": {"file": "p.star"},
        "structure": {"file": "s.cif"},
        "model": {"latent_dim": 1, "encoder": "pixels", "encoder_layers": [8], **model},
    }
    config = parse_config(values, tmp_path, check_files=False)
    structure = two_arms()
    graph = contact_graph(structure.residue_positions, structure.bonded)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CryoSphere(structure, 10, BOX, PIXEL, config, segmentation=BodySegmentation(graph, labels)).eval()


def swing_second_half(model, degrees=30.0):
    """Let the bodies that hold most of the second arm turn together about the origin by up to some degrees."""
    z = torch.randn(256, 1, generator=torch.Generator().manual_seed(2))
    model.decoder.imitate(z, swing(model, degrees * np.tanh(z[:, 0].numpy())), damping=1e-6)
    return model


def swing(model, degrees):
    """Motions in which the bodies that hold most of the second arm turn together about the origin."""
    labels = model.segmentation.labels()
    turn = Rotation.from_rotvec(np.outer(np.radians(degrees), [1, 0, 0]))
    rotmat = torch.tensor(turn.as_matrix(), dtype=torch.float32)
    quat = torch.tensor(turn.as_quat(scalar_first=True), dtype=torch.float32)
    still = torch.tensor([1.0, 0, 0, 0]).expand(len(quat), 4)
    quats, translations = [], []
    for body in range(model.segmentation.n_segments):
        rows = np.flatnonzero(labels == body)
        centre = model.nominal_positions[rows].mean(0)
        moves = rows.mean() >= ARM
        quats.append(quat if moves else still)
        translations.append(rotmat @ centre - centre if moves else torch.zeros(len(quat), 3))
    return SegmentMotions(torch.stack(quats, 1), torch.stack(translations, 1))


def test_inside_a_body_weights_are_exactly_one_and_the_border_is_soft():
    structure = two_arms()
    graph = contact_graph(structure.residue_positions, structure.bonded)
    bodies = BodySegmentation(graph, np.repeat([0, 1], ARM))
    weights = bodies.weights(bodies.mean()).detach().numpy()
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert weights[0].tolist() == [1, 0] and weights[-1].tolist() == [0, 1]
    assert 0.5 < weights[ARM - 1, 0] < 0.99
    assert bodies.labels().tolist() == [0] * ARM + [1] * ARM


def test_residues_outside_have_no_weight_whatever_the_logits():
    structure = two_arms()
    graph = contact_graph(structure.residue_positions, structure.bonded)
    labels = np.repeat([0, 1, -1], [10, 20, 10])
    bodies = BodySegmentation(graph, labels)
    with torch.no_grad():
        bodies.logits += 5 * torch.randn(bodies.logits.shape, generator=torch.Generator().manual_seed(0))
    assert bodies.weights(bodies.mean())[30:].abs().max() == 0
    assert np.all(bodies.labels()[30:] == -1) and np.all(bodies.labels()[:30] >= 0)


def test_prior_is_the_stated_sum_over_contacts():
    structure = two_arms()
    graph = contact_graph(structure.residue_positions, structure.bonded)
    bodies = BodySegmentation(graph, np.repeat([0, 1], ARM))
    weights = bodies.weights(bodies.mean()).detach().numpy().astype(np.float64)
    dense, wanted = graph.toarray(), 0.0
    for i in range(2 * ARM):
        for j in range(i):
            wanted += 0.5 * dense[i, j] * ((weights[i] - weights[j]) ** 2).sum()
    with torch.no_grad():
        smooth, proportions = bodies.kl()
    assert float(smooth) == pytest.approx(wanted, rel=1e-4) and float(proportions) == 0


def test_what_moves_as_one_is_merged_first_and_named_by_first_residue(tmp_path):
    model = swing_second_half(arms_model(np.repeat([0, 1, 2, 3], ARM // 2), tmp_path))
    path = merging_path(model, torch.Generator().manual_seed(0))
    assert [int(labels.max()) + 1 for labels, _ in path] == [4, 3, 2, 1]
    assert path[2][0].tolist() == [0] * ARM + [1] * ARM
    assert path[3][1] > 5 * path[2][1]


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_model_with_merged_bodies_gives_the_same_conformations(tmp_path, latent_dim):
    model = swing_second_half(arms_model(np.repeat([0, 1, 2, 3], ARM // 2), tmp_path))
    merged = with_bodies(model, np.repeat([0, 1], ARM), latent_dim, torch.Generator().manual_seed(1))
    z = torch.linspace(-2, 2, 9)[:, None]
    wider = torch.cat([z, torch.zeros(9, latent_dim - 1)], dim=1)
    with torch.no_grad():
        difference = (merged.decode(wider) - model.decode(z)).square().sum(-1).sqrt()
    assert merged.latent_dim == latent_dim and merged.segmentation.n_segments == 2
    interior = np.r_[0 : ARM - 6, ARM + 6 : 2 * ARM]
    assert float(difference[:, interior].max()) < 0.7


@pytest.mark.parametrize("first_deg", [-180.0, -90.0, 30.0])
def test_a_full_turn_is_imitated_from_wherever_it_begins(first_deg):
    torch.manual_seed(0)
    decoder = Decoder(1, 1, [64, 64], free_rotation=True)
    z = torch.randn(512, 1, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    angle = np.radians(first_deg + 360 * (z[:, 0].numpy() + 2) / 4)
    axis = np.array([0.6, 0.0, 0.8])
    wanted = Rotation.from_rotvec(angle[:, None] * axis)
    quat = torch.tensor(wanted.as_quat(scalar_first=True), dtype=torch.float32)[:, None]
    decoder.imitate(z, SegmentMotions(quat, torch.zeros(512, 1, 3)), damping=1e-6)
    with torch.no_grad():
        found = Rotation.from_quat(decoder(z).rotation_quat[:, 0].numpy(), scalar_first=True)
    assert np.degrees((found * wanted.inv()).magnitude()).max() < 10


def test_one_more_dimension_keeps_bodies_and_their_learned_weights(tmp_path):
    model = arms_model(np.repeat([0, 1], ARM), tmp_path)
    with torch.no_grad():
        model.segmentation.logits += 0.1
    wider = with_bodies(model, None, 2, torch.Generator().manual_seed(1))
    assert torch.equal(wider.segmentation.logits, model.segmentation.logits)
    assert wider.architecture.latent_dim == 2


def test_rigid_motions_are_fitted_as_scipy_does():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(12, 3)) * 10
    turn = Rotation.random(3, random_state=1)
    moved = np.stack([r.apply(points) + np.array([1, -2, 3]) for r in turn]) + 0.1 * generator.normal(size=(3, 12, 3))
    rotmat, translation = fit_rigid_motions(torch.tensor(points), torch.tensor(moved))
    for k in range(3):
        wanted, _ = Rotation.align_vectors(moved[k] - moved[k].mean(0), points - points.mean(0))
        assert np.allclose(rotmat[k].numpy(), wanted.as_matrix(), atol=1e-6)
        assert np.allclose(translation[k].numpy(), moved[k].mean(0) - wanted.apply(points.mean(0)), atol=1e-6)


def test_shuffling_deals_out_whole_patches(tmp_path):
    structure = two_arms()
    graph = contact_graph(structure.residue_positions, structure.bonded)
    patches = BodySegmentation(graph, np.repeat(np.arange(8), 5))
    bodies = BodySegmentation(graph, np.repeat([0, 1], ARM))
    labels = shuffled_bodies(bodies, patches, torch.Generator().manual_seed(4))
    assert np.bincount(labels).tolist() == [ARM, ARM]
    assert all(len(set(labels[5 * k : 5 * k + 5])) == 1 for k in range(8))
    assert labels.tolist() != [0] * ARM + [1] * ARM


def test_named_regions_are_divided_on_their_own_and_the_rest_is_fixed(tmp_path):
    values = {
        "particles": {"file": "p.star"},
        "structure": {"file": "s.cif"},
        "segments": {"regions": [{"chain": "A", "first": 5, "last": 34, "n_segments": 3}]},
    }
    config = parse_config(values, tmp_path, check_files=False)
    bodies = make_segmentation(two_arms(), config.segments)
    labels = bodies.labels()
    assert np.all(labels[:4] == -1) and np.all(labels[34:] == -1) and set(labels[4:34]) == {0, 1, 2}


def learned(tmp_path, angle):
    """Two arms of which the second turns by an angle (degrees), a function of the latent."""
    model = arms_model(np.repeat([0, 1], ARM), tmp_path)
    z = prior_nodes(256, 1)
    learn_motions(model.decoder, z, swing(model, angle(z[:, 0].numpy())))
    return model


def test_a_folded_latent_is_laid_out_along_the_motion(tmp_path):
    model = learned(tmp_path, lambda z: 60 * (2 * norm.cdf(np.abs(z)) - 1) - 30)
    latent = prior_nodes(200, 1)
    before = model.decode(latent).detach()
    assert unfold(model)
    after = model.decode(latent).detach()
    order = torch.argsort(latent[:, 0].abs())  # where the structures were, from one end of the motion to the other
    rmsd = [(after - before[rows]).square().sum(2).mean(1).sqrt().max() for rows in (order, order.flip(0))]
    assert min(rmsd) < 1.0 < 10 < max(rmsd)
    assert not unfold(model)


@pytest.mark.parametrize(
    "angle",
    [lambda z: 20 * z, lambda z: 40 * np.tanh(8 * (z - 0.5)), lambda z: 360 * (norm.cdf(z) - 0.5)],
    ids=["path", "two states", "full turn"],
)
def test_what_is_not_folded_stays(tmp_path, angle):
    model = learned(tmp_path, angle)
    before = [value.clone() for value in model.decoder.parameters()]
    assert not unfold(model)
    assert all(torch.equal(*pair) for pair in zip(before, model.decoder.parameters(), strict=True))
