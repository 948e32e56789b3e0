"""Numbers of particles and of the ensemble against sums over every conformation, and against simulated truth."""

import numpy as np
import pytest

from cryosphere.analysis.columns import known_columns, read_columns
from cryosphere.analysis.ensemble import Ensemble, _Moments
from cryosphere.analysis.motions import Motion, MotionName
from cryosphere.analysis.sample import weighted_percentiles
from cryosphere.analysis.states import divide
from cryosphere.errors import InputError
from tests.run_factory import make_run

NAMES = ("angle(s2,s1)", 'distance("A:1-5","B:3")')


@pytest.fixture(scope="module", params=[(1, True), (2, True), (3, False)], ids=["1 shared", "2 shared", "3 own"])
def described(request, tmp_path_factory):
    latent_dim, shared = request.param
    run = make_run(tmp_path_factory.mktemp("ensemble") / "run", latent_dim=latent_dim, shared=shared)
    return run, Ensemble(run, [MotionName.parse(name) for name in NAMES], with_usual=False)


def test_expected_motions_of_particles_are_sums_over_their_posteriors(described):
    run, ensemble = described
    found = ensemble.of_particles(divide(ensemble.coordinates, ensemble.sample.weights, "kmeans", 2))
    for row in (0, 17, 59):
        if run.posterior.is_shared:
            latent, weights = run.grid.latent, run.grid.weights(run.posterior.log_likelihood[[row]])[0]
        else:  # many draws for the Gaussian that the two points of each direction stand for
            latent = run.sample_posterior(np.array([row]), 4000, seed=1)[0]
            weights = np.full(4000, 1 / 4000)
        motions = ensemble.motions
        values = motions.measure(motions.bodies(run.decode(latent)))
        mean = weights @ values
        std = np.sqrt(weights @ (values - mean) ** 2)
        close = {"abs": 1e-6, "rel": 1e-5} if run.posterior.is_shared else {"abs": 0.1 * std.max()}
        assert found.motion[row] == pytest.approx(mean, **close)
        assert found.motion_std[row] == pytest.approx(std, rel=1e-2 if run.posterior.is_shared else 0.3, abs=1e-4)
    assert found.membership.sum(1) == pytest.approx(np.ones(60))


def test_modes_are_the_principal_components_of_the_weighted_conformations(described):
    run, ensemble = described
    weights = ensemble.sample.weights
    flat = run.decode(ensemble.sample.latent).reshape(len(weights), -1).astype(np.float64)
    offset = flat - weights @ flat
    values, vectors = np.linalg.eigh(np.einsum("g,gi,gj->ij", weights, offset, offset) / run.n_residues)
    count = ensemble.modes.n_modes
    assert ensemble.modes.variances == pytest.approx(values[::-1][:count], rel=1e-3)
    expected = offset @ vectors[:, ::-1][:, :count] / np.sqrt(run.n_residues)
    signs = np.sign((expected * ensemble.coordinates).sum(0))
    assert ensemble.coordinates == pytest.approx(signs * expected, abs=1e-3 * np.abs(expected).max())


def test_columns_are_read_or_measured_by_name(described):
    run, ensemble = described
    columns = read_columns(run, ["z1", "std(z1)", "pc1", "log_evidence", NAMES[0], f"std({NAMES[1]})"])
    assert (columns["z1"] == run.posterior.mean[:, 0]).all()
    assert columns["std(z1)"] == pytest.approx(np.sqrt(run.posterior.covariance[:, 0, 0]))
    found = ensemble.of_particles()
    assert columns[NAMES[0]] == pytest.approx(found.motion[:, 0])
    assert columns[f"std({NAMES[1]})"] == pytest.approx(found.motion_std[:, 1])
    assert set(known_columns(run)) >= {"z1", "std(z1)", "pc1", "effective_sample_size"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("z9", "no .z9.; "),
        ("velocity", "no 'velocity'; there are z1"),
        ("state", "has no analysis; run `cryosphere analyze"),
        ("std(pc1)", r"did you mean std\(z1\)"),
        ("angle(s9)", "no segment s9"),
        ("turn(s2)", r"'turn\(s2\)' is no motion"),
    ],
)
def test_columns_that_are_not_there_are_named(described, name, words):
    with pytest.raises(InputError, match=words):
        read_columns(described[0], [name])


def test_weighted_percentiles_are_those_of_repeated_values():
    generator = np.random.default_rng(0)
    values, counts = generator.normal(size=400), generator.integers(1, 30, 400)
    found = weighted_percentiles(values, counts / counts.sum(), (5, 50, 95))
    assert found == pytest.approx(np.percentile(np.repeat(values, counts), (5, 50, 95)), abs=0.02)


def test_angles_of_a_full_turn_are_averaged_on_the_circle():
    """A posterior across ±180° has its mean there, and a small standard deviation; a linear mean would be 0."""
    motion = Motion(MotionName("dihedral", ("s1", "s2", "s3", "s4")), (0, 1, 2, 3), middle=10.0)
    moments = _Moments([motion], np.array([10.0]), 0)
    angles = np.array([[175.0], [185.0 - 360.0], [189.0 - 360]])
    numbers = moments.of(angles, np.zeros((3, 0)))
    mean, std = moments.mean_and_std(np.array([[0.5, 0.5, 0.0]]) @ numbers)
    assert mean[0, 0] == pytest.approx(180.0)
    assert std[0, 0] == pytest.approx(5.0, rel=1e-3)


def test_states_of_gaussian_posteriors_are_shares_of_draws(tmp_path):
    run = make_run(tmp_path / "run", latent_dim=1, spread=0.5)
    ensemble = Ensemble(run)
    division = divide(ensemble.coordinates, ensemble.sample.weights, "kmeans", 2)
    found = ensemble.of_particles(division).membership
    drawn = run.sample_posterior(np.arange(60), 2000, seed=9)
    expected = [division.memberships(ensemble.coordinates_at(latent)).mean(0) for latent in drawn]
    assert np.abs(found - expected).mean() < 0.06
    assert len(np.unique(found)) > 3  # not only none, half and all
