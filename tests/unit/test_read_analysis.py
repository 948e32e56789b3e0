"""Tables of an analysis as data frames."""

import numpy as np
import pytest

import cryosphere
from tests.run_factory import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("frames") / "run", shared=True)
    with pytest.raises(cryosphere.InputError, match="has no analysis; run `cryosphere analyze"):
        cryosphere.read_analysis(run, "motions")
    cryosphere.analyze(run, motions=['distance("A:1-5", "B:3")'], clustering="kmeans", n_states=3)
    return run


def test_particles_have_latents_states_and_motions(run):
    frame = cryosphere.read_analysis(run, "particles")
    assert frame.index.tolist() == run.posterior.index.tolist()
    assert (frame["z1"] == run.posterior.mean[:, 0]).all()
    assert set(frame["state"]) <= {1, 2, 3}
    assert {'distance("A:1-5","B:3")', 'std(distance("A:1-5","B:3"))', "angle(s1)", "mode1"} <= set(frame.columns)
    again = cryosphere.read_columns(run, ["state", "angle(s1)"])
    assert np.array_equal(again["angle(s1)"], frame["angle(s1)"])


def test_every_other_table_is_there(run):
    assert cryosphere.read_analysis(run, "states")["population"].sum() == pytest.approx(1)
    assert len(cryosphere.read_analysis(run, "residues")) == run.n_residues
    assert "angle(s1)" in cryosphere.read_analysis(run, "motions")["motion"].tolist()
    with pytest.raises(cryosphere.InputError, match="no table 'pictures'; there are particles, motions"):
        cryosphere.read_analysis(run, "pictures")
