"""Refinement of poses, whitening and noise spectra on small simulated sets."""

import json

import numpy as np
import pytest
import torch

from cryosphere.config_files import parse_config
from cryosphere.inference.poses import PosePrior, pose_freedom, refine_poses
from cryosphere.inference.posterior import compute_posterior
from cryosphere.io.star import read_particles
from cryosphere.io.structures import read_structure
from cryosphere.model import renderer
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.rotations import rotmat_to_rotvec
from cryosphere.simulation.truth import read_truth
from cryosphere.structure.placement import place
from cryosphere.training.evidence import residual_noise
from tests.particle_sets import configuration, write_particle_set

MARGINAL = {"objective": "marginal"}


def load(folder, **sections):
    config = parse_config(configuration(folder, **sections), folder)
    table = read_particles(folder / "particles.star")
    structure = place(read_structure(folder / "nominal.cif"), "center", table.box_size, table.pixel_size)
    torch.manual_seed(0)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config).eval()
    with torch.no_grad():
        model.decoder.network[-1].weight.zero_()
        model.decoder.network[-1].bias.zero_()
    return model, ParticleImages(table, model.mask_radius), config


def rms_angle(first, second):
    return float(rotmat_to_rotvec(first @ second.transpose(-1, -2)).norm(dim=-1).square().mean().sqrt())


def test_known_pose_errors_are_found_again(tmp_path):
    errors = {"rotation_error_deg": 2.0, "shift_error": 1.0}
    folder = write_particle_set(tmp_path / "set", 60, snr=4.0, populations=(1.0, *[0.0] * 11), **errors)
    model, images, config = load(folder, loss={"objective": "marginal"}, particles={"refine_poses": True})
    truth = read_truth(folder / "truth")
    wrong = torch.tensor(images.table.rotmat)
    before = rms_angle(wrong, torch.tensor(truth.rotmat))
    refine_poses(model, images, None, config.particles)
    batch = images.batch(np.arange(60))
    after = rms_angle(batch.rotmat.double(), torch.tensor(truth.rotmat))
    shift = torch.tensor(images.table.shift) + images.pose_shift
    shift_before = np.sqrt(((images.table.shift - truth.shift) ** 2).sum(1).mean())
    shift_after = np.sqrt(((shift.numpy() - truth.shift) ** 2).sum(1).mean())
    assert after < 0.6 * before and shift_after < 0.5 * shift_before


@pytest.mark.parametrize("refine_poses", [False, True])
def test_a_posterior_does_not_depend_on_how_many_conformations_are_held_at_once(tmp_path, monkeypatch, refine_poses):
    folder = write_particle_set(tmp_path / "set", 20, snr=1.0)
    sections = {"model": {"latent_dim": 2}, "inference": {"n_conformations": 40}}
    model, images, config = load(folder, particles={"refine_poses": refine_poses}, loss=MARGINAL, **sections)
    torch.nn.init.normal_(model.decoder.network[-1].bias, std=0.05)
    torch.nn.init.normal_(model.decoder.network[-1].weight, std=0.05)
    whole = compute_posterior(model, images, config.inference)
    monkeypatch.setattr(model.renderer, "capacity", lambda level: 16)
    parts = compute_posterior(model, images, config.inference)
    assert whole.log_likelihood.std(1).min() > 0.1
    np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(parts.mean, whole.mean, atol=5e-3)


def test_noise_is_refined_and_posteriors_made_at_boxes_whose_volumes_do_not_fit_into_memory(tmp_path, monkeypatch):
    folder = write_particle_set(tmp_path / "set", 40, box_size=32, snr=0.1)
    model, images, config = load(folder, loss=MARGINAL, model={"latent_dim": 1}, inference={"n_conformations": 20})
    rows = np.arange(40)
    whole = residual_noise(model, images, rows)
    assert model.level().band == 16
    monkeypatch.setattr(renderer, "_TABLE_BYTES", 8.1 * 32 * 13**3 * model.n_nodes)
    assert model.level().band == 12 and model.renderer.capacity(model.level()) == model.n_nodes
    assert model.renderer.capacity(model.renderer.level()) < model.n_nodes
    coarse = residual_noise(model, images, rows)
    torch.testing.assert_close(coarse, whole, rtol=0.05, atol=0.02)
    assert abs(float(whole[0, 2:-1].mean()) - 1) < 0.1
    assert np.isfinite(compute_posterior(model, images, config.inference).log_likelihood).all()


def test_a_strong_prior_leaves_the_poses_where_they_are(tmp_path):
    folder = write_particle_set(tmp_path / "set", 8, snr=4.0)
    model, images, _ = load(folder, model={"encoder": "pixels"})
    batch = images.batch(np.arange(8))
    prepared = model.renderer.prepare(batch)
    freedom = expand(model, prepared, model.nominal_positions[None], torch.full((5,), 1e12))
    assert float(freedom.correction.abs().max()) < 1e-4 and float(freedom.gain.abs().max()) < 1e-3


