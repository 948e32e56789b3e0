"""Predicted aligned error in all layouts, for whole and trimmed models."""

import json

import numpy as np
import pytest

from cryosphere.config_files import parse_config
from cryosphere.errors import InputError
from cryosphere.io.pae import read_predicted_error
from cryosphere.io.structures import read_structure
from cryosphere.model.division import make_segmentation
from tests.reference_files import reference_file
from tests.structure_factory import chain_lines, chain_structure, write_lines

PLDDT = [30.0] * 6 + [90.0] * 12
TITLE = ["TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR SOMETHING"]


@pytest.fixture
def trimmed(tmp_path):
    structure = read_structure(write_lines(tmp_path / "model.pdb", TITLE, chain_lines(PLDDT)))
    assert structure.residue_numbers.tolist() == list(range(7, 19))
    return structure


def random_matrix(n, seed=0):
    return np.round(np.random.default_rng(seed).uniform(0.2, 31, (n, n)), 2)


def old_layout(matrix):
    first, second = (axis.ravel() + 1 for axis in np.indices(matrix.shape))
    order = np.random.default_rng(0).permutation(matrix.size)
    columns = {"residue1": first[order], "residue2": second[order], "distance": matrix.ravel()[order]}
    return [{name: column.tolist() for name, column in columns.items()} | {"max_predicted_aligned_error": 31.75}]


LAYOUTS = {
    "alphafold-db": lambda m: [{"predicted_aligned_error": m.tolist(), "max_predicted_aligned_error": 31.75}],
    "alphafold-db-2021": old_layout,
    "colabfold": lambda m: {"plddt": [1.0], "max_pae": 31.0, "pae": m.tolist(), "ptm": 0.8},
    "object": lambda m: {"predicted_aligned_error": m.tolist()},
}


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_the_whole_model_are_brought_to_the_residues_that_stay(trimmed, tmp_path, layout):
    matrix = random_matrix(18)
    path = write_json(tmp_path / "pae.json", LAYOUTS[layout](matrix))
    np.testing.assert_array_equal(read_predicted_error(path, trimmed), matrix[6:, 6:])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_sequence_is_refused_in_one_sentence(trimmed, tmp_path, layout):
    """Also of as many residues as stay, since the file says nothing of which they are."""
    for n_rows in (12, 17, 40):
        path = write_json(tmp_path / "pae.json", LAYOUTS[layout](random_matrix(n_rows)))
        with pytest.raises(InputError, match=rf"pae\.json is of another sequence: it has {n_rows} .* 18 residues") as e:
            read_predicted_error(path, trimmed)
        assert "\n" not in str(e.value) and str(e.value).endswith(".")


def tokens_of(structure):
    """Chain, residue and matrix as AlphaFold 3 writes them, for a structure's chains in another order."""
    polymer = [
        (chain, int(number))
        for chain, number in zip(structure.chain_ids, structure.residue_numbers, strict=True)
        if chain in "AB"
    ]
    atoms = [("C", 1)] * 31 + [("D", 1), ("E", 1)]
    modified = [("A", 160)] * 10
    return [*[name for name in polymer if name[0] == "B"], *polymer[:50], *modified, *polymer[50:], *atoms]


def test_alphafold_3_tokens_are_found_by_chain_and_residue(tmp_path):
    """Atoms of ligands and modified residues are averaged; numbers in the file, chain order of the structure."""
    model = reference_file("structures", "fold_aurka_0_tpx2_0_model_0.cif")
    whole, structure = read_structure(model, min_plddt=0), read_structure(model)
    assert structure.n_residues < whole.n_residues
    names = [name for name in tokens_of(whole)]
    matrix = random_matrix(len(names), 3)
    content = {"pae": matrix.tolist(), "token_chain_ids": [n[0] for n in names], "token_res_ids": [n[1] for n in names]}
    read = read_predicted_error(write_json(tmp_path / "pae.json", content), structure)
    where = {name: np.array([row for row, other in enumerate(names) if other == name]) for name in set(names)}
    rows = np.random.default_rng(1).choice(structure.n_residues, 40, replace=False)
    rows = np.r_[rows, np.arange(structure.n_polymer_residues, structure.n_residues)]
    labels = [(str(structure.chain_ids[row]), int(structure.residue_numbers[row])) for row in rows]
    expected = [[matrix[np.ix_(where[a], where[b])].mean() for b in labels] for a in labels]
    np.testing.assert_allclose(read[np.ix_(rows, rows)], expected, rtol=1e-12)


def test_tokens_of_another_model_are_refused(trimmed, tmp_path):
    tokens = {"token_chain_ids": ["A"] * 10, "token_res_ids": list(range(1, 11))}
    path = write_json(tmp_path / "pae.json", {"pae": random_matrix(10).tolist(), **tokens})
    with pytest.raises(InputError, match=r"is of another sequence: 8 of 12 residues of model\.pdb .* first A/11"):
        read_predicted_error(path, trimmed)
    path = write_json(tmp_path / "pae.json", {"pae": random_matrix(9).tolist(), **tokens})
    with pytest.raises(InputError, match="each of the 9 rows, found 10 and 10"):
        read_predicted_error(path, trimmed)


def test_ligands_without_rows_keep_their_contacts(tmp_path):
    structure = read_structure(reference_file("structures", "fold_aurka_0_tpx2_0_model_0.cif"))
    matrix = random_matrix(319)
    read = read_predicted_error(write_json(tmp_path / "pae.json", {"pae": matrix.tolist()}), structure)
    n_polymer = structure.n_polymer_residues
    rows = structure.source_rows[:n_polymer]
    np.testing.assert_array_equal(read[:n_polymer, :n_polymer], matrix[np.ix_(rows, rows)])
    assert (read[n_polymer:] == 0).all() and (read[:, n_polymer:] == 0).all()


BAD = [
    "{",
    "[]",
    '{"pae": 3}',
    '{"pae": [[1, 2], [3, "x"]]}',
    '{"pae": [[0, 1, 2], [1, 0, 3]]}',
    '{"pae": [[0, NaN], [1, 0]]}',
    '[{"residue1": [1, 1, 2], "residue2": [1, 2, 1], "distance": [0, 1, 2]}]',
    '[{"residue1": [1, 1, 2], "distance": [0, 1, 2]}]',
    '{"pae": [[0, 1], [1, 0]]}',
]


@pytest.mark.parametrize("text", BAD)
def test_files_that_are_no_predicted_error_are_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "pae.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"pae\.json") as caught:
        read_predicted_error(path, chain_structure(np.zeros((80, 3))))
    assert "\n" not in str(caught.value)


def test_segments_from_pae_after_trimming(tmp_path):
    """Two halves that are unsure of each other are cut there, counted from the first residue that stays."""
    path = write_lines(tmp_path / "model.pdb", TITLE, chain_lines([30.0] * 10 + [90.0] * 40))
    structure = read_structure(path)
    matrix = np.full((50, 50), 1.0)
    matrix[:34, 34:] = matrix[34:, :34] = 25.0
    write_json(tmp_path / "pae.json", [{"predicted_aligned_error": matrix.tolist()}])
    segments = {"method": "pae", "pae_file": "pae.json", "n_segments": 2}
    inputs = {"particles": {"file": "p.star"}, "structure": {"file": "model.pdb"}, "segments": segments}
    config = parse_config(inputs, tmp_path, check_files=False)
    labels = make_segmentation(structure, config.segments).labels()
    assert labels.tolist() == [0] * 24 + [1] * 16
    assert structure.label(23) == "A/34"
