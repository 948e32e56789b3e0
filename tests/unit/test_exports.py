"""Exported files read back with other people's readers."""

from pathlib import Path

import gemmi
import mdtraj
import mrcfile
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryosphere.errors import InputError
from cryosphere.export.coordinates import export_coordinates
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.selection import select_kmeans, select_latents, select_particles, select_traversal
from cryosphere.export.volumes import export_volumes
from cryosphere.inference.nearest import nearest_conformations
from tests.run_factory import BOX_SIZE, PIXEL_SIZE, make_run


@pytest.fixture(
    scope="module",
    params=[("center", False), ("corner", False), ("corner", True)],
    ids=["center", "corner", "corner shared"],
)
def run(request, tmp_path_factory):
    origin, shared = request.param
    return make_run(tmp_path_factory.mktemp("export") / "run", origin=origin, spread=0.6, shared=shared)


def _models(path):
    """Atom names and positions (model, atom, 3) as gemmi reads them."""
    structure = gemmi.read_structure(str(path))
    atoms = [[(atom.name, atom.pos.tolist()) for c in model for r in c for atom in r] for model in structure]
    return [name for name, _ in atoms[0]], np.array([[position for _, position in model] for model in atoms])


def _distances(positions, target):
    return np.sqrt(((positions - target) ** 2).sum(-1).mean(-1))


def test_coordinates_are_the_expected_ones_in_the_model_frame(run, tmp_path):
    path = export_coordinates(run, tmp_path / "all.npy")
    found = np.load(path)
    assert found.dtype == np.float32
    assert (found == run.conformations()).all()


def test_coordinates_of_some_particles_come_in_the_order_asked_for(run, tmp_path):
    rows = np.array([9, 2, 2, 40])
    found = np.load(export_coordinates(run, tmp_path / "some.npy", particles=rows))
    everything = run.conformations()
    assert found == pytest.approx(everything[rows], abs=1e-4)


def test_physical_coordinates_are_decoded_and_nearer_than_the_posterior_mean(run, tmp_path):
    found = np.load(export_coordinates(run, tmp_path / "physical.npy", physical=True))
    expected = run.conformations()
    (rows, latents, decoded), *_ = nearest_conformations(run)
    assert (found[rows] == decoded).all()
    assert run.decode(latents) == pytest.approx(decoded, abs=1e-4)
    at_mean = _distances(run.decode(run.posterior.mean), expected)
    assert (_distances(found, expected) <= at_mean + 1e-6).all()
    assert _distances(found, expected).mean() < 0.95 * at_mean.mean()


def test_nearest_conformation_is_that_of_a_fine_grid(tmp_path):
    run = make_run(tmp_path / "run", latent_dim=1, spread=0.6, n_particles=12)
    grid = np.linspace(run.posterior.mean.min(), run.posterior.mean.max(), 4001)[:, None]
    decoded = run.decode(grid)
    expected = run.conformations()
    found = np.load(export_coordinates(run, tmp_path / "physical.npy", physical=True))
    least = np.array([_distances(decoded, target).min() for target in expected])
    assert (_distances(found, expected) < 1.01 * least + 1e-3).all()
    assert _distances(run.decode(run.posterior.mean), expected).mean() > 1.05 * least.mean()


def test_without_closed_seams_all_atoms_move_rigidly_with_their_residue(run, tmp_path):
    chosen = select_traversal(run, 1, 5)
    (path,) = export_ensemble(run, chosen, tmp_path / "models.cif", close_seams=False).files
    names, models = _models(path)
    _, nominal = _models(run.layout.structure / "protein.cif")
    owner = run.structure.atoms.residue_index
    for model in models:
        for row in range(run.n_residues):
            before, after = nominal[0, owner == row], model[owner == row]
            turn, residual = Rotation.align_vectors(after - after.mean(0), before - before.mean(0))
            assert residual < 5e-3  # coordinates are written to 0.001 Å
            assert np.linalg.det(turn.as_matrix()) == pytest.approx(1)
    anchors = models[:, np.array(names) == "CA"]
    assert anchors == pytest.approx(run.decode(chosen.latent) + run.structure.frame_shift, abs=2e-3)


def test_anchor_atoms_of_all_atom_and_calpha_exports_are_equal(run, tmp_path):
    chosen = select_particles(run, np.arange(8))
    export_ensemble(run, chosen, tmp_path / "all.cif", close_seams=False)
    export_ensemble(run, chosen, tmp_path / "ca.cif", what="residues")
    names, everything = _models(tmp_path / "all.cif")
    only_names, only = _models(tmp_path / "ca.cif")
    assert set(only_names) == {"CA"}
    assert (everything[:, np.array(names) == "CA"] == only).all()


