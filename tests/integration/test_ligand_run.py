"""A structure with a ligand from simulation over training and export to scores."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryosphere.config_files import parse_config
from cryosphere.evaluation.evaluate import evaluate
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.selection import select_traversal
from cryosphere.io.structures import read_structure
from cryosphere.simulation.hinges import Hinge, hinge_conformations
from cryosphere.structure.ligands import find_hosts
from cryosphere.training.train import train
from tests.particle_sets import ARM, configuration, two_arms, write_particle_set
from tests.structure_factory import atom_line, write_lines


@pytest.fixture(scope="module")
def structure(tmp_path_factory):
    """The two arms, a 25-atom ligand beside the second, which swings, and an ion beside the first."""
    arms = two_arms().residue_positions
    lines = [atom_line("CA", "GLN", "A", n, xyz) for n, xyz in enumerate(arms, start=1)]
    axis = arms[ARM + 12] - arms[ARM + 2]
    rotmat, _ = Rotation.align_vectors([axis / np.linalg.norm(axis)], [[1.0, 0, 0]])
    beside = arms[ARM + 2] * 0.5 + arms[ARM + 4] * 0.5 + [0.0, -9.0, 0.0]
    for k in range(25):
        xyz = beside + rotmat.apply([1.25 * k, 0.88 * (k % 2), 0])
        lines.append(atom_line(f"C{k + 1}", "LIG", "L", 1, xyz, record="HETATM"))
    lines.append(atom_line("ZN", "ZN", "A", 100, arms[5] + [0.0, -5.0, 0.0], element="ZN", record="HETATM"))
    path = write_lines(tmp_path_factory.mktemp("ligand") / "arms.pdb", lines[:40], ["TER"], lines[40:])
    return read_structure(path)


def test_a_ligand_goes_all_the_way(structure, tmp_path):
    assert structure.kinds.tolist() == ["protein"] * 40 + ["ligand"] * 4
    hosts = find_hosts(structure)
    # The ion is the last of chain A in the file, before the ligand of chain L.
    assert (hosts[41:] >= ARM).all() and hosts[40] < ARM
    hinge = Hinge("A:21-40", (0.0, np.radians(40)), np.array([1.0, 0, 0]), np.zeros(3))
    states = hinge_conformations(structure, [hinge], 8)
    folder = write_particle_set(tmp_path / "set", 60, states=states)
    nominal = read_structure(folder / "nominal.cif")
    assert nominal.residue_names.tolist() == structure.residue_names.tolist()
    truth = np.load(folder / "truth" / "coordinates.npy")
    np.testing.assert_allclose(nominal.residue_positions, truth[0], atol=2e-3)
    values = configuration(folder, segments={"method": "contacts"}, training={"epochs": 1})
    run = train(parse_config(values, tmp_path), tmp_path / "run", show_progress=False)
    paths = export_ensemble(run, select_traversal(run, 1, 3), tmp_path / "m.cif").files
    parsed = gemmi.read_structure(str(paths[0]))
    for model in parsed:
        atoms = sorted(model["L"][0], key=lambda atom: int(atom.name[1:]))
        steps = np.linalg.norm(np.diff([atom.pos.tolist() for atom in atoms], axis=0), axis=1)
        assert len(steps) == 24
        np.testing.assert_allclose(steps, np.hypot(1.25, 0.88), atol=5e-3)
    scores = evaluate(run, folder / "truth", n_volumes=2)
    assert scores.n_residues == 44 and np.isfinite(scores.rmsd["mean"])
