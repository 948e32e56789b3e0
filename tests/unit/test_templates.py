"""Side chains from templates: right geometry, near the real ones, only where they are missing."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from cryosphere.io.structures import read_structure
from cryosphere.simulation.frames import frame_from_directions, nearest_rotmat
from cryosphere.simulation.matching import take_residues
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.simulation.templates import COMPACT_TRACE_LIMIT, add_missing_atoms, backbone_frame, read_templates
from tests.reference_files import reference_file


@pytest.fixture(scope="module")
def opened():
    """Open adenylate kinase without the second oxygen at its end, which no template has."""
    structure = read_structure(shipped_path("adk/open.cif"))
    return take_residues(structure, np.arange(214), np.flatnonzero(structure.atoms.names != "OXT"))


def _reduced(structure, names):
    rows = np.flatnonzero(np.isin(structure.atoms.names, names))
    return take_residues(structure, np.arange(structure.n_residues), rows)


def _complete(structure):
    return add_missing_atoms(structure, structure.residue_positions[None], structure.atoms.positions[None])


def _distances_to_real(real, built, positions):
    def keys(structure):
        return list(zip(structure.atoms.residue_index.tolist(), structure.atoms.names.tolist(), strict=True))

    where = {key: row for row, key in enumerate(keys(built))}
    rows = [where[key] for key in keys(real)]
    return np.linalg.norm(positions[0, rows] - real.atoms.positions, axis=1)


def test_complete_model_is_left_alone(opened):
    structure, positions = _complete(opened)
    assert structure.atoms.n_atoms == opened.atoms.n_atoms
    np.testing.assert_array_equal(positions[0], opened.atoms.positions)
    assert structure.notes == opened.notes


@pytest.mark.parametrize(("kept", "backbone_error", "all_error"), [("N CA C O", 1e-6, 2.1), ("CA", 0.75, 2.3)])
def test_missing_atoms_come_back_near_the_real_ones(opened, kept, backbone_error, all_error):
    structure, positions = _complete(_reduced(opened, kept.split()))
    assert sorted(structure.atoms.names) == sorted(opened.atoms.names)
    assert sorted(structure.atoms.elements) == sorted(opened.atoms.elements)
    assert (np.diff(structure.atoms.residue_index) >= 0).all()
    distance = _distances_to_real(opened, structure, positions)
    backbone = np.isin(opened.atoms.names, ["N", "CA", "C"])
    assert np.sqrt((distance[backbone] ** 2).mean()) <= backbone_error
    assert np.sqrt((distance**2).mean()) < all_error
    beta = opened.atoms.names == "CB"
    assert np.sqrt((distance[beta] ** 2).mean()) < (0.2 if kept != "CA" else 0.9)
    assert any("214 residues" in note or "residues lack their side chain" in note for note in structure.notes)


def test_states_get_their_atoms_by_the_same_rigid_motion(opened):
    """Turning the whole backbone turns the added atoms with it."""
    reduced = _reduced(opened, ["N", "CA", "C", "O"])
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    residues = np.stack([reduced.residue_positions, reduced.residue_positions @ turn.T + 5])
    atoms = np.stack([reduced.atoms.positions, reduced.atoms.positions @ turn.T + 5])
    _, positions = add_missing_atoms(reduced, residues, atoms)
    np.testing.assert_allclose(positions[1], positions[0] @ turn.T + 5, atol=1e-9)


def test_side_chains_that_have_begun_are_left_alone(opened):
    lysine = int(np.flatnonzero(opened.residue_names == "LYS")[0])
    rows = np.flatnonzero((opened.atoms.residue_index != lysine) | (opened.atoms.names != "NZ"))
    truncated = take_residues(opened, np.arange(opened.n_residues), rows)
    structure, _ = _complete(truncated)
    assert structure.atoms.n_atoms == opened.atoms.n_atoms - 1


def test_templates_have_sound_geometry():
    templates, rotmats, provenance = read_templates()
    assert len(templates) == 20
    assert provenance["entries"] == ["1AKE", "4AKE", "1IGY"]
    radius = {"C": 0.76, "N": 0.71, "O": 0.66, "S": 1.05}
    for name, template in templates.items():
        known = gemmi.find_tabulated_residue(name)
        assert known.is_amino_acid()
        distance = np.linalg.norm(template.positions[:, None] - template.positions[None], axis=-1)
        bond = np.array([[radius[a] + radius[b] + 0.3 for a in template.elements] for b in template.elements])
        linked = distance < bond
        assert distance[np.triu_indices(len(distance), 1)].min() > 1.1
        reached = np.linalg.matrix_power(linked.astype(int), 12)[1] > 0
        assert reached.all(), name
        if name != "GLY":
            n, ca, c, beta = (template.positions[template.names.index(atom)] for atom in ("N", "CA", "C", "CB"))
            assert np.dot(np.cross(n - ca, c - ca), beta - ca) > 0, f"{name} is not an L amino acid"
    for rotmat in rotmats.values():
        np.testing.assert_allclose(rotmat @ rotmat.T, np.eye(3), atol=1e-5)


def _residues(path):
    for chain in gemmi.read_structure(str(path))[0]:
        residues = [residue for residue in chain if gemmi.find_tabulated_residue(residue.name).is_amino_acid()]
        for index, residue in enumerate(residues):
            heavy = [atom for atom in residue if atom.name != "OXT" and not atom.is_hydrogen()]
            atoms = {atom.name: np.array(atom.pos.tolist()) for atom in heavy}
            around = [r.find_atom("CA", "\0") for r in residues[max(index - 1, 0) : index + 2]]
            trace = [np.array(a.pos.tolist()) for a in around] if len(around) == 3 and None not in around else None
            if {"N", "CA", "C"} <= set(atoms):
                yield residue.name, atoms, trace


def test_shipped_templates_are_made_as_stated():
    """Derive the templates again from the PDB entries, as data/README.md says."""
    templates, rotmats, _ = read_templates()
    observed = {name: [] for name in templates}
    turns = {"compact": [], "extended": []}
    for entry in ("1ake", "4ake", "1igy"):
        for name, atoms, trace in _residues(reference_file("structures", f"{entry}.pdb")):
            frame = backbone_frame(atoms["N"], atoms["CA"], atoms["C"])
            if set(atoms) == set(templates[name].names):
                observed[name].append([(atoms[atom] - atoms["CA"]) @ frame for atom in templates[name].names])
            if trace is None or max(np.linalg.norm(np.diff(trace, axis=0), axis=1)) > 4:
                continue
            before, here, after = trace
            kind = "compact" if np.linalg.norm(after - before) < COMPACT_TRACE_LIMIT else "extended"
            turns[kind].append(frame_from_directions(after - before, 2 * here - before - after).T @ frame)
    for name, examples in observed.items():
        examples = np.array(examples)
        spread = ((examples[:, None] - examples[None]) ** 2).sum(-1).mean((1, 2))
        np.testing.assert_allclose(templates[name].positions, examples[np.argmin(spread)], atol=6e-4)
    for kind, rotmat in rotmats.items():
        np.testing.assert_allclose(rotmat, nearest_rotmat(np.mean(turns[kind], axis=0)), atol=1e-5)
