"""Each defect of the published program (METHOD, "known defects") has a test here that fails on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryosphere.config import choose_device
from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError
from cryosphere.io.star import read_particles
from cryosphere.model import losses
from cryosphere.model.vae import CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import fourier_to_image, frequency_grid, image_to_fourier
from cryosphere.physics.gaussians import project
from cryosphere.runs.run import Run
from cryosphere.training.train import load_inputs, train
from tests.particle_sets import configuration, two_arms, write_particle_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("defects") / "set", 40)


def make_model(folder, **sections):
    config = parse_config(configuration(folder, **sections), folder)
    table, structure = load_inputs(config)
    torch.manual_seed(0)
    model = CryoSphere(structure, table.n_particles, table.box_size, table.pixel_size, config)
    return model, ParticleImages(table, model.mask_radius)


def test_a_missing_phase_shift_column_gives_a_finite_ctf(folder, tmp_path):
    lines = (folder / "particles.star").read_text().splitlines(keepends=True)
    column = next(i for i, line in enumerate(lines) if line.startswith("_rlnPhaseShift"))
    number = int(lines[column].split("#")[1])
    kept = []
    for line in lines[:column] + lines[column + 1 :]:
        words = line.split()
        if "@" in line:
            del words[number - 1]
            line = " ".join(words) + "\n"
        kept.append(line.split("#")[0] + "\n" if line.startswith("_rln") else line)
    (tmp_path / "no_phase.star").write_text("".join(kept))
    table = read_particles(tmp_path / "no_phase.star", datadir=folder)
    ctf = contrast_transfer(*frequency_grid(24, 4.0), table.ctf_parameters(np.arange(5)))
    assert np.all(table.phase_shift == 0)
    assert torch.isfinite(ctf).all()


def weighted_correlation(first, second, weight):
    covariance = np.cov(np.stack([first.ravel(), second.ravel()]), aweights=weight.ravel(), ddof=0)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])


@pytest.mark.parametrize("data", ["gaussian", "correlation"])
def test_the_mask_is_used_on_data_and_prediction(folder, data):
    model, images = make_model(folder, loss={"data": data, "mask_radius": 20.0})
    batch = images.batch(np.arange(8))
    positions = model.nominal_positions.expand(8, -1, -1)
    prepared = model.renderer.prepare(batch)
    rendered = model.renderer.render(prepared, positions)
    mask = prepared.level.mask.numpy()
    y, x = np.indices(mask.shape) - 12
    assert np.all(mask[np.hypot(y, x) > 10] == 0)
    for stack in (prepared.images, rendered):
        assert torch.all(stack[:, prepared.level.mask == 0] == 0)
    # Band limit (no mean, nothing beyond half a shell under Nyquist) and mask in numpy.
    shell = np.hypot(*np.meshgrid(np.fft.fftfreq(24) * 24, np.fft.fftfreq(24) * 24))
    passed = (shell > 0.5) & (shell <= 11.5)
    expected = []
    for image, prediction in zip(batch.images.double().numpy(), rendered.double().numpy(), strict=True):
        seen = np.fft.ifft2(np.fft.fft2(image) * passed).real * mask
        if data == "correlation":
            expected.append(-weighted_correlation(seen, prediction, mask))
        else:
            expected.append(-0.5 * max(0.0, (seen * prediction).sum()) ** 2 / (prediction**2).sum())
    found = model.data_loss(batch, positions)
    assert found.detach().numpy() == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)
    # A bright spot in a dark ring, without a mean, about the corner of the box: far outside, it changes nothing.
    squares = (np.minimum(y + 12, 12 - y) ** 2 + np.minimum(x + 12, 12 - x) ** 2) / 1.5**2
    spot = torch.tensor(100 * (2 - squares) * np.exp(-0.5 * squares)).float()
    changed = replace(batch, fourier=batch.fourier + image_to_fourier(spot))
    assert torch.allclose(model.data_loss(changed, positions), found, rtol=0.01, atol=0.01)


def test_the_low_pass_hits_the_prediction_as_it_hits_the_data(folder):
    filtered, images = make_model(folder, loss={"data": "correlation", "low_pass_resolution": 20.0})
    model, _ = make_model(folder, loss={"data": "correlation"})
    batch = images.batch(np.arange(4))
    positions = model.nominal_positions.expand(4, -1, -1)
    perfect = replace(batch, fourier=image_to_fourier(rendered_without_mask(model, batch, positions)))
    seen, full = filtered.renderer.prepare(perfect).images, model.renderer.prepare(perfect).images
    assert torch.linalg.norm(seen - full) > 0.1 * torch.linalg.norm(full)
    assert torch.allclose(filtered.data_loss(perfect, positions), -torch.ones(4), atol=1e-5)


def rendered_without_mask(model, batch, positions):
    return fourier_to_image(model.renderer.render_fourier(model.renderer.prepare(batch), positions), 24)


def test_images_are_centred_in_fourier_space_before_anything_sees_them(tmp_path):
    still = write_particle_set(tmp_path / "still", 6, shift_range=0.0, snr=1e6)
    moved = write_particle_set(tmp_path / "moved", 6, shift_range=7.0, snr=1e6)
    model, images = make_model(still)
    _, shifted = make_model(moved)
    table = replace(images.table, rotmat=shifted.table.rotmat, optics_group=shifted.table.optics_group)
    same_draws = np.allclose(table.defocus_u, shifted.table.defocus_u) and np.allclose(
        images.table.rotmat, shifted.table.rotmat
    )
    assert same_draws, "both sets must differ by their shifts only"
    images.noise_power = shifted.noise_power = torch.ones_like(images.noise_power)
    one, other = images.batch(np.arange(6)), shifted.batch(np.arange(6))
    scale = (one.images * other.images).sum() / (other.images**2).sum()
    difference = one.images - scale * other.images
    assert np.abs(shifted.table.shift).max() > 4.0
    assert torch.linalg.norm(difference) < 0.03 * torch.linalg.norm(one.images)
    prepared, again = model.encoder.prepare(one), scale * model.encoder.prepare(other)
    assert torch.linalg.norm(prepared - again) < 0.03 * torch.linalg.norm(prepared)


@pytest.mark.parametrize("motion", ["blended", "sequential"])
def test_quaternions_are_normalised(folder, motion):
    model, _ = make_model(folder, model={"motion": motion})
    latent = 30 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    motions = model.decoder(latent)
    assert torch.allclose(torch.linalg.norm(motions.rotation_quat, dim=-1), torch.ones(50, 2), atol=1e-6)
    inside = (model.decode(latent)[:, 21:] - model.decode(latent)[:, 20:-1]).norm(dim=-1).detach()
    hard = model.segment_weights()[20:].max(1).values > 1 - 1e-5
    nominal = (model.nominal_positions[21:] - model.nominal_positions[20:-1]).norm(dim=-1)
    rigid = hard[1:] & hard[:-1]
    assert rigid.sum() > 5
    assert torch.allclose(inside[:, rigid], nominal[rigid].expand(50, -1), atol=1e-3)


def test_a_batch_without_clashes_costs_nothing_and_has_a_finite_gradient():
    positions = torch.tensor(two_arms().residue_positions * 3)[None].requires_grad_()
    value = losses.clash(positions)
    value.backward()
    assert value.item() == 0
    assert torch.equal(positions.grad, torch.zeros_like(positions))


def test_two_readings_of_one_run_give_the_same_structures(folder, tmp_path):
    train(configuration(folder), tmp_path / "run", show_progress=False)
    first, second = (Run.load(tmp_path / "run").conformations() for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (40, 40, 3)


@pytest.mark.parametrize("box_size", [32, 33])
def test_odd_boxes_have_their_origin_at_half_the_box(box_size):
    centre = torch.zeros(1, 1, 3)
    image = project(centre, torch.ones(1), torch.full((1,), 3.0), torch.eye(3)[None], box_size, 2.0)[0]
    y, x = torch.meshgrid(torch.arange(box_size), torch.arange(box_size), indexing="ij")
    assert ((image * x).sum() / image.sum()).item() == pytest.approx(box_size // 2, abs=1e-3)
    assert ((image * y).sum() / image.sum()).item() == pytest.approx(box_size // 2, abs=1e-3)


@pytest.mark.parametrize("n_particles", [1, 5])
def test_a_handful_of_images_trains(tmp_path, n_particles):
    folder = write_particle_set(tmp_path / "few", n_particles)
    said = []
    run = train(configuration(folder), tmp_path / "run", show_progress=False, say=said.append)
    assert len(run.posterior.index) == n_particles
    assert any("the batch shrinks from 32 to" in sentence for sentence in said)


def test_training_happens_on_the_cpu_and_a_missing_device_is_said(folder, tmp_path):
    assert choose_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda' is not available here; available: cpu"):
            choose_device("cuda")
    untrained, _ = make_model(folder)
    run = train(configuration(folder), tmp_path / "run", device="cpu", posterior=False, show_progress=False)
    for part in ("decoder", "encoder", "segmentation"):
        before, after = getattr(untrained, part).parameters(), getattr(run.model, part).parameters()
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), part
