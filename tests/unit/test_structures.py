"""Structures: real files counted by plain line splitting, awkward ones made by hand, outputs read by others."""

import gzip
import re
import shlex

import gemmi
import mdtraj
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.residues import FORCE_FIELD_NAMES, RESIDUE_FORMULAS, residue_electrons
from cryosphere.io.structures import read_models, read_structure, write_models

ANCHORS = {"CA", "C1'"}
REAL_FILES = {
    # Residues and chains as the PDB, AlphaFold DB or the predictors' inputs have them.
    "structures/1ake.pdb": (214, "A"),
    "structures/4ake.pdb": (214, "A"),
    "structures/1igy.pdb": (1294, "ABCD"),
    "structures/pdb7pbl.pdb": (1948, "ABCDEFGUV"),
    "structures/AF-Q5VSL9-F1-model_v4.cif": (837, "A"),
    "structures/RAF1_KSR1_MEK1_9f755_unrelaxed_alphafold2_multimer_v3_model_1_seed_000.pdb": (1964, "ABC"),
    "structures/fold_aurka_0_tpx2_0_model_0.cif": (319, "AB"),
    "structures/NRAS_BRAF_GDP_model_0.cif": (938, "NB"),
    "structures/test.cif.gz": (188, "A"),
    "relion_adk/adk_open_64_1p5_centred.pdb": (214, "A"),
}


def plain_atoms(path):
    """(chain, residue number, insertion code, residue name, atom, x, y, z) of the heavy polymer atoms.

    These are the ATOM records, and in mmCIF the HETATM records with a place in a sequence (modified residues).
    """
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as file:
        lines = [line for line in file if line.startswith(("ATOM", "HETATM", "_atom_site."))]
    if ".cif" in path.name:
        columns = [line.split(".")[1].strip() for line in lines if line.startswith("_")]
        wanted = [
            columns.index(name)
            for name in "auth_asym_id auth_seq_id pdbx_PDB_ins_code label_comp_id label_atom_id".split()
            + "Cartn_x Cartn_y Cartn_z type_symbol".split()
        ]
        atoms = [shlex.split(line.replace("'", "\\'")) for line in lines if not line.startswith("_")]
        in_sequence = [cells for cells in atoms if cells[columns.index("label_seq_id")] != "."]
        rows = [[cells[column] for column in wanted] for cells in in_sequence]
        rows = [[*row[:2], row[2].strip("?."), *row[3:]] for row in rows]
    else:
        slices = (21, 22), (22, 26), (26, 27), (17, 20), (12, 16), (30, 38), (38, 46), (46, 54), (76, 78)
        rows = [[line[first:last].strip() for first, last in slices] for line in lines if line[:4] == "ATOM"]
    return [tuple(row[:-1]) for row in rows if row[-1] not in ("H", "D")]


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files(test_data, name):
    n_residues, chains = REAL_FILES[name]
    structure = read_structure(test_data / name, ligands="none", min_plddt=0)
    plain = plain_atoms(test_data / name)
    anchors = [atom for atom in plain if atom[4].strip('"') in ANCHORS]
    assert structure.n_residues == len(anchors) == n_residues
    assert structure.atoms.n_atoms == len(plain)
    assert "".join(dict.fromkeys(structure.chain_ids)) == chains
    assert structure.chain_ids.tolist() == [atom[0] for atom in anchors]
    assert structure.residue_numbers.tolist() == [int(atom[1]) for atom in anchors]
    assert structure.insertion_codes.tolist() == [atom[2] for atom in anchors]
    assert structure.residue_names.tolist() == [atom[3] for atom in anchors]
    np.testing.assert_allclose(structure.residue_positions, np.array([atom[5:] for atom in anchors], float))
    np.testing.assert_allclose(structure.atoms.positions, np.array([atom[5:] for atom in plain], float))
    assert np.array_equal(structure.frame_shift, np.zeros(3)) and (structure.sigmas == 2.0).all()


