"""Finding the stacks of a table: project folders, the user's folder, replaced beginnings, and what to suggest."""

import os

import pytest

from cryosphere.errors import InputError
from cryosphere.io.stack_paths import map_names, resolve_stacks


@pytest.fixture
def place(tmp_path):
    """Make an empty file at a path below the temporary folder."""

    def make(*parts):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    return make


def complaint(*arguments, **options):
    with pytest.raises(InputError) as caught:
        resolve_stacks(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("project/Refine3D/job025/run_data.star", "Extract/job010/Micrographs/m1.mrcs"),
        ("P12/J24/cryosparc_P12_J24_001_particles.cs", "J19/extract/m1_particles.mrc"),
        ("P12/J24/particles.cs", "S1/extract/m1_particles.mrc"),
        ("P12/exports/groups/J24_particles/J24_particles_exported.cs", "J19/extract/m1.mrc"),
    ],
)
def test_names_that_start_in_the_project_folder(place, tmp_path, monkeypatch, table, name):
    source, stack = place(table), place(table.split("/")[0], name)
    assert resolve_stacks([name], source) == (stack,)
    monkeypatch.chdir(source.parent)
    (found,) = resolve_stacks([name], source.relative_to(source.parent))
    assert found.samefile(stack)


def test_a_table_linked_from_elsewhere_has_its_project(place, tmp_path):
    source, stack = place("project/Refine3D/job1/run_data.star"), place("project/Extract/job2/m.mrcs")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "run_data.star").symlink_to(source)
    assert resolve_stacks(["Extract/job2/m.mrcs"], tmp_path / "work" / "run_data.star") == (stack,)


def test_a_bare_name_is_not_looked_for_in_the_folders_above(place, tmp_path):
    place("m.mrcs")
    source = place("job", "p.star")
    assert f"pass --datadir: {tmp_path} has 1 of the 1" in complaint(["m.mrcs"], source)
    assert resolve_stacks(["m.mrcs"], source, datadir=tmp_path) == (tmp_path / "m.mrcs",)


def test_order_of_places_and_absolute_names(place, tmp_path):
    source = place("project", "job", "p.star")
    in_project, in_data = place("project", "Extract", "m.mrcs"), place("data", "m.mrcs")
    assert resolve_stacks(["Extract/m.mrcs"], source) == (in_project,)
    assert resolve_stacks(["Extract/m.mrcs"], source, tmp_path / "data") == (in_data,)
    deeper = place("data", "Extract", "m.mrcs")
    assert resolve_stacks(["Extract/m.mrcs"], source, tmp_path / "data") == (deeper,)
    beside = place("project", "job", "Extract", "m.mrcs")
    assert resolve_stacks(["Extract/m.mrcs"], source, tmp_path / "data") == (beside,)
    assert resolve_stacks([str(in_data)], source) == (in_data,)
    assert resolve_stacks(["/gone/Extract/m.mrcs"], source, tmp_path / "data") == (deeper,)


def test_two_names_are_not_read_from_one_file(place, tmp_path):
    source = place("job", "p.star")
    place("data", "m.mrcs")
    text = complaint(["J1/m.mrcs", "J2/m.mrcs"], source, datadir=tmp_path / "data")
    assert "the stacks J1/m.mrcs and J2/m.mrcs would both be read from" in text
    assert "J2/m.mrcs" in complaint(["m.mrcs", "J2/m.mrcs"], source, datadir=tmp_path / "data")


def test_beginnings_of_names_are_replaced_whole_folders_at_a_time(place, tmp_path):
    names = ["/old/a/x.mrcs", "/old/ab/y.mrcs", "/older/z.mrcs", "Extract/job1/w.mrcs"]
    mapping = {"/old": "/new/", "/old/a/": "/fast", "Extract/job1": "Extract/job7"}
    expected = ["/fast/x.mrcs", "/new/ab/y.mrcs", "/older/z.mrcs", "Extract/job7/w.mrcs"]
    assert map_names(names, mapping, tmp_path) == expected
    assert map_names(names, list(mapping.items()), tmp_path) == expected
    assert map_names(["/old/a/x.mrcs"], {"/old": ""}, tmp_path) == ["a/x.mrcs"]
    stack = place("new", "x.mrcs")
    assert resolve_stacks(["/old/a/x.mrcs"], place("p.star"), path_map={"/old/a": str(tmp_path / "new")}) == (stack,)


def test_a_replacement_that_fits_no_name_is_refused(place):
    text = complaint(["Extract/m.mrcs"], place("p.star"), path_map={"Extra": "/new"})
    assert "no stack name begins with the folder 'Extra'" in text and "the first is Extract/m.mrcs" in text


def test_a_folder_above_is_suggested(place, tmp_path):
    source = place("project", "job", "p.star")
    place("project", "raw", "m1.mrcs")
    names = ["/lost/raw/m1.mrcs", "/lost/raw/m2.mrcs"]
    text = complaint(names, source, path_map={"/lost": "/gone"})
    assert "2 of 2 image stacks are missing, the first is /gone/raw/m1.mrcs (/lost/raw/m1.mrcs in the table)" in text
    assert f"pass --datadir: {tmp_path / 'project'} has 1 of the 2" in text


def test_a_folder_below_is_suggested_and_serves(place, tmp_path):
    source = place("download", "p.star")
    stacks = [place("download", "a", "b", "Extract", "job1", name) for name in ("m1.mrcs", "m2.mrcs")]
    os.symlink(tmp_path / "download", tmp_path / "download" / "a" / "loop")
    names = ["Extract/job1/m1.mrcs", "Extract/job1/m2.mrcs"]
    folder = tmp_path / "download" / "a" / "b"
    assert f"pass --datadir: {folder} has 2 of the 2" in complaint(names, source)
    (tmp_path / "empty").mkdir()
    text = complaint(names, source, datadir=tmp_path / "empty")
    assert f"correct --datadir: {folder} has 2 of the 2" in text
    assert resolve_stacks(names, source, folder) == tuple(stacks)


def test_the_search_for_a_suggestion_ends(place, tmp_path, monkeypatch):
    source = place("p.star")
    place("a", "b", "c", "d", "e", "f", "deep.mrcs")
    assert "so that it names the folder" in complaint(["x/deep.mrcs"], source)
    place("z", "m.mrcs")
    assert f"{tmp_path / 'z'} has 1 of the 1" in complaint(["x/m.mrcs"], source)
    monkeypatch.setattr("cryosphere.io.stack_paths._SEARCH_ENTRIES", 3)
    assert "so that it names the folder" in complaint(["x/m.mrcs"], source)
