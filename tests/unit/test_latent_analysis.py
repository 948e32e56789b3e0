"""Principal components, traversals, k-means and motion summaries against constructed answers."""

import csv
import sys

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sklearn.decomposition import PCA

from cryosphere.analysis.analyze import analyze
from cryosphere.analysis.latent import kmeans, principal_components, traverse
from cryosphere.analysis.tables import residue_ranges
from cryosphere.errors import InputError
from cryosphere.inference.ensemble import FluctuationMeter, hard_segments, spread_rows
from cryosphere.runs.tables import read_metrics
from tests.run_factory import make_run


@pytest.fixture
def cloud():
    generator = np.random.default_rng(0)
    return generator.normal(size=(500, 3)) * [3, 1, 0.2] @ Rotation.from_rotvec([0.3, 0.9, -0.2]).as_matrix() + 5


def test_components_equal_those_of_sklearn(cloud):
    found, expected = principal_components(cloud), PCA().fit(cloud)
    assert found.explained == pytest.approx(expected.explained_variance_ratio_)
    signs = np.sign((found.axes * expected.components_).sum(1))
    assert found.axes == pytest.approx(signs[:, None] * expected.components_, abs=1e-9)
    assert found.scores(cloud) == pytest.approx(signs * expected.transform(cloud), abs=1e-9)


def test_sign_of_components_does_not_depend_on_the_sign_of_the_data(cloud):
    assert principal_components(-cloud).axes == pytest.approx(principal_components(cloud).axes)


def test_components_of_equal_latents_explain_nothing():
    assert principal_components(np.ones((4, 2))).explained.tolist() == [0, 0]


def test_traversal_takes_real_particles_between_the_percentiles(cloud):
    components = principal_components(cloud)
    found = traverse(cloud, components, 0, 7)
    scores = components.scores(cloud)
    stops = np.linspace(*np.percentile(scores[:, 0], [5, 95]), 7)
    for row, stop in zip(found.rows, stops, strict=True):
        point = components.mean + stop * components.axes[0]
        assert row == np.linalg.norm(cloud - point, axis=1).argmin()
    assert (found.latent == cloud[found.rows]).all()
    nearest_stop = np.abs(scores[:, :1] - stops).argmin(1)
    assert found.populations == pytest.approx(np.bincount(nearest_stop, minlength=7) / 500)


@pytest.mark.parametrize(("component", "n_points", "words"), [(3, 5, "component 4 does not exist"), (0, 1, "2 points")])
def test_impossible_traversals_are_refused(cloud, component, n_points, words):
    with pytest.raises(InputError, match=words):
        traverse(cloud, principal_components(cloud), component, n_points)


def test_kmeans_finds_separate_groups_in_order_along_the_first_component():
    generator = np.random.default_rng(1)
    latent = np.concatenate([generator.normal(centre, 0.1, (n, 2)) for centre, n in ((8, 10), (0, 60), (4, 30))])
    found = kmeans(latent, 3)
    assert found.populations == pytest.approx([0.6, 0.3, 0.1])
    assert found.membership.tolist() == [2] * 10 + [0] * 60 + [1] * 30
    assert (found.latent == latent[found.rows]).all()
    assert found.latent[:, 0] == pytest.approx([0, 4, 8], abs=0.2)


def test_kmeans_with_more_clusters_than_distinct_latents_is_refused():
    with pytest.raises(InputError, match="2 distinct posterior means; ask for 1 to 2"):
        kmeans(np.array([[0.0], [0.0], [1.0]]), 3)


def test_streamed_fluctuation_equals_that_of_the_whole_array():
    generator = np.random.default_rng(2)
    ensemble = generator.normal(0, 3, (50, 7, 3)) + 300
    meter = FluctuationMeter(ensemble[0])
    for start in range(0, 50, 8):
        meter.add(ensemble[start : start + 8].astype(np.float32))
    expected = np.sqrt(((ensemble - ensemble.mean(0)) ** 2).sum(2).mean(0))
    assert meter.rmsf == pytest.approx(expected, rel=1e-5)
    assert meter.mean == pytest.approx(ensemble.mean(0), abs=1e-4)


def test_hard_segments_leave_fixed_residues_out():
    weights = np.array([[0.2, 0.8], [0.0, 0.0], [0.6, 0.4]])
    assert hard_segments(weights).tolist() == [1, -1, 0]


def test_spread_rows_are_distinct_and_reach_both_ends():
    assert spread_rows(3, 10).tolist() == [0, 1, 2]
    assert spread_rows(101, 5).tolist() == [0, 25, 50, 75, 100]


@pytest.fixture(
    scope="module",
    params=[(1, False), (2, False), (3, False), (1, True), (2, True)],
    ids=["1", "2", "3", "1 shared", "2 shared"],
)
def analysed(request, tmp_path_factory):
    latent_dim, shared = request.param
    run = make_run(tmp_path_factory.mktemp("analysis") / "run", latent_dim=latent_dim, shared=shared)
    return run, analyze(run, n_points=4)