@pytest.mark.parametrize("what", ["atoms", "residues"])
@pytest.mark.parametrize("suffix", [".dcd", ".xtc"])
def test_trajectory_has_the_coordinates_of_the_models(run, tmp_path, suffix, what):
    chosen = select_kmeans(run, 3)
    trajectory, topology = export_ensemble(run, chosen, tmp_path / f"film{suffix}", what=what).files
    export_ensemble(run, chosen, tmp_path / "models.pdb", what=what)
    read = mdtraj.load(str(trajectory), top=str(tmp_path / "models.pdb"))
    assert topology.suffix == ".cif"
    assert len(_models(topology)[0]) == read.n_atoms
    assert 10 * read.xyz == pytest.approx(_models(tmp_path / "models.pdb")[1], abs=0.011)


@pytest.mark.parametrize("name", ["a.cif", "a.pdb", "a.dcd", "a.xtc"])
def test_two_ensembles_are_byte_identical(run, tmp_path, name):
    written = [
        export_ensemble(run, select_kmeans(run, 3), tmp_path / f"{word}{Path(name).suffix}").files
        for word in ("first", "second")
    ]
    assert written[0]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_two_exports_of_coordinates_and_volumes_are_byte_identical(run, tmp_path):
    for name in ("first", "second"):
        export_coordinates(run, tmp_path / f"{name}.npy")
        export_coordinates(run, tmp_path / f"{name}_physical.npy", physical=True)
        export_volumes(run, select_traversal(run, 1, 2), tmp_path / name)
    for suffix in (".npy", "_physical.npy", "/volume_001.mrc", "/volume_002.mrc", "/index.csv"):
        assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()


@pytest.mark.parametrize("density", ["residues", "atoms"])
def test_volume_lies_on_the_exported_structure(run, tmp_path, density):
    chosen = select_latents(run, [[1.5, -0.5]])
    what = "atoms" if density == "atoms" else "residues"
    volume_path, index = export_volumes(run, chosen, tmp_path / "maps", density)
    export_ensemble(run, chosen, tmp_path / "models.cif", what=what)
    _, (atoms,) = _models(tmp_path / "models.cif")
    with mrcfile.open(volume_path) as mrc:
        assert mrc.is_volume()
        volume = np.array(mrc.data, dtype=np.float64)
        voxel = np.array([mrc.voxel_size[axis] for axis in "xyz"])
        origin = np.array([mrc.header.origin[axis] for axis in "xyz"])
    assert volume.shape == (BOX_SIZE,) * 3
    assert voxel == pytest.approx([PIXEL_SIZE] * 3)
    z, y, x = np.indices(volume.shape)
    centre = np.array([(volume * axis).sum() for axis in (x, y, z)]) / volume.sum() * voxel + origin
    masses = _electrons(run) if density == "atoms" else np.ones(len(atoms))
    # Half a voxel would be 2 Å; what is left is the ringing of the band limit up to the edge of the box.
    assert centre == pytest.approx(np.average(atoms, axis=0, weights=masses), abs=0.15)
    assert index.read_text().splitlines()[1].startswith('volume_001.mrc,"latent 1.5,-0.5",,,1.5,-0.5')


def _electrons(run):
    """Weights of atoms in an electrostatic potential: electron form factors at zero angle (Å; Peng 1996)."""
    return np.array([{"C": 2.509, "N": 2.211, "O": 1.983}[element] for element in run.structure.atoms.elements])


def test_residue_volume_integrates_to_the_electrons(run, tmp_path):
    path, _ = export_volumes(run, select_latents(run, [[0.0, 0.0]]), tmp_path / "maps")
    with mrcfile.open(path) as mrc:
        total = mrc.data.sum(dtype=np.float64) * PIXEL_SIZE**3
    assert total == pytest.approx(run.structure.amplitudes.sum(), rel=1e-3)


def test_nothing_is_overwritten_and_wrong_suffixes_are_refused(run, tmp_path):
    chosen = select_latents(run, [[0.0, 0.0]])
    export_coordinates(run, tmp_path / "x.npy")
    export_ensemble(run, chosen, tmp_path / "x.cif")
    export_volumes(run, chosen, tmp_path / "maps")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for export, output in (
        (lambda path: export_coordinates(run, path), tmp_path / "x.npy"),
        (lambda path: export_ensemble(run, chosen, path), tmp_path / "x.cif"),
        (lambda path: export_ensemble(run, chosen, path), tmp_path / "x.dcd"),  # its topology is x.cif
        (lambda path: export_volumes(run, chosen, path), tmp_path / "maps"),
    ):
        with pytest.raises(InputError, match="--overwrite"):
            export(output)
    with pytest.raises(InputError, match=r"\.npy"):
        export_coordinates(run, tmp_path / "y.txt")
    with pytest.raises(InputError, match=r"\.cif, \.pdb, \.dcd or \.xtc"):
        export_ensemble(run, chosen, tmp_path / "y.mol2")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_volumes_replace_their_own_folder_only(run, tmp_path):
    export_volumes(run, select_kmeans(run, 3), tmp_path / "maps")
    export_volumes(run, select_kmeans(run, 2), tmp_path / "maps", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["index.csv", "volume_001.mrc", "volume_002.mrc"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="did not make"):
        export_volumes(run, select_kmeans(run, 2), tmp_path / "home", overwrite=True)
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"]
