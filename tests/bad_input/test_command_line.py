"""Bad input at the command line: exit code 1, one sentence, nothing half-written; what is only odd is said."""

from __future__ import annotations

import re
import shutil
import struct

import pytest
import yaml
from click.testing import CliRunner

from cryosphere.cli import main
from tests.particle_sets import configuration, write_particle_set

WATER = "HETATM    1  O   HOH A   1       1.000   2.000   3.000  1.00 20.00           O\nEND\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("bad") / "set", 12)


@pytest.fixture
def folder(good, tmp_path):
    shutil.copytree(good, tmp_path / "set")
    return tmp_path / "set"


def edit_star(folder, change):
    path = folder / "particles.star"
    path.write_text(change(path.read_text()))


def without_rows(text):
    return "\n".join(line for line in text.splitlines() if "@" not in line) + "\n"


def premultiplied(text):
    last = "_rlnImageDimensionality #8\n"
    return text.replace(last, f"{last}_rlnCtfDataAreCtfPremultiplied #9\n").replace(" 24 2\n", " 24 2 1\n")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


BREAKAGES = {
    "no poses": (lambda f: edit_star(f, lambda t: t.replace("_rlnAngleTilt", "_rlnOther")), "rlnAngleTilt"),
    "no CTF": (lambda f: edit_star(f, lambda t: t.replace("_rlnDefocusU", "_rlnOther")), "rlnDefocusU"),
    "NaN": (lambda f: edit_star(f, lambda t: re.sub(r"\n[-\d.]+ (.*000003@)", r"\nnan \1", t)), "row 3"),
    "no particles": (lambda f: edit_star(f, without_rows), "particles.star"),
    "micrographs": (lambda f: edit_star(f, lambda t: t.replace("_rlnImageName", "_rlnMicrographName")), "micrograph"),
    "missing stack": (lambda f: (f / "particles.mrcs").unlink(), "particles.mrcs"),
    "index beyond the stack": (lambda f: edit_star(f, lambda t: t.replace("000012@", "000099@")), "99"),
    "truncated stack": (lambda f: cut(f / "particles.mrcs", 5000), "particles.mrcs"),
    "premultiplied": (lambda f: edit_star(f, premultiplied), "rlnCtfDataAreCtfPremultiplied"),
    "no polymer": (lambda f: (f / "nominal.cif").write_text(WATER), "no protein or nucleic-acid residues"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BREAKAGES))
@pytest.mark.parametrize("command", ["init", "train"])
def test_broken_inputs(folder, tmp_path, command, name):
    breakage, expected = BREAKAGES[name]
    breakage(folder)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(folder)))
    before = sorted(tmp_path.rglob("*"))
    arguments = {
        "init": ["init", folder / "particles.star", folder / "nominal.cif", "-o", tmp_path / "new.yaml"],
        "train": ["train", tmp_path / "config.yaml", "-o", tmp_path / "run"],
    }[command]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.strip().count("\n") == 0
    assert expected in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_header_that_contradicts_the_star_file_is_said_and_the_star_file_wins(folder, tmp_path):
    with open(folder / "particles.mrcs", "r+b") as file:
        file.seek(40)  # cell edges: 24 pixels of 1.5 Å
        file.write(struct.pack("<3f", 36.0, 36.0, 36.0))
    arguments = ["init", folder / "particles.star", folder / "nominal.cif", "-o", tmp_path / "c.yaml"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0
    assert "1.5" in result.stderr and "pixel size" in result.stderr
    assert "box 24 px, 4 Å/px" in (tmp_path / "c.yaml").read_text()


def test_a_structure_larger_than_the_box_is_said_with_numbers(folder, tmp_path):
    edit_star(folder, lambda text: text.replace(" 4.000000 24 2", " 1.000000 24 2"))
    arguments = ["init", folder / "particles.star", folder / "nominal.cif", "-o", tmp_path / "c.yaml"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert re.search(r"residues lie outside the box of 24 pixels x 1 Å = 24 Å \(the farthest \d+\.\d Å", result.stderr)
