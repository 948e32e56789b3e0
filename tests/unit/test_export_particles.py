"""Chosen particles of a run: which they are (numpy and pandas say the same), and what their files hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from matplotlib.path import Path as MatplotlibPath
from scipy.stats import binomtest, norm

from cryosphere.errors import InputError
from cryosphere.export import particle_selection
from cryosphere.export.particle_selection import select_rows
from cryosphere.export.particles import export_particles
from cryosphere.io.cryosparc import read_particles_cs
from cryosphere.io.star import read_particles
from cryosphere.runs.run import Run
from tests.cryosparc_files import only, particle_columns, write_cs
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text


@pytest.fixture(params=["3.1", "3.0", "3.1 with Windows lines"])
def star_run(request, tmp_path) -> Run:
    """A run of 60 particles whose STAR file is there."""
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    text = star_text(N, flat=request.param == "3.0")
    if "Windows" in request.param:
        text = text.replace("\n", "\r\n")
    run.table.source.write_bytes(text.encode())
    return attach(run, run.table.source)


@pytest.fixture
def run(tmp_path) -> Run:
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N))
    return attach(run, run.table.source)


@pytest.fixture
def analysed(monkeypatch):
    """Columns as an analysis has them: three states and an angle, missing for one particle."""
    real_known, real_read = particle_selection.known_columns, particle_selection.read_columns
    columns = {
        "state": np.arange(N) % 3 + 1,
        "state_probability": np.linspace(0.4, 1.0, N),
        "angle(s2)": np.where(np.arange(N) == 7, np.nan, np.linspace(-10, 30, N)),
        "std(angle(s2))": np.tile([1.0, 5.0], N // 2),
        'distance("A:1-5","B:2-9")': np.linspace(20, 25, N),
    }

    def read(run, names):
        mine = {name: columns[name] for name in names if name in columns}
        return mine | real_read(run, [name for name in names if name not in columns])

    monkeypatch.setattr(particle_selection, "known_columns", lambda run: [*real_known(run), *columns])
    monkeypatch.setattr(particle_selection, "read_columns", read)
    monkeypatch.setattr(particle_selection, "state_probabilities", lambda run: np.full((N, 3), 1 / 3))
    return columns


def rows_of(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if b"@" in line]


def test_the_text_of_the_rows_and_all_around_them_stays(star_run, tmp_path):
    source, out = star_run.table.source, tmp_path / "out dir é" / "chosen 1.star"
    chosen = star_run.posterior.mean[:, 0] > 0.2
    summary = export_particles(star_run, out, select="z1 > 0.2")
    assert summary.files == (out,)
    assert (summary.n_chosen, summary.n_particles) == (chosen.sum(), N)
    before = rows_of(source)
    assert rows_of(out) == [before[row] for row in np.flatnonzero(chosen)]
    old, new = source.read_bytes(), out.read_bytes()
    assert new.startswith(old[: old.index(before[0])]) and new.endswith(old[old.index(before[-1]) + len(before[-1]) :])
    whole = starfile.read(source, always_dict=True)
    part = starfile.read(out, always_dict=True)
    assert list(part) == list(whole)
    name = "images" if "images" in whole else "particles"
    pd.testing.assert_frame_equal(part[name], whole[name].iloc[np.flatnonzero(chosen)].reset_index(drop=True))


def test_our_reader_gives_the_rows_of_the_table(star_run, tmp_path, make_stack):
    make_stack(star_run.table.source.with_name("particles.mrcs"), n_images=N, box_size=24, pixel_size=4.0)
    out = star_run.table.source.with_name("chosen.star")
    export_particles(star_run, out, select="z1 > 0.2", extra_columns=True)
    rows = np.flatnonzero(star_run.posterior.mean[:, 0] > 0.2)
    whole, part = read_particles(star_run.table.source), read_particles(out)
    for name in "image_index rotmat shift defocus_u defocus_v voltage_kv spherical_aberration_mm".split():
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows], err_msg=name)


def test_further_columns_are_the_runs(star_run, tmp_path, analysed):
    out = tmp_path / "out.star"
    export_particles(star_run, out, select="z1 > 0.2", extra_columns=True)
    rows = np.flatnonzero(star_run.posterior.mean[:, 0] > 0.2)
    blocks = starfile.read(out, always_dict=True)
    frame = blocks.get("particles", blocks.get("images"))
    added = {
        "cryosphereLatent1": star_run.posterior.mean[:, 0],
        "cryosphereLatent1Std": star_run.posterior.std[:, 0],
        "cryosphereLatent2": star_run.posterior.mean[:, 1],
        "cryosphereLatent2Std": star_run.posterior.std[:, 1],
        "cryosphereState": analysed["state"],
        "cryosphereStateProbability": analysed["state_probability"],
        "cryosphereAngleS2": analysed["angle(s2)"],
        "cryosphereAngleS2Std": analysed["std(angle(s2))"],
        "cryosphereDistanceA_1_5_B_2_9": analysed['distance("A:1-5","B:2-9")'],
    }
    assert set(frame.columns[-9:]) == set(added)
    for name, values in added.items():
        np.testing.assert_allclose(frame[name], values[rows], rtol=1e-8, err_msg=name)
    plain = tmp_path / "plain.star"
    export_particles(star_run, plain, select="z1 > 0.2")
    cells = [
        (line.rstrip(b"\r\n"), old.partition(b"#")[0]) for line, old in zip(rows_of(out), rows_of(plain), strict=True)
    ]
    assert all(line.startswith(old.rstrip()) for line, old in cells)
    assert "cryosphereLatent1" not in plain.read_text()


def test_columns_of_an_earlier_export_are_not_doubled(run, tmp_path):
    export_particles(run, tmp_path / "all.star", extra_columns=True)
    again = attach(run, tmp_path / "all.star")
    with pytest.raises(InputError, match="has the column cryosphereLatent1 already, from an earlier export"):
        export_particles(again, tmp_path / "more.star", extra_columns=True)
    export_particles(again, tmp_path / "more.star", select="cryosphereLatent1 > 0")
    assert (starfile.read(tmp_path / "more.star")["particles"]["cryosphereLatent1"] > 0).all()


def test_conditions_may_ask_about_both_the_file_and_the_run(run):
    frame = starfile.read(run.table.source)["particles"]
    frame["z1"], frame["sz"] = run.posterior.mean[:, 0], run.posterior.std[:, 1]
    frame["voltage"] = np.where(frame["rlnOpticsGroup"] == 1, 200, 300)
    queries = {
        "z1 > 0 and rlnClassNumber in [1, 3]": "z1 > 0 and rlnClassNumber in [1, 3]",
        "std(z2) < 0.1 or rlnMicrographName == 'mic 1.mrc'": "sz < 0.1 or rlnMicrographName == 'mic 1.mrc'",
        "not (rlnVoltage == 300 and z1 < 0)": "not (voltage == 300 and z1 < 0)",
    }
    for text, query in queries.items():
        rows = select_rows(run, select=text).rows
        assert rows.tolist() == frame.index[frame.eval(query)].tolist()
        assert 0 < len(rows) < N


def test_states_certainty_and_shares(run, analysed):
    state, probability, angle = (analysed[name] for name in ("state", "state_probability", "angle(s2)"))
    assert select_rows(run, states=(2,)).rows.tolist() == np.flatnonzero(state == 2).tolist()
    assert select_rows(run, states=(1, 3), invert=True).rows.tolist() == np.flatnonzero(state == 2).tolist()
    sure = select_rows(run, states=(1,), min_probability=0.8).rows
    assert sure.tolist() == np.flatnonzero((state == 1) & (probability >= 0.8)).tolist()
    largest = np.sort(np.argsort(np.where(np.isnan(angle), -np.inf, angle))[-12:])
    assert select_rows(run, share=0.2, by="angle(s2)").rows.tolist() == largest.tolist()
    certain = np.sort(np.argsort(run.posterior.std[:, 0], kind="stable")[:30])
    assert select_rows(run, share=0.5, by="-std(z1)").rows.tolist() == certain.tolist()
    of_state = select_rows(run, states=(3,), share=0.25, by="-angle(s2)").rows
    assert of_state.tolist() == np.flatnonzero(state == 3)[:5].tolist()
    text = "angle(s2) > 12 and std( angle(s2) ) < 4"
    expected = np.flatnonzero((angle > 12) & (analysed["std(angle(s2))"] < 4))
    assert select_rows(run, select=text).rows.tolist() == expected.tolist()


def test_not_gives_exactly_the_others_also_where_numbers_are_missing(run, analysed):
    some = select_rows(run, select="angle(s2) > 0")
    others = select_rows(run, select="angle(s2) > 0", invert=True)
    assert (some.chosen != others.chosen).all() and others.chosen[7]


def test_particles_inside_a_polygon(run, tmp_path):
    corners = np.array([[-1.0, -0.2], [1.5, -0.4], [0.6, 0.9]])
    (tmp_path / "p.csv").write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in corners))
    mean = run.posterior.mean.astype(float)
    for axes, points in (("z1,z2", mean), ("z2 , 2 * z1", np.column_stack([mean[:, 1], 2 * mean[:, 0]]))):
        inside = MatplotlibPath(np.vstack([corners, corners[:1]]), closed=True).contains_points(points)
        assert 0 < inside.sum() < N
        assert select_rows(run, polygon=tmp_path / "p.csv", axes=axes).chosen.tolist() == inside.tolist()
    both = select_rows(run, polygon=tmp_path / "p.csv", axes="std(z1),rlnClassNumber", invert=True)
    assert len(both.rows) > 0


def test_given_rows_and_whatever_else_is_asked_for(run, tmp_path):
    rows = np.array([50, 3, 3, 17, 8, 40])
    assert select_rows(run, particles=rows).rows.tolist() == [3, 8, 17, 40, 50]
    middle = np.median(run.posterior.mean[rows, 0])
    positive = np.flatnonzero(run.posterior.mean[:, 0] > middle)
    both = select_rows(run, particles=rows, select=f"z1 > {middle:.9g}").rows
    assert both.tolist() == sorted(set(rows.tolist()) & set(positive.tolist())) and 0 < len(both) < 5
    others = select_rows(run, particles=rows, invert=True).rows
    assert others.tolist() == [row for row in range(N) if row not in rows]
    out = tmp_path / "o.star"
    assert export_particles(run, out, particles=rows).n_chosen == 5
    assert rows_of(out) == [rows_of(run.table.source)[row] for row in (3, 8, 17, 40, 50)]
    with pytest.raises(InputError, match=r"--particles: particle row 60 does not exist; particles\.star has 60"):
        select_rows(run, particles=np.array([1, 60]))
    none = "--select 'z1 > 1e9' and --particles: none of the 60"
    with pytest.raises(InputError, match=none):
        select_rows(run, particles=rows, select="z1 > 1e9")


def test_given_rows_are_those_of_the_file_where_the_run_has_only_some(run, tmp_path):
    source = tmp_path / "whole.star"
    source.write_text(star_text(130))
    run = attach(run, source, np.arange(3, 123, 2))
    chosen = select_rows(run, particles=np.array([5, 3, 121]))
    assert chosen.rows.tolist() == [3, 5, 121]
    assert np.flatnonzero(chosen.chosen).tolist() == [0, 1, 59]
    with pytest.raises(InputError, match=r"particle row 4 of whole.star was not selected for this run"):
        select_rows(run, particles=np.array([3, 4]))


def test_axes_may_have_commas_of_their_own(run, tmp_path, monkeypatch):
    column = 'distance("A:1-5","B:2-9")'
    read = particle_selection.read_columns
    monkeypatch.setattr(
        particle_selection,
        "read_columns",
        lambda run, names: {
            name: np.linspace(0, 1, N) if name == column else read(run, [name])[name] for name in names
        },
    )
    (tmp_path / "p.csv").write_text("0.5,-9\n9,-9\n9,9\n0.5,9\n")
    for axes in ('distance("A:1-5", "B:2-9"),z1', "distance('A:1-5','B:2-9'), z1"):
        chosen = select_rows(run, polygon=tmp_path / "p.csv", axes=axes).chosen
        assert chosen.tolist() == (np.linspace(0, 1, N) >= 0.5).tolist()


def test_a_run_on_some_rows_gives_those_rows_of_the_whole_file(run, tmp_path):
    kept = np.arange(3, 123, 2)
    source = tmp_path / "whole.star"
    source.write_text(star_text(130))
    run = attach(run, source, kept)
    out = tmp_path / "out.star"
    summary = export_particles(run, out, select="z1 > 0 and rlnClassNumber == 4", invert=True)
    frame = starfile.read(source)["particles"].iloc[kept]
    chosen = ~((run.posterior.mean[:, 0] > 0) & (frame["rlnClassNumber"] == 4).to_numpy())
    assert rows_of(out) == [rows_of(source)[row] for row in kept[chosen]]
    assert (summary.n_particles, summary.n_input_rows) == (len(kept), 130)
    assert "(the file has 130)" in summary.lines()[0]


def test_rows_of_one_image(run, tmp_path):
    images = [row % 20 for row in range(N)]
    run.table.source.write_text(star_text(N, images=images))
    run = attach(run, run.table.source)
    chosen = run.posterior.mean[:, 0] > 0.3
    frame = pd.DataFrame({"image": images, "chosen": chosen})
    groups = frame.groupby("image")["chosen"]
    apart = select_rows(run, select="z1 > 0.3")
    assert (apart.chosen == chosen).all()
    n_split = int((groups.any() & ~groups.all()).sum())
    assert apart.notes[0].startswith(f"{n_split} images are taken with only some of their rows")
    together = select_rows(run, select="z1 > 0.3", shared_images="together")
    assert (together.chosen == groups.transform("any")).all()
    assert together.notes == (
        f"All rows of {groups.any().sum()} images are taken, of {n_split} only some were chosen.",
    )
    once = select_rows(run, select="z1 > 0.3", shared_images="once")
    assert once.rows.tolist() == sorted(frame[frame["chosen"]].drop_duplicates("image").index)
    with pytest.raises(InputError, match="--shared-images is 'no', expected one of apart, together, once"):
        select_rows(run, select="z1 > 0.3", shared_images="no")


def test_the_summary_says_what_was_chosen(run, tmp_path, analysed):
    summary = export_particles(run, tmp_path / "o.star", select="angle(s2) > 0 and state != 3")
    chosen = (np.nan_to_num(analysed["angle(s2)"], nan=-1) > 0) & (analysed["state"] != 3)
    assert summary.means["angle(s2)"][0] == pytest.approx(analysed["angle(s2)"][chosen].mean())
    assert summary.means["angle(s2)"][1] == pytest.approx(np.nanmean(analysed["angle(s2)"]))
    assert summary.means["z1"][0] == pytest.approx(run.posterior.mean[chosen, 0].mean(), rel=1e-5)
    assert summary.spreads["angle(s2)"][0] == pytest.approx(analysed["angle(s2)"][chosen].std())
    assert summary.spreads["angle(s2)"][1] == pytest.approx(np.nanstd(analysed["angle(s2)"]))
    wilson = binomtest(int(chosen.sum()), N).proportion_ci(2 * norm.cdf(1) - 1, method="wilson")
    assert summary.interval == pytest.approx((wilson.low, wilson.high))
    assert summary.states == {k: (int((chosen & (analysed["state"] == k)).sum()), 20) for k in (1, 2, 3)}
    text = "\n".join(summary.lines())
    assert f"{chosen.sum()} of 60 particles of the run, {100 * chosen.mean():.1f} %" in text
    assert "state 3: 0 of 20" in text
    as_dict = summary.as_dict()
    assert as_dict["states"]["1"] == {"chosen": summary.states[1][0], "all": 20}
    assert as_dict["share"] == pytest.approx(chosen.mean())


def test_all_particles_are_written_and_that_is_said(run, tmp_path):
    summary = export_particles(run, tmp_path / "o.star", select="z1 < 1000")
    assert "All 60 particles of the run are chosen: nothing is left out." in summary.lines()
    assert (tmp_path / "o.star").read_bytes() == run.table.source.read_bytes()


@pytest.fixture
def cs_run(tmp_path, make_stack) -> Run:
    """A run of 60 particles from a refinement of cryoSPARC with a passthrough file."""
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    make_stack(tmp_path / "job" / "stack.mrcs", n_images=N)
    columns = particle_columns(N)
    write_cs(tmp_path / "job" / "J3_passthrough_particles.cs", only(columns, "blob"))
    return attach(run, write_cs(tmp_path / "job" / "J3_particles.cs", only(columns, "ctf", "alignments3D")))


def test_particles_of_cryosparc(cs_run, tmp_path, analysed):
    source = cs_run.table.source
    files = export_particles(cs_run, tmp_path / "open.cs", select="z1 > 0 and `alignments3D/split` == 1").files
    before, main, other = np.load(source), np.load(files[0]), np.load(files[1])
    rows = np.flatnonzero((cs_run.posterior.mean[:, 0] > 0) & (before["alignments3D/split"] == 1))
    assert main.dtype == before.dtype and main.tobytes() == before[rows].tobytes()
    assert other.tobytes() == np.load(source.with_name("J3_passthrough_particles.cs"))[rows].tobytes()
    whole = read_particles_cs(source)
    again = read_particles_cs(files[0], datadir=source.parent)
    np.testing.assert_array_equal(again.rotmat, whole.rotmat[rows])
    files = export_particles(cs_run, tmp_path / "more.cs", states=(1,), extra_columns=True).files
    data = np.load(files[0])
    assert data.dtype.names[-9:] == (
        "cryosphere/latent_1",
        "cryosphere/latent_1_std",
        "cryosphere/latent_2",
        "cryosphere/latent_2_std",
        "cryosphere/state",
        "cryosphere/state_probability",
        "cryosphere/angle_s2",
        "cryosphere/angle_s2_std",
        "cryosphere/distance_A_1_5_B_2_9",
    )
    np.testing.assert_allclose(data["cryosphere/angle_s2"], analysed["angle(s2)"][::3], rtol=1e-6)
    assert (data["cryosphere/state"] == 1).all()


def test_a_file_that_has_moved_is_named(run, tmp_path):
    moved = tmp_path / "elsewhere é" / "new name.star"
    moved.parent.mkdir()
    run.table.source.rename(moved)
    with pytest.raises(
        InputError, match=r"particles\.star, the particle file of .*run, is not there any more; say where"
    ):
        export_particles(run, tmp_path / "o.star", select="z1 > 0")
    export_particles(run, tmp_path / "o.star", select="z1 > 0", input_file=moved)
    assert len(rows_of(tmp_path / "o.star")) == (run.posterior.mean[:, 0] > 0).sum()
    with pytest.raises(InputError, match=r"new name\.star is the file that the rows come from"):
        export_particles(run, moved, input_file=moved, overwrite=True)
    with pytest.raises(InputError, match=r"gone\.star does not exist"):
        export_particles(run, tmp_path / "p.star", input_file=tmp_path / "gone.star")