def test_chain_breaks_of_real_files(test_data):
    """Kabat numbering jumps in 1IGY are no breaks; the residues missing from 7PBL are one."""
    antibody = read_structure(test_data / "structures" / "1igy.pdb", ligands="none")
    ends = np.flatnonzero(antibody.chain_ids[1:] != antibody.chain_ids[:-1])
    np.testing.assert_array_equal(np.flatnonzero(~antibody.bonded), ends)
    assert "B/52A" in [antibody.label(row) for row in range(antibody.n_residues)]
    complex_ = read_structure(test_data / "structures" / "pdb7pbl.pdb", ligands="none")
    inside = np.flatnonzero(~complex_.bonded & (complex_.chain_ids[1:] == complex_.chain_ids[:-1]))
    assert [(complex_.label(row), complex_.label(row + 1)) for row in inside] == [("C/136", "C/141")]
    assert any("1 chain break, between C/136 and C/141" in note for note in complex_.notes)


def test_nucleic_acid(test_data):
    structure = read_structure(test_data / "structures" / "pdb7pbl.pdb")
    nucleic = structure.kinds == "nucleic"
    assert set(structure.chain_ids[nucleic]) == {"U", "V"} and nucleic.sum() == 30
    assert set(structure.residue_names[nucleic]) == {"DA", "DC", "DG", "DT"}
    assert structure.amplitudes[structure.residue_names == "DA"][0] == 162  # C10H12N5O5P
    assert "H" not in structure.atoms.elements
    notes = " ".join(structure.notes)
    # 15439 on the polymers, 3 × 14 on AGS and 3 × 12 on ADP.
    assert "9 ligand residues (AGS, MG, ADP)" in notes and "15517 hydrogen atoms" in notes


@pytest.mark.parametrize("name", RESIDUE_FORMULAS)
def test_formulas_against_gemmi_weights(name):
    """A residue and one water weigh as much as the free molecule; three come protonated in the dictionary."""
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", RESIDUE_FORMULAS[name])
    weight = sum(gemmi.Element(symbol).weight * int(count or 1) for symbol, count in parts)
    proton = 1.008 if name in ("ARG", "HIS", "LYS") else 0.0
    assert weight + 18.015 + proton == pytest.approx(gemmi.find_tabulated_residue(name).weight, abs=0.02)


def test_electrons_by_hand():
    assert residue_electrons("GLY", "protein", []) == 2 * 6 + 3 + 7 + 8
    assert residue_electrons("TRP", "protein", []) == 11 * 6 + 10 + 2 * 7 + 8
    assert residue_electrons("HSD", "protein", []) == residue_electrons("HIS", "protein", []) == 72
    assert residue_electrons("DA5", "nucleic", []) == residue_electrons("DA", "nucleic", [])
    assert set(FORCE_FIELD_NAMES.values()) <= set(RESIDUE_FORMULAS)
    # Unknown modified cysteine (CME, S-mercaptoethanol) has at least its parent's electrons, or its atoms'.
    assert residue_electrons("CME", "protein", []) >= residue_electrons("CYS", "protein", [])
    heavy = [gemmi.Element(symbol) for symbol in ["N", *"CCCCC", "O", "O", "S", "S"]]
    assert residue_electrons("CME", "protein", heavy) == 7 + 5 * 6 + 2 * 8 + 2 * 16 + 9
    assert residue_electrons("XYZ", "protein", []) == residue_electrons("ALA", "protein", [])


def test_calpha_only_model_has_whole_residues(test_data, tmp_path):
    path = test_data / "structures" / "1ake.pdb"
    whole = read_structure(path)
    lines = [line for line in path.read_text().splitlines() if line[:4] == "ATOM" and line[12:16] == " CA "]
    (tmp_path / "ca.pdb").write_text("\n".join([*lines, "END", ""]))
    reduced = read_structure(tmp_path / "ca.pdb")
    assert reduced.atoms.n_atoms == reduced.n_residues == 214
    np.testing.assert_array_equal(reduced.amplitudes, whole.amplitudes)
    np.testing.assert_array_equal(reduced.bonded, whole.bonded)


def pdb_line(serial, atom, residue, chain, number, x, *, record="ATOM", altloc=" ", occupancy=1.0, element=None):
    name = f" {atom:<3}" if len(element or atom[0]) == 1 else f"{atom:<4}"
    return (
        f"{record:<6}{serial:5d} {name}{altloc}{residue:>3} {chain}{number:>5}   "
        f"{x:8.3f}{0:8.3f}{0:8.3f}{occupancy:6.2f}{30:6.2f}          {element or atom[0]:>2}"
    )


