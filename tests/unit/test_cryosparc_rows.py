"""Subsets of cryoSPARC datasets: numpy reads the same rows, our reader the same particles, yaml the group."""

import datetime

import numpy as np
import pytest
import yaml

from cryosphere.errors import InputError
from cryosphere.io.cryosparc import read_particles_cs
from cryosphere.io.cryosparc_rows import write_subset_cs
from tests.cryosparc_files import only, particle_columns, write_cs

ROWS = np.array([0, 2, 5])


@pytest.fixture
def job(tmp_path, make_stack):
    """A refinement's files: poses and CTF, and images and places in a passthrough file, in another order, with more."""
    make_stack(tmp_path / "stack.mrcs", n_images=8)
    columns = particle_columns(8) | {"location/center_x_frac": np.linspace(0, 1, 8, dtype=np.float32)}
    write_cs(tmp_path / "J7_particles.cs", only({n: v[:6] for n, v in columns.items()}, "ctf", "alignments3D"))
    others = {name: values[::-1] for name, values in only(columns, "blob", "location").items()}
    write_cs(tmp_path / "J7_passthrough_particles.cs", others)
    return tmp_path


def test_every_field_and_byte_of_the_rows_stays(test_data, tmp_path):
    source = test_data / "cryosparc" / "cryosparc_P12_J24_001_particles.cs"
    rows = np.array([7, 3, 2018])
    files = write_subset_cs(source, rows, tmp_path / "out.cs")
    before, after = np.load(source), np.load(tmp_path / "out.cs")
    assert after.dtype == before.dtype
    assert after.tobytes() == before[rows].tobytes()
    assert [path.name for path in files] == ["out.cs", "out.csg"]
    write_subset_cs(source, np.arange(2019), tmp_path / "all.cs")
    assert np.load(tmp_path / "all.cs").tobytes() == before.tobytes()


def test_passthrough_fields_come_too_by_uid(job):
    out = job / "chosen dir é" / "state 2.cs"
    files = write_subset_cs(job / "J7_particles.cs", ROWS, out)
    assert [path.name for path in files] == ["state 2.cs", "state 2_passthrough.cs", "state 2.csg"]
    main, other = np.load(files[0]), np.load(files[1])
    assert main["uid"].tolist() == other["uid"].tolist() == np.load(job / "J7_particles.cs")["uid"][ROWS].tolist()
    whole = np.load(job / "J7_passthrough_particles.cs")[::-1]
    assert other.dtype == whole.dtype and other.tobytes() == whole[ROWS].tobytes()
    expected = read_particles_cs(job / "J7_particles.cs").take(ROWS)
    for path in (files[0], files[2]):
        again = read_particles_cs(path, datadir=job)
        for name in ("image_index", "rotmat", "shift", "defocus_u", "half_set"):
            np.testing.assert_array_equal(getattr(again, name), getattr(expected, name), err_msg=name)


def test_the_group_is_as_exported_ones_are(job):
    *_, path = write_subset_cs(job / "J7_particles.cs", ROWS, job / "s.cs")
    group = yaml.safe_load(path.read_text())
    assert set(group) == {"created", "group", "results", "version"}
    assert isinstance(group["created"], datetime.datetime)
    assert group["group"]["type"] == "particle" and group["group"]["name"] == "particles"
    entry = {"metafile": ">s.cs", "num_items": 3}
    beside = {"metafile": ">s_passthrough.cs", "num_items": 3}
    assert group["results"] == {
        "ctf": entry | {"type": "particle.ctf"},
        "alignments3D": entry | {"type": "particle.alignments3D"},
        "blob": beside | {"type": "particle.blob"},
        "location": beside | {"type": "particle.location"},
    }


