"""Scores against finite differences of a likelihood written in NumPy, float64, and against noise that was drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryosphere.model.encoder import ScoreEncoder
from cryosphere.model.renderer import Renderer
from cryosphere.model.scores import ScoreFeatures
from cryosphere.physics.fourier import image_to_fourier
from cryosphere.records import Atoms, CTFParameters, ParticleBatch, Structure

WIDTHS = (4.0, 10.0, 20.0)
N_IMAGES = 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_structure() -> tuple[Structure, np.ndarray]:
    """Forty residues in four mixed-up groups of unequal size, the last a single residue, and their labels."""
    generator = np.random.default_rng(1)
    groups = generator.permutation(np.repeat([0, 1, 2, 3], [15, 9, 15, 1]))
    centres = np.array([[22.0, 3.0, -8.0], [-15.0, 18.0, 6.0], [-6.0, -20.0, 2.0], [5.0, 4.0, 24.0]])
    positions = centres[groups] + generator.normal(size=(40, 3)) * [9.0, 7.0, 5.0]
    column = np.ones(40)
    nothing = np.zeros(0)
    structure = Structure(
        source="test",
        chain_ids=np.full(40, "A"),
        residue_numbers=np.arange(40),
        insertion_codes=np.full(40, ""),
        residue_names=np.full(40, "ALA"),
        kinds=np.full(40, "protein"),
        residue_positions=positions,
        amplitudes=30.0 + 10.0 * generator.random(40),
        sigmas=2.0 * column + 0.5 * generator.random(40),
        bonded=np.ones(39, dtype=bool),
        atoms=Atoms(nothing.reshape(0, 3), nothing, nothing, nothing, nothing.astype(int)),
        frame_shift=np.zeros(3),
    )
    return structure, groups


def make_batch(box_size: int, rotmat: np.ndarray, images: torch.Tensor) -> ParticleBatch:
    """Images with an astigmatic CTF of their own each and a noise spectrum that was not white."""
    n = len(rotmat)
    one = torch.ones(n)
    ctf = CTFParameters(
        defocus_u=9e3 + 2e3 * torch.arange(n),
        defocus_v=8e3 + 2e3 * torch.arange(n),
        defocus_angle=0.4 * one,
        phase_shift=0.3 * one,
        b_factor=20.0 * one,
        scale=0.9 * one,
        voltage_kv=300 * one,
        spherical_aberration_mm=2.7 * one,
        amplitude_contrast=0.1 * one,
    )
    index = torch.arange(n)
    whitening = torch.linspace(0.5, 1.0, box_size // 2 + 1).expand(n, -1)
    rotmat = torch.tensor(rotmat, dtype=torch.float32)
    return ParticleBatch(index, 0 * index, image_to_fourier(images), rotmat, ctf, whitening)


class Problem:
    """A small structure, its scores, and images of it in which one group has moved, at a good signal."""

    def __init__(self, box_size: int = 32, pixel_size: float = 4.0, mask_radius: float = 48.0) -> None:
        structure, self.groups = make_structure()
        self.positions = structure.residue_positions
        self.renderer = Renderer(structure, box_size, pixel_size, mask_radius)
        self.features = self.features_at(self.positions)
        rotmat = Rotation.random(N_IMAGES, rng=2).as_matrix()
        noise = torch.randn(N_IMAGES, box_size, box_size)
        batch = make_batch(box_size, rotmat, noise)
        moved = self.positions + 4.0 * (self.groups == 0)[:, None]
        moved = torch.tensor(moved, dtype=torch.float32).expand(N_IMAGES, -1, -1)
        clean = self.renderer.render(self.renderer.prepare(batch), moved)
        clean = clean / clean.square().sum((-2, -1), keepdim=True).sqrt()
        self.batch = replace(batch, fourier=image_to_fourier(40.0 * clean + noise))

    def features_at(self, positions: np.ndarray) -> ScoreFeatures:
        return ScoreFeatures(
            self.renderer, torch.tensor(positions, dtype=torch.float32), torch.tensor(self.groups), WIDTHS
        )

    def moved(self, group: int, component: int, amount: float) -> np.ndarray:
        """The template with one group moved along (0 to 2, Å) or turned about (3 to 5, rad) an axis of the body."""
        rows = self.groups == group
        centre = self.positions[rows].mean(0)
        vector = np.zeros(3)
        vector[component % 3] = amount
        turn = Rotation.from_rotvec(vector if component >= 3 else np.zeros(3))
        shift = vector if component < 3 else np.zeros(3)
        positions = self.positions.copy()
        positions[rows] = turn.apply(positions[rows] - centre) + centre + shift
        return positions


class DirectSum:
    """The image of Gaussians at a width as a sum over residues and frequencies, float64."""

    def __init__(self, problem: Problem, width: float, image: int) -> None:
        level = problem.features.level(width)
        prepared = problem.renderer.prepare(problem.batch, level)
        self.data, self.transfer = (part[image].numpy().astype(float) for part in (prepared.images, prepared.transfer))
        self.mask, self.pixel_size, self.size = level.mask.numpy().astype(float), level.pixel_size, level.size
        self.rotmat = problem.batch.rotmat[image].numpy().astype(float)
        self.amplitudes = problem.renderer.amplitudes.numpy().astype(float)
        self.variances = problem.renderer.sigmas.numpy().astype(float) ** 2 + width**2

    def render(self, positions: np.ndarray) -> np.ndarray:
        x, y = (positions @ self.rotmat.T)[:, :2].T
        ky = np.fft.fftfreq(self.size, self.pixel_size)[:, None, None]
        kx = np.fft.rfftfreq(self.size, self.pixel_size)[None, :, None]
        exponent = -2j * np.pi * (kx * x + ky * y) - 2 * np.pi**2 * self.variances * (kx**2 + ky**2)
        fourier = (self.amplitudes * np.exp(exponent)).sum(-1) * self.transfer / self.pixel_size**2
        return np.fft.fftshift(np.fft.irfft2(fourier, s=(self.size, self.size))) * self.mask

    def log_likelihood_ratio(self, positions: np.ndarray) -> float:
        rendered = self.render(positions)
        return 0.5 * max(0.0, (self.data * rendered).sum()) ** 2 / (rendered**2).sum()


@pytest.mark.parametrize(("box_size", "pixel_size", "mask_radius"), [(32, 4.0, 48.0), (15, 6.0, 36.0)])
def test_scores_are_finite_differences_of_the_likelihood(box_size, pixel_size, mask_radius):
    problem = Problem(box_size, pixel_size, mask_radius)
    scores = problem.features.scores(problem.batch)
    found = (scores.z * scores.information.sqrt()).numpy()
    expected = np.zeros_like(found)
    for image, width, group, component in np.ndindex(found.shape):
        step = 1e-4
        oracle = DirectSum(problem, WIDTHS[width], image)
        up, down = (oracle.log_likelihood_ratio(problem.moved(group, component, sign * step)) for sign in (1, -1))
        expected[image, width, group, component] = (up - down) / (2 * step)
    assert np.abs(expected[:, :, :3]).max(axis=(0, 2)).min() > 0.1
    scale = np.abs(expected).max(axis=2, keepdims=True)
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-3)


def test_information_is_the_curvature_left_when_the_contrast_is_fitted():
    problem = Problem()
    found = problem.features.scores(problem.batch)
    for image, width, group, component in [(0, 0, 0, 0), (1, 0, 1, 5), (2, 1, 2, 3), (0, 2, 3, 1), (1, 2, 0, 4)]:
        oracle = DirectSum(problem, WIDTHS[width], image)
        template = oracle.render(problem.positions)
        up, down = (oracle.render(problem.moved(group, component, sign * 1e-3)) for sign in (1, -1))
        contrast = (oracle.data * template).sum() / (template**2).sum()
        derivative = contrast * (up - down) / 2e-3
        profiled = derivative - template * (template * derivative).sum() / (template**2).sum()
        assert found.information[image, width, group, component] == pytest.approx((profiled**2).sum(), rel=1e-3)
        assert found.signal[image, width] == pytest.approx(contrast * np.sqrt((template**2).sum()), rel=1e-4)


def test_scores_agree_with_the_renderers_backward_pass():
    """Without a width in between: the renderer's own Gaussians are the widened ones."""
    problem = Problem()
    scores = problem.features.scores(problem.batch)
    width = WIDTHS[0]
    structure, _ = make_structure()
    widened = replace(structure, sigmas=np.sqrt(structure.sigmas**2 + width**2))
    renderer = Renderer(widened, 32, 4.0, 48.0)
    prepared = renderer.prepare(problem.batch, renderer.level(problem.features.level(width).band))
    positions = torch.tensor(problem.positions, dtype=torch.float32).expand(N_IMAGES, -1, -1).clone().requires_grad_()
    rendered = renderer.render(prepared, positions)
    overlap, power = (prepared.images * rendered).sum((-2, -1)), rendered.square().sum((-2, -1))
    (0.5 * overlap.clamp_min(0) ** 2 / power).sum().backward()
    found = (scores.z * scores.information.sqrt())[:, 0, :, :3]
    for group in range(4):
        pooled = positions.grad[:, torch.tensor(problem.groups == group)].sum(1)
        torch.testing.assert_close(found[:, group], pooled, rtol=0.01, atol=0.01 * float(found.abs().max()))