def _rows(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_analysis_writes_every_table_and_picture(analysed):
    run, result = analysed
    names = {path.name for path in result.files}
    pictures = {"latent.png", "rmsf.png", "segments.png", "motions.png", "training.png"}
    pictures |= {"states.png", "landscape.png"}
    tables = {"particles.csv", "pca.csv", "rmsf.csv", "segments.csv", "traversal_pc1.csv"}
    tables |= {"motions.csv", "states.csv", "path.csv", "particles.npz", "landscape.npz"}
    wanted = pictures | tables | {"traversal_pc1.cif", "states.cif", "path.cif"}
    optional = ("traversal_pc2", "traversal_pc3", "path")  # a path only where draws are joined
    assert {name for name in wanted if not name.startswith(optional)} == {
        name for name in names if not name.startswith(optional)
    }
    assert ("path.csv" in names) == ("path.cif" in names) == (result.path is not None)
    for name in pictures:
        assert (result.folder / name).read_bytes().startswith(b"\x89PNG")
    latents = _rows(result.folder / "particles.csv")
    assert [int(row["particle"]) for row in latents] == list(range(run.table.n_particles))
    assert float(latents[7]["z1"]) == pytest.approx(run.posterior.mean[7, 0], rel=1e-5)
    assert latents[7]["image"] == "000008@particles.mrcs"


def test_table_of_residues_has_the_rmsf_of_the_ensemble(analysed):
    run, result = analysed
    rows = _rows(result.folder / "rmsf.csv")
    sample = result.ensemble.sample
    if run.posterior.is_shared:  # else one draw of every particle
        averaged = run.grid.weights(run.posterior.log_likelihood).mean(0)
        assert sample.weights == pytest.approx(averaged, abs=1e-9)
    everything = run.decode(sample.latent).astype(np.float64)
    mean = np.einsum("g,gri->ri", sample.weights, everything)
    expected = np.sqrt(np.einsum("g,gr->r", sample.weights, ((everything - mean) ** 2).sum(2)))
    assert [float(row["rmsf_angstrom"]) for row in rows] == pytest.approx(expected, rel=1e-3)
    for row in rows:
        assert float(row["rmsf_low"]) <= float(row["rmsf_angstrom"]) <= float(row["rmsf_high"])
        assert float(row["displacement_p5"]) <= float(row["displacement_p50"]) <= float(row["displacement_p95"])
    assert (rows[11]["chain"], rows[11]["residue"], rows[11]["name"]) == ("A", "13", "ALA")


def test_traversal_structures_are_those_of_the_table(analysed):
    run, result = analysed
    models = gemmi.read_structure(str(result.folder / "traversal_pc1.cif"))
    rows = _rows(result.folder / "traversal_pc1.csv")
    assert len(models) == len(rows) == 4
    latent = run.posterior.mean[[int(row["particle"]) for row in rows]]
    found = [[atom.pos.tolist() for chain in model for residue in chain for atom in residue] for model in models]
    assert np.array(found) == pytest.approx(run.decode(latent), abs=1e-3)


def test_analysis_is_kept_unless_overwrite_and_is_the_same_twice(tmp_path):
    run = make_run(tmp_path / "run")
    first = {path.name: path.read_bytes() for path in analyze(run).files}
    with pytest.raises(InputError, match="--overwrite"):
        analyze(run.folder)
    second = {path.name: path.read_bytes() for path in analyze(run.folder, overwrite=True).files}
    assert first == second


def test_a_folder_that_is_no_analysis_is_never_replaced(tmp_path):
    run = make_run(tmp_path / "run")
    run.layout.analysis.mkdir()
    (run.layout.analysis / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="did not make"):
        analyze(run, overwrite=True)
    assert (run.layout.analysis / "thesis.txt").read_text() == "mine"


def test_collapsed_posterior_is_analysed(tmp_path):
    run = make_run(tmp_path / "run", latent=np.zeros((60, 2)), spread=0.0)
    result = analyze(run)
    assert result.fluctuations.rmsf.max() < 1e-4
    assert result.states.n_states == 1


def test_a_failed_analysis_leaves_nothing(tmp_path):
    run = make_run(tmp_path / "run")
    before = set(run.folder.iterdir())
    with pytest.raises(InputError, match="2 points"):
        analyze(run, n_points=1)
    assert set(run.folder.iterdir()) == before


def test_residue_ranges_break_at_chains_and_gaps(analysed):
    run, _ = analysed
    assert residue_ranges(run.structure, np.array([0, 1, 2, 5, 23, 24, 25])) == "A:1-3 A:6-6 A:25-25 B:1-2"


def test_metrics_cut_short_by_a_kill_are_read_up_to_there(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert read_metrics(path) == [{"epoch": 1}, {"epoch": 2}]


def test_umap_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    run = make_run(tmp_path / "run", shared=True)
    with pytest.raises(InputError, match="`pip install umap-learn`"):
        analyze(run, umap=True)
    assert not run.layout.analysis.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"motions": ["angle(s9)"]}, "no segment s9"),
        ({"motions": ["speed(s1)"]}, "is no motion"),
        ({"landscape": ["angle(s1)", "angle(s3)", "angle(s4)"]}, "one or two motions, 3 given"),
        ({"reference": 9}, "the reference s9 is no segment of the run"),
        ({"clustering": "kmeans"}, "kmeans cannot tell the number of states"),
        ({"clustering": "kmeans", "n_states": 2, "between": (1, 7)}, "there are 2 states"),
        ({"clustering": "kmeans", "n_states": 2, "between": (1, 1)}, "give two different ones"),
    ],
)
def test_what_cannot_be_analysed_is_refused_and_nothing_is_left(tmp_path, options, words):
    run = make_run(tmp_path / "run", shared=True)
    before = set(run.folder.iterdir())
    with pytest.raises(InputError, match=words):
        analyze(run, **options)
    assert set(run.folder.iterdir()) == before


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_a_run_of_few_certain_particles_is_analysed(tmp_path, latent_dim):
    run = make_run(tmp_path / "run", n_particles=20, spread=0.02, latent_dim=latent_dim)
    result = analyze(run)
    assert np.isfinite(result.states.populations.high).all()
    with pytest.raises(InputError, match="no segment; give its number"):
        analyze(run, overwrite=True, reference="s2")
