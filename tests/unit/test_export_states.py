"""Ensembles read back by other programs' readers, paths and states as ways of choosing, folders per state."""

import biotite.structure.io.pdb as biotite_pdb
import biotite.structure.io.pdbx as biotite_pdbx
import gemmi
import mdtraj
import mrcfile
import numpy as np
import pytest

from cryosphere.analysis.analyze import analyze
from cryosphere.errors import InputError
from cryosphere.export.ensemble import AllAtoms, export_ensemble, seam_lines
from cryosphere.export.selection import select_kmeans, select_latents, select_path, select_states, select_traversal
from cryosphere.export.state_weights import weigh_states
from cryosphere.export.states import export_states
from cryosphere.export.volumes import export_volumes
from cryosphere.io.row_files import read_rows
from cryosphere.structure.seams import SeamCloser
from tests.run_factory import PIXEL_SIZE, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("states") / "run", origin="corner", spread=0.6, shared=True)


def _gemmi_positions(path):
    return np.array(
        [[a.pos.tolist() for c in model for r in c for a in r] for model in gemmi.read_structure(str(path))]
    )


def test_models_are_read_back_to_two_thousandths_by_gemmi_biotite_and_mdtraj(run, tmp_path):
    chosen = select_traversal(run, 1, 4)
    expected = np.stack(list(AllAtoms(run).at(chosen.latent))) + run.structure.frame_shift
    for suffix in (".cif", ".pdb", ".dcd", ".xtc"):
        export_ensemble(run, chosen, tmp_path / suffix[1:] / f"models{suffix}")
    mmcif, pdb = tmp_path / "cif" / "models.cif", tmp_path / "pdb" / "models.pdb"
    found = [
        _gemmi_positions(mmcif),
        _gemmi_positions(pdb),
        biotite_pdbx.get_structure(biotite_pdbx.CIFFile.read(mmcif)).coord,
        biotite_pdb.PDBFile.read(pdb).get_structure().coord,
        10 * mdtraj.load(str(pdb)).xyz,
        10 * mdtraj.load(str(tmp_path / "dcd" / "models.dcd"), top=str(pdb)).xyz,
    ]
    for positions in found:
        assert positions.shape == expected.shape
        assert np.abs(positions - expected).max() < 0.002
    rounded = 10 * mdtraj.load(str(tmp_path / "xtc" / "models.xtc"), top=str(pdb)).xyz
    assert np.abs(rounded - expected).max() < 0.0052  # XTC keeps hundredths of Å


def test_exported_atoms_are_those_of_closed_seams_and_rigid_ones_are_not(run, tmp_path):
    chosen = select_latents(run, [[2.0, 0.5]])
    closed = export_ensemble(run, chosen, tmp_path / "closed.pdb")
    rigid = export_ensemble(run, chosen, tmp_path / "rigid.pdb", close_seams=False)
    (seams,) = closed.seams
    assert seams.n_open > 0
    assert seams.bond_change < 0.1 < seams.bond_change_before
    assert rigid.seams == () and rigid.lines() == []
    (line,) = closed.lines()
    assert f"{seams.n_open} bonds between residues closed in 1 model;" in line
    assert f"{seams.bond_change:.3f} Å" in line
    assert np.abs(_gemmi_positions(tmp_path / "closed.pdb") - _gemmi_positions(tmp_path / "rigid.pdb")).max() > 0.05


def test_seams_say_when_there_was_nothing_to_close(run, tmp_path):
    chosen = select_latents(run, [[0.0, 0.0]])
    assert export_ensemble(run, chosen, tmp_path / "ca.cif", what="residues").lines() == []
    still = SeamCloser(run.structure).close(run.structure.atoms.positions)[1]
    assert seam_lines([still]) == ["Seams: no bond between residues was open."]


@pytest.mark.parametrize("name", ["path.csv", "blanks and ü.txt", "header.csv", "path.npy"])
def test_a_path_is_decoded_in_the_order_of_its_file(run, tmp_path, name):
    latents = np.array([[0.5, -1.25], [0.25, 3.0], [-2.0, 0.0]])
    path = tmp_path / name
    if name == "path.npy":
        np.save(path, latents)
    elif name == "header.csv":
        rows = [f"{i},{z2:g},open,{z1:g}" for i, (z1, z2) in enumerate(latents)]
        path.write_text("\n".join(["point,z2,name,z1", *rows]) + "\n")
    else:
        comma = "," if name == "path.csv" else "  "
        path.write_text("# a path\n" + "\n".join(f"{z1:g}{comma}{z2:g}" for z1, z2 in latents) + "\n\n")
    selection = select_path(run, path)
    assert (selection.latent == latents).all()
    assert selection.names == ("point 1", "point 2", "point 3")


