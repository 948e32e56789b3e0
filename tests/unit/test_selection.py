"""Which conformations are chosen, and what is refused."""

import numpy as np
import pytest

from cryosphere.analysis.latent import kmeans, principal_components, traverse
from cryosphere.errors import InputError
from cryosphere.export import selection
from tests.run_factory import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("selection") / "run")


def test_rows_are_written_as_people_write_them():
    assert selection.parse_particles("3,0,10-12").tolist() == [3, 0, 10, 11, 12]


def test_rows_come_from_text_and_numpy_files(tmp_path):
    text, array = tmp_path / "rows.txt", tmp_path / "rows.npy"
    text.write_text("# chosen by hand\n5\n\n2  # twice as good\n5\n")
    np.save(array, np.array([5, 2, 5]))
    assert selection.parse_particles(str(text)).tolist() == [5, 2, 5]
    assert selection.parse_particles(str(array)).tolist() == [5, 2, 5]


@pytest.mark.parametrize(
    ("content", "words"), [("", "no particle rows"), ("1\n2.5\n", "line 2: .*'2.5'"), ("-1\n", "line 1: .*'-1'")]
)
def test_bad_files_of_rows_are_refused(tmp_path, content, words):
    path = tmp_path / "rows.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        selection.parse_particles(str(path))


def test_missing_files_wrong_arrays_and_empty_ranges_are_refused(tmp_path):
    np.save(tmp_path / "floats.npy", np.ones(3))
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    for text, words in (
        (str(tmp_path / "none.txt"), "no such file"),
        (str(tmp_path / "floats.npy"), "integers"),
        (str(tmp_path / "broken.npy"), "not a numpy array"),
        ("7-3", "no rows"),
    ):
        with pytest.raises(InputError, match=words):
            selection.parse_particles(text)


def test_particles_are_their_posterior_means_in_the_order_given(run):
    chosen = selection.select_particles(run, np.array([7, 3]))
    assert (chosen.latent == run.posterior.mean[[7, 3]]).all()
    assert chosen.names == ("particle 7", "particle 3")
    assert chosen.populations is None


def test_rows_beyond_the_table_are_refused(run):
    with pytest.raises(InputError, match=r"row 60 does not exist.*rows 0 to 59"):
        selection.select_particles(run, np.array([1, 60]))


def test_latents_must_fit_the_latent_space(run):
    chosen = selection.select_latents(run, [selection.parse_latent("-0.5,1e-1"), [1.0, 2.0]])
    assert chosen.latent == pytest.approx(np.array([[-0.5, 0.1], [1, 2]]))
    assert chosen.particles is None
    with pytest.raises(InputError, match=r"expected 2 finite numbers .* found 3"):
        selection.select_latents(run, [[1.0, 2.0, 3.0]])
    with pytest.raises(InputError, match="expected 2 finite numbers"):
        selection.select_latents(run, [[1.0, float("nan")]])
    with pytest.raises(InputError, match="numbers with commas"):
        selection.parse_latent("0.5;2")


def test_traversal_counts_components_from_one_and_has_populations(run):
    chosen = selection.select_traversal(run, 1, 6)
    assert chosen.n_conformations == 6
    assert (chosen.latent == run.posterior.mean[chosen.particles]).all()
    assert chosen.populations.sum() == pytest.approx(1)
    assert np.all(np.diff(chosen.latent[:, 0]) >= 0)
    with pytest.raises(InputError, match="component 3 does not exist"):
        selection.select_traversal(run, 3)


@pytest.mark.parametrize("kind", ["kmeans", "traversal"])
def test_some_particles_alone_are_as_a_run_of_only_these(run, kind):
    among = np.array([40, 2, 2, 11, 33, 7, 58, 25, 19, 5])
    means = run.posterior.mean[np.unique(among)].astype(float)
    if kind == "kmeans":
        chosen, alone = selection.select_kmeans(run, 3, among), kmeans(means, 3)
    else:
        chosen, alone = selection.select_traversal(run, 1, 3, among), traverse(means, principal_components(means), 0, 3)
    assert chosen.particles.tolist() == np.unique(among)[alone.rows].tolist()
    assert (chosen.latent == run.posterior.mean[chosen.particles]).all()
    assert chosen.populations == pytest.approx(alone.populations * 9 / 60)
    assert chosen.membership[np.unique(among)].tolist() == alone.membership.tolist()
    assert (np.delete(chosen.membership, among) == -1).all()
    centre = selection.select_kmeans(run, 1, among)
    assert centre.particles[0] == np.unique(among)[np.linalg.norm(means - means.mean(0), axis=1).argmin()]
    with pytest.raises(InputError, match="--among: particle row 60 does not exist"):
        selection.select_kmeans(run, 1, np.array([60]))


def test_kmeans_conformations_are_particles_with_populations(run):
    chosen = selection.select_kmeans(run, 4)
    assert (chosen.latent == run.posterior.mean[chosen.particles]).all()
    assert chosen.populations.sum() == pytest.approx(1)
