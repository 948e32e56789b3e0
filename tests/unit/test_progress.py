"""Long functions tell how far they are, stop when told to, and leave nothing behind; stderr stays as tqdm has it."""

from __future__ import annotations

import io
import threading
import time
from contextlib import nullcontext, redirect_stderr

import numpy as np
import pytest
from tqdm import tqdm

from cryosphere.errors import Cancelled
from cryosphere.export import selection
from cryosphere.export.coordinates import export_coordinates
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.particles import export_particles
from cryosphere.export.scene import export_scene
from cryosphere.export.volumes import export_volumes
from cryosphere.progress import Bar, listening
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("progress") / "run", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N))
    return attach(run, run.table.source)


def test_a_listener_is_told_the_beginning_the_end_and_not_too_often():
    told = []
    with listening(lambda *values: told.append((time.monotonic(), *values))):
        for _ in Bar(range(100), desc="walk", disable=True):
            time.sleep(0.003)
    times, done, total, what = zip(*told, strict=True)
    assert (done[0], done[-1], set(total), set(what)) == (0, 100, {100}, {"walk"})
    assert list(done) == sorted(set(done))
    assert 3 <= len(told) <= 2 + (times[-1] - times[0]) / 0.1
    assert np.diff(times[:-1]).min() > 0.099


def test_updates_by_hand_count_and_a_total_may_be_unknown():
    told = []
    with listening(lambda *values: told.append(values)):
        with Bar(total=10, desc="steps", disable=True) as bar:
            bar.update(4)
            bar.update(6)
        list(Bar(iter("ab"), desc="open", disable=True))
    assert told == [(0, 10, "steps"), (10, 10, "steps"), (0, None, "open")]


def test_only_the_thread_that_listens_is_heard():
    told = []
    with listening(lambda *values: told.append(values)):
        other = threading.Thread(target=lambda: list(Bar(range(3), disable=True)))
        other.start()
        other.join()
    list(Bar(range(3), disable=True))
    assert told == []


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("disable", [False, True])
def test_stderr_is_tqdms(heard, disable):
    drawn = []
    for kind in (tqdm, Bar):
        with redirect_stderr(io.StringIO()) as stderr, listening(lambda *_: None) if heard else nullcontext():
            assert list(kind(range(5), desc="x", unit="step", disable=disable, bar_format="{desc} {n}/{total}")) == [
                *range(5)
            ]
            with kind(total=4, desc="y", disable=disable, bar_format="{desc} {n}/{total}") as bar:
                bar.update(4)
        drawn.append(stderr.getvalue())
    assert drawn[0] == drawn[1]
    assert ("x 5/5" in drawn[0]) is not disable


def _of_conformations(export):
    return lambda run, path, overwrite: export(run, selection.select_kmeans(run, 5), path, overwrite=overwrite)


EXPORTS = {
    "coordinates": ("c.npy", lambda run, path, overwrite: export_coordinates(run, path, overwrite=overwrite)),
    "ensemble": ("e.cif", _of_conformations(export_ensemble)),
    "trajectory": ("e.dcd", _of_conformations(export_ensemble)),
    "volumes": ("v", _of_conformations(export_volumes)),
    "scene": ("s", _of_conformations(export_scene)),
    "particles": ("p.star", lambda run, path, o: export_particles(run, path, select="z1 > 0", overwrite=o)),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_tell_and_stop_and_leave_what_was_there(run, tmp_path, kind):
    name, export = EXPORTS[kind]
    told = []
    with listening(lambda *values: told.append(values)):
        export(run, tmp_path / name, False)
    assert told[0][0] == 0 and told[-1][0] == told[-1][1] > 1
    before = _content(tmp_path)

    def stop(done, total, what):
        if done:
            raise Cancelled

    for target in (name, f"other {name}"):
        with pytest.raises(Cancelled), listening(stop):
            export(run, tmp_path / target, True)
        assert _content(tmp_path) == before


def _content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
