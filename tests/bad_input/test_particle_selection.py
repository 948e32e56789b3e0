"""Bad choices of particles at the command line: exit code 1, one sentence, nothing written."""

from __future__ import annotations

import os

import numpy as np
import pytest
from click.testing import CliRunner

from cryosphere.cli import main
from tests.cryosparc_files import particle_columns, write_cs
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("bad choices é") / "run 1", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N))
    return attach(run, run.table.source)


def export(run, *arguments, output="out.star"):
    return CliRunner().invoke(main, ["export", str(run.folder), "particles", *map(str, arguments), "-o", str(output)])


INJECTIONS = [
    "__import__('os').system('touch hacked')",
    "__import__('os').system('touch hacked') == 0",
    "exec(\"open('hacked', 'w')\") == 1",
    "eval('1') == 1",
    "(lambda: 1)() == 1",
    "z1.__class__.__mro__ == 1",
    "[open('hacked','w') for i in (1,)] == 1",
    "z1 > 0; import os",
    "z1 > 0\nimport os",
    "(x := 1) == 1",
    "f'{z1}' == ''",
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--select", "z1 > 1e9"], r"--select 'z1 > 1e9': none of the 60 particles of"),
        (["--select", "z1 < 1e9", "--not"], r"--select 'z1 < 1e9' and --not: none of the 60"),
        (["--select", "rlnClassNumbr == 1"], "no column 'rlnClassNumbr'; did you mean 'rlnClassNumber'?"),
        (["--select", "pd1 > 0"], "'pd1'"),
        (["--select", "distance('A:900-905', 'B:1-9') > 1"], "chain A of"),
        (["--select", "distance('X:1-5', 'B:1-9') > 1"], "chain 'X', but"),
        (["--select", "angle(s99) > 1"], "s99"),
        (["--select", "turn(s2) > 1"], "turn"),
        (["--select", "std(std(z1)) > 1"], "'std(z1)' is no motion"),
        (["--by", "-angle(s0)", "--share", "0.1"], "s0"),
        (["--select", "z1 >"], "--select: 'z1 >' cannot be understood"),
        (["--select", "z1"], "no yes or no per row"),
        (["--select", "rlnMicrographName > 3"], "`rlnMicrographName` is text and 3"),
        (["--select", "log_evidence == 'x'"], "`log_evidence` is not"),
        (["--polygon", "two.csv"], "two.csv: has 2 corners, a polygon has 3 or more"),
        (["--polygon", "none.csv"], "none.csv: no such file"),
        (["--polygon", "far.csv"], "--polygon far.csv: none of the 60"),
        (["--polygon", "far.csv", "--axes", "pc1"], "--axes pc1: expected two columns with a comma"),
        (["--polygon", "far.csv", "--axes", "pc1,pc2,z1"], "expected two columns"),
        (["--polygon", "far.csv", "--axes", "pc1,rlnMicrographName"], "--axes 'rlnMicrographName': `rlnMicro"),
        (["--polygon", "far.csv", "--axes", "pc1,pc9"], "'pc9'"),
        (["--particles", "3,60"], "--particles: particle row 60 does not exist; particles.star has 60 particles"),
        (["--particles", "rows.txt"], "rows.txt: no such file; --particles takes rows such as 0,5,10-12"),
        (["--share", "0.2"], "--share and --by go together"),
        (["--by", "z1"], "--share and --by go together"),
        (["--share", "0", "--by", "z1"], "--share is 0, expected a fraction"),
        (["--share", "20", "--by", "z1"], "--share is 20, expected a fraction"),
        (["--share", "nan", "--by", "z1"], "--share is nan, expected a fraction"),
        (["--share", "0.2", "--by", "z1 > 2"], "--by 'z1 > 2': z1 > 2 is no number"),
        (["--share", "0.2", "--by", "2"], "no number per row"),
        (["--state", "one"], "--state one: expected numbers of states"),
    ],
)  # fmt: skip
def test_bad_choices(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.csv").write_text("0,0\n1,1\n")
    (tmp_path / "far.csv").write_text("99,99\n100,99\n100,100\n")
    before = sorted(tmp_path.iterdir())
    result = export(run, *arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ") and result.stderr.strip().count("\n") == 0
    assert words in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("option", ["--select", "--by", "--axes"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_code_is_never_run(run, tmp_path, monkeypatch, option, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("0,0\n1,0\n1,1\n")
    more = {"--select": [], "--by": ["--share", "0.5"], "--axes": ["--polygon", "p.csv"]}[option]
    given = f"{text},z1" if option == "--axes" else text
    result = export(run, option, given, *more)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and len(result.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--state", "2"],
        ["--min-probability", "0.8"],
        ["--select", "mode1 > 12"],
        ["--share", "0.1", "--by", "state"],
    ],
)
def test_what_wants_an_analysis_says_so(run, tmp_path, arguments):
    result = export(run, *arguments, output=tmp_path / "o.star")
    assert result.exit_code == 1
    assert "cryosphere analyze" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_outputs_that_cannot_be(run, tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "there.star").write_text("mine")
    (tmp_path / "folder.star").mkdir()
    for output, words in {
        tmp_path / "file" / "out.star": "cannot be written because its folder cannot be made",
        tmp_path / "there.star": "exists and is kept; pass --overwrite",
        tmp_path / "folder.star": "is a folder",
        tmp_path / "out.cs": "the run's particles (particles.star) are a STAR file",
        tmp_path / "out": "give a name that ends in .star",
        run.table.source: "is the file that the rows come from and is kept",
    }.items():
        result = export(run, "--select", "z1 > 0", output=output)
        assert result.exit_code == 1 and words in result.stderr, result.output
        assert len(result.stderr.strip().splitlines()) == 1
    assert export(run, "--overwrite", output=run.table.source).exit_code == 1
    assert run.table.source.read_text() == star_text(N)
    assert (tmp_path / "there.star").read_text() == "mine"


def test_a_write_protected_folder(run, tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # who may write into every folder
        allowed = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and allowed(path, mode))
    result = export(run, "--select", "z1 > 0", output=tmp_path / "out.star")
    tmp_path.chmod(0o700)
    assert result.exit_code == 1 and "is write-protected; choose another one" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_particle_file_that_is_not_as_it_was(tmp_path):
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    source = run.table.source
    source.write_text(star_text(N))
    run = attach(run, source)

    def message():
        result = export(run, "--select", "z1 > 0", output=tmp_path / "o.star")
        assert result.exit_code == 1 and len(result.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "o.star").exists()
        return result.stderr

    source.write_text(star_text(N - 1))
    assert f"has 59 particles, and had 60 when {run.folder} was trained" in message()
    source.write_text(star_text(N, images=[1, 0, *range(2, N)]))
    assert "has another image in row 1 than when" in message() and "(2 such rows)" in message()
    source.write_text(star_text(N).replace("000005@particles", "000005@other"))
    source.write_text(source.read_text().replace("000006@particles", "000006@other"))
    assert export(run, "--select", "z1 > 0", output=tmp_path / "renamed.star").exit_code == 0
    source.write_text("data_micrographs\n\nloop_\n_rlnMicrographName\na.mrc\n")
    assert "micrograph STAR file" in message()
    source.unlink()
    assert "is not there any more; say where it is now (--input)" in message()


def test_stacks_that_have_been_mixed_up(tmp_path):
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    source = run.table.source
    names = [f"{row % 30 + 1:06d}@{'a' if row < 30 else 'b'}.mrcs" for row in range(N)]
    head = "data_\nloop_\n_rlnImageName\n"
    source.write_text(head + "\n".join(names) + "\n")
    run = attach(run, source)
    source.write_text(head + "\n".join([names[30], *names[1:30], names[0], *names[31:]]) + "\n")
    result = export(run, "--select", "z1 > 0", output=tmp_path / "o.star")
    assert result.exit_code == 1 and "has another image in row" in result.stderr


def test_cryosparc_is_not_written_as_star(tmp_path, make_stack):
    run = make_run(tmp_path / "run", n_particles=N, shared=True)
    make_stack(tmp_path / "stack.mrcs", n_images=N)
    run = attach(run, write_cs(tmp_path / "particles.cs", particle_columns(N)))
    result = export(run, "--select", "z1 > 0", output=tmp_path / "o.star")
    assert result.exit_code == 1
    assert "the run's particles (particles.cs) are cryoSPARC's, and are written as such" in result.stderr
    changed = {name: np.roll(values, 1, axis=0) for name, values in particle_columns(N).items()}
    write_cs(tmp_path / "particles.cs", changed)
    assert "has another image in row 1" in export(run, output=tmp_path / "o.cs").stderr
