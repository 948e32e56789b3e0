"""Turns by 170°, 180° and 190° from the nominal structure: decoded, carried to other bodies, learned from images."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryosphere.config_files import parse_config
from cryosphere.io.star import read_particles
from cryosphere.io.structures import read_structure
from cryosphere.model.latents import prior_nodes
from cryosphere.model.regrouping import merging_path, with_bodies
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.motions import segment_centres
from cryosphere.records import SegmentMotions
from cryosphere.runs.run import Run
from cryosphere.structure.placement import place
from cryosphere.training import stages
from cryosphere.training.evidence import held_out_evidence
from cryosphere.training.folds import equalise
from cryosphere.training.imitation import learn_motions
from cryosphere.training.selection import ModelSelection
from cryosphere.training.train import train
from cryosphere.training.turns import find_turn, start_turning
from tests.particle_sets import ARM, marginal_configuration, swinging_arm, write_particle_set

pytestmark = [pytest.mark.usefixtures("short_stages"), pytest.mark.parametrize("degrees", [170.0, 180.0, 190.0])]
BODIES = np.repeat([0, 1], ARM)


@pytest.fixture
def learned(degrees, tmp_path, monkeypatch) -> tuple[Run, np.ndarray, np.ndarray]:
    """A run on images of an arm that swings so far, the true coordinates of its images, and their states."""
    monkeypatch.setattr(stages, "_COARSE_VISITS", 2048)
    monkeypatch.setattr(stages, "_MOST_ROUNDS", 1)
    states = swinging_arm(60, degrees, "-y")
    folder = write_particle_set(tmp_path / "set", 1000, snr=1.0, states=states)
    run = train(marginal_configuration(folder, model={"latent_dim": 1}), tmp_path / "run", show_progress=False)
    state = np.load(folder / "truth" / "state.npy")
    return run, np.load(folder / "truth" / "coordinates.npy")[state], state


@pytest.fixture
def still(degrees, tmp_path):
    """A model of the two arms that nothing was taught, with images of an arm that swings so far."""
    return untaught(tmp_path, degrees, snr=1.0, decoder_layers=[64])


def untaught(tmp_path, degrees, snr, **model):
    folder = write_particle_set(tmp_path / "set", 200, snr=snr, states=swinging_arm(60, degrees, "-y"))
    config = parse_config(marginal_configuration(folder, model={"latent_dim": 1, **model}), folder)
    table = read_particles(folder / "particles.star")
    structure = place(read_structure(folder / "nominal.cif"), "center", table.box_size, table.pixel_size)
    torch.manual_seed(0)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config).eval()
    return model, ParticleImages(table, model.mask_radius)


def swung(model, latent, degrees) -> tuple[SegmentMotions, np.ndarray]:
    """Motions that swing the second arm about -y through the origin by 0 to ``degrees``, and the conformations."""
    positions = model.nominal_positions.double().numpy()
    angles = np.radians(degrees) * torch.distributions.Normal(0, 1).cdf(latent[:, 0]).numpy()
    turns = Rotation.from_rotvec(angles[:, None] * [0.0, -1.0, 0.0])
    hinge = 0.5 * (positions[ARM - 1] + positions[ARM])
    expected = np.repeat(positions[None], len(latent), axis=0)
    expected[:, ARM:] = np.einsum("kij,rj->kri", turns.as_matrix(), positions[ARM:] - hinge) + hinge
    quat = np.zeros((len(latent), 2, 4))
    quat[:, 0, 0] = 1.0
    quat[:, 1] = np.roll(turns.as_quat(), 1, axis=1)
    shift = np.zeros((len(latent), 2, 3))
    with torch.no_grad():
        centres = segment_centres(model.nominal_positions, model.segment_weights())
    centre = centres[1].double().numpy() - hinge
    shift[:, 1] = turns.apply(centre) - centre
    return SegmentMotions(torch.tensor(quat).float(), torch.tensor(shift).float()), expected


def rmsd(first, second) -> float:
    return float(np.sqrt(((np.asarray(first) - np.asarray(second)) ** 2).sum(-1).mean()))


def test_a_decoder_takes_over_the_turn_and_other_bodies_keep_it(still, degrees):
    generator = torch.Generator().manual_seed(1)
    still = with_bodies(still[0], BODIES, 1, generator).eval()
    latent = torch.randn(400, 1, generator=generator)
    motions, expected = swung(still, latent, degrees)
    still.decoder.imitate(latent, motions)
    with torch.no_grad():
        decoded = still.decode(latent).numpy()
    inside = np.r_[0 : ARM - 3, ARM + 3 : 2 * ARM]
    assert rmsd(decoded[:, inside], expected[:, inside]) < 0.05 * rmsd(expected, expected.mean(0))
    four = np.repeat([0, 1, 2, 3], ARM // 2)
    finer = with_bodies(still, four, 1, generator)
    coarser = with_bodies(finer, BODIES, 1, generator)
    inside = np.r_[0 : ARM // 2 - 3, ARM // 2 + 3 : ARM - 3, ARM + 3 : 3 * ARM // 2 - 3, 3 * ARM // 2 + 3 : 2 * ARM]
    with torch.no_grad():
        for model in (finer, coarser):
            assert rmsd(model.decode(latent)[:, inside], decoded[:, inside]) < 0.1 * rmsd(decoded, decoded.mean(0))
    labels = {int(path.max()) + 1: path for path, _ in merging_path(finer, generator)}
    assert np.array_equal(labels[2], BODIES)


def test_the_search_finds_the_arm_and_its_axis(still, degrees):
    model, images = still
    turn = find_turn(model, images, np.arange(200), model.renderer.level(model.renderer.band_at(28.0)))
    assert abs(float(turn.axis[1])) > 0.9
    found = np.isin(np.arange(2 * ARM), turn.residues.numpy())
    assert max((found == BODIES).mean(), (found != BODIES).mean()) > 0.8
    start_turning(model, turn, torch.Generator().manual_seed(0))
    decoded = model.decode(torch.tensor([[-0.6745], [0.0], [0.6745]])).detach().numpy()
    rotmat, translation = turn.motions(torch.tensor([-0.5, 0.0, 0.5]) * np.pi)
    points = model.nominal_positions[turn.residues]
    expected = points @ rotmat.transpose(1, 2) + translation[:, None]
    assert rmsd(decoded[:, turn.residues], expected) < 3


def test_a_latent_that_goes_there_and_back_is_laid_out_unless_images_lose(still, degrees):
    generator = torch.Generator().manual_seed(0)
    model, images = still
    model = with_bodies(model, BODIES, 1, generator).eval()
    latent = prior_nodes(256, 1)
    there_and_back = torch.special.ndtri(2 * (torch.special.ndtr(latent) - 0.5).abs())
    learn_motions(model.decoder, latent, swung(model, there_and_back, degrees)[0])
    selection = ModelSelection(images, np.arange(200), np.arange(200), generator)
    stage = next(stage for stage in stages.plan(model.config, 200, divides=True) if stage.kind == "unfold")
    straight = selection.begin(stage, model)
    assert selection.end(stage, straight) is straight
    spoiled = selection.begin(stage, model)
    with torch.no_grad():
        spoiled.decoder.network[-1].weight.zero_()
    kept = selection.end(stage, spoiled)
    assert torch.equal(kept.decode(latent), model.decode(latent))
    assert [item["chosen"] for item in selection.tried] == [True, False, False, True]
    assert selection.begin(stage, straight) is None


def test_a_latent_is_laid_out_as_densely_as_the_images_are(tmp_path, degrees):
    model, images = untaught(tmp_path, degrees, snr=0.1)
    model = with_bodies(model, BODIES, 1, torch.Generator().manual_seed(0)).eval()
    latent = prior_nodes(256, 1)
    crowded = torch.special.ndtri(torch.special.ndtr(latent) ** 3)  # half of the latents for an eighth of the images
    learn_motions(model.decoder, latent, swung(model, crowded, degrees)[0])
    rows, level = np.arange(200), model.level()
    before = held_out_evidence(model, images, rows, level).mean()
    assert equalise(model, images, rows, level)
    assert held_out_evidence(model, images, rows, level).mean() > before + 0.1
    with torch.no_grad():
        decoded = model.decode(latent)
    wanted = swung(model, latent, degrees)[1]
    wanted = min((wanted, wanted[::-1]), key=lambda path: rmsd(decoded, path))
    assert (
        rmsd(decoded, wanted)
        < 0.35 * rmsd(wanted, wanted.mean(0))
        < 0.6 * rmsd(swung(model, crowded, degrees)[1], wanted)
    )


def test_the_turn_is_learned_from_images(learned, degrees):
    run, truth, state = learned
    assert run.verdict["motion"] == "supported"
    assert [item["chosen"] for item in run.tried if item["what"] == "wide turn"] == [False, True]
    predicted = run.conformations().astype(np.float64)
    errors = np.sqrt(((predicted - truth) ** 2).sum(-1).mean(-1))
    assert np.median(errors) < 0.15 * rmsd(truth, truth.mean(0))
    arm, hinge = np.r_[ARM + 3 : 2 * ARM], 0.5 * (truth[0, ARM - 1] + truth[0, ARM])
    ends = [np.median(predicted[np.abs(state - end) < 3][:, arm].mean(1), axis=0) - hinge for end in (0, state.max())]
    ends = [end[[0, 2]] / np.linalg.norm(end[[0, 2]]) for end in ends]
    swung = np.degrees(np.arctan2(*ends[1]) - np.arctan2(*ends[0])) % 360
    assert 360 - swung == pytest.approx(degrees * 56 / 59, abs=15)
    nominal = np.linalg.norm(np.diff(run.structure.residue_positions, axis=0), axis=1)
    changed = np.abs(np.linalg.norm(np.diff(predicted, axis=1), axis=2) - nominal) > 0.4
    assert changed.mean() < 0.05
