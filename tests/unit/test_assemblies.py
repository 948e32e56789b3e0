"""Assemblies by symmetry, against gemmi's own."""

import gemmi
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.structures import read_structure, write_models
from tests.reference_files import reference_file
from tests.structure_factory import atom_line, chain_lines, write_lines

TURN = gemmi.Transform()
TURN.mat.fromlist([[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
TURN.vec.fromlist([5.0, 60.0, -3.0])


def remark_350(chains, transforms):
    lines = ["REMARK 350 BIOMOLECULE: 1", f"REMARK 350 APPLY THE FOLLOWING TO CHAINS: {', '.join(chains)}"]
    for number, transform in enumerate(transforms, start=1):
        for axis in range(3):
            row = "".join(f"{transform.mat.tolist()[axis][column]:10.6f}" for column in range(3))
            lines.append(f"REMARK 350   BIOMT{axis + 1}{number:4d}{row}{transform.vec.tolist()[axis]:15.5f}")
    return lines


@pytest.fixture
def dimer(tmp_path):
    """A chain A with a zinc ion, a chain B, and an assembly that turns both by 180° about z."""
    ion = [atom_line("ZN", "ZN", "A", 101, (20.0, 3.0, 1.0), element="ZN", record="HETATM")]
    return write_lines(
        tmp_path / "dimer.pdb",
        remark_350("AB", [gemmi.Transform(), TURN]),
        chain_lines([30] * 8),
        chain_lines([30] * 6, chain="B", start=(0.0, 8.0, 0.0)),
        ion,
    )


def by_gemmi(path):
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    how = gemmi.HowToNameCopiedChain.Dup
    return gemmi.make_assembly(structure.assemblies[0], structure[0], how)


def test_copies_of_a_pdb_file(dimer):
    structure = read_structure(dimer, assembly="1")
    chains = ["A"] * 8 + ["B"] * 6 + ["A-2"] * 8 + ["B-2"] * 6 + ["A", "A-2"]
    assert structure.chain_ids.tolist() == chains
    model = by_gemmi(dimer)
    anchors = [atom.pos.tolist() for chain in model for residue in chain for atom in residue if atom.name == "CA"]
    np.testing.assert_allclose(structure.residue_positions[:28], anchors)
    np.testing.assert_allclose(structure.residue_positions[29], TURN.apply(gemmi.Position(20, 3, 1)).tolist())
    ends = [7, 13, 21, 27, 28]
    np.testing.assert_array_equal(np.flatnonzero(~structure.bonded), ends)
    assert any("assembly 1 has 4 chains (A, B, A-2, B-2)" in note for note in structure.notes)
    assert read_structure(dimer).n_residues == 15


def test_copies_of_an_mmcif_file_whose_generators_name_parts_of_chains(dimer, tmp_path):
    """One generator per label_asym_id; the ion stays in its chain's copy."""
    parsed = gemmi.read_structure(str(dimer))
    parsed.setup_entities()
    parts = list(dict.fromkeys(residue.subchain for chain in parsed[0] for residue in chain))
    operators = list(parsed.assemblies[0].generators[0].operators)
    assembly = gemmi.Assembly("pair")
    for part in parts:
        generator = gemmi.Assembly.Gen()
        generator.subchains = [part]
        for operator in operators:
            generator.operators.append(operator)
        assembly.generators.append(generator)
    parsed.assemblies[0] = assembly
    parsed.make_mmcif_document().write_file(str(tmp_path / "dimer.cif"))
    structure = read_structure(tmp_path / "dimer.cif", assembly="pair")
    expected = read_structure(dimer, assembly="1")
    assert set(structure.chain_ids) == {"A", "B", "A-2", "B-2"}
    order = [structure.label(row) for row in range(structure.n_residues)]
    again = [order.index(expected.label(row)) for row in range(expected.n_residues)]
    np.testing.assert_allclose(structure.residue_positions[again], expected.residue_positions, atol=2e-3)


def test_an_assembly_survives_writing(dimer, tmp_path):
    structure = read_structure(dimer, assembly="1")
    write_models(tmp_path / "m.cif", structure, structure.atoms.positions[None])
    assert read_structure(tmp_path / "m.cif").chain_ids.tolist() == structure.chain_ids.tolist()
    with pytest.raises(InputError, match="chain names of more than one letter"):
        write_models(tmp_path / "m.pdb", structure, structure.atoms.positions[None])


def test_whole_assembly_of_a_real_file():
    path = reference_file("structures", "1igy.pdb")
    structure = read_structure(path, assembly="1", ligands="none")
    anchors = [atom.pos.tolist() for chain in by_gemmi(path) for r in chain for atom in r if atom.name == "CA"]
    np.testing.assert_allclose(structure.residue_positions, anchors)


def test_unknown_assembly_lists_those_there(dimer, tmp_path):
    with pytest.raises(InputError, match=r"dimer\.pdb has no assembly '7'; it has 1\.$"):
        read_structure(dimer, assembly="7")
    plain = write_lines(tmp_path / "plain.pdb", chain_lines([30] * 4))
    with pytest.raises(InputError, match=r"plain\.pdb has no assembly '1'; it lists none"):
        read_structure(plain, assembly="1")
