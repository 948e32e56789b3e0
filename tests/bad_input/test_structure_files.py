"""Structure and trajectory files that cannot be used, and outputs that their format cannot hold."""

from dataclasses import replace

import mdtraj
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.structures import read_models, read_structure, write_models
from cryosphere.io.trajectories import read_trajectory, write_trajectory


def pdb_atoms(n_residues, *, residue="ALA", record="ATOM", atom=" CA ", element="C"):
    return [
        f"{record:<6}{number:5d} {atom} {residue:>3} A{number:4d}    {3.8 * number:8.3f}{0:8.3f}{0:8.3f}"
        f"  1.00  0.00          {element:>2}"
        for number in range(1, n_residues + 1)
    ]


def write_lines(path, lines):
    path.write_text("\n".join([*lines, "END", ""]))
    return path


@pytest.fixture
def small(tmp_path):
    return read_structure(write_lines(tmp_path / "small.pdb", pdb_atoms(5)))


def message(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_missing_file(tmp_path):
    text = message(read_structure, tmp_path / "absent.pdb")
    assert "absent.pdb does not exist" in text
    assert "not a file" in message(read_structure, tmp_path)


@pytest.mark.parametrize("content", ["", "hello\n", "data_x\n_entry.id x\n", "data_x\nloop_\n_a.b\n_a.c\n1 2 3\n"])
def test_file_without_atoms(tmp_path, content):
    (tmp_path / "x.cif").write_text(content)
    assert str(tmp_path / "x.cif") in message(read_structure, tmp_path / "x.cif")


def test_binary_file(tmp_path):
    (tmp_path / "x.pdb").write_bytes(bytes(range(256)) * 20)
    assert "x.pdb" in message(read_structure, tmp_path / "x.pdb")


def test_star_file_as_structure(test_data):
    assert "relion31.star has no atoms" in message(read_structure, test_data / "star" / "relion31.star")


def test_no_polymer(tmp_path):
    path = write_lines(tmp_path / "w.pdb", pdb_atoms(3, residue="HOH", record="HETATM", atom=" O  ", element="O"))
    text = message(read_structure, path)
    assert "no protein or nucleic-acid residues" in text and "3 waters" in text


def test_polymer_without_anchors(tmp_path):
    path = write_lines(tmp_path / "n.pdb", pdb_atoms(4, atom=" N  ", element="N"))
    assert "without a Cα or C1′ atom: 4" in message(read_structure, path)


def test_coordinate_that_is_no_number(tmp_path):
    lines = pdb_atoms(3)
    lines[1] = lines[1][:30] + f"{'nan':>8}" + lines[1][38:]
    text = message(read_structure, write_lines(tmp_path / "a.pdb", lines))
    assert "a.pdb" in text and ("A/2" in text or "nan" in text)


def test_models_of_different_residues(tmp_path):
    first, second = pdb_atoms(4), pdb_atoms(3)
    path = write_lines(tmp_path / "m.pdb", ["MODEL 1", *first, "ENDMDL", "MODEL 2", *second, "ENDMDL"])
    text = message(read_models, path)
    assert "model 2 has 3 residues, model 1 has 4" in text
    second = pdb_atoms(4)
    second[2] = second[2].replace("ALA", "GLY")
    write_lines(path, ["MODEL 1", *first, "ENDMDL", "MODEL 2", *second, "ENDMDL"])
    text = message(read_models, path)
    assert "model 2 has GLY A/3" in text and "model 1 has ALA A/3" in text


def written_nothing(folder, *names):
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_unknown_output_suffix(small, tmp_path):
    positions = small.atoms.positions[None]
    assert "expected .cif or .pdb" in message(write_models, tmp_path / "m.xyz", small, positions)
    assert "expected .dcd or .xtc" in message(write_trajectory, tmp_path / "m.pdb", small, positions)
    assert written_nothing(tmp_path, "small.pdb")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"chain_ids": np.full(5, "AA")}, "chain names"),
        ({"residue_names": np.full(5, "ABCDE")}, "residue names"),
        ({"residue_numbers": np.arange(9997, 10002)}, "residue numbers outside -999 to 9999"),
    ],
)
def test_structure_that_pdb_cannot_hold(small, tmp_path, changes, found):
    structure = replace(small, **changes)
    text = message(write_models, tmp_path / "m.pdb", structure, structure.atoms.positions[None])
    assert found in text and ".cif" in text
    assert written_nothing(tmp_path, "small.pdb")
    write_models(tmp_path / "m.cif", structure, structure.atoms.positions[None])
    read = read_structure(tmp_path / "m.cif")
    np.testing.assert_array_equal(read.chain_ids, structure.chain_ids)
    np.testing.assert_array_equal(read.residue_numbers, structure.residue_numbers)


def test_too_many_atoms_for_pdb(small, tmp_path):
    n_atoms = 100_000
    atoms = replace(
        small.atoms,
        positions=np.zeros((n_atoms, 3)),
        elements=np.full(n_atoms, "C"),
        names=np.full(n_atoms, "CA"),
        b_factors=np.zeros(n_atoms),
        residue_index=np.zeros(n_atoms, int),
    )
    text = message(write_models, tmp_path / "m.pdb", replace(small, atoms=atoms), atoms.positions[None])
    assert "100001 atom records, at most 99999 fit" in text


def test_coordinates_too_large_for_pdb(small, tmp_path):
    positions = np.stack([small.atoms.positions, small.atoms.positions + 10000.0])
    assert "(model 2)" in message(write_models, tmp_path / "m.pdb", small, positions)
    assert written_nothing(tmp_path, "small.pdb")


@pytest.mark.parametrize("wrong", [np.zeros((1, 4, 3)), np.full((1, 5, 3), np.nan)], ids=["shape", "nan"])
@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_positions_that_do_not_fit_leave_nothing(small, tmp_path, wrong, suffix):
    with pytest.raises(ValueError, match="model 1"):
        write_models(tmp_path / f"m{suffix}", small, wrong, what="residues")
    assert written_nothing(tmp_path, "small.pdb")


def test_trajectory_of_other_atoms(small, tmp_path):
    write_trajectory(tmp_path / "t.dcd", small, small.atoms.positions[None])
    other = write_lines(tmp_path / "other.pdb", pdb_atoms(6))
    text = message(read_trajectory, tmp_path / "t.dcd", other)
    assert "t.dcd has 5 atoms" in text and "other.pdb has 6" in text


def test_unreadable_trajectories(small, tmp_path):
    topology = tmp_path / "small.pdb"
    assert "absent.dcd does not exist" in message(read_trajectory, tmp_path / "absent.dcd", topology)
    for name in ("bad.dcd", "bad.xtc", "bad.unknown"):
        (tmp_path / name).write_bytes(b"no trajectory" * 100)
        assert f"{name} cannot be read as a trajectory" in message(read_trajectory, tmp_path / name, topology)
    with mdtraj.formats.XTCTrajectoryFile(str(tmp_path / "t.xtc"), "w") as file:
        file.write(np.zeros((1, 5, 3), np.float32))
    (tmp_path / "bad.psf").write_text("no topology\n")
    assert "bad.psf cannot be read as a topology" in message(read_trajectory, tmp_path / "t.xtc", tmp_path / "bad.psf")


def test_frames_that_do_not_fit_leave_nothing(small, tmp_path):
    frames = [small.atoms.positions, small.atoms.positions[:3]]
    with pytest.raises(ValueError, match="frame 2"):
        write_trajectory(tmp_path / "t.dcd", small, frames)
    assert written_nothing(tmp_path, "small.pdb")
