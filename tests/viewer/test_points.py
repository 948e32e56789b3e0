"""Particles in a plane, their colours, and paths: no Qt, no napari."""

from __future__ import annotations

import numpy as np
import pytest

from cryosphere.analysis.analyze import analyze
from cryosphere.analysis.columns import read_columns
from cryosphere.analysis.results import read_analysis
from cryosphere.errors import CryosphereError, InputError
from cryosphere.export.particle_selection import RunColumns, choose_rows
from cryosphere.export.selection import select_traversal
from cryosphere.runs.run import Run
from cryosphere.viewer import paths
from cryosphere.viewer.particle_colours import MISSING, by_column, by_density
from cryosphere.viewer.points import Plane, default_axes, rectangle, unit_of
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text

OKABE_ITO_FIRST = ((0, 114, 178), (230, 159, 0))


@pytest.fixture(scope="module")
def columns(analysed_folder):
    """400 particles, two latent dimensions, an analysis, no particle file."""
    return RunColumns(Run.load(analysed_folder))


@pytest.fixture(scope="module")
def star_columns(tmp_path_factory):
    """60 particles of a STAR file, no analysis."""
    folder = tmp_path_factory.mktemp("star")
    (folder / "particles.star").write_text(star_text(N))
    return RunColumns(attach(make_run(folder / "run", n_particles=N), folder / "particles.star"))


@pytest.fixture(scope="module")
def line_columns(tmp_path_factory):
    """One latent dimension, with an analysis."""
    run = make_run(tmp_path_factory.mktemp("line") / "run", n_particles=60, latent_dim=1, shared=True)
    analyze(run)
    return RunColumns(run)


@pytest.mark.parametrize(
    "axes",
    [
        ("pc1", "pc2"),
        ("z1", "rlnDefocusU"),
        ("rlnClassNumber", "std(z2)"),
        ('distance("A:1-5", "B:1-5")', "z1 - 2 * z2"),
        ("rlnAnglePsi", "angle(s1)"),
    ],
)
def test_an_outline_chooses_the_particles_that_the_command_line_chooses(star_columns, tmp_path, axes):
    plane = Plane(star_columns, axes)
    turns = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    middle = plane.values.mean(0)
    polygon = middle + np.ptp(plane.values, axis=0) * 0.3 * np.column_stack([np.cos(turns), np.sin(2 * turns)])
    polygon = np.vstack([polygon, plane.values[[3, 17, 40]]])  # corners on particles
    (tmp_path / "p.csv").write_text("".join(f"{x},{y}\n" for x, y in polygon.tolist()))
    expected = choose_rows(RunColumns(star_columns.run), polygon=tmp_path / "p.csv", axes=",".join(axes)).chosen
    assert plane.inside(polygon).tolist() == expected.tolist()
    assert 0 < expected.sum() < N


def test_a_rectangle_is_closed_at_its_lower_and_left_sides(star_columns):
    plane = Plane(star_columns, ("z1", "z2"))
    one, other = plane.values[5], plane.values[30]
    x, y = plane.values.T
    expected = (x >= min(one[0], other[0])) & (x < max(one[0], other[0]))
    expected &= (y >= min(one[1], other[1])) & (y < max(one[1], other[1]))
    for corners in ((one, other), (other, one)):
        assert plane.inside(rectangle(*map(tuple, corners))).tolist() == expected.tolist()


def test_the_nearest_particle_is_that_of_scaled_axes(star_columns):
    plane = Plane(star_columns, ("z1", "rlnDefocusU"))
    size = plane.limits[:, 1] - plane.limits[:, 0]
    generator = np.random.default_rng(1)
    for place in plane.limits[:, 0] + generator.uniform(-0.2, 1.2, (50, 2)) * size:
        assert plane.nearest(*place) == np.linalg.norm((plane.values - place) / size, axis=1).argmin()


def test_particles_without_a_number_are_never_nearest_nor_counted(star_columns):
    columns = RunColumns(star_columns.run)
    holes = star_columns.run.posterior.mean[:, 0].astype(float)
    holes[::3] = np.nan
    columns._values["rlnHoles"] = holes
    plane = Plane(columns, ("rlnHoles", "z2"))
    assert plane.nearest(*plane.values[1]) == 1
    assert plane.nearest(0.0, 0.0) % 3
    assert plane.counts.sum() == np.isfinite(holes).sum()
    assert not plane.is_invertible
    assert np.isfinite(plane.latents_at(np.zeros((1, 2)))).all()


def test_limits_keep_outliers_out_and_counts_are_those_of_numpy():
    generator = np.random.default_rng(3)
    latent = generator.normal(size=(20_000, 2))
    latent[7] = 500.0

    plane = _plane_of(latent)
    assert np.abs(plane.limits).max() < 5
    n_bins = len(plane.counts)
    expected = np.histogram2d(*latent.T, bins=n_bins, range=plane.limits)[0].T
    assert np.abs(plane.counts - expected).sum() <= 2  # of particles on a bin's edge
    assert plane.density.max() == 1 and plane.density.min() >= 0
    assert plane.density_at(np.array([7])) == 0
    middle = np.linalg.norm(latent, axis=1).argmin()
    assert plane.density_at(np.array([middle]))[0] > 0.9
    assert len(plane.drawn) == 20_000


