"""Ligands: which are kept, their groups and electrons, and that they move with what they touch."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryosphere.config_files import parse_config
from cryosphere.evaluation.metrics import clashes_per_1000
from cryosphere.io.hydrogens import count_hydrogens
from cryosphere.io.structures import read_structure
from cryosphere.model.division import make_segmentation
from cryosphere.model.regrouping import with_bodies
from cryosphere.model.vae import CryoSphere
from cryosphere.simulation.hinges import Hinge, hinge_conformations
from cryosphere.simulation.matching import match_residues
from cryosphere.simulation.templates import add_missing_atoms
from cryosphere.structure.contacts import contact_graph
from cryosphere.structure.ligands import find_hosts
from cryosphere.structure.sites import scattering_centres
from cryosphere.training.turns import _parts
from tests.reference_files import reference_file
from tests.structure_factory import atom_line, chain_lines, write_lines

# Ideal-ish coordinates by hand: bond lengths are what the estimate reads (Å).
ETHANOL = (["C", "C", "O"], [[0, 0, 0], [1.52, 0, 0], [2.0, 1.34, 0]], 6)
ACETATE = (["C", "C", "O", "O"], [[0, 0, 0], [1.5, 0, 0], [2.1, 1.09, 0], [2.1, -1.09, 0]], 4)
ACETONITRILE = (["C", "C", "N"], [[0, 0, 0], [1.46, 0, 0], [2.61, 0, 0]], 3)
PHOSPHATE = (
    ["P", "O", "O", "O", "O"],
    [[0, 0, 0], [1.52, 0, 0], [-0.5, 1.43, 0], [-0.5, -0.7, 1.2], [-0.5, -0.7, -1.2]],
    3,
)
ACETAMIDE = (["C", "C", "O", "N"], [[0, 0, 0], [1.51, 0, 0], [2.13, 1.06, 0], [2.13, -1.16, 0]], 5)
DIMETHYLAMINE = (["C", "N", "C"], [[0, 0, 0], [1.46, 0, 0], [1.95, 1.38, 0]], 7)


def ring(n, radius):
    angles = 2 * np.pi * np.arange(n) / n
    return np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.zeros(n)])


BENZENE = (["C"] * 6, ring(6, 1.39).tolist(), 6)
CYCLOHEXANE = (["C"] * 6, (ring(6, 1.45) + [[0, 0, 0.25 * (-1) ** k] for k in range(6)]).tolist(), 12)


@pytest.mark.parametrize(
    ("elements", "positions", "hydrogens"),
    [ETHANOL, ACETATE, ACETONITRILE, PHOSPHATE, ACETAMIDE, DIMETHYLAMINE, BENZENE, CYCLOHEXANE],
    ids=[
        "ethanol",
        "acetic-acid",
        "acetonitrile",
        "phosphoric-acid",
        "acetamide",
        "dimethylamine",
        "benzene",
        "hexane",
    ],
)
def test_hydrogens_of_small_molecules(elements, positions, hydrogens):
    atoms = [gemmi.Element(name) for name in elements]
    assert count_hydrogens(atoms, np.array(positions, dtype=float), len(atoms)).sum() == hydrogens


def test_a_bond_to_another_residue_takes_a_hydrogen():
    atoms, positions = [gemmi.Element("C"), gemmi.Element("O")], np.array([[0.0, 0, 0], [1.43, 0, 0]])
    outside = [*atoms, gemmi.Element("C")], np.vstack([positions, [1.9, 1.35, 0]])
    assert count_hydrogens(atoms, positions, 2).tolist() == [3, 1]
    assert count_hydrogens(*outside, 2).tolist() == [3, 0]
    metal = [*atoms, gemmi.Element("Mg")], np.vstack([positions, [1.9, 1.9, 0]])
    assert count_hydrogens(*metal, 2).tolist() == [3, 1]


def hetero(name, number, atoms, chain="A"):
    """HETATM records of (atom, element, xyz)."""
    return [atom_line(a, name, chain, number, xyz, element=e, record="HETATM") for a, e, xyz in atoms]


def zigzag(n, start, element="C"):
    """A saturated chain of atoms, 1.53 Å apart."""
    return [
        (f"{element}{k + 1}", element, (start[0] + 1.25 * k, start[1] + 0.88 * (k % 2), start[2])) for k in range(n)
    ]


@pytest.fixture
def kinds_of_ligands(tmp_path):
    return write_lines(
        tmp_path / "l.pdb",
        chain_lines([30] * 12),
        hetero("HEX", 101, zigzag(6, (4, 5, 0))),
        hetero("GOL", 102, zigzag(6, (14, 5, 0))),
        hetero("ZN", 103, [("ZN", "Zn", (20, 5, 0))]),
        hetero("NA", 104, [("NA", "Na", (24, 5, 0))]),
        hetero("OXY", 105, zigzag(2, (28, 5, 0), "O")),
        hetero("LPE", 106, zigzag(25, (4, -5, 0))),
        hetero("HOH", 107, [("O", "O", (36, 5, 0))]),
    )


def test_which_ligands_are_kept(kinds_of_ligands):
    auto, everything, none = (read_structure(kinds_of_ligands, ligands=name) for name in ("auto", "all", "none"))
    assert auto.residue_names[12:].tolist() == ["HEX", "ZN", "LPE", "LPE", "LPE"]
    assert everything.residue_names[12:].tolist() == ["HEX", "GOL", "ZN", "NA", "OXY", "LPE", "LPE", "LPE"]
    assert none.n_residues == none.n_polymer_residues == 12 and none.source_rows.tolist() == list(range(12))
    notes = " ".join(auto.notes)
    assert "3 ligand residues (HEX, ZN, LPE) became 5 Gaussians" in notes
    assert "left out 1 water and 3 ligand residues (GOL, NA, OXY)" in notes
    assert auto.residue_numbers[12:].tolist() == [101, 103, 106, 106, 106]
    assert not auto.bonded[11:].any()
    assert auto.amplitudes[12] == 6 * 6 + 14 and auto.amplitudes[13] == 30
    assert auto.amplitudes[14:].sum() == 25 * 6 + 52


def test_groups_of_a_large_ligand_are_pieces_of_it_whatever_the_order_of_its_atoms(tmp_path):
    atoms = zigzag(25, (4, -5, 0))
    structures = []
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(25)
        lines = hetero("LPE", 106, [atoms[row] for row in order])
        structures.append(read_structure(write_lines(tmp_path / f"{seed}.pdb", chain_lines([30] * 12), lines)))
    first, second = structures
    np.testing.assert_array_equal(first.residue_positions, second.residue_positions)
    np.testing.assert_array_equal(first.amplitudes, second.amplitudes)
    for row in (12, 13, 14):
        x = np.sort(first.atoms.positions[first.atoms.residue_index == row][:, 0])
        assert 7 <= len(x) <= 10 and np.ptp(x) == pytest.approx(1.25 * (len(x) - 1))
        assert x[0] < first.residue_positions[row, 0] < x[-1]
    centres = scattering_centres(first)[12:, 0]
    assert np.ptp(centres) > 15


def test_chromophores_in_a_chain_are_ligands(tmp_path):
    """A modified residue without Cα; the chain breaks there."""
    chain = chain_lines([30] * 9)
    middle = [line for line in chain if line[22:26] == "   5"]
    kept = [line for line in chain if line not in middle]
    chromophore = hetero("CRO", 5, zigzag(12, (17.8, 0, 0)))
    lines = write_lines(tmp_path / "g.pdb", kept[:12], chromophore, kept[12:])
    structure = read_structure(lines)
    assert structure.kinds.tolist() == ["protein"] * 8 + ["ligand"]
    assert structure.bonded.tolist() == [True] * 3 + [False] + [True] * 3 + [False]
    assert find_hosts(structure)[8] in (3, 4)


@pytest.fixture
def two_domains(tmp_path):
    """Two sheets of alanines 40 Å apart along y; a ligand in each, one across, and a glycan tree on the second."""
    sheets = []
    for chain, y in (("A", 0.0), ("B", 40.0)):
        for strand in range(3):
            first = 1 + 20 * strand
            lines = chain_lines([30] * 10, chain=chain, start=(0, y + 5 * strand, 0))[:-1]
            sheets += [f"{line[:22]}{int(line[22:26]) - 1 + first:4d}{line[26:]}" for line in lines]
        sheets.append("TER")
    return write_lines(
        tmp_path / "two.pdb",
        sheets,
        hetero("LIG", 1, zigzag(25, (8, 5, 4)), "C"),
        hetero("LIG", 2, zigzag(25, (8, 45, 4)), "C"),
        # 3.4 Å above a Cα of B, then two more sugars that reach far over to A.
        hetero("NAG", 1, zigzag(8, (19, 40, 1.5)), "D"),
        hetero(
            "NAG", 2, [(n, e, (29.1, 40.9 - 1.4 * k, 2.0)) for k, (n, e, _) in enumerate(zigzag(11, (0, 0, 0)))], "D"
        ),
        hetero("ZN", 3, [("ZN", "Zn", (19, 5, -3.5))], "C"),
    )


def test_ligands_have_the_host_that_they_touch(two_domains):
    structure = read_structure(two_domains)
    hosts = find_hosts(structure)
    n_polymer = structure.n_polymer_residues
    assert hosts[:n_polymer].tolist() == list(range(n_polymer)) and n_polymer == 60
    found = {}
    for row in range(n_polymer, structure.n_residues):
        found.setdefault(structure.label(row), set()).add(structure.chain_ids[hosts[row]])
    assert found == {"C/1": {"A"}, "C/2": {"B"}, "D/1": {"B"}, "D/2": {"B"}, "C/3": {"A"}}
    for label in found:
        rows = [row for row in range(n_polymer, structure.n_residues) if structure.label(row) == label]
        assert len(set(hosts[rows])) == 1


def test_glycans_go_with_the_residue_they_are_bonded_to():
    structure = read_structure(reference_file("structures", "1igy.pdb"))
    hosts = find_hosts(structure)
    # The LINK records: ASN B/314 – chain E, ASN D/314 – chain F.
    assert {structure.label(row) for row in hosts[structure.chain_ids == "E"]} == {"B/314"}
    assert {structure.label(row) for row in hosts[structure.chain_ids == "F"]} == {"D/314"}


def model_of(structure, tmp_path, **sections):
    values = {
        "particles": {"file": "p.star"},
        "structure": {"file": "s.cif"},
        "model": {"latent_dim": 1, "encoder_layers": [8], **sections.pop("model", {})},
        **sections,
    }
    config = parse_config(values, tmp_path, check_files=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CryoSphere(structure, 10, 40, 3.0, config).eval()
        for parameter in model.decoder.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
        for parameter in model.segmentation.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize("method", ["contacts", "chain"])
def test_ligands_move_rigidly_with_their_hosts(two_domains, tmp_path, method):
    structure = read_structure(two_domains).translated(np.array([-20.0, -25.0, 0]))
    model = model_of(structure, tmp_path, segments={"method": method, "n_segments": 4})
    quat, shift = model.motions(torch.tensor([[-1.0], [1.5]]), model.segment_weights())
    hosts = find_hosts(structure)
    assert (hosts[60:] < 60).all()
    assert torch.equal(quat[:, 60:], quat[:, hosts[60:]]) and torch.equal(shift[:, 60:], shift[:, hosts[60:]])
    assert not torch.allclose(shift[0], shift[1], atol=0.5)


def test_ligands_stay_with_their_hosts_when_bodies_are_merged(two_domains, tmp_path):
    structure = read_structure(two_domains).translated(np.array([-20.0, -25.0, 0]))
    model = model_of(structure, tmp_path, segments={"n_segments": 4})
    hosts = find_hosts(structure)
    labels = (structure.chain_ids[hosts] == "B").astype(int)
    merged = with_bodies(model, labels, 1, torch.Generator().manual_seed(0))
    weights = merged.segment_weights()
    assert merged.segmentation.n_segments == 2 and torch.equal(weights[60:], weights[hosts[60:]])
    for inside, _ in _parts(merged):
        chosen = np.isin(np.arange(structure.n_residues), inside.numpy())
        np.testing.assert_array_equal(chosen, chosen[hosts])


def test_regions_name_polymers_and_take_their_ligands_along(two_domains, tmp_path):
    structure = read_structure(two_domains)
    config = parse_config(
        {
            "particles": {"file": "p.star"},
            "structure": {"file": "s.cif"},
            "segments": {"regions": [{"chain": "B", "n_segments": 2}]},
        },
        tmp_path,
        check_files=False,
    )
    labels = make_segmentation(structure, config.segments).labels()
    moves = structure.chain_ids[find_hosts(structure)] == "B"
    np.testing.assert_array_equal(labels >= 0, moves)


def test_ligands_do_not_clash(two_domains, tmp_path):
    """The paper's loss counts all residues under 4 Å; the ligands here touch many."""
    structure = read_structure(two_domains)
    paper = model_of(structure, tmp_path, model={"preset": "paper", "latent_dim": 1}, segments={"n_segments": 2})
    positions = torch.tensor(structure.residue_positions, dtype=torch.float32)[None]
    apart = torch.cdist(positions[0, 60:], positions[0, :60])
    assert (apart < 4).any()
    assert paper.geometry(positions)[1] == 0
    ours = model_of(structure, tmp_path, segments={"n_segments": 2})
    moved = positions.clone()
    moved[:, 60:] -= 0.5
    assert ours.geometry(moved)[1] == 0
    with_ligands = clashes_per_1000(positions.numpy(), structure.bonded)[0]
    assert with_ligands > 0 == clashes_per_1000(positions.numpy()[:, :60], structure.bonded[:59])[0]


