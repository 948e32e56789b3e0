"""Colours of residues, their legends, and arrows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from cryosphere.analysis.results import read_analysis
from cryosphere.analysis.style import PALE
from cryosphere.errors import InputError
from cryosphere.export.residue_colours import residue_colours
from cryosphere.viewer.arrows import motion_arrows
from cryosphere.viewer.session import Session
from cryosphere.viewer.tints import TINTS, Tints, tint_of
from tests.run_factory import make_run


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """A run without an analysis."""
    return make_run(tmp_path_factory.mktemp("tints") / "run", n_particles=40)


def hexes(tint) -> list[str]:
    return [to_hex(colour).upper() for colour in tint.colours]


def test_segments_have_the_colours_of_the_session(session):
    tints = Tints(session)
    session.set_segments(colours=["#102030", "#405060", "#708090", "#a0b0c0"][: len(session.segment_colours)])
    tint = tints.of("segment", session.nominal_positions)
    expected = [session.segment_colours[label].upper() if label >= 0 else PALE for label in session.labels]
    assert hexes(tint) == expected
    assert [colour for _, colour in tint.legend.entries] == session.segment_colours
    assert [name for name, _ in tint.legend.entries] == session.run.segment_names


def test_residues_in_no_segment_are_pale(session):
    session.labels = np.where(np.arange(len(session.labels)) < 3, -1, session.labels)
    tint = Tints(session).of("segment", session.nominal_positions)
    assert hexes(tint)[:3] == [PALE] * 3
    assert tint.legend.entries[-1] == ("in none", PALE)


def test_every_chain_has_its_colour(session):
    tint = Tints(session).of("chain", session.nominal_positions)
    by_chain = dict(tint.legend.entries)
    assert list(by_chain) == ["A", "B"]
    assert hexes(tint) == [by_chain[chain] for chain in session.run.structure.chain_ids]


def test_plddt_has_the_bands_of_the_database(session):
    numbers = np.linspace(0, 100, session.run.n_residues)
    session.run.structure = replace(session.run.structure, plddt=numbers)
    tint = Tints(session).of("plddt", session.nominal_positions)
    bands = [("#0053D6", 90), ("#65CBF3", 70), ("#FFDB13", 50), ("#FF7D45", 0)]
    assert hexes(tint) == [next(colour for colour, least in bands if number >= least) for number in numbers]
    assert tint.legend.entries[-1] == ("90 to 100", "#0053D6")


def test_plddt_of_another_structure_is_refused(session):
    with pytest.raises(InputError, match="no predicted model"):
        Tints(session).check("plddt")


def test_rmsf_is_the_analysis_table(session):
    tint = Tints(session).of("rmsf", session.nominal_positions)
    values = read_analysis(session.run, "residues")["rmsf_angstrom"].to_numpy()
    stops = tint.legend.stops
    assert stops[0] == (0.0, "#0072B2")
    assert stops[-1][0] == pytest.approx(max(np.percentile(values, 95), 0.5), abs=0.01)
    top = values >= stops[-1][0]
    assert top.any()
    assert {hexes(tint)[row] for row in np.flatnonzero(top)} == {"#D55E00"}
    assert tint.legend.unit == "Å"


def test_rmsf_without_an_analysis_is_measured(plain_run):
    session = Session(plain_run)
    tint = Tints(session).of("rmsf", session.nominal_positions)
    np.testing.assert_array_equal(tint.colours, tint_of(residue_colours(plain_run, "rmsf")).colours)


def test_displacement_is_of_the_conformation_on_one_scale(session):
    tints = Tints(session)
    still = tints.of("displacement", session.nominal_positions)
    np.testing.assert_allclose(still.colours, np.tile(to_rgba("#0072B2"), (session.run.n_residues, 1)), atol=1e-6)
    far = tints.of("displacement", session.nominal_positions + 1e3)
    np.testing.assert_allclose(far.colours, np.tile(to_rgba("#D55E00"), (session.run.n_residues, 1)), atol=1e-6)
    assert still.legend == far.legend
    half = np.zeros_like(session.nominal_positions)
    half[:, 1] = still.legend.stops[1][0]
    middle = tints.of("displacement", session.nominal_positions + half)
    np.testing.assert_allclose(middle.colours, np.tile(to_rgba("#F0E442"), (session.run.n_residues, 1)), atol=1e-3)
    session.set_path(session.path[[0, 0]] * 3, "another")
    assert tints.of("displacement", session.nominal_positions).legend != still.legend


def test_all_tints_are_opaque_and_whole(session):
    tints = Tints(session)
    for name in set(TINTS) - {"plddt"}:
        tint = tints.of(name, session.positions(session.path[:1])[0])
        assert tint.colours.shape == (session.run.n_residues, 4)
        assert (tint.colours[:, 3] == 1).all()
        assert bool(tint.legend.entries) != bool(tint.legend.stops)


def test_arrows_connect_spread_residues_that_move():
    start = np.random.default_rng(1).normal(size=(500, 3))
    end = start.copy()
    end[100:300] += (0, 0, 2.0)
    end[300:] += (0, 0.5, 0)
    arrows = motion_arrows(start, end, most=100)
    assert arrows.rows.tolist() == list(range(100, 300, 5))
    np.testing.assert_array_equal(arrows.starts, start[arrows.rows])
    np.testing.assert_allclose(arrows.starts + arrows.vectors, end[arrows.rows])
    np.testing.assert_allclose(arrows.lengths, 2.0)


def test_the_surface_of_an_arrow_reaches_from_start_to_end():
    start = np.array([[0.0, 0, 0], [50, 0, 0]])
    end = start + np.array([[0, 0, 20.0], [3, 4, 0]])
    vertices, faces = motion_arrows(start, end).surface(0.5)
    first = vertices[: len(vertices) // 2]
    assert (first[:, 2].min(), first[:, 2].max()) == pytest.approx((0, 20))
    second = vertices[len(vertices) // 2 :]
    assert np.linalg.norm(second - end[1], axis=1).min() == pytest.approx(0, abs=1e-5)
    corners = vertices[faces].astype(float)
    volume = np.einsum("fx,fx->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume > 0


def test_nothing_that_moves_means_no_arrows():
    vertices, faces = motion_arrows(np.zeros((9, 3)), np.zeros((9, 3))).surface(1.0)
    assert vertices.shape == faces.shape == (0, 3)
