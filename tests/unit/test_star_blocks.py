"""STAR files as other programs write them, read in pieces, against starfile."""

from itertools import pairwise

import numpy as np
import pytest
import starfile

from cryosphere.io import star_tables
from cryosphere.io.star import read_particles
from cryosphere.io.star_blocks import row_offsets, scan_blocks
from cryosphere.io.star_tables import read_block, read_blocks


def assert_equal_to_starfile(path):
    ours = read_blocks(path)
    theirs = starfile.read(path, always_dict=True, parse_as_string=list(star_tables.TEXT_COLUMNS))
    assert list(ours) == list(theirs)
    for name, frame in theirs.items():
        assert list(ours[name].columns) == list(frame.columns)
        for column in frame.columns:
            assert ours[name][column].tolist() == frame[column].tolist(), column


@pytest.mark.parametrize(
    "name",
    "FinalRefinement-OriginalParticles-PfCRT empiar_10076_7 relion31 relion31.v2 sample_incomplete_ctf_params "
    "sample_particles_relion30 sample_particles_relion31".split(),
)
@pytest.mark.parametrize("chunk_bytes", [700, 10**7])
def test_every_file_has_the_values_that_starfile_reads(test_data, monkeypatch, name, chunk_bytes):
    monkeypatch.setattr(star_tables, "_CHUNK_BYTES", chunk_bytes)
    assert_equal_to_starfile(test_data / "star" / f"{name}.star")


def test_only_wanted_columns_are_kept(test_data):
    path = test_data / "star" / "relion31.star"
    block = scan_blocks(path)[1]
    table = read_block(path, block, {"rlnAngleTilt", "rlnAbsent"})
    assert list(table.frame.columns) == ["rlnAngleTilt"] and len(table.frame) == block.n_rows == 5
    assert len(block.columns) == 26 and table.has("rlnAngleTilt") and not table.has("rlnAngleRot")


def test_pieces_that_read_differently_make_one_column(tmp_path, monkeypatch):
    monkeypatch.setattr(star_tables, "_CHUNK_BYTES", 4)
    path = tmp_path / "p.star"
    path.write_text("data_\nloop_\n_rlnA #1\n_rlnImageName #2\n1 1@a\n2.5 1@b\n# comment\n\nx 2@b\n4 3@b\n")
    frame = read_blocks(path)[""]
    assert frame["rlnA"].astype(str).tolist() == ["1", "2.5", "x", "4"]
    assert frame["rlnImageName"].tolist() == ["1@a", "1@b", "2@b", "3@b"]


SCIPION = """# written by Scipion

data_Optics
loop_
_rlnOpticsGroup
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnImagePixelSize
_rlnImageSize
1 300.0 2.7 0.1 1.5 8


data_Particles

loop_
_rlnImageId #1
_sciMicrographName
_rlnImageName
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle # degrees
_rlnAngleRot
_rlnAngleTilt
_rlnAnglePsi
_rlnOriginXAngst
_rlnOriginYAngst
# a comment between the header and the rows

1 "mic 1.mrc" 1@stack.mrcs 1e4 9000 10 1 2 3 0.5 0
2 'mic 2.mrc' "2@stack.mrcs" 10000. 9000 10 4 5 6 0 -1.5
# a comment between rows
3 mic#3.mrc 4@stack.mrcs 12000 9500 20 7 8 9 0 0
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_scipion(tmp_path, make_stack, newline):
    make_stack(tmp_path / "stack.mrcs")
    (tmp_path / "p.star").write_bytes(SCIPION.replace("\n", newline).encode())
    table = read_particles(tmp_path / "p.star")
    assert table.image_index.tolist() == [0, 1, 3] and table.optics_group_names == ("opticsGroup1",)
    np.testing.assert_array_equal(table.defocus_u, [10000, 10000, 12000])
    np.testing.assert_array_equal(table.shift, [[0.5, 0], [0, -1.5], [0, 0]])
    names = read_blocks(tmp_path / "p.star")["Particles"]["sciMicrographName"]
    assert names.tolist() == ["mic 1.mrc", "mic 2.mrc", "mic#3.mrc"]


def test_relion_5_file_with_more_blocks_and_columns(tmp_path, make_stack, write_star, star_blocks):
    make_stack(tmp_path / "stack.mrcs")
    optics = star_blocks["optics"] | {"rlnCtfDataAreCtfPremultiplied": [0, 0], "rlnImageDimensionality": [2, 2]}
    particles = star_blocks["particles"] | {"rlnHelicalTubeID": [1] * 4, "rlnAnglePsiFlipRatio": [0.5] * 4}
    blocks = {"particles": particles, "general": {"rlnSomething": [1, 2]}, "optics": optics}
    table = read_particles(write_star(tmp_path / "p.star", blocks))
    assert table.voltage_kv.tolist() == [200, 300, 300, 200] and table.notes == ()


def test_rows_that_begin_like_a_block(tmp_path):
    (tmp_path / "p.star").write_text("data_\nloop_\n_rlnA\n_rlnB\ndata_2020/a.mrc 1\ndata_2020/b.mrc 2\n")
    assert read_blocks(tmp_path / "p.star")[""]["rlnB"].tolist() == [1, 2]


def test_offsets_of_rows(tmp_path):
    text = "data_\nloop_\n_rlnA\n1\n\n# comment\n22\n333"
    (tmp_path / "p.star").write_text(text)
    (block,) = scan_blocks(tmp_path / "p.star")
    bounds = row_offsets(tmp_path / "p.star", block)
    assert [text[a:b] for a, b in pairwise(bounds)] == ["1\n\n# comment\n", "22\n", "333"]