def test_hinges_take_ligands_along(two_domains):
    structure = read_structure(two_domains)
    hinge = Hinge("B", (0.0, np.pi / 2), np.array([1.0, 0, 0]), np.array([0.0, 20, 0]))
    states = hinge_conformations(structure, [hinge], 2)
    moves = structure.chain_ids[find_hosts(structure)] == "B"
    turn, point = Rotation.from_rotvec([np.pi / 2, 0, 0]), np.array([0.0, 20, 0])
    expected = structure.residue_positions.copy()
    expected[moves] = turn.apply(expected[moves] - point) + point
    np.testing.assert_allclose(states.residue_positions[1], expected, atol=1e-9)
    assert moves[60:].any() and not moves[60:].all()
    assert sorted(np.concatenate(states.bodies).tolist()) == list(range(structure.n_residues))


def test_conformations_of_one_ligand_match_group_by_group(two_domains):
    structure = read_structure(two_domains)
    fewer = read_structure(two_domains, ligands="none")
    rows, others, _ = match_residues(structure, structure)
    assert rows.tolist() == others.tolist() == list(range(structure.n_residues))
    rows, _, notes = match_residues(structure, fewer)
    assert rows.tolist() == list(range(60)) and "have no partner" in notes[0]


def test_templates_leave_ligands_alone():
    """A free amino acid that lacks its side chain is not completed; single ions are no trace."""
    structure = read_structure(reference_file("structures", "fold_aurka_0_tpx2_0_model_0.cif"))
    names = np.where(structure.kinds == "ligand", "TRP", structure.residue_names)
    named = replace(structure, residue_names=names)
    completed, _ = add_missing_atoms(named, named.residue_positions[None], named.atoms.positions[None])
    n_polymer = structure.n_polymer_residues
    counts, before = (np.bincount(one.atoms.residue_index)[n_polymer:] for one in (completed, structure))
    assert counts.tolist() == before.tolist() and 1 in counts
    assert not any("one atom only" in note for note in completed.notes)


def test_contact_graph_has_ligands(two_domains):
    structure = read_structure(two_domains)
    graph = contact_graph(structure.residue_positions, structure.bonded)
    assert (np.asarray(graph[60:].sum(1)).ravel() > 0).all()