@pytest.mark.parametrize(("mask_radius", "tolerance"), [(48.0, 0.1), (34.0, 0.2)])
def test_scores_of_noise_have_the_variance_that_is_stated(mask_radius, tolerance):
    """At any contrast, also 0; a mask that cuts into the groups may take up to a tenth of the deviation."""
    problem = Problem(mask_radius=mask_radius)
    n_draws = 3000
    rows = torch.zeros(n_draws, dtype=torch.long)
    batch = problem.batch
    ctf = CTFParameters(**{name: value[rows] for name, value in vars(batch.ctf).items() if value is not None})
    noise = image_to_fourier(torch.randn(n_draws, 32, 32))
    noise = ParticleBatch(rows, rows, noise, batch.rotmat[rows], ctf, batch.whitening[rows])
    z = problem.features.scores(noise).z
    std = z.std(0)
    informative = torch.ones_like(std, dtype=torch.bool)
    informative[:, 3, 3:] = False
    assert (z[:, ~informative] == 0).all()
    assert (std[informative] ** 2 - 1).abs().max() < tolerance
    assert z.mean(0).abs().max() < 5 / np.sqrt(n_draws)


def test_turning_body_and_pose_turns_the_scores_with_the_body():
    problem = Problem()
    before = problem.features.scores(problem.batch)
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    rotmat = torch.tensor(problem.batch.rotmat.numpy() @ turn.T, dtype=torch.float32)
    after = problem.features_at(problem.positions @ turn.T).scores(replace(problem.batch, rotmat=rotmat))
    torch.testing.assert_close(after.signal, before.signal, rtol=1e-4, atol=1e-4)
    turn = torch.tensor(turn, dtype=torch.float32)
    for part in (slice(0, 3), slice(3, 6)):
        old, new = ((scores.z * scores.information.sqrt())[..., part] for scores in (before, after))
        torch.testing.assert_close(new, old @ turn.T, rtol=1e-3, atol=1e-3 * float(old.abs().max()))
        trace_old, trace_new = (scores.information[..., part].sum(-1) for scores in (before, after))
        torch.testing.assert_close(trace_new, trace_old, rtol=1e-3, atol=1e-3)


