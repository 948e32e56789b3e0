"""Particles chosen by condition, rows and another table: which, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError, InputError
from cryosphere.io.star import read_particles
from cryosphere.particles.chosen import chosen_particles
from cryosphere.particles.selection import half_set_rows, training_rows
from cryosphere.runs.tables import load_table, save_table


@pytest.fixture
def expanded(tmp_path, star_blocks, write_star, make_stack) -> Path:
    """Eight rows of four images in two stacks: each image twice, as after symmetry expansion."""
    for name in ("a", "b"):
        make_stack(tmp_path / name / "stack.mrcs")
    columns = star_blocks["particles"]
    columns["rlnImageName"] = ["1@a/stack.mrcs", "2@a/stack.mrcs", "3@b/stack.mrcs", "4@b/stack.mrcs"]
    columns["rlnOpticsGroup"] = [1, 1, 2, 2]
    columns["rlnClassNumber"] = [1, 2, 1, 3]
    doubled = {name: values + values for name, values in columns.items()}
    doubled["rlnClassNumber"] = [1, 2, 1, 3, 1, 2, 2, 3]
    return write_star(tmp_path / "particles.star", {**star_blocks, "particles": doubled})


def choose(star, **ways):
    return chosen_particles(read_particles(star), **ways)


def test_without_any_way_everything_stays(expanded):
    whole, table = read_particles(expanded), choose(expanded)
    assert table.notes == whole.notes
    assert table.input_rows.tolist() == list(range(8))
    assert (table.n_input_rows, table.input_row) == (8, None)


def test_rows_keep_their_numbers_and_values_and_leave_behind_what_they_do_not_use(expanded, tmp_path):
    whole, table = read_particles(expanded), choose(expanded, select="rlnClassNumber == 3")
    assert table.input_rows.tolist() == [3, 7]
    assert (table.n_particles, table.n_input_rows) == (2, 8)
    assert table.defocus_u.tolist() == whole.defocus_u[[3, 7]].tolist()
    assert table.image_index.tolist() == [3, 3]
    assert [path.parent.name for path in table.stack_paths] == ["b"]
    assert table.stack_index.tolist() == [0, 0]
    assert table.optics_group_names == ("high",)
    assert table.optics_group.tolist() == [0, 0]
    assert table.voltage_kv.tolist() == [300.0, 300.0]
    assert table.notes[-1] == "2 of 8 particles of particles.star are used."
    save_table(tmp_path / "table.npz", table)
    read = load_table(tmp_path / "table.npz")
    assert read.input_rows.tolist() == [3, 7]
    assert read.n_input_rows == 8


def test_columns_of_the_optics_table_can_be_asked_for(expanded):
    assert choose(expanded, select="rlnVoltage > 250").input_rows.tolist() == [2, 3, 6, 7]
    assert choose(expanded, select="rlnOpticsGroupName == 'low'").input_rows.tolist() == [0, 1, 4, 5]


def test_all_ways_must_hold(expanded, tmp_path):
    (tmp_path / "rows.txt").write_text("# chosen by hand\n7\n\n2  # this one too\n0\n")
    np.save(tmp_path / "rows.npy", np.array([7, 2, 0]))
    for name in ("rows.txt", "rows.npy"):
        assert choose(expanded, index_file=tmp_path / name).input_rows.tolist() == [0, 2, 7]
    both = choose(expanded, index_file=tmp_path / "rows.txt", select="rlnClassNumber == 1")
    assert both.input_rows.tolist() == [0, 2]


def test_rows_of_one_image_that_are_told_apart_are_said(expanded):
    split = choose(expanded, select="rlnClassNumber == 1")
    assert split.input_rows.tolist() == [0, 2, 4]
    assert split.notes[-1].startswith("1 images are used with only some of their rows")
    assert "only some" not in choose(expanded, select="rlnVoltage > 250").notes[-1]


def test_a_subset_names_images_by_number_and_end_of_path(expanded, tmp_path, write_star):
    names = ["000004@Extract/job007/b/stack.mrcs", "1@a/stack.mrcs"]
    subset = write_star(tmp_path / "subset.star", {"particles": {"rlnImageName": names}})
    table = choose(expanded, subset=subset)
    assert table.input_rows.tolist() == [0, 3, 4, 7]
    assert "subset.star has 2 rows of images that particles.star has 4 rows of" in table.notes[-1]
    assert choose(expanded, subset=expanded).input_rows.tolist() == list(range(8))


def test_halves_keep_rows_of_one_image_together(expanded):
    table = replace(read_particles(expanded), half_set=np.array([1, 2, 1, 2, 2, 2, 1, 1]))
    assert half_set_rows(table, 1, seed=0).tolist() == [0, 2, 4, 6]
    assert half_set_rows(table, 2, seed=0).tolist() == [1, 3, 5, 7]


def test_a_selection_of_one_half_is_divided_anew(expanded):
    table = choose(expanded, select="rlnClassNumber == 1")
    table = replace(table, half_set=np.ones(3, dtype=int))
    first, second = (half_set_rows(table, half, seed=0) for half in (1, 2))
    assert len(first) and len(second) and sorted([*first, *second]) == [0, 1, 2]


def test_a_half_without_images_is_refused(expanded, tmp_path):
    (tmp_path / "rows.txt").write_text("0")
    table = choose(expanded, index_file=tmp_path / "rows.txt")
    values = {"particles": {"file": str(expanded)}, "structure": {"file": "x"}, "training": {"held_out": 0.0}}
    halves = [values | {"particles": values["particles"] | {"half_set": half}} for half in (1, 2)]
    configs = [parse_config(half, tmp_path, check_files=False) for half in halves]
    left = [len(half_set_rows(table, half, seed=0)) for half in (1, 2)]
    assert sorted(left) == [0, 1]
    assert training_rows(table, configs[left.index(1)])[0].tolist() == [0]
    with pytest.raises(ConfigError, match="none of 1 particles is left to train on"):
        training_rows(table, configs[left.index(0)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("0\n8\n", r"line 2: row 8 does not exist; particles.star has 8 particles, rows 0 to 7 \(1 such rows\)"),
        ("# rows\n3\n1\n3\n", r"line 4: row 3 is there twice, first in line 2"),
        ("1\ntwo\n", "line 2: expected a particle row"),
        ("", "no particle rows"),
    ],
)
def test_bad_files_of_rows_name_the_line(expanded, tmp_path, content, words):
    (tmp_path / "rows.txt").write_text(content)
    with pytest.raises(InputError, match=words):
        choose(expanded, index_file=tmp_path / "rows.txt")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.array([0, -1]), "entry 2: row -1 does not exist"),
        (np.array([5, 5]), "entry 2: row 5 is there twice, first in entry 1"),
        (np.ones(8, dtype=bool), "expected a list of integers .* found bool"),
    ],
)
def test_bad_arrays_of_rows_name_the_entry(expanded, tmp_path, rows, words):
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(InputError, match=words):
        choose(expanded, index_file=tmp_path / "rows.npy")


def test_pickles_absent_files_and_empty_choices_are_refused(expanded, tmp_path, write_star):
    (tmp_path / "ind.pkl").write_bytes(b"\x80\x04]\x94.")
    with pytest.raises(InputError, match=r"ind\.pkl: a pickle can run any program .* numpy\.save"):
        choose(expanded, index_file=tmp_path / "ind.pkl")
    with pytest.raises(InputError, match=r"none\.txt: no such file; particles\.index_file"):
        choose(expanded, index_file=tmp_path / "none.txt")
    (tmp_path / "rows.txt").write_text("3\n")
    with pytest.raises(ConfigError, match=r"particles\.select and particles\.index_file: none of the 8 particles"):
        choose(expanded, select="rlnClassNumber == 1", index_file=tmp_path / "rows.txt")
    with pytest.raises(ConfigError, match="the nearest is 'rlnClassNumber'"):
        choose(expanded, select="rlnClassNum == 1")
    micrographs = write_star(tmp_path / "mics.star", {"micrographs": {"rlnMicrographName": ["a.mrc", "b.mrc"]}})
    with pytest.raises(InputError, match=r"mics\.star has no table with the column rlnImageName"):
        choose(expanded, subset=micrographs)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("9@a/stack.mrcs", r"row 2 of data_particles: rlnImageName is '9@a/stack\.mrcs', expected an image of"),
        ("1@a/other.mrcs", r"row 2 of data_particles: rlnImageName is '1@a/other\.mrcs'"),
        ("x@a/stack.mrcs", r"row 2 of data_particles: rlnImageName is 'x@a/stack\.mrcs'"),
        ("1@stack.mrcs", r"the stack stack\.mrcs may be .*a/stack\.mrcs or .*b/stack\.mrcs; write longer stack paths"),
    ],
)
def test_a_subset_of_other_images_is_refused(expanded, tmp_path, write_star, name, words):
    subset = write_star(tmp_path / "subset.star", {"particles": {"rlnImageName": ["1@a/stack.mrcs", name]}})
    with pytest.raises(InputError, match=words):
        choose(expanded, subset=subset)


def test_columns_of_a_cryosparc_table(expanded, tmp_path):
    rows = np.zeros(8, dtype=[("uid", "u8"), ("alignments3D/class", "u4"), ("ctf/shift_A", "f4", (2,)), ("m", "S8")])
    rows["alignments3D/class"], rows["m"] = [0, 1, 0, 1, 1, 1, 0, 0], b"mic"
    with open(tmp_path / "p.cs", "wb") as file:
        np.save(file, rows)
    table = replace(read_particles(expanded), source=tmp_path / "p.cs")
    chosen = chosen_particles(table, select="`alignments3D/class` == 1 and m == 'mic'")
    assert chosen.input_rows.tolist() == [1, 3, 4, 5]
    with open(tmp_path / "p.cs", "wb") as file:
        np.save(file, rows[:5])
    with pytest.raises(InputError, match=r"p\.cs has 5 rows and 8 particles"):
        chosen_particles(table, select="m == 'mic'")
    with pytest.raises(InputError, match=r"p\.csg has no columns to select by; give the \.cs file"):
        chosen_particles(replace(table, source=tmp_path / "p.csg"), select="m == 'mic'")
