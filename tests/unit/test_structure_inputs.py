"""Every reference structure, with ligands and trimming, against what gemmi and the text of the file say."""

import gemmi
import numpy as np
import pytest

from cryosphere.io.residues import RESIDUE_FORMULAS
from cryosphere.io.structures import read_models, read_structure, write_models
from tests.reference_files import reference_file

EXPERIMENTAL = ["1ake.pdb", "4ake.pdb", "pdb1ake.pdb", "1igy.pdb", "pdb7pbl.pdb"]
PREDICTED = [
    "AF-Q5VSL9-F1-model_v4.cif",
    "RAF1_KSR1_MEK1_9f755_unrelaxed_alphafold2_multimer_v3_model_1_seed_000.pdb",
    "fold_aurka_0_tpx2_0_model_0.cif",
    "NRAS_BRAF_GDP_model_0.cif",
    "test.cif.gz",
]
# Ligand residues and the Gaussians they become; by hand: 31 and 27 heavy atoms give 4 and 3, sugars and ions 1.
LIGANDS = {
    "1igy.pdb": (18, 18),
    "pdb7pbl.pdb": (9, 3 * 4 + 3 + 3 * 3),
    "fold_aurka_0_tpx2_0_model_0.cif": (3, 4 + 2),
    "NRAS_BRAF_GDP_model_0.cif": (1, 3),
}
PHOSPHOTHREONINE = "C4H8NO5P"


def formula_electrons(formula):
    counts = gemmi.Element  # atomic numbers are gemmi's
    total, symbol, digits = 0, "", ""
    for letter in formula + "X":
        if letter.isupper():
            if symbol:
                total += counts(symbol).atomic_number * int(digits or 1)
            symbol, digits = letter, ""
        elif letter.isdigit():
            digits += letter
        else:
            symbol += letter
    return total


def by_gemmi(name):
    structure = gemmi.read_structure(str(reference_file("structures", name)))
    structure.setup_entities()
    return [(chain.name, residue) for chain in structure[0] for residue in chain]


def heavy(residue):
    return [atom for atom in residue if not atom.is_hydrogen()]


def is_polymer(residue):
    return residue.entity_type == gemmi.EntityType.Polymer


@pytest.mark.parametrize("name", EXPERIMENTAL + PREDICTED)
def test_whole_file(name):
    """Nothing trimmed: polymers in file order, then ligands; positions, numbers and electrons are gemmi's."""
    structure = read_structure(reference_file("structures", name), min_plddt=0)
    found = by_gemmi(name)
    polymer = [(chain, residue) for chain, residue in found if is_polymer(residue)]
    n_polymer = structure.n_polymer_residues
    assert n_polymer == len(polymer) == structure.n_source_residues
    assert structure.chain_ids[:n_polymer].tolist() == [chain for chain, _ in polymer]
    assert structure.residue_numbers[:n_polymer].tolist() == [residue.seqid.num for _, residue in polymer]
    anchors = [(residue.find_atom("CA", "*") or residue.find_atom("C1'", "*")).pos.tolist() for _, residue in polymer]
    np.testing.assert_allclose(structure.residue_positions[:n_polymer], anchors)
    formulas = {**RESIDUE_FORMULAS, "TPO": PHOSPHOTHREONINE}
    expected = [formula_electrons(formulas[residue.name]) for _, residue in polymer]
    np.testing.assert_array_equal(structure.amplitudes[:n_polymer], expected)
    ligands = [(chain, residue) for chain, residue in found if not is_polymer(residue) and residue.name != "HOH"]
    assert (len(ligands), structure.n_residues - n_polymer) == LIGANDS.get(name, (0, 0))
    rows = np.flatnonzero(structure.kinds == "ligand")
    assert rows.tolist() == list(range(n_polymer, structure.n_residues))
    own = structure.atoms.positions[np.isin(structure.atoms.residue_index, rows)]
    wanted = np.array([atom.pos.tolist() for _, residue in ligands for atom in heavy(residue)]).reshape(-1, 3)
    np.testing.assert_allclose(np.sort(own, axis=0), np.sort(wanted, axis=0))
    chains = [chain for chain, _ in ligands]
    assert list(dict.fromkeys(structure.chain_ids[rows].tolist())) == list(dict.fromkeys(chains))
    np.testing.assert_array_equal(structure.source_rows[:n_polymer], np.arange(n_polymer))
    assert (structure.source_rows[n_polymer:] == -1).all()