def residue_lines(number, name, x, chain="A", start=1, **options):
    number = f"{number:4d} " if isinstance(number, int) else f"{number:>5}"
    return [
        pdb_line(start + index, atom, name, chain, number, x + offset, **options)
        for index, (atom, offset) in enumerate([("N", -1.4), ("CA", 0.0), ("C", 1.4), ("O", 1.6)])
    ]


def write_pdb(path, *groups):
    path.write_text("\n".join([line for group in groups for line in group] + ["END", ""]))
    return path


def test_alternative_locations(tmp_path):
    path = write_pdb(
        tmp_path / "a.pdb",
        residue_lines(1, "ALA", 0.0),
        residue_lines(2, "GLY", 3.8, altloc="A", occupancy=0.4),
        residue_lines(2, "GLY", 4.0, altloc="B", occupancy=0.6),
        residue_lines(3, "ALA", 7.6, altloc="A", occupancy=0.5),
        residue_lines(3, "ALA", 7.9, altloc="B", occupancy=0.5),
        # A point mutation modelled beside the native residue.
        residue_lines(4, "SER", 11.4, altloc="A", occupancy=0.3),
        residue_lines(4, "THR", 11.6, altloc="B", occupancy=0.7),
        residue_lines(5, "ALA", 15.2),
    )
    structure = read_structure(path)
    assert structure.residue_names.tolist() == ["ALA", "GLY", "ALA", "THR", "ALA"]
    np.testing.assert_allclose(structure.residue_positions[:, 0], [0.0, 4.0, 7.6, 11.6, 15.2])
    assert structure.atoms.n_atoms == 20
    assert any("3 residues" in note and "highest occupancy" in note for note in structure.notes)


def test_insertion_codes_and_gaps(tmp_path):
    path = write_pdb(
        tmp_path / "a.pdb",
        residue_lines(10, "ALA", 0.0),
        residue_lines("10A", "ALA", 3.8),
        residue_lines(11, "ALA", 7.6),
        residue_lines(14, "ALA", 18.0),
        residue_lines(15, "ALA", 30.0),
        residue_lines(16, "ALA", 33.8, chain="B"),
    )
    structure = read_structure(path)
    assert structure.insertion_codes.tolist() == ["", "A", "", "", "", ""]
    assert structure.bonded.tolist() == [True, True, False, False, False]
    assert structure.label(1) == "A/10A"


def test_what_is_left_out_is_counted(tmp_path):
    no_anchor = [pdb_line(90, "N", "ALA", "A", "   3 ", 7.0), pdb_line(91, "C", "ALA", "A", "   3 ", 8.0)]
    path = write_pdb(
        tmp_path / "a.pdb",
        residue_lines(1, "ALA", 0.0),
        residue_lines(2, "MSE", 3.8, record="HETATM"),
        no_anchor,
        residue_lines(4, "ALA", 11.4),
        [pdb_line(95, "HA", "ALA", "A", "   4 ", 12.0, element="H")],
        ["TER"],
        [pdb_line(96, "CA", " CA", "A", " 101 ", 20.0, record="HETATM", element="CA")],
        [pdb_line(97 + k, "O", "HOH", "A", f" {201 + k} ", 25.0 + 3 * k, record="HETATM") for k in range(2)],
    )
    structure = read_structure(path)
    assert structure.residue_names.tolist() == ["ALA", "MSE", "ALA", "CA"]
    assert structure.kinds.tolist() == ["protein"] * 3 + ["ligand"] and structure.amplitudes[3] == 20
    assert structure.amplitudes[1] == 88  # C5H9NOSe
    notes = " ".join(structure.notes)
    assert "1 ligand residue (CA) became 1 Gaussian" in notes and "left out 2 waters and 1 hydrogen atom" in notes
    notes = " ".join(read_structure(path, ligands="none").notes)
    assert "2 waters and 1 ligand residue (CA) and 1 hydrogen atom" in notes
    assert "1 residue without a Cα or C1′ atom (A/3 ALA)" in notes


