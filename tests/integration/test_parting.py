"""Bodies that follow one latent direction together part where the images show them moving each by itself."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryosphere.config_files import parse_config
from cryosphere.io.star import read_particles
from cryosphere.io.structures import read_structure
from cryosphere.model.bodies import BodySegmentation
from cryosphere.model.latents import prior_nodes
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.motions import fit_rigid_motions
from cryosphere.physics.rotations import rotmat_to_quat
from cryosphere.records import SegmentMotions
from cryosphere.simulation.conformations import Conformations
from cryosphere.structure.contacts import contact_graph
from cryosphere.structure.placement import place
from cryosphere.training.evidence import held_out_evidence
from cryosphere.training.imitation import learn_motions
from cryosphere.training.parting import find_parting, parted_motions, with_parted_bodies
from tests.particle_sets import ARM, marginal_configuration, two_arms, write_particle_set

BODIES = (np.arange(ARM), np.arange(ARM, 2 * ARM))
LARGEST = 60.0


def swung(positions, hinge, degrees):
    """Conformations with the first arm turned about z and the second about x, by (conformation, 2) angles."""
    moved = np.repeat(positions[None], len(degrees), axis=0)
    for axis, rows, angles in zip("zx", BODIES, np.asarray(degrees).T, strict=True):
        turns = Rotation.from_euler(axis, angles[:, None], degrees=True).as_matrix()
        moved[:, rows] = np.einsum("kij,rj->kri", turns, positions[rows] - hinge) + hinge
    return moved


def particle_set(folder, degrees):
    structure = two_arms()
    states = swung(structure.residue_positions, np.zeros(3), degrees)
    conformations = Conformations(structure, states, states.copy(), "both arms swing", BODIES)
    return write_particle_set(folder, 400, snr=1.0, states=conformations)


def model_that_swings_both(folder) -> tuple[CryoSphere, ParticleImages]:
    """A model whose arms swing together along its latent, and the images."""
    config = parse_config(marginal_configuration(folder, model={"latent_dim": 1, "decoder_layers": [64]}), folder)
    table = read_particles(folder / "particles.star")
    structure = place(read_structure(folder / "nominal.cif"), "center", table.box_size, table.pixel_size)
    graph = contact_graph(structure.residue_positions, structure.bonded)
    bodies = BodySegmentation(graph, np.repeat([0, 1], ARM))
    torch.manual_seed(0)
    size = (table.n_particles, table.box_size, table.pixel_size)
    model = CryoSphere(structure, *size, config, segmentation=bodies).eval()
    latent = prior_nodes(128, 1)
    angles = LARGEST * torch.distributions.Normal(0, 1).cdf(latent).numpy()
    hinge = structure.residue_positions[0] - two_arms().residue_positions[0]
    moved = swung(structure.residue_positions, hinge, np.repeat(angles, 2, axis=1))
    quats, translations = [], []
    for rows in BODIES:
        points = torch.tensor(structure.residue_positions[rows], dtype=torch.float32)
        rotmat, translation = fit_rigid_motions(points, torch.tensor(moved[:, rows], dtype=torch.float32))
        quats.append(rotmat_to_quat(rotmat))
        translations.append(rotmat @ points.mean(0) + translation - points.mean(0))
    learn_motions(model.decoder, latent, SegmentMotions(torch.stack(quats, 1), torch.stack(translations, 1)))
    return model, ParticleImages(table, model.mask_radius)


def test_arms_that_swing_each_by_itself_part(tmp_path):
    angles = np.linspace(0, LARGEST, 8)
    degrees = np.stack(np.meshgrid(angles, angles), axis=-1).reshape(-1, 2)
    model, images = model_that_swings_both(particle_set(tmp_path / "set", degrees))
    rows, level = np.arange(images.table.n_particles), model.level(14.0)
    members = find_parting(model, images, rows, level)
    assert members is not None and members.sum() == 1
    parted = with_parted_bodies(model, members, torch.Generator().manual_seed(0)).eval()
    assert parted.latent_dim == 2
    one, two = (held_out_evidence(each, images, rows, level).mean() for each in (model, parted))
    assert two > one + 1.0


def test_arms_that_swing_together_stay_together(tmp_path):
    angles = np.linspace(0, LARGEST, 16)
    model, images = model_that_swings_both(particle_set(tmp_path / "set", np.stack([angles, angles], axis=1)))
    assert find_parting(model, images, np.arange(images.table.n_particles), model.level(14.0)) is None


def test_only_members_follow_the_new_direction(tmp_path):
    model, _ = model_that_swings_both(particle_set(tmp_path / "set", [[0.0, 0.0], [10.0, 10.0]]))
    latent = torch.tensor([[0.3, -1.0], [0.3, 0.8], [-1.2, 0.8]])
    motions = parted_motions(model, torch.tensor([False, True]), latent)
    along = [model.decoder(latent[:, [axis]]) for axis in (0, 1)]
    for body, source in enumerate(along):
        assert torch.equal(motions.translation[:, body], source.translation[:, body])
        assert torch.equal(motions.rotation_quat[:, body], source.rotation_quat[:, body])