@pytest.mark.parametrize("name", EXPERIMENTAL)
def test_experimental_b_factors_are_no_plddt(name):
    structure = read_structure(reference_file("structures", name))
    assert structure.plddt is None
    expected = [atom.b_iso for _, residue in by_gemmi(name) if is_polymer(residue) for atom in heavy(residue)]
    np.testing.assert_allclose(structure.atoms.b_factors[: len(expected)], expected)
    assert not any("pLDDT" in note for note in structure.notes)


@pytest.mark.parametrize("name", PREDICTED)
def test_predicted_models_have_plddt(name):
    structure = read_structure(reference_file("structures", name), min_plddt=0)
    residues = [residue for _, residue in by_gemmi(name) if is_polymer(residue)]
    expected = [np.mean([atom.b_iso for atom in heavy(residue)]) for residue in residues]
    np.testing.assert_allclose(structure.plddt[: len(expected)], expected, atol=1e-4)
    # B = 8π²/3 Δ²: the pLDDT of 90 and 70 as the authors of the formula print them.
    atoms = np.concatenate([[atom.b_iso for atom in heavy(residue)] for residue in residues])
    b_factors = structure.atoms.b_factors[: len(atoms)]
    np.testing.assert_allclose(b_factors, np.minimum(59.2176 * np.exp(8 * (0.7 - atoms / 100)), 999), rtol=1e-5)
    assert any("is a predicted model" in note and "B factors" in note for note in structure.notes)


def test_long_disordered_runs_are_trimmed_by_default():
    """AF-Q5VSL9 has 20 to 25 % disorder; what stays keeps its numbers, and no bond bridges a gap."""
    name = "AF-Q5VSL9-F1-model_v4.cif"
    whole = read_structure(reference_file("structures", name), min_plddt=0)
    structure = read_structure(reference_file("structures", name))
    assert whole.n_residues == 837 and 650 < structure.n_residues < 750
    assert structure.residue_numbers.tolist() == (structure.source_rows + 1).tolist()
    np.testing.assert_array_equal(structure.residue_positions, whole.residue_positions[structure.source_rows])
    np.testing.assert_array_equal(structure.bonded, np.diff(structure.residue_numbers) == 1)
    gone = np.setdiff1d(np.arange(837), structure.source_rows)
    assert np.median(whole.plddt[gone]) < 40 and (whole.plddt[gone] < 50).mean() > 0.85
    # Runs of at least 15 residues that stay have some residue of 50 or more.
    low = np.convolve(structure.plddt < 50, np.ones(15), mode="valid")
    assert low.max() < 15
    note = next(note for note in structure.notes if "left out" in note)
    first, last = gone[0] + 1, gone[np.flatnonzero(np.diff(gone) > 1)[0]] + 1
    assert f"{len(gone)} of 837 residues" in note and f"A/{first}-{last}" in note


def test_a_number_trims_every_residue_below_it():
    name = "RAF1_KSR1_MEK1_9f755_unrelaxed_alphafold2_multimer_v3_model_1_seed_000.pdb"
    structure = read_structure(reference_file("structures", name), min_plddt=70.0)
    plddt = np.array([residue[0].b_iso for _, residue in by_gemmi(name)])
    assert structure.n_residues == (plddt >= 70).sum() and structure.plddt.min() >= 70
    np.testing.assert_array_equal(structure.source_rows, np.flatnonzero(plddt >= 70))
    same_chain = structure.chain_ids[1:] == structure.chain_ids[:-1]
    assert not (structure.bonded & ~(same_chain & (np.diff(structure.residue_numbers) == 1))).any()