def test_gzipped_pdb(test_data, tmp_path):
    path = test_data / "structures" / "1ake.pdb"
    with gzip.open(tmp_path / "1ake.pdb.gz", "wb") as file:
        file.write(path.read_bytes())
    np.testing.assert_array_equal(
        read_structure(tmp_path / "1ake.pdb.gz").residue_positions, read_structure(path).residue_positions
    )


def test_mmcif_without_entities(test_data, tmp_path):
    path = test_data / "structures" / "fold_aurka_0_tpx2_0_model_0.cif"
    table = gemmi.cif.read(str(path)).sole_block().get_mmcif_category("_atom_site")
    del table["label_entity_id"]
    bare = gemmi.cif.Document()
    bare.add_new_block("bare").set_mmcif_category("_atom_site", table)
    bare.write_file(str(tmp_path / "bare.cif"))
    expected, found = (read_structure(file, min_plddt=0) for file in (path, tmp_path / "bare.cif"))
    assert found.residue_names.tolist() == expected.residue_names.tolist()
    assert found.chain_ids.tolist() == expected.chain_ids.tolist()
    np.testing.assert_array_equal(found.residue_positions, expected.residue_positions)


def test_charmm_and_amber_names(tmp_path):
    histidine = residue_lines(1, "ALA", 0.0) + residue_lines(2, "HSD", 3.8) + residue_lines(3, "ALA", 7.6)
    strand = []
    for number, name in enumerate(["DA5", "DG", "DC3"], start=1):
        strand += [
            pdb_line(20 + number, atom, name, "B", f"{number:4d} ", 30 + 6 * number + offset)
            for atom, offset in (("P", -2.0), ("C1'", 0.0), ("O3'", 2.4))
        ]
    structure = read_structure(write_pdb(tmp_path / "a.pdb", histidine, ["TER"], strand))
    assert structure.kinds.tolist() == ["protein"] * 3 + ["nucleic"] * 3
    assert structure.amplitudes.tolist() == [38, 72, 38, 162, 170, 150]
    assert structure.bonded.tolist() == [True, True, False, True, True]


def test_first_of_several_models_is_used_and_said(test_data, tmp_path):
    structure = read_structure(test_data / "structures" / "1ake.pdb")
    frames = structure.atoms.positions + np.arange(3)[:, None, None]
    write_models(tmp_path / "m.pdb", structure, frames)
    read = read_structure(tmp_path / "m.pdb")
    np.testing.assert_allclose(read.atoms.positions, frames[0], atol=6e-4)
    assert any("has 3 models; the first is used" in note for note in read.notes)
    models = read_models(tmp_path / "m.pdb")
    np.testing.assert_allclose(models.atom_positions, frames, atol=6e-4)
    np.testing.assert_allclose(
        models.residue_positions, structure.residue_positions + np.arange(3)[:, None, None], atol=6e-4
    )
    assert not any("models" in note for note in models.structure.notes)


FIELDS = "chain_ids residue_numbers insertion_codes residue_names kinds amplitudes bonded".split()


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
@pytest.mark.parametrize("name", ["1igy.pdb", "pdb7pbl.pdb", "test.cif.gz"])
def test_written_structure_is_read_back(test_data, tmp_path, name, suffix):
    structure = read_structure(test_data / "structures" / name)
    path = tmp_path / f"out{suffix}"
    write_models(path, structure, structure.atoms.positions[None], model_names=["a name"], populations=[1.0])
    read = read_structure(path)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(read, field), getattr(structure, field), err_msg=field)
    for field in ("names", "elements", "residue_index"):
        np.testing.assert_array_equal(getattr(read.atoms, field), getattr(structure.atoms, field))
    np.testing.assert_allclose(read.atoms.positions, structure.atoms.positions, atol=6e-4)
    np.testing.assert_allclose(read.atoms.b_factors, structure.atoms.b_factors, atol=6e-3)


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_written_models_are_read_by_mdtraj(test_data, tmp_path, suffix):
    structure = read_structure(test_data / "structures" / "1ake.pdb")
    frames = structure.residue_positions + np.random.default_rng(0).normal(size=(4, 214, 3))
    write_models(tmp_path / f"m{suffix}", structure, iter(frames), what="residues")
    read = mdtraj.load(str(tmp_path / f"m{suffix}"))
    np.testing.assert_allclose(read.xyz * 10, frames, atol=6e-4)
    assert [atom.name for atom in read.topology.atoms] == ["CA"] * 214
    assert [residue.resSeq for residue in read.topology.residues] == structure.residue_numbers.tolist()


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_equal_models_are_equal_files(test_data, tmp_path, suffix):
    structure = read_structure(test_data / "structures" / "4ake.pdb")
    for folder in ("a", "b"):
        write_models(tmp_path / folder / f"m{suffix}", structure, [structure.atoms.positions] * 2)
    data = (tmp_path / "a" / f"m{suffix}").read_bytes()
    assert data == (tmp_path / "b" / f"m{suffix}").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        write_models(tmp_path / "a" / f"m{suffix}", structure, [structure.atoms.positions])


