"""Structure files moved as a whole or by parts; gemmi reads what was written, NumPy moves the same atoms."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryosphere.errors import InputError
from cryosphere.io import structure_moving
from cryosphere.io.structure_moving import RigidMotions, write_moved
from cryosphere.io.structures import read_structure
from tests.structure_factory import chain_lines, write_lines

TURN = Rotation.from_euler("xyz", [25, -40, 70], degrees=True).as_matrix()
SHIFT = np.array([12.0, -7.5, 30.25])


def atoms_of(path):
    """(residue name, atom name, element, altloc, occupancy, B) and positions of every atom of every model."""
    structure = gemmi.read_structure(str(path))
    sites = [site for model in structure for site in model.all()]
    labels = [
        (s.chain.name, str(s.residue.seqid), s.residue.name, s.atom.name, s.atom.element.name, s.atom.altloc,
         round(s.atom.occ, 2), round(s.atom.b_iso, 2))
        for s in sites
    ]  # fmt: skip
    return labels, np.array([site.atom.pos.tolist() for site in sites])


def as_one(structure) -> RigidMotions:
    return RigidMotions(TURN[None], SHIFT[None], np.zeros(structure.n_residues, dtype=np.int64))


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
@pytest.mark.parametrize("name", ["1igy.pdb", "NRAS_BRAF_GDP_model_0.cif"])
def test_every_atom_moves_and_nothing_else_changes(test_data, tmp_path, name, suffix):
    """Waters and glycans of 1IGY; the ligand and hydrogens of a prediction."""
    source = test_data / "structures" / name
    structure = read_structure(source)
    before, positions = atoms_of(source)
    write_moved(source, tmp_path / f"moved{suffix}", structure, as_one(structure))
    after, moved = atoms_of(tmp_path / f"moved{suffix}")
    assert after == before
    np.testing.assert_allclose(moved, positions @ TURN.T + SHIFT, atol=6e-4)


def test_mmcif_keeps_every_category(test_data, tmp_path):
    source = test_data / "structures" / "NRAS_BRAF_GDP_model_0.cif"
    structure = read_structure(source)
    write_moved(source, tmp_path / "moved.cif", structure, as_one(structure))
    before, after = (gemmi.cif.read(str(path))[0] for path in (source, tmp_path / "moved.cif"))
    assert set(before.get_mmcif_category_names()) <= set(after.get_mmcif_category_names())


def test_moved_atoms_have_left_their_crystal_and_their_assembly_moved_along(test_data, tmp_path):
    source = test_data / "structures" / "1igy.pdb"
    structure = read_structure(source)
    write_moved(source, tmp_path / "moved.cif", structure, as_one(structure))
    moved = gemmi.read_structure(str(tmp_path / "moved.cif"))
    assert moved.spacegroup_hm == "P 1" and not moved.cell.is_crystal()
    (operator,) = moved.assemblies[0].generators[0].operators
    np.testing.assert_allclose(operator.transform.mat.tolist(), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(operator.transform.vec.tolist(), np.zeros(3), atol=1e-4)


@pytest.fixture
def small(tmp_path):
    """Two residues far apart, an anisotropic atom, and a water beside the second one."""
    lines = [
        "ATOM      1  CA  ALA A   1       0.000   0.000   0.000  1.00 20.00           C",
        "ANISOU    1  CA  ALA A   1     1000   2000   3000    100    200    300       C",
        "ATOM      2  CA  GLY A   2A     20.000   0.000   0.000  1.00 20.00           C",
        "HETATM    3  O   HOH A 101      22.000   0.000   0.000  1.00 30.00           O",
        "END",
    ]
    path = tmp_path / "small.pdb"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_parts_take_along_the_waters_beside_them(small, tmp_path):
    structure = read_structure(small)
    motions = RigidMotions(np.stack([np.eye(3), TURN]), np.stack([np.zeros(3), SHIFT]), np.array([0, 1]))
    write_moved(small, tmp_path / "moved.pdb", structure, motions)
    _, moved = atoms_of(tmp_path / "moved.pdb")
    np.testing.assert_allclose(moved[0], np.zeros(3), atol=1e-3)
    np.testing.assert_allclose(moved[1:], np.array([[20.0, 0, 0], [22.0, 0, 0]]) @ TURN.T + SHIFT, atol=1e-3)


@pytest.mark.parametrize("parts", [1, 2])
def test_anisotropic_displacements_turn_with_their_atoms(small, tmp_path, parts):
    structure = read_structure(small)
    motions = RigidMotions(np.stack([TURN] * parts), np.zeros((parts, 3)), np.zeros(2, dtype=np.int64))
    write_moved(small, tmp_path / "moved.pdb", structure, motions)
    found = gemmi.read_structure(str(tmp_path / "moved.pdb"))[0]["A"][0]["CA"][0].aniso.as_mat33().tolist()
    before = np.array([[0.1, 0.01, 0.02], [0.01, 0.2, 0.03], [0.02, 0.03, 0.3]])
    np.testing.assert_allclose(found, TURN @ before @ TURN.T, atol=1e-4)


def test_pdb_that_cannot_hold_the_structure(small, tmp_path):
    structure = read_structure(small)
    far = RigidMotions(np.eye(3)[None], np.array([[20000.0, 0, 0]]), np.zeros(2, dtype=np.int64))
    with pytest.raises(InputError, match=r"coordinates outside -1000 to 10000 Å; use a \.cif name\.$"):
        write_moved(small, tmp_path / "moved.pdb", structure, far)
    with pytest.raises(InputError, match=r"expected \.cif or \.pdb"):
        write_moved(small, tmp_path / "moved.xyz", structure, far)
    assert [path.name for path in tmp_path.iterdir()] == ["small.pdb"]


PLDDT = [30.0] * 8 + [92.0] * 20
UNDER_NAMES = {
    "x_unrelaxed_rank_001_alphafold2_ptm_model_3_seed_000.pdb": [],
    "ranked_0.pdb": [],
    "remark.pdb": ["REMARK   1 PREDICTED WITH COLABFOLD 1.5"],
    "title.pdb": ["TITLE     ESMFOLD V1 PREDICTION FOR INPUT"],
}


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
@pytest.mark.parametrize("name", UNDER_NAMES)
def test_a_predicted_model_is_still_known_under_another_name(tmp_path, name, suffix):
    source = write_lines(tmp_path / name, UNDER_NAMES[name], chain_lines(PLDDT))
    structure = read_structure(source)
    write_moved(source, tmp_path / f"placed{suffix}", structure, as_one(structure))
    assert len(atoms_of(tmp_path / f"placed{suffix}")[0]) == 3 * len(PLDDT)
    placed = read_structure(tmp_path / f"placed{suffix}")
    assert structure.plddt.tolist() == placed.plddt.tolist() == [92.0] * 20
    np.testing.assert_array_equal(placed.atoms.b_factors, structure.atoms.b_factors)


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_mmcif_known_by_its_name_keeps_its_metrics(tmp_path, suffix):
    pdb = write_lines(tmp_path / "model.pdb", chain_lines(PLDDT))
    document = gemmi.read_structure(str(pdb)).make_mmcif_document()
    document[0].set_mmcif_category("_ma_qa_metric.", {"id": ["1"], "name": ["pTM"], "software_group_id": ["7"]})
    source = tmp_path / "fold_my_job_model_2.cif"
    document.write_file(str(source))
    structure = read_structure(source)
    write_moved(source, tmp_path / f"placed{suffix}", structure, as_one(structure))
    assert read_structure(tmp_path / f"placed{suffix}").plddt.tolist() == [92.0] * 20
    if suffix == ".cif":
        metrics = gemmi.cif.read(str(tmp_path / "placed.cif"))[0].get_mmcif_category("_ma_qa_metric.")
        assert metrics["name"] == ["pTM", "pLDDT"] and metrics["id"] == ["1", "2"]
        assert metrics["software_group_id"] == ["7", None]


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_b_factors_of_other_structures_stay_b_factors(tmp_path, suffix):
    source = write_lines(tmp_path / "model.pdb", chain_lines(PLDDT))
    structure = read_structure(source)
    write_moved(source, tmp_path / f"placed{suffix}", structure, as_one(structure))
    assert read_structure(tmp_path / f"placed{suffix}").plddt is None


def test_assemblies_of_a_predicted_model_stay_in_pdb(tmp_path):
    lines = ["REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A"]
    for axis, row in enumerate(np.eye(3), start=1):
        lines.append(f"REMARK 350   BIOMT{axis}   1{row[0]:10.6f}{row[1]:10.6f}{row[2]:10.6f}        0.00000")
    source = write_lines(tmp_path / "ranked_0.pdb", lines, chain_lines(PLDDT))
    structure = read_structure(source)
    write_moved(source, tmp_path / "placed.pdb", structure, as_one(structure))
    assert len(gemmi.read_structure(str(tmp_path / "placed.pdb")).assemblies) == 1
    assert read_structure(tmp_path / "placed.pdb").plddt is not None


def test_atoms_that_are_too_many_for_pdb(small, monkeypatch):
    monkeypatch.setattr(structure_moving, "PDB_MAX_SERIAL", 2)
    with pytest.raises(InputError, match=r"the structure has 3 atoms, at most 2 fit; use a \.cif name\.$"):
        structure_moving.check_output_holds(small, "placed.pdb")
    structure_moving.check_output_holds(small, "placed.cif")