def test_gdp_has_the_electrons_of_its_formula():
    """The file calls it LIG and leaves its hydrogens out; gemmi's table does not know the name."""
    structure = read_structure(reference_file("structures", "NRAS_BRAF_GDP_model_0.cif"))
    rows = structure.kinds == "ligand"
    assert set(structure.residue_names[rows]) == {"LIG"} and set(structure.chain_ids[rows]) == {"G"}
    assert structure.amplitudes[rows].sum() == pytest.approx(formula_electrons("C10H15N5O11P2"), abs=2)
    assert np.bincount(structure.atoms.residue_index)[rows].tolist() == [9, 10, 9]


def test_nucleotides_and_ions_have_the_electrons_of_their_formulas():
    structure = read_structure(reference_file("structures", "pdb7pbl.pdb"))
    for name, formula in (("AGS", "C10H16N5O12P3S"), ("ADP", "C10H15N5O10P2"), ("MG", "Mg")):
        rows = (structure.kinds == "ligand") & (structure.residue_names == name)
        assert structure.amplitudes[rows].sum() / 3 == pytest.approx(formula_electrons(formula), abs=1), name
    parts = structure.atoms.residue_index
    groups = [structure.atoms.names[parts == row].tolist() for row in np.flatnonzero(structure.residue_names == "AGS")]
    assert groups[:4] == groups[4:8] == groups[8:]


def test_glycans_are_one_gaussian_per_sugar():
    """The hydrogens of linked sugars, fewer than the free molecule's, are those in the file."""
    structure = read_structure(reference_file("structures", "1igy.pdb"))
    sugars = [residue for _, residue in by_gemmi("1igy.pdb") if not is_polymer(residue)]
    rows = structure.kinds == "ligand"
    assert structure.residue_names[rows].tolist() == [residue.name for residue in sugars]
    expected = [sum(atom.element.atomic_number for atom in residue) for residue in sugars]
    np.testing.assert_array_equal(structure.amplitudes[rows], expected)


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_ligands_are_written_as_others_read_them(tmp_path, suffix):
    structure = read_structure(reference_file("structures", "pdb7pbl.pdb"))
    frames = structure.atoms.positions + np.arange(2)[:, None, None]
    write_models(tmp_path / f"m{suffix}", structure, frames)
    written = gemmi.read_structure(str(tmp_path / f"m{suffix}"))
    written.setup_entities()
    original = [
        (chain, residue.seqid.num, residue.name, sorted(atom.name for atom in heavy(residue)))
        for chain, residue in by_gemmi("pdb7pbl.pdb")
        if not is_polymer(residue)
    ]
    for model in written:
        ligands = [(chain.name, residue) for chain in model for residue in chain if not is_polymer(residue)]
        assert all(residue.het_flag == "H" for _, residue in ligands)
        found = [
            (chain, residue.seqid.num, residue.name, sorted(atom.name for atom in residue))
            for chain, residue in ligands
        ]
        assert found == original
    if suffix == ".cif":
        kinds = {entity.name: entity.entity_type for entity in written.entities}
        assert sum(kind == gemmi.EntityType.NonPolymer for kind in kinds.values()) == 3
    models = read_models(tmp_path / f"m{suffix}")
    assert models.structure.residue_names.tolist() == structure.residue_names.tolist()
    np.testing.assert_allclose(models.residue_positions[1], structure.residue_positions + 1, atol=6e-4)
    np.testing.assert_allclose(models.atom_positions, frames, atol=6e-4)


def test_one_atom_per_gaussian_is_written_under_its_name(tmp_path):
    structure = read_structure(reference_file("structures", "fold_aurka_0_tpx2_0_model_0.cif"))
    write_models(tmp_path / "m.pdb", structure, structure.residue_positions[None], what="residues")
    atoms = [atom for chain in gemmi.read_structure(str(tmp_path / "m.pdb"))[0] for r in chain for atom in r]
    assert len(atoms) == structure.n_residues
    assert [atom.element.name for atom in atoms[-2:]] == ["Mg", "Mg"]
    ligand = structure.atoms.residue_index >= structure.n_polymer_residues
    assert {atom.name for atom in atoms[-6:]} <= set(structure.atoms.names[ligand])