def test_frames_of_a_placed_structure(test_data, tmp_path):
    structure = read_structure(test_data / "structures" / "4ake.pdb").translated(np.array([5.0, -7.0, 11.0]))
    for frame, moved in (("file", [-5.0, 7.0, -11.0]), ("model", [0.0, 0.0, 0.0])):
        path = tmp_path / f"{frame}.cif"
        write_models(path, structure, structure.residue_positions[None], what="residues", frame=frame)
        read = read_structure(path)
        np.testing.assert_allclose(read.residue_positions, structure.residue_positions + moved, atol=6e-4)


def test_names_and_populations(test_data, tmp_path):
    structure = read_structure(test_data / "structures" / "4ake.pdb")
    frames = [structure.residue_positions] * 2
    labels = {"model_names": ["open state", "closed"], "populations": [0.25, 0.75], "population_stds": [0.02, 0.03]}
    write_models(tmp_path / "m.cif", structure, frames, what="residues", **labels)
    block = gemmi.cif.read(str(tmp_path / "m.cif")).sole_block()
    columns = ["state_name", "population_fraction", "population_fraction_sd"]
    found = [(row.str(0), float(row[1]), float(row[2])) for row in block.find("_ihm_multi_state_modeling.", columns)]
    assert found == [("open state", 0.25, 0.02), ("closed", 0.75, 0.03)]
    assert [row.str(1) for row in block.find("_ihm_model_list.", ["model_id", "model_name"])] == [
        "open state",
        "closed",
    ]
    write_models(tmp_path / "m.pdb", structure, frames, what="residues", **labels)
    assert "REMARK   6 MODEL 2 NAME closed POPULATION 0.750000 SD 0.030000" in (tmp_path / "m.pdb").read_text()
    with pytest.raises(ValueError, match="2 labels"):
        write_models(tmp_path / "n.cif", structure, frames[:1], what="residues", **labels)
    assert not (tmp_path / "n.cif").exists()


def test_written_sequence_skips_missing_residues(tmp_path):
    path = write_pdb(
        tmp_path / "a.pdb",
        residue_lines(1, "ALA", 0.0),
        residue_lines(9, "GLY", 30.0),
        residue_lines(10, "SER", 33.8),
    )
    structure = read_structure(path)
    write_models(tmp_path / "a.cif", structure, [structure.atoms.positions])
    written = gemmi.read_structure(str(tmp_path / "a.cif"))
    assert written.entities[0].full_sequence == ["ALA", "UNK", "GLY", "SER"]
    assert [residue.label_seq for residue in written[0][0]] == [1, 3, 4]


def test_chain_without_name(tmp_path):
    path = write_pdb(tmp_path / "a.pdb", residue_lines(1, "ALA", 0.0, chain=" "), residue_lines(2, "GLY", 3.8, " "))
    structure = read_structure(path)
    assert structure.chain_ids.tolist() == ["", ""]
    for suffix, chains in (("pdb", ["", ""]), ("cif", ["A", "A"])):
        write_models(tmp_path / f"b.{suffix}", structure, [structure.atoms.positions])
        assert read_structure(tmp_path / f"b.{suffix}").chain_ids.tolist() == chains