def expand(model, prepared, positions, precision):
    table, n_images = model.renderer.table(positions, prepared.level), len(prepared.images)
    prior = PosePrior(torch.zeros(n_images, 5), precision)
    return pose_freedom(model, prepared, positions[:1].expand(n_images, -1, -1), table, None, prior)


def test_integrating_over_shifts_weighs_conformations_like_a_sum_over_shifts(tmp_path):
    folder = write_particle_set(tmp_path / "set", 16, box_size=24, snr=0.3, shift_error=0.4)
    model, images, _ = load(folder, model={"encoder": "pixels"})
    positions = torch.stack([model.nominal_positions, model.nominal_positions])
    positions[1, 20:] += torch.tensor([0.0, -0.6, 0.4])
    prepared = model.renderer.prepare(images.batch(np.arange(16)))
    gain = expand(model, prepared, positions, torch.tensor([1e12] * 3 + [0.4**-2] * 2)).gain
    rendered = torch.stack([model.renderer.render(prepared, one.expand(16, -1, -1)) for one in positions], dim=1)
    scale = (prepared.images * rendered[:, 0]).sum((1, 2)) / rendered[:, 0].square().sum((1, 2))
    expected = scale[:, None, None, None] * rendered

    def log_likelihood():
        moved = model.renderer.prepare(images.batch(np.arange(16))).images[:, None]
        return -0.5 * (moved - expected).square().sum((2, 3)).double()

    here, total = log_likelihood(), []
    for x in torch.linspace(-1.6, 1.6, 41):
        for y in torch.linspace(-1.6, 1.6, 41):
            images.pose_shift[:] = torch.stack([x, y])
            total.append(log_likelihood() - 0.5 * float(x**2 + y**2) / 0.4**2)
    summed = torch.logsumexp(torch.stack(total), dim=0) - here
    wanted, found = summed[:, 1] - summed[:, 0], gain[:, 1] - gain[:, 0]
    assert float(wanted.abs().max()) > 1
    slope, _ = np.polyfit(wanted.numpy(), found.numpy(), 1)
    assert np.corrcoef(wanted.numpy(), found.numpy())[0, 1] > 0.8 and 0.7 < slope < 1.3
    absolute = summed[:, 0] + float(torch.log(torch.tensor(3.2 / 40)) * 2 - np.log(2 * np.pi * 0.4**2))
    assert abs(float((gain[:, 0] - absolute).mean())) < 0.5


def test_whitened_noise_is_white_whatever_its_spectrum(tmp_path):
    folder = write_particle_set(tmp_path / "set", 400, box_size=32, snr=0.01, noise="coloured")
    _, images, _ = load(folder, model={"encoder": "pixels"})
    power = torch.fft.fft2(images.batch(np.arange(400)).images).abs().square().mean(0) / 32**2
    frequency = np.fft.fftfreq(32, 1 / 32)
    shell = np.hypot(*np.meshgrid(frequency, frequency)).round().astype(int)
    found = [float(power[torch.tensor(shell == r)].mean()) for r in range(2, 17)]
    assert found == pytest.approx(np.ones(15), abs=0.2)
    spectrum = np.array(json.loads((folder / "truth" / "info.json").read_text())["noise_spectrum"])
    assert images.noise_power[0, 2:].numpy() == pytest.approx(spectrum[2:], rel=0.25)


def test_noise_is_refined_by_what_is_left_and_by_nothing_where_nothing_was_measured(tmp_path):
    folder = write_particle_set(tmp_path / "set", 50, snr=1.0)
    _, images, _ = load(folder, model={"encoder": "pixels"})
    before = images.noise_power.clone()
    factor = torch.full_like(before, torch.nan)
    factor[0, 3] = 2.0
    images.refine_noise(factor)
    assert float(images.noise_power[0, 3] / before[0, 3]) == pytest.approx(2.0)
    assert torch.equal(images.noise_power[0, 4:], before[0, 4:])


def test_pose_corrections_act_as_the_table_would(tmp_path):
    folder = write_particle_set(tmp_path / "set", 4, snr=5.0)
    _, images, _ = load(folder, model={"encoder": "pixels"})
    plain = images.batch(np.arange(4))
    images.pose_shift[:] = torch.tensor([4.0, -8.0])
    images.pose_rotvec[:] = torch.tensor([0.0, 0.0, np.pi / 2])
    corrected = images.batch(np.arange(4))
    rolled = torch.roll(plain.images, (-2, 1), dims=(1, 2))
    assert torch.allclose(corrected.images, rolled, atol=1e-3)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert torch.allclose(corrected.rotmat, quarter @ plain.rotmat, atol=1e-5)