def _plane_of(latent: np.ndarray) -> Plane:
    """A plane of z1 and z2 without a run behind it."""
    from types import SimpleNamespace

    run = SimpleNamespace(posterior=SimpleNamespace(mean=latent), latent_dim=2)
    there = SimpleNamespace(is_file=lambda: True)
    read = lambda names, asked: {name: latent[:, int(name[1]) - 1] for name in names}  # noqa: E731
    columns = object.__new__(RunColumns)
    columns.run, columns.path, columns.read = run, there, read
    return Plane(columns, ("z1", "z2"))


def test_an_axis_along_which_nothing_varies_has_limits(star_columns):
    plane = Plane(star_columns, ("z1", "rlnDefocusAngle"))
    assert plane.limits[1].tolist() == [12.0, 13.0]
    assert plane.nearest(*plane.values[9]) == 9
    still = np.random.default_rng(0).normal(size=(500, 2)) * (1.0, 1e-6) + (0.0, 25.0)  # as float32 has it
    np.testing.assert_allclose(_plane_of(still).limits[1], [24.5, 25.5], atol=1e-4)


def test_places_of_latents_and_back_where_axes_are_linear(columns):
    run = columns.run
    latents = np.random.default_rng(2).normal(size=(7, 2))
    means = run.posterior.mean.astype(np.float64)
    axes = np.linalg.eigh(np.cov(means.T))[1][:, ::-1].T
    for names, expected in (
        (("z1", "z2"), latents),
        (("z2", "z1 + 2 * z2"), np.column_stack([latents[:, 1], latents[:, 0] + 2 * latents[:, 1]])),
        (("pc1", "pc2"), None),
    ):
        plane = Plane(columns, names)
        assert plane.is_invertible
        places = plane.places_of(latents)
        if expected is None:
            np.testing.assert_allclose(np.abs(places), np.abs((latents - means.mean(0)) @ axes.T), atol=1e-5)
        else:
            np.testing.assert_allclose(places, expected, atol=1e-6)
        np.testing.assert_allclose(plane.latents_at(places), latents, atol=1e-5)


def test_one_latent_dimension_is_found_along_either_axis(line_columns):
    latents = np.array([[-1.0], [0.3]])
    for names, places in (
        (("z1", "std(z1)"), [[-1.0, 0.2], [0.3, 9.0]]),
        (("angle(s1)", "-z1"), [[0.0, 1.0], [5.0, -0.3]]),
    ):
        np.testing.assert_allclose(Plane(line_columns, names).latents_at(np.array(places)), latents, atol=1e-6)
    assert default_axes(line_columns) == (
        read_analysis(line_columns.run, "path").columns[1],
        f"std({read_analysis(line_columns.run, 'path').columns[1]})",
    )


def test_elsewhere_neighbours_stand_for_a_place(columns):
    plane = Plane(columns, ("angle(s1)", "z1"))
    assert not plane.is_invertible
    means = columns.run.posterior.mean.astype(np.float64)
    size = plane.limits[:, 1] - plane.limits[:, 0]
    place = plane.values.mean(0)
    near = np.argsort(np.linalg.norm((plane.values - place) / size, axis=1))[:50]
    np.testing.assert_allclose(plane.latents_at(place[None])[0], means[near].mean(0))
    latent = means[11]
    near = np.argsort(np.linalg.norm((means - latent) / means.std(0), axis=1))[:50]
    expected = [read_columns(columns.run, ["angle(s1)"])["angle(s1)"][near].mean(dtype=np.float64), latent[0]]
    np.testing.assert_allclose(plane.places_of(latent[None])[0], expected, rtol=1e-6)


def test_a_particles_state_is_all_of_it(columns, star_columns):
    state = read_columns(columns.run, ["state"])["state"]
    chosen, number = Plane(columns, ("z1", "z2")).same_cluster(17)
    assert chosen.tolist() == (state == state[17]).tolist() and number == state[17]
    with pytest.raises(InputError, match="has no analysis; run `cryosphere analyze"):
        Plane(star_columns, ("z1", "z2")).same_cluster(17)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pc9", "have no 'pc9'; did you mean pc"),
        ("rlnDefocusU", "have no 'rlnDefocusU'"),
        ("angle(s99)", "no segment s99"),
        ("angle(", "cannot be understood"),
        ('distance("A:1-5")', "is no motion"),
        ("", "cannot be understood"),
    ],
)
def test_what_is_no_axis_is_said_plainly(columns, name, words):
    with pytest.raises(CryosphereError) as caught:
        Plane(columns, ("z1", name))
    assert words in str(caught.value) and "--" not in str(caught.value)