def test_of_a_group_its_results_stay(job):
    slots = {"ctf": "J7_particles.cs", "alignments_class_1": "J7_particles.cs", "blob": "J7_passthrough_particles.cs"}
    poses = dict(zip(np.load(job / "J7_particles.cs").dtype.names, [None] * 99, strict=False))
    data = np.load(job / "J7_particles.cs")
    renamed = {name.replace("alignments3D", "alignments_class_1"): data[name] for name in poses}
    write_cs(job / "J7_particles.cs", renamed)
    results = {
        slot: {"metafile": f">{name}", "num_items": 6, "type": f"particle.{slot.replace('_class_1', '3D')}"}
        for slot, name in slots.items()
    }
    results["motion"] = {"metafile": ">absent.cs", "num_items": 6, "type": "particle.motion"}
    head = {"description": "All", "name": "particles_class_1", "title": "Class 1", "type": "particle"}
    text = yaml.safe_dump({"created": "2024", "group": head, "results": results, "version": "v4.6.2"})
    (job / "J7_particles.csg").write_text(text)
    files = write_subset_cs(job / "J7_particles.csg", ROWS, job / "s.cs")
    assert [path.name for path in files] == ["s.cs", "s_passthrough.cs", "s.csg"]
    group = yaml.safe_load(files[-1].read_text())
    assert group["group"] == head and group["version"] == "v4.6.2"
    assert group["results"] == {
        "ctf": {"metafile": ">s.cs", "num_items": 3, "type": "particle.ctf"},
        "alignments_class_1": {"metafile": ">s.cs", "num_items": 3, "type": "particle.alignments3D"},
        "blob": {"metafile": ">s_passthrough.cs", "num_items": 3, "type": "particle.blob"},
    }
    again, whole = read_particles_cs(files[-1]), read_particles_cs(job / "J7_particles.csg")
    np.testing.assert_array_equal(again.rotmat, whole.rotmat[ROWS])
    np.testing.assert_array_equal(again.image_index, whole.image_index[ROWS])


def test_a_subset_of_a_subset_beside_others_takes_its_own_passthrough(job):
    write_subset_cs(job / "J7_particles.cs", np.arange(6), job / "all.cs")
    write_subset_cs(job / "J7_particles.cs", ROWS, job / "some.cs")
    write_subset_cs(job / "J7_particles.cs", np.array([1]), job / "one.cs")
    files = write_subset_cs(job / "some.cs", np.array([1, 2]), job / "fewer.cs")
    assert [path.name for path in files] == ["fewer.cs", "fewer_passthrough.cs", "fewer.csg"]
    np.testing.assert_array_equal(
        read_particles_cs(files[0]).image_index, read_particles_cs(job / "J7_particles.cs").image_index[[2, 5]]
    )


def test_further_fields_stand_behind_the_others(job):
    extra = {"cryosphere/latent_1": np.array([0.5, -1.25, np.nan]), "cryosphere/state": np.array([2, 1, 2])}
    files = write_subset_cs(job / "J7_particles.cs", ROWS, job / "s.cs", extra)
    before, after = np.load(job / "J7_particles.cs"), np.load(files[0])
    assert after.dtype.names == (*before.dtype.names, "cryosphere/latent_1", "cryosphere/state")
    for name in before.dtype.names:
        assert after[name].tobytes() == before[name][ROWS].tobytes()
    np.testing.assert_array_equal(after["cryosphere/latent_1"], np.float32([0.5, -1.25, np.nan]))
    assert after["cryosphere/state"].tolist() == [2, 1, 2]
    assert "cryosphere" not in yaml.safe_load(files[-1].read_text())["results"]
    assert read_particles_cs(files[0]).n_particles == 3


def test_two_exports_are_byte_identical(job):
    files = write_subset_cs(job / "J7_particles.cs", ROWS, job / "s.cs")
    before = [path.read_bytes() for path in files]
    write_subset_cs(job / "J7_particles.cs", ROWS, job / "s.cs", overwrite=True)
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize(
    ("rows", "extra", "words"),
    [
        ([], {}, "nothing to write"),
        ([0, 6], {}, "has 6 particles, row 6"),
        ([-1], {}, "row -1"),
        ([0], {"ctf/df1_A": np.ones(1)}, "has the field ctf/df1_A already"),
        ([0, 1], {"cryosphere/z": np.ones(1)}, "has 1 values for 2 rows"),
    ],
)
def test_impossible_subsets(job, rows, extra, words):
    before = sorted(job.iterdir())
    with pytest.raises(InputError, match=words):
        write_subset_cs(job / "J7_particles.cs", np.array(rows, dtype=int), job / "s.cs", extra)
    assert sorted(job.iterdir()) == before


def test_input_files_and_others_are_kept(job):
    source = job / "J7_particles.cs"
    with pytest.raises(InputError, match="the rows come from"):
        write_subset_cs(source, ROWS, source, overwrite=True)
    (job / "J7_passthrough_particles.cs").rename(job / "J7_passthrough.cs")
    with pytest.raises(InputError, match=r"J7_passthrough\.cs is a file that the rows come from"):
        write_subset_cs(source, ROWS, job / "J7.cs", overwrite=True)
    (job / "s.csg").write_text("mine")
    with pytest.raises(InputError, match=r"s\.csg exists and is kept"):
        write_subset_cs(source, ROWS, job / "s.cs")
    assert not (job / "s.cs").exists() and (job / "s.csg").read_text() == "mine"