def test_turning_axes_into_each_other_permutes_the_features():
    problem = Problem()
    before = problem.features.scores(problem.batch)
    cycle = np.eye(3)[[2, 0, 1]]
    rotmat = torch.tensor(problem.batch.rotmat.numpy() @ cycle.T, dtype=torch.float32)
    after = problem.features_at(problem.positions @ cycle.T).scores(replace(problem.batch, rotmat=rotmat))
    for name in ("z", "information"):
        old, new = getattr(before, name).unflatten(-1, (2, 3)), getattr(after, name).unflatten(-1, (2, 3))
        torch.testing.assert_close(new, old[..., [2, 0, 1]], rtol=1e-3, atol=2e-3)


def test_nothing_is_told_along_the_view_axis():
    problem = Problem()
    batch = replace(problem.batch, rotmat=torch.eye(3).expand(N_IMAGES, 3, 3))
    scores = problem.features.scores(batch)
    assert (scores.z[..., 2] == 0).all() and (scores.information[..., 2] == 0).all()
    assert (scores.z[:, :, :3, [0, 1, 3, 4, 5]] != 0).all()


def test_an_image_against_the_template_keeps_its_z_scores_but_has_no_information():
    problem = Problem()
    dark = replace(problem.batch, fourier=-problem.batch.fourier)
    bright, scores = problem.features.scores(problem.batch), problem.features.scores(dark)
    assert (scores.signal == 0).all() and (scores.information == 0).all()
    torch.testing.assert_close(scores.z, -bright.z)