def test_index_csv_of_volumes_is_a_path(run, tmp_path):
    chosen = select_traversal(run, 1, 3)
    *_, index = export_volumes(run, chosen, tmp_path / "maps")
    assert select_path(run, index).latent == pytest.approx(chosen.latent, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no latents in it"),
        ("# nothing\n", "no latents in it"),
        ("0.5,1\n0.5\n", "line 2: expected 2 finite numbers, found 1"),
        ("0.5,1,2\n", "line 1: expected 2 finite numbers, found 3"),
        ("0.5,nan\n", "line 1: expected 2 finite numbers"),
        ("0.5,inf\n", "line 1: expected 2 finite numbers"),
        ("0.5,1\nopen,2\n", "line 2: expected numbers"),
        ("z1,population\n1,2\n", "has the latent columns z1; expected z1, z2"),
        ("z1,z2,z3\n1,2,3\n", "has the latent columns z1, z2, z3; expected z1, z2"),
    ],
)
def test_bad_paths_are_refused_with_their_line(run, tmp_path, text, words):
    (tmp_path / "path.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        select_path(run, tmp_path / "path.csv")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 2)), "no latents"),
        (np.zeros((3, 3)), r"shape \(conformations, 2\)"),
        (np.array([[0.0, np.inf]]), "row 0"),
        (np.array([["a", "b"]]), "expected numbers"),
    ],
)
def test_bad_arrays_are_refused(run, tmp_path, array, words):
    np.save(tmp_path / "path.npy", array)
    with pytest.raises(InputError, match=words):
        select_path(run, tmp_path / "path.npy")
    (tmp_path / "text.npy").write_text("1,2\n")
    with pytest.raises(InputError, match="not a numpy array"):
        select_path(run, tmp_path / "text.npy")
    with pytest.raises(InputError, match="no such file"):
        select_path(run, tmp_path / "absent.csv")


def test_states_of_the_analysis_with_populations_in_the_files(tmp_path):
    run = make_run(tmp_path / "run", shared=True)
    analysis = analyze(run, clustering="kmeans", n_states=2)
    selection = select_states(run)
    found = analysis.states
    assert selection.names == ("state 1", "state 2")
    assert selection.latent == pytest.approx(found.latent, rel=1e-5)
    assert selection.population_stds == pytest.approx((found.populations.high - found.populations.low) / 2, rel=1e-3)
    written = export_states(run, selection, tmp_path / "out")
    assert written.n_particles == tuple(np.bincount(found.membership))
    rows = np.flatnonzero(found.membership == 0)
    assert (read_rows(tmp_path / "out" / "state_01" / "particles.txt", "") == rows).all()
    block = gemmi.cif.read(str(tmp_path / "out" / "state_02" / "model.cif")).sole_block()
    columns = ["state_name", "population_fraction", "population_fraction_sd"]
    (row,) = block.find("_ihm_multi_state_modeling.", columns)
    assert row.str(0) == selection.names[1]
    assert float(row[1]) == pytest.approx(found.populations.share[1], abs=1e-4)
    assert float(row[2]) == pytest.approx(selection.population_stds[1], abs=1e-4)
    weights = weigh_states(run)
    assert weights.weights == pytest.approx(found.probability.T, abs=1e-6)
    assert weights.names == selection.names


def test_states_without_an_analysis_are_one_sentence(tmp_path):
    run = make_run(tmp_path / "run")
    for choose in (select_states, weigh_states):
        with pytest.raises(InputError, match="has no analysis; run `cryosphere analyze"):
            choose(run)


def test_a_folder_per_state_has_what_the_single_exports_have(run, tmp_path):
    chosen = select_kmeans(run, 3)
    written = export_states(run, chosen, tmp_path / "states ü")
    models = export_ensemble(run, chosen, tmp_path / "models.cif")
    maps = export_volumes(run, chosen, tmp_path / "maps")
    together = _gemmi_positions(tmp_path / "models.cif")
    assert [folder.name for folder in written.folders] == ["state_01", "state_02", "state_03"]
    assert sum(written.n_particles) == 60
    assert written.seams == models.seams
    for number, folder in enumerate(written.folders):
        assert sorted(path.name for path in folder.iterdir()) == ["map.mrc", "model.cif", "particles.txt"]
        assert (_gemmi_positions(folder / "model.cif")[0] == together[number]).all()
        with mrcfile.open(folder / "map.mrc") as one, mrcfile.open(maps[number]) as other:
            assert (one.data == other.data).all()
            assert one.header.origin == other.header.origin
            assert float(one.voxel_size.x) == pytest.approx(PIXEL_SIZE)
        rows = read_rows(folder / "particles.txt", "")
        assert len(rows) == written.n_particles[number]
        assert (chosen.membership[run.posterior_rows(rows)] == number).all()
        assert chosen.particles[number] in rows


def test_particles_go_to_the_nearest_latent_where_nothing_says_more(run, tmp_path):
    latents = np.array([[-1.0, 0.0], [1.0, 0.5], [0.0, 0.0]])
    written = export_states(run, select_latents(run, latents.tolist()), tmp_path / "out", what="residues")
    distance = np.linalg.norm(run.posterior.mean[:, None] - latents, axis=-1)
    for number, folder in enumerate(written.folders):
        assert (read_rows(folder / "particles.txt", "") == np.flatnonzero(distance.argmin(1) == number)).all()
    assert written.seams == ()


def test_state_folders_replace_their_own_only(run, tmp_path):
    chosen = select_kmeans(run, 2)
    export_states(run, chosen, tmp_path / "out", what="residues")
    with pytest.raises(InputError, match="--overwrite"):
        export_states(run, chosen, tmp_path / "out", what="residues")
    export_states(run, select_kmeans(run, 3), tmp_path / "out", what="residues", overwrite=True)
    assert len(list((tmp_path / "out").glob("state_*"))) == 3
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="did not make"):
        export_states(run, chosen, tmp_path / "home", overwrite=True)
