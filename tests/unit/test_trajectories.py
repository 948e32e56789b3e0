"""Trajectories: units, atom order and quietness, with mdtraj and a plain DCD parser as the other side."""

import struct

import mdtraj
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.io.structures import read_structure
from cryosphere.io.trajectories import read_trajectory, write_trajectory
from tests.structure_factory import chain_structure


def plain_dcd(path):
    """Coordinates in Å of every frame of a CHARMM DCD file, record by record."""
    data, records, place = path.read_bytes(), [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<i", data, place)
        records.append(data[place + 4 : place + 4 + length])
        place += length + 8
    (n_atoms,) = struct.unpack("<i", records[2])
    axes = [np.frombuffer(record, "<f4") for record in records[3:] if len(record) == 4 * n_atoms]
    return np.stack([np.stack(axes[start : start + 3], axis=-1) for start in range(0, len(axes), 3)])


@pytest.fixture
def frames(test_data):
    structure = read_structure(test_data / "structures" / "1ake.pdb")
    noise = np.random.default_rng(0).normal(size=(5, structure.atoms.n_atoms, 3))
    return structure, structure.atoms.positions + noise


def test_real_transition(adk_trajectory, capfd):
    dcd, psf = adk_trajectory
    models = read_trajectory(dcd, psf)
    frames = plain_dcd(dcd)
    names = [line.split()[3:5] for line in psf.read_text().splitlines() if len(line.split()) >= 9]
    names = [name for name in names if len(name[0]) == 3][: frames.shape[1]]
    calphas = [row for row, (_, atom) in enumerate(names) if atom == "CA"]
    assert models.residue_positions.shape == (98, 214, 3)
    np.testing.assert_allclose(models.residue_positions, frames[:, calphas], atol=1e-4)
    np.testing.assert_array_equal(models.structure.residue_positions, models.residue_positions[0])
    expected = ["HIS" if names[row][0] == "HSD" else names[row][0] for row in calphas]
    assert models.structure.residue_names.tolist() == expected
    assert models.structure.bonded.all() and set(models.structure.chain_ids) == {"4AKE"}
    assert "H" not in models.structure.atoms.elements and models.atom_positions.shape == (98, 1656, 3)
    assert capfd.readouterr().out == "", "the DCD plug-in's messages reached standard output"


@pytest.mark.parametrize(("suffix", "tolerance"), [(".dcd", 1e-4), (".xtc", 6e-3)])
@pytest.mark.parametrize("topology", [".cif", ".pdb"])
def test_written_trajectory_is_read_by_mdtraj_and_by_us(frames, tmp_path, suffix, tolerance, topology, capfd):
    structure, positions = frames
    path, topology_path = tmp_path / f"t{suffix}", tmp_path / f"t{topology}"
    write_trajectory(path, structure, iter(positions), topology_path=topology_path)
    models = read_trajectory(path, topology_path)
    assert capfd.readouterr().out == ""
    np.testing.assert_allclose(models.atom_positions, positions, atol=tolerance)
    calphas = np.flatnonzero(structure.atoms.names == "CA")
    np.testing.assert_array_equal(models.residue_positions, models.atom_positions[:, calphas])
    np.testing.assert_allclose(models.structure.residue_positions, structure.residue_positions, atol=6e-4)
    theirs = mdtraj.load(str(path), top=str(topology_path))
    np.testing.assert_allclose(theirs.xyz * 10, positions, atol=tolerance)


def test_stride(frames, tmp_path):
    structure, positions = frames
    write_trajectory(tmp_path / "t.dcd", structure, positions)
    models = read_trajectory(tmp_path / "t.dcd", tmp_path / "t.cif", stride=2)
    np.testing.assert_allclose(models.atom_positions, positions[[0, 2, 4]], atol=1e-4)


def test_residues_in_the_frame_of_the_file(frames, tmp_path):
    structure, _ = frames
    placed = structure.translated(np.array([1.0, 2.0, 3.0]))
    write_trajectory(tmp_path / "t.dcd", placed, placed.residue_positions[None], what="residues")
    models = read_trajectory(tmp_path / "t.dcd", tmp_path / "t.cif")
    np.testing.assert_allclose(models.residue_positions[0], structure.residue_positions, atol=1e-4)
    np.testing.assert_allclose(models.structure.residue_positions, structure.residue_positions, atol=6e-4)


@pytest.mark.parametrize("suffix", [".dcd", ".xtc"])
def test_equal_frames_are_equal_files(frames, tmp_path, suffix):
    structure, positions = frames
    for name in "ab":
        write_trajectory(tmp_path / f"{name}{suffix}", structure, positions)
    data = (tmp_path / f"a{suffix}").read_bytes()
    assert data == (tmp_path / f"b{suffix}").read_bytes()
    assert b"REMARKS" not in data, "the title of the DCD plug-in, which holds the date"


def test_hydrogens_and_solvent_in_any_place(tmp_path):
    """Solvent before the protein, numbers that start again: atoms must still be found by their place."""
    water = "ATOM  {serial:5d}  OW  SOL  {number:4d}    {x:8.3f}{x:8.3f}{x:8.3f}  1.00  0.00           O"
    lines, coordinates = [], []

    def add(text, x):
        lines.append(text.format(serial=len(lines) + 1, x=x, number=0))
        coordinates.append([x, x, x])

    for number in (1, 2, 1):
        add(water.replace("{number:4d}", f"{number:4d}"), 50.0 + len(lines))
    for number, x in ((1, 0.0), (2, 2.2), (3, 4.4)):
        for name, element in ((" N  ", "N"), (" H  ", "H"), (" CA ", "C"), (" C  ", "C")):
            text = f"ATOM  {{serial:5d}} {name} ALA  {number:4d}    {{x:8.3f}}{{x:8.3f}}{{x:8.3f}}"
            add(f"{text}  1.00  0.00           {element}", x + 0.1 * len(lines))
    add(water.replace("{number:4d}", f"{2:4d}"), 70.0)
    (tmp_path / "t.pdb").write_text("\n".join([*lines, "END", ""]))
    frames = np.array([coordinates, coordinates], np.float32) + np.arange(2)[:, None, None]
    with mdtraj.formats.XTCTrajectoryFile(str(tmp_path / "t.xtc"), "w") as file:
        file.write(frames / 10)
    models = read_trajectory(tmp_path / "t.xtc", tmp_path / "t.pdb")
    assert models.structure.residue_names.tolist() == ["ALA"] * 3
    np.testing.assert_allclose(models.residue_positions[0], models.structure.residue_positions, atol=6e-3)
    np.testing.assert_allclose(models.atom_positions[1], models.structure.atoms.positions + 1, atol=6e-3)


def test_split_molecules_are_noted(frames, tmp_path):
    structure, positions = frames
    broken = positions.copy()
    broken[1:3, structure.atoms.residue_index >= 100] += 60.0
    write_trajectory(tmp_path / "t.dcd", structure, broken)
    models = read_trajectory(tmp_path / "t.dcd", tmp_path / "t.cif")
    assert any("in 2 of 5 frames" in note and "made whole" in note for note in models.structure.notes)


def test_existing_topology_is_kept_and_nothing_is_written(frames, tmp_path):
    structure, positions = frames
    (tmp_path / "t.cif").write_text("mine")
    with pytest.raises(InputError, match=r"t\.cif exists"):
        write_trajectory(tmp_path / "t.dcd", structure, positions)
    assert [path.name for path in tmp_path.iterdir()] == ["t.cif"]


@pytest.mark.parametrize("suffix", [".dcd", ".xtc"])
def test_names_that_are_not_ascii(suffix, tmp_path):
    structure = chain_structure(3.8 * np.arange(5)[:, None] * np.array([1.0, 0.5, 0.0]))
    frames = structure.atoms.positions + np.array([0.0, 1.25])[:, None, None]
    path = tmp_path / "Ordner ü" / f"Bewegung µ{suffix}"
    write_trajectory(path, structure, frames)
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".cif").name])
    read = read_trajectory(path, path.with_suffix(".cif"))
    np.testing.assert_allclose(read.residue_positions, frames, atol=0.006)
