"""Predicted models: how they are told from measured ones, and what is trimmed."""

import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.structures import read_models, read_structure, write_models
from tests.structure_factory import atom_line, chain_lines, write_lines

GOOD = [92.0] * 20
TITLES = {
    "title": ["TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR PROTEIN"],
    "esmfold": ["TITLE     ESMFOLD V1 PREDICTION FOR INPUT"],
    "remark": ["REMARK   1 PREDICTED WITH COLABFOLD 1.5"],
}


def read(tmp_path, *groups, name="model.pdb", **options):
    return read_structure(write_lines(tmp_path / name, *groups), **options)


@pytest.mark.parametrize("title", TITLES)
def test_the_file_says_that_it_is_predicted(tmp_path, title):
    structure = read(tmp_path, TITLES[title], chain_lines([30.0] * 8 + GOOD))
    assert structure.plddt.tolist() == GOOD and structure.residue_numbers[0] == 9
    assert structure.n_source_residues == 28 and structure.source_rows.tolist() == list(range(8, 28))


@pytest.mark.parametrize(
    "name",
    [
        "AF-P12345-F1-model_v4.pdb",
        "x_unrelaxed_rank_001_alphafold2_ptm_model_3_seed_000.pdb",
        "unrelaxed_model_1.pdb",
        "ranked_0.pdb",
        "fold_my_job_model_2.pdb",
    ],
)
def test_the_file_name_says_that_it_is_predicted(tmp_path, name):
    assert read(tmp_path, chain_lines([30.0] * 8 + GOOD), name=name).plddt is not None


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([], "model.pdb"),
        # Solved with a predicted model, which is not one.
        (["TITLE     STRUCTURE OF X SOLVED WITH ALPHAFOLD", "EXPDTA    X-RAY DIFFRACTION"], "model.pdb"),
        (["EXPDTA    ELECTRON MICROSCOPY"], "AF-P12345-F1-model_v4.pdb"),
        (["REMARK   2 RESOLUTION.    3.20 ANGSTROMS."], "ranked_0.pdb"),
    ],
)
def test_b_factors_of_other_models_are_b_factors(tmp_path, lines, name):
    b_factors = [30.0] * 8 + GOOD
    structure = read(tmp_path, lines, chain_lines(b_factors), name=name)
    assert structure.plddt is None and structure.n_residues == 28
    np.testing.assert_array_equal(structure.atoms.b_factors, np.repeat(b_factors, 3))


def test_a_name_is_not_believed_of_a_refined_model(tmp_path):
    lines = chain_lines([30.0] * 8 + GOOD)
    lines[4] = lines[4].replace(" 30.00", " 35.00")
    assert read(tmp_path, lines, name="AF-P12345-F1-model_v4_real_space_refined.pdb").plddt is None
    assert read(tmp_path, TITLES["title"], lines, name="x.pdb").plddt is not None


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_what_is_written_of_a_predicted_model_is_not_trimmed_again(tmp_path, suffix):
    """B factors of 12 Å² for a pLDDT of 90 are no pLDDT of 12."""
    structure = read(tmp_path, chain_lines([*[30.0] * 8, 88.0, *GOOD]), name="AF-P12345-F1-model_v4.pdb")
    path = tmp_path / f"AF-P12345-F1-placed{suffix}"
    write_models(path, structure, structure.atoms.positions[None])
    again = read_structure(path)
    assert again.plddt is None and again.n_residues == structure.n_residues == 21
    np.testing.assert_allclose(again.atoms.b_factors, structure.atoms.b_factors, atol=6e-3)


def test_b_factors_that_cannot_be_plddt_are_left_alone(tmp_path):
    for b_factors in ([150.0] * 8 + GOOD, [0.0] * 28, [-1.0, *GOOD]):
        structure = read(tmp_path, TITLES["title"], chain_lines(b_factors))
        assert structure.plddt is None and structure.n_residues == len(b_factors)


def test_a_scale_from_0_to_1_is_stretched(tmp_path):
    structure = read(tmp_path, TITLES["esmfold"], chain_lines([0.3] * 8 + [0.9] * 12))
    np.testing.assert_allclose(structure.plddt, 90.0)
    np.testing.assert_allclose(structure.atoms.b_factors, 8 * np.pi**2 / 3 * (1.5 * np.exp(-0.8)) ** 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("plddt", "kept"),
    [
        # Tails of at least 5 go, shorter ones stay.
        ([40] * 5 + [90] * 20 + [40] * 4, range(5, 29)),
        # Inside, loops of at least 15 go.
        ([90] * 20 + [40] * 14 + [90] * 20, range(54)),
        ([90] * 20 + [40] * 15 + [90] * 20, [*range(20), *range(35, 55)]),
        # A few residues of more within a disordered run go with it; the tail about a sure start does not take it.
        ([40] * 10 + [60] * 5 + [40] * 10 + [90] * 20, range(25, 45)),
        ([90] * 5 + [40] * 3 + [90] * 20, range(28)),
        ([49.9] * 6 + [50] * 20, range(6, 26)),
    ],
)
def test_runs_that_are_left_out_by_default(tmp_path, plddt, kept):
    structure = read(tmp_path, TITLES["title"], chain_lines([*map(float, plddt), 95.0]))
    assert structure.source_rows.tolist() == [*kept, len(plddt)] if plddt[-1] >= 50 else [*kept]


