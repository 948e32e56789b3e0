"""``init`` on predicted models, assemblies and ligands, and that training reads what it wrote."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.config_files import read_config
from cryosphere.training.train import load_inputs
from tests.particle_sets import write_particle_set
from tests.structure_factory import atom_line, chain_lines, write_lines

REMARK_350 = [
    "REMARK 350 BIOMOLECULE: 1",
    "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A",
    "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000",
    "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000",
    "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000",
    "REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000        0.00000",
    "REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000",
    "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_particle_set(tmp_path_factory.mktemp("init") / "set", 4)
    zinc = [atom_line("ZN", "ZN", "A", 101, (8.0, 6.0, 1.0), 80.0, "ZN", "HETATM")]
    title = ["TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION"]
    write_lines(folder / "model.pdb", title, REMARK_350, chain_lines([*[30.0] * 6, *[65.0] * 4, *[90.0] * 10]), zinc)
    return folder


def init(folder, output, *options):
    arguments = ["init", folder / "particles.star", folder / "model.pdb", "-o", output, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("options", "written", "n_polymer", "n_residues"),
    [
        ([], {}, 14, 15),
        (["--min-plddt", 70], {"min_plddt": 70.0}, 10, 11),
        (["--min-plddt", 0, "--ligands", "none"], {"min_plddt": 0.0, "ligands": "none"}, 20, 20),
        (["--assembly", 1], {"assembly": "1"}, 28, 30),
    ],
)
def test_options_are_written_and_used(folder, tmp_path, options, written, n_polymer, n_residues):
    result = init(folder, tmp_path / "config.yaml", *options)
    assert result.exit_code == 0, result.output
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())["structure"]
    assert {key: value for key, value in values.items() if key != "file"} == written
    _, structure = load_inputs(read_config(tmp_path / "config.yaml"))
    assert (structure.n_polymer_residues, structure.n_residues) == (n_polymer, n_residues)
    assert f"{n_polymer} residues in chains A" in result.stderr
    n_ligands = n_residues - n_polymer
    if n_ligands:
        assert f", {n_ligands} ligand Gaussian{'s' * (n_ligands > 1)}\n" in result.stderr
    assert "is a predicted model (its title names ALPHAFOLD)" in result.stderr
    if "--min-plddt" not in options and "--assembly" not in options:
        assert "6 of 20 residues have no defined place and are left out" in result.stderr and "A/1-6" in result.stderr


def test_assembly_may_be_a_number_and_bad_values_are_named(folder, tmp_path):
    init(folder, tmp_path / "config.yaml")
    config = read_config(tmp_path / "config.yaml", ("structure.assembly=1", "structure.min_plddt=70"))
    assert config.structure.assembly == "1" and config.structure.min_plddt == 70
    for option, value, message in (
        ("--assembly", "5", "model.pdb has no assembly '5'; it has 1."),
        ("--min-plddt", "95", "no residue would stay"),
    ):
        result = init(folder, tmp_path / "other.yaml", option, value)
        assert result.exit_code == 1 and message in result.stderr and not (tmp_path / "other.yaml").exists()
    arguments = ["train", tmp_path / "config.yaml", "-o", tmp_path / "run", "--set", "structure.min_plddt=170"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and "'structure.min_plddt'" in result.stderr and "170" in result.stderr
