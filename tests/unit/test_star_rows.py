"""Subsets of particle STAR files: the same bytes, and the same values through starfile."""

import numpy as np
import pandas as pd
import pytest
import starfile

from cryosphere.errors import InputError
from cryosphere.io.star_blocks import scan_blocks
from cryosphere.io.star_rows import write_subset
from cryosphere.io.star_tables import read_block

FILES = "FinalRefinement-OriginalParticles-PfCRT empiar_10076_7 relion31 relion31.v2 sample_particles_relion31".split()


def particles(path):
    blocks = starfile.read(path, always_dict=True)
    return next(frame for frame in blocks.values() if "rlnImageName" in frame), blocks


@pytest.mark.parametrize("name", FILES)
def test_all_rows_are_the_same_file(test_data, tmp_path, name):
    source = test_data / "star" / f"{name}.star"
    count = len(particles(source)[0])
    write_subset(source, np.arange(count), tmp_path / "out.star")
    assert (tmp_path / "out.star").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_some_rows_in_another_order(test_data, tmp_path, name):
    source = test_data / "star" / f"{name}.star"
    before, blocks_before = particles(source)
    rows = np.array([3, 0, len(before) - 1])
    write_subset(source, rows, tmp_path / "out.star")
    after, blocks_after = particles(tmp_path / "out.star")
    pd.testing.assert_frame_equal(after, before.iloc[rows].reset_index(drop=True), check_dtype=False)
    assert list(blocks_after) == list(blocks_before)
    # Other blocks byte for byte, and every row's text.
    old, new = source.read_bytes(), (tmp_path / "out.star").read_bytes()
    lines = [line for line in old.splitlines() if b"@" in line]
    assert [line for line in new.splitlines() if b"@" in line] == [lines[row] for row in rows]
    assert [line for line in new.splitlines() if b"@" not in line] == [
        line for line in old.splitlines() if b"@" not in line
    ]


@pytest.mark.parametrize("name", FILES)
def test_extra_columns(test_data, tmp_path, name):
    source = test_data / "star" / f"{name}.star"
    before, _ = particles(source)
    extra = {"rlnHinge": [1.5, -2e-9], "csLabel": ["open", "shut"], "rlnCount": np.array([7, 123456789])}
    write_subset(source, np.array([2, 1]), tmp_path / "out.star", extra)
    after, _ = particles(tmp_path / "out.star")
    pd.testing.assert_frame_equal(after[before.columns], before.iloc[[2, 1]].reset_index(drop=True), check_dtype=False)
    assert after["rlnHinge"].tolist() == [1.5, -2e-9] and after["csLabel"].tolist() == ["open", "shut"]
    assert after["rlnCount"].tolist() == [7, 123456789]
    assert f"_rlnHinge #{len(before.columns) + 1} " in (tmp_path / "out.star").read_text().splitlines()


@pytest.fixture
def source(tmp_path):
    """A small table with Windows line ends, comments, and no line end at its end."""
    lines = [
        "data_particles",
        "loop_",
        "_rlnA #1",
        "_rlnImageName #2",
        "# note",
        "1 1@s",
        "2 2@s",
        "# between",
        "3 3@s",
    ]
    (tmp_path / "in.star").write_bytes("\r\n".join(lines).encode())
    return tmp_path / "in.star"


def test_line_ends_and_comments(source, tmp_path):
    write_subset(source, np.array([0, 1, 2]), tmp_path / "all.star")
    assert (tmp_path / "all.star").read_bytes() == source.read_bytes()
    write_subset(source, np.array([2, 0]), tmp_path / "some.star", {"rlnB": [5, 6]})
    expected = [
        "data_particles",
        "loop_",
        "_rlnA #1",
        "_rlnImageName #2",
        "_rlnB #3 ",
        "# note",
        "3 3@s 5 ",
        "1 1@s 6 ",
    ]
    assert (tmp_path / "some.star").read_bytes().decode() == "\r\n".join(expected) + "\r\n"
    assert particles(tmp_path / "some.star")[0]["rlnB"].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("rows", "extra", "message"),
    [
        ([0, 3], None, "has 3 particles, row 3"),
        ([-1], None, "row -1"),
        ([], None, "nothing to write"),
        ([0], {"rlnA": [1]}, "has the column rlnA already"),
        ([0], {"_rlnB": [1], "rlnB": [1]}, "has the column rlnB already"),
        ([0], {"rln B": [1]}, "no STAR column name"),
        ([0, 1], {"rlnB": [1]}, "has 1 values for 2 rows"),
        ([0], {"rlnB": ["a b"]}, "'a b'"),
        ([0], {"rlnB": [""]}, "''"),
        ([0], {"rlnB": ["#a"]}, "'#a'"),
    ],
)
def test_impossible_subsets(source, tmp_path, rows, extra, message):
    with pytest.raises(InputError, match=message):
        write_subset(source, np.array(rows, dtype=int), tmp_path / "out.star", extra)
    assert not (tmp_path / "out.star").exists()


def test_files_are_kept(source, tmp_path):
    before = source.read_bytes()
    with pytest.raises(InputError, match="the rows come from"):
        write_subset(source, np.array([0]), source, overwrite=True)
    (tmp_path / "out.star").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        write_subset(source, np.array([0]), tmp_path / "out.star")
    write_subset(source, np.array([0]), tmp_path / "out.star", overwrite=True)
    assert source.read_bytes() == before and (tmp_path / "out.star").read_text() != "mine"


def test_particles_without_a_loop(tmp_path):
    (tmp_path / "in.star").write_text("data_particles\n_rlnImageName 1@s\n_rlnA 2\n")
    with pytest.raises(InputError, match="without a loop_"):
        write_subset(tmp_path / "in.star", np.array([0]), tmp_path / "out.star")


def test_further_columns_stand_before_comments_of_a_row(tmp_path):
    text = "data_\nloop_\n_rlnImageName\n_rlnA\n1@s 'a b'\t # one\n2@s \"a#b\"\n3@s c#d #three\r\n"
    (tmp_path / "in.star").write_bytes(text.encode())
    write_subset(tmp_path / "in.star", np.array([0, 1, 2]), tmp_path / "out.star", {"csB": [7, 8, 9]})
    rows = ["1@s 'a b'\t 7 # one\n", '2@s "a#b" 8 \n', "3@s c#d 9 #three\r\n"]
    assert (tmp_path / "out.star").read_bytes().decode().endswith("_csB #3 \n" + "".join(rows))
    read = read_block(tmp_path / "out.star", scan_blocks(tmp_path / "out.star")[0]).frame
    assert read["csB"].tolist() == [7, 8, 9] and read["rlnA"].tolist() == ["a b", "a#b", "c#d"]
