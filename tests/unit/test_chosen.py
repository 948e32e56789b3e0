"""Particles chosen by condition, rows and another table: which, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError, InputError
from cryosphere.io.particles import read_particles as read_any
from cryosphere.io.star import read_particles
from cryosphere.io.star_tables import read_block
from cryosphere.particles import chosen, columns
from cryosphere.particles.chosen import chosen_particles
from cryosphere.particles.selection import half_set_rows, training_rows
from cryosphere.runs.tables import load_table, save_table
from tests.cryosparc_files import only, particle_columns, write_cs


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
    with pytest.raises(ConfigError, match="did you mean 'rlnClassNumber'"):
        choose(expanded, select="rlnClassNum == 1")
    micrographs = write_star(tmp_path / "mics.star", {"micrographs": {"rlnMicrographName": ["a.mrc", "b.mrc"]}})
    with pytest.raises(InputError, match=r"mics\.star is a micrograph STAR file"):
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


def test_missing_numbers_of_a_star_file_are_never_chosen(expanded, star_blocks, write_star):
    particles = star_blocks["particles"]
    particles["rlnScore"] = ["nan", "4.5", "-1.5", "NaN"]
    write_star(expanded, star_blocks)
    for text in ("rlnScore != 7", "not (rlnScore > 9)", "rlnScore > 9 or rlnVoltage > 0"):
        assert choose(expanded, select=text).input_rows.tolist() == [1, 2]


def test_only_the_columns_that_are_needed_are_kept(expanded, tmp_path, write_star, monkeypatch):
    read = []

    def recorded(path, block, columns=None):
        table = read_block(path, block, columns)
        read.append((block.name, set(table.frame.columns)))
        return table

    table = read_particles(expanded)
    for module in (chosen, columns):
        monkeypatch.setattr(module, "read_block", recorded)
    chosen_particles(table, select="rlnClassNumber == 1 and rlnVoltage > 1", subset=expanded)
    assert read == [
        ("particles", {"rlnClassNumber", "rlnOpticsGroup", "rlnImageName"}),
        ("optics", {"rlnVoltage", "rlnOpticsGroup"}),
        ("particles", {"rlnImageName"}),
    ]
    with pytest.raises(ConfigError, match="no column 'rlnVoltag'; did you mean 'rlnVoltage'"):
        chosen_particles(table, select="rlnVoltag > 1")


def test_tables_are_found_as_the_reader_finds_them(expanded, star_blocks):
    particles = star_blocks["particles"]
    particles["rlnOpticsGroup"] = [2] * 4
    lines = ["data_Other", "", "loop_", "_rlnImageName", "1@absent.mrcs", "", "data_Optics", ""]
    lines += [f"_{name} {cells[1]}" for name, cells in star_blocks["optics"].items()]
    lines += ["", "data_Particles", "", "loop_", *(f"_{name}" for name in particles)]
    lines += [" ".join(str(cell) for cell in row) for row in zip(*particles.values(), strict=True)]
    expanded.write_text("\n".join(lines) + "\n")
    text = "rlnOpticsGroupName == 'high' and rlnVoltage == 300 and rlnDefocusU > 11500"
    assert choose(expanded, select=text).input_rows.tolist() == [2, 3]
    assert choose(expanded, subset=expanded).input_rows.tolist() == [0, 1, 2, 3]
    expanded.write_text(expanded.read_text().replace("_rlnOpticsGroup\n", "_rlnOther\n"))
    assert choose(expanded, select=text).input_rows.tolist() == [2, 3]


@pytest.fixture
def cryosparc(tmp_path, make_stack) -> Path:
    """Dataset of four particles whose poses are in a passthrough file, in another order and among others."""
    make_stack(tmp_path / "stack.mrcs")
    columns = particle_columns() | {"location/micrograph_path": np.array([b"mic0", b"mic1", b"mic0", b"mic1"])}
    poses = only(particle_columns(7), "alignments3D")
    poses["uid"] = np.append(np.arange(3, dtype=np.uint64), columns["uid"])[::-1].copy()
    poses["alignments3D/class"] = np.array([3, 2, 1, 0, 9, 9, 9], dtype=np.uint32)
    write_cs(tmp_path / "J24_passthrough_particles.cs", poses)
    return write_cs(tmp_path / "J24_particles.cs", only(columns, "blob", "ctf", "location"))


def test_fields_of_passthrough_files_can_be_asked_for(cryosparc):
    table = read_any(cryosparc)
    text = "`alignments3D/class` - 1 < 1 and `location/micrograph_path` == 'mic0'"
    assert chosen_particles(table, select=text).input_rows.tolist() == [0]
    assert chosen_particles(table, select="`alignments3D/class` in [1, 3]").input_rows.tolist() == [1, 3]
    with pytest.raises(ConfigError, match="no column 'alignments3D/clas'; did you mean 'alignments3D/class'"):
        chosen_particles(table, select="`alignments3D/clas` == 1")
    with pytest.raises(ConfigError, match="no column 'alignments3D/pose'"):
        chosen_particles(table, select="`alignments3D/pose` == 1")


def test_every_name_of_a_cryosparc_file_that_is_read_can_be_chosen_from(cryosparc):
    group = cryosparc.with_name("particles.csg")
    files = dict.fromkeys(("blob", "ctf"), cryosparc.name) | {"alignments3D": "J24_passthrough_particles.cs"}
    results = "".join(f"  {slot}:\n    metafile: '>{name}'\n" for slot, name in files.items())
    poses = np.load(cryosparc.with_name("J24_passthrough_particles.cs"))
    with open(cryosparc.with_name("J24_passthrough_particles.cs"), "wb") as file:
        np.save(file, poses[:4])
    group.write_text(f"group:\n  type: particle\nresults:\n{results}")
    assert chosen_particles(read_any(group), select="`alignments3D/class` == 1").input_rows.tolist() == [2]
    for name in ("J24_particles.CS", "J24_particles.npy"):
        other = cryosparc.rename(cryosparc.with_name(name))
        assert chosen_particles(read_any(other), select="`alignments3D/class` == 1").input_rows.tolist() == [1]
        cryosparc = other


def test_neighbouring_uids_are_told_apart(cryosparc):
    uid = np.load(cryosparc)["uid"]
    assert len(np.unique(uid.astype(np.float64))) == 1
    chosen = chosen_particles(read_any(cryosparc), select=f"uid == {uid[2]}")
    assert chosen.input_rows.tolist() == [2]


def test_a_file_that_has_changed_since_it_was_read_is_refused(cryosparc):
    table = read_any(cryosparc)
    rows = np.load(cryosparc)
    with open(cryosparc, "wb") as file:
        np.save(file, rows[:3])
    with pytest.raises(InputError, match=r"J24_particles\.cs has 3 rows and 4 particles"):
        chosen_particles(table, select="uid > 0")