def test_chains_are_trimmed_apart_and_the_ranges_are_said(tmp_path):
    lines = chain_lines([*GOOD, *[30.0] * 4]) + chain_lines([*[30.0] * 4, *GOOD], chain="B", start=(0, 9, 0))
    structure = read(tmp_path, TITLES["title"], lines)
    assert structure.n_residues == 48
    structure = read(tmp_path, TITLES["title"], lines, min_plddt=50.0)
    assert structure.n_residues == 40
    note = next(note for note in structure.notes if "left out" in note)
    assert "8 of 48 residues" in note and note.endswith(
        "(pLDDT under 50; structure.min_plddt: 0 keeps them): A/21-24, B/1-4."
    )


def test_nothing_bridges_what_was_trimmed(tmp_path):
    """The ends of a trimmed loop may lie as near as neighbours in the chain."""
    strand, back = chain_lines([90.0] * 20)[:-1], chain_lines([90.0] * 20, start=(70.0, 0.0, 0.0))
    loop = [
        atom_line(name, "ALA", "A", number, (75.0 + dx, 8.0, 3.8 * number), 30.0)
        for number in range(21, 41)
        for name, dx in (("N", -1.2), ("CA", 0.0), ("C", 1.3))
    ]
    back = [f"{line[:22]}{int(line[22:26]) + 40:4d}{line[26:]}" if line != "TER" else line for line in back]
    back = [f"{line[:30]}{float(line[30:38]) + 5.9:8.3f}{line[38:]}" if line != "TER" else line for line in back]
    structure = read(tmp_path, TITLES["title"], strand, loop, back)
    assert structure.n_residues == 40
    assert np.linalg.norm(structure.residue_positions[20] - structure.residue_positions[19]) < 5
    assert not structure.bonded[19] and structure.bonded[:19].all() and structure.bonded[20:].all()
    assert any("chain break, between A/20 and A/41" in note for note in structure.notes)


def test_ligands_of_low_confidence_go_as_a_whole(tmp_path):
    ligand = [
        atom_line(f"C{k}", "LIG", "C", 1, (4.0 + 1.25 * k, 4.0 + 0.88 * (k % 2), 0), b, "C", "HETATM")
        for k, b in enumerate([80.0] * 8 + [30.0] * 17)
    ]
    lines = chain_lines([90.0, *GOOD])
    assert read(tmp_path, TITLES["title"], lines, ligand).n_residues == 21
    kept = read(tmp_path, TITLES["title"], lines, ligand, min_plddt=40.0)
    assert kept.n_residues == 24 and (kept.plddt < 40).any()


def test_a_number_is_the_users_word_for_files_that_say_nothing(tmp_path):
    structure = read(tmp_path, chain_lines([60.0] * 8 + GOOD), min_plddt=70.0)
    assert structure.plddt.tolist() == GOOD
    assert any("structure.min_plddt says so" in note for note in structure.notes)
    assert read(tmp_path, chain_lines([60.0] * 8 + GOOD), min_plddt=0.0).plddt is None


@pytest.mark.parametrize(
    ("lines", "b_factors", "minimum", "message"),
    [
        (["EXPDTA    X-RAY DIFFRACTION"], [60.0, *GOOD], 70.0, "has no pLDDT (it was determined by experiment)"),
        ([], [150.0, *GOOD], 70.0, "has no pLDDT (its B factors run from 92 to 150)"),
        (TITLES["title"], [60.0, *GOOD], 95.0, "no residue would stay, their pLDDT runs from 60 to 92 and at least 95"),
        (TITLES["title"], [31.0] * 10 + [40.0] * 10, "auto", "no residue would stay"),
    ],
)
def test_impossible_trimming_is_refused_in_one_sentence(tmp_path, lines, b_factors, minimum, message):
    with pytest.raises(InputError) as caught:
        read(tmp_path, lines, chain_lines(b_factors), min_plddt=minimum)
    text = str(caught.value)
    assert "model.pdb" in text and message in text and "\n" not in text and text.endswith(".")


def test_ensembles_of_predicted_models_are_not_trimmed_but_have_b_factors(tmp_path):
    chain = chain_lines([30.0] * 8 + GOOD)
    models = read_models(
        write_lines(tmp_path / "m.pdb", TITLES["title"], ["MODEL 1"], chain, ["ENDMDL", "MODEL 2"], chain, ["ENDMDL"])
    )
    assert models.residue_positions.shape == (2, 28, 3)
    np.testing.assert_allclose(models.structure.atoms.b_factors[:3], 999.0)