def test_features_of_an_image_do_not_depend_on_its_batch():
    problem = Problem()
    together = problem.features(problem.batch)
    assert together.shape == (N_IMAGES, problem.features.n_features) and not together.requires_grad
    order = [2, 0, 1] * 7
    ctf = CTFParameters(**{name: value[order] for name, value in vars(problem.batch.ctf).items() if value is not None})
    fields = {name: value[order] for name, value in vars(problem.batch).items() if name != "ctf"}
    torch.testing.assert_close(
        problem.features(ParticleBatch(ctf=ctf, **fields)), together[order], rtol=1e-3, atol=1e-3
    )


def test_template_can_be_replaced_and_is_saved():
    problem = Problem()
    moved = problem.moved(1, 0, 3.0)
    elsewhere = problem.features_at(moved)
    problem.features.set_template(torch.tensor(moved, dtype=torch.float32))
    torch.testing.assert_close(problem.features(problem.batch), elsewhere(problem.batch))
    assert set(problem.features.state_dict()) == {"template"}
    copy = problem.features_at(problem.positions)
    copy.load_state_dict(problem.features.state_dict())
    torch.testing.assert_close(copy(problem.batch), elsewhere(problem.batch))


def test_encoder_gives_the_same_from_images_and_from_their_features():
    problem = Problem()
    encoder = ScoreEncoder(problem.features, [16, 8], latent_dim=2)
    features = problem.features(problem.batch)
    encoder.set_statistics(features)
    mean, log_std = encoder(problem.batch)
    assert mean.shape == log_std.shape == (N_IMAGES, 2)
    cached_mean, cached_log_std = encoder.from_features(features)
    torch.testing.assert_close((cached_mean, cached_log_std), (mean, log_std))
    mean.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.network.parameters())


def test_encoder_sees_features_in_units_of_their_spread():
    problem = Problem()
    encoder = ScoreEncoder(problem.features, [16], latent_dim=2)
    sample = torch.randn(200, problem.features.n_features)
    sample[:, 0] = 3.0
    encoder.set_statistics(sample)
    expected = encoder.from_features(sample)
    scale = torch.linspace(0.1, 50.0, problem.features.n_features)
    encoder.set_statistics(scale * sample + 7.0)
    torch.testing.assert_close(encoder.from_features(scale * sample + 7.0), expected, rtol=1e-3, atol=1e-3)
    assert torch.isfinite(torch.cat(expected)).all()


def test_encoder_keeps_log_stds_in_a_range_without_distorting_its_middle():
    problem = Problem()
    encoder = ScoreEncoder(problem.features, [], latent_dim=1)
    features = torch.zeros(3, problem.features.n_features)
    features[:, 0] = torch.tensor([-1e4, 0.0, 1e4])
    with torch.no_grad():
        linear = encoder.network[-1]
        linear.weight.zero_()
        linear.weight[1, 0], linear.bias[1] = 1.0, -2.0
        _, log_std = encoder.from_features(features)
    assert log_std.flatten().tolist() == pytest.approx([-6.0, -2.0, 1.0], abs=0.01)