def test_text_and_numbers_of_nobody_are_no_axes(star_columns):
    with pytest.raises(CryosphereError, match="is no number"):
        Plane(star_columns, ("z1", "rlnMicrographName"))
    with pytest.raises(InputError, match="no particle has numbers in both"):
        Plane(star_columns, ("z1", "effective_sample_size"))


def test_colours_of_groups_numbers_and_density(columns, star_columns):
    rows = np.arange(0, N, 2)
    shown = by_column(star_columns, "rlnClassNumber", rows)
    assert [name for name, _ in shown.groups] == ["1 (25 %)", "2 (25 %)", "3 (25 %)", "4 (25 %)"]
    np.testing.assert_allclose(255 * shown.rgba[:2, :3], [OKABE_ITO_FIRST[0], (0, 158, 115)])
    assert by_column(star_columns, "rlnMicrographName", rows).groups[0][0] == "mic 0.mrc (33 %)"
    with pytest.raises(CryosphereError, match="is no number"):
        by_column(star_columns, "rlnImageName", rows)
    number = by_column(star_columns, "rlnDefocusU", rows)
    values = star_columns.read(["rlnDefocusU"], "")["rlnDefocusU"]
    assert (number.low, number.high) == pytest.approx(np.percentile(values, [1, 99]))
    brightness = number.rgba[np.argsort(values[rows]), :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(brightness) >= -1e-3).all() and np.ptp(brightness) > 0.5
    missing = by_column(star_columns, "effective_sample_size", rows)
    assert missing.n_missing == N
    np.testing.assert_allclose(255 * missing.rgba[:, 0], int(MISSING[1:3], 16))
    assert by_column(columns, "angle(s1)", np.arange(9)).unit == "°"
    states = by_column(columns, "state", np.arange(9))
    assert states.groups[0][0].startswith("state 1 (")
    plane = Plane(columns, ("z1", "z2"))
    dense = by_density(plane)
    assert dense.high == plane.counts.max() and len(dense.rgba) == 400


@pytest.mark.parametrize(
    ("name", "unit"),
    [("std(angle(s2))", "°"), ("shift(s1)", "Å"), ("mode2", "Å"), ("std(mode1)", "Å"), ("z1", ""), ("rlnDefocusU", "")],
)
def test_units(name, unit):
    assert unit_of(name) == unit


def test_frames_are_evenly_spaced_along_a_line():
    turns = np.sort(np.random.default_rng(0).uniform(0, np.pi, 4000))
    half_circle = np.column_stack([np.cos(turns), np.sin(turns)])
    frames = paths.resample(half_circle, 20)
    expected = np.linspace(turns[0], turns[-1], 20)
    np.testing.assert_allclose(frames, np.column_stack([np.cos(expected), np.sin(expected)]), atol=1e-3)
    with pytest.raises(InputError, match="has no length"):
        paths.resample(np.ones((5, 2)), 4)


def test_smoothing_keeps_the_ends_and_takes_the_tremor_out():
    generator = np.random.default_rng(4)
    x = np.linspace(0, 10, 200)
    line = np.column_stack([x, 3 * np.sin(x / 2)])
    drawn = line + generator.normal(scale=0.03, size=line.shape)
    frames = paths.smooth(drawn, 30, np.array([1.0, 1.0]))
    np.testing.assert_allclose(frames[[0, -1]], drawn[[0, -1]])
    assert np.abs(frames[:, 1] - 3 * np.sin(frames[:, 0] / 2)).max() < 0.1
    steps = np.linalg.norm(np.diff(frames, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.02


def test_paths_are_those_of_analysis_and_export(columns):
    run = columns.run
    np.testing.assert_array_equal(paths.component_path(run, 2, 12), select_traversal(run, 2, 12).latent)
    table = read_analysis(run, "path")[["z1", "z2"]].to_numpy()
    assert paths.has_easiest_path(run)
    frames = paths.easiest_path(run, 25)
    np.testing.assert_allclose(frames[[0, -1]], table[[0, -1]])
    scale = run.posterior.mean.std(0)
    assert max(min(np.linalg.norm((frames - point) / scale, axis=1)) for point in table) < 0.5
    means = run.posterior.mean.astype(np.float64)
    first, last = means[:, 0] < -0.5, means[:, 0] > 0.5
    frames = paths.straight_path(run, first, last, 5)
    np.testing.assert_allclose(frames, np.linspace(means[first].mean(0), means[last].mean(0), 5), atol=1e-6)
    with pytest.raises(InputError, match="two different ends"):
        paths.straight_path(run, first, first, 5)


def test_a_drawn_line_becomes_latents_on_it(columns, star_columns):
    plane = Plane(columns, ("z1", "z2"))
    line = np.column_stack([np.linspace(-1, 1, 30), np.linspace(0.5, -0.5, 30)])
    np.testing.assert_allclose(
        paths.drawn_path(plane, line, 9), np.column_stack([np.linspace(-1, 1, 9), np.linspace(0.5, -0.5, 9)]), atol=1e-6
    )
    assert not paths.has_easiest_path(star_columns.run)
    with pytest.raises(InputError, match="has no analysis"):
        paths.easiest_path(star_columns.run, 9)
