"""Structures placed in maps: gemmi makes the maps and moves the structures, numpy judges."""

from __future__ import annotations

import gemmi
import mrcfile
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import cryosphere
from cryosphere.errors import InputError
from cryosphere.io.mrc import read_volume
from cryosphere.io.structures import read_structure
from cryosphere.placement import agreement, fitting, poses, search
from cryosphere.placement.body import make_body
from cryosphere.placement.density import FittingMap, mirror, prepare, resample, sample
from cryosphere.simulation.shipped_data import shipped_path
from tests.gemmi_maps import calpha, gaussian_map, moved_structure, rmsd, write_mrc

PIXEL, SIZE = 3.0, 36
ORIGIN = np.array([-54.0, -54.0, -54.0])


@pytest.fixture(scope="module", autouse=True)
def fewer_rotations():
    """A coarser search, which is enough for adenylate kinase in its map."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "N_ROTATIONS", 500)
        patch.setattr(fitting, "_KEPT", 8)
        yield


@pytest.fixture(scope="module")
def closed() -> gemmi.Structure:
    return gemmi.read_structure(str(shipped_path("adk/closed.cif")))


@pytest.fixture(scope="module")
def density(closed) -> np.ndarray:
    return gaussian_map([closed[0]], 10.0, PIXEL, SIZE, ORIGIN)


@pytest.fixture(scope="module")
def start(closed, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "start.cif"
    moved_structure(closed, seed=1).make_mmcif_document().write_file(str(path))
    return path


@pytest.fixture(scope="module")
def placed(closed, density, start, tmp_path_factory):
    """(result, folder) of a fit from a random place."""
    folder = tmp_path_factory.mktemp("placed")
    write_mrc(folder / "map.mrc", density, PIXEL, ORIGIN)
    return cryosphere.fit(start, folder / "map.mrc", folder / "placed.cif"), folder


def test_random_start_is_placed_within_a_quarter_of_an_angstrom(placed, closed):
    result, _ = placed
    assert rmsd(calpha(result.structure), calpha(closed)) < 0.25
    assert result.fit.hand == "as given" and result.fit.hand_significance > 3
    assert result.fit.n_alternatives == 0 and result.fit.n_equivalent == 0
    assert result.fit.start == "" and result.mirrored_map is None


def test_reported_motion_is_the_one_that_was_made(placed, start):
    result, _ = placed
    before, after = calpha(start), calpha(result.structure)
    np.testing.assert_allclose(before @ result.fit.rotmat.T + result.fit.translation, after, atol=2e-3)
    assert result.fit.displacement == pytest.approx(rmsd(before, after), abs=0.01)
    turn = Rotation.from_matrix(result.fit.rotmat)
    assert result.fit.rotation_deg == pytest.approx(np.degrees(turn.magnitude()), abs=1e-3)


def test_simulated_map_lies_on_the_map(placed, density):
    result, _ = placed
    with mrcfile.open(result.model_map) as mrc:
        assert mrc.data.shape == density.shape
        np.testing.assert_allclose([mrc.header.origin[axis] for axis in "xyz"], ORIGIN)
        np.testing.assert_allclose([mrc.voxel_size[axis] for axis in "xyz"], PIXEL)
        inside = density > 0.1 * density.max()
        assert np.corrcoef(mrc.data[inside], density[inside])[0, 1] > 0.99
        assert mrc.data.max() == pytest.approx(density.max(), rel=0.1)


def test_script_names_files_that_exist(placed):
    result, folder = placed
    text = result.script.read_text()
    names = [line.split('"')[1] for line in text.splitlines() if line.startswith("open")]
    assert names == ["map.mrc", "placed.cif", "placed_model.mrc"]
    assert all((folder / name).exists() for name in names)
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir() if path.name != "map.mrc") == sorted(
        path.name for path in result.files
    )


def test_sentences_name_the_hand_the_resolution_and_the_motion(placed):
    result, _ = placed
    text = "\n".join(result.lines())
    assert "placed by search: rotation" in text and "the hand of the map is right" in text
    assert result.fit.low_pass_resolution is None and "stays above 0.5 to 6.0 Å" in text  # a map without noise


def test_mirrored_map_of_an_earlier_fit_is_removed(placed, density, start, tmp_path, monkeypatch):
    write_mrc(tmp_path / "map.mrc", density, PIXEL, ORIGIN)
    (tmp_path / "placed_mirrored_map.mrc").write_bytes(b"of an earlier fit")
    monkeypatch.setattr("cryosphere.pipelines.fit.fit_structure", lambda *_: placed[0].fit)
    with pytest.raises(InputError, match=r"placed_mirrored_map\.mrc exists and is kept"):
        cryosphere.fit(start, tmp_path / "map.mrc", tmp_path / "placed.cif")
    result = cryosphere.fit(start, tmp_path / "map.mrc", tmp_path / "placed.cif", overwrite=True)
    assert set(tmp_path.iterdir()) == {tmp_path / "map.mrc", *result.files}


def test_structure_that_pdb_cannot_hold_is_refused_before_the_search(closed, density, tmp_path, monkeypatch):
    write_mrc(tmp_path / "map.mrc", density, PIXEL, ORIGIN)
    long_name = closed.clone()
    long_name[0][0].name = "AB"
    long_name.make_mmcif_document().write_file(str(tmp_path / "start.cif"))
    monkeypatch.setattr("cryosphere.pipelines.fit.fit_structure", lambda *_: pytest.fail("searched"))
    with pytest.raises(InputError, match=r"chain names of more than one letter; use a \.cif name\.$"):
        cryosphere.fit(tmp_path / "start.cif", tmp_path / "map.mrc", tmp_path / "placed.pdb")


def test_mirrored_map_is_recognised_and_written_in_the_other_hand(closed, density, start, tmp_path):
    # numpy's mirror about voxel n // 2 of an even box: plane 0 has no partner and stays.
    mirrored = np.concatenate([density[:1], density[:0:-1]])
    write_mrc(tmp_path / "map.mrc", mirrored, PIXEL, ORIGIN)
    result = cryosphere.fit(start, tmp_path / "map.mrc", tmp_path / "placed.cif")
    assert result.fit.hand == "mirrored" and result.fit.hand_significance < -3
    assert "the map is mirrored" in "\n".join(result.lines())
    assert rmsd(calpha(result.structure), calpha(closed)) < 0.25
    with mrcfile.open(result.mirrored_map) as mrc:
        np.testing.assert_allclose(mrc.data, density, atol=1e-6)
    assert "placed_mirrored_map.mrc" in result.script.read_text()


def test_start_indices_axis_order_and_non_cubic_maps_are_honoured(closed, density, start, tmp_path):
    """Columns along z, rows along x, sections along y; the place in nstart; 36 x 32 x 34 voxels."""
    cut = density[:, 2:34, 1:35]
    with mrcfile.new(tmp_path / "map.mrc") as mrc:
        mrc.set_data(np.ascontiguousarray(cut.transpose(1, 2, 0), dtype=np.float32))
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 1, 2
        mrc.header.mx, mrc.header.my, mrc.header.mz = 34, 32, 36
        mrc.header.cella = (34 * PIXEL, 32 * PIXEL, 36 * PIXEL)
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = -18, -17, -16  # of z, x, y
    result = cryosphere.fit(start, tmp_path / "map.mrc", tmp_path / "placed.pdb")
    assert rmsd(calpha(result.structure), calpha(closed)) < 0.25
    assert read_volume(result.model_map).volume.shape == cut.shape
    np.testing.assert_allclose(read_volume(result.model_map).origin, (-51.0, -48.0, -54.0))


def test_structure_that_lies_in_the_map_is_refined_from_there(closed, density, tmp_path):
    write_mrc(tmp_path / "map.mrc", density, PIXEL, ORIGIN)
    nudged = closed.clone()
    turn = Rotation.from_euler("xyz", [4, -3, 5], degrees=True).as_matrix()
    nudged[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(turn.tolist()), gemmi.Vec3(1.5, -1.0, 2.0)))
    nudged.make_mmcif_document().write_file(str(tmp_path / "near.cif"))
    result = cryosphere.fit(tmp_path / "near.cif", tmp_path / "map.mrc", tmp_path / "placed.cif")
    assert result.fit.start == "the map's frame"
    assert rmsd(calpha(result.structure), calpha(closed)) < 0.25
    assert result.fit.displacement == pytest.approx(rmsd(calpha(nudged), calpha(closed)), abs=0.25)


def test_hand_that_cannot_be_told_is_said(closed, tmp_path):
    blob = gaussian_map([closed[0]], 40.0, 6.0, 24, (-72.0,) * 3)
    blob += np.random.default_rng(0).normal(0, 0.05 * blob.max(), blob.shape)
    write_mrc(tmp_path / "map.mrc", blob, 6.0, (-72.0,) * 3)
    result = cryosphere.fit(shipped_path("adk/closed.cif"), tmp_path / "map.mrc", tmp_path / "placed.cif")
    assert result.fit.hand == "cannot tell" and not result.fit.is_mirrored
    text = "\n".join(result.lines())
    assert "the hand of the map cannot be told" in text
    assert f"loss.low_pass_resolution: {result.fit.low_pass_resolution}" in text
    assert 15.0 < result.fit.low_pass_resolution < 60.0


def test_equivalent_places_of_a_symmetric_map_are_counted(closed, start, tmp_path):
    other = closed.clone()
    half_turn = gemmi.Mat33([[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
    other[0].transform_pos_and_adp(gemmi.Transform(half_turn, gemmi.Vec3(70.0, 20.0, 0.0)))
    origin = (-40.0, -62.0, -72.0)
    dimer = gaussian_map([closed[0], other[0]], 10.0, PIXEL, 50, origin)
    write_mrc(tmp_path / "map.mrc", dimer, PIXEL, origin)
    result = cryosphere.fit(start, tmp_path / "map.mrc", tmp_path / "placed.cif")
    found = calpha(result.structure)
    assert min(rmsd(found, calpha(closed)), rmsd(found, calpha(other))) < 0.3
    assert result.fit.n_equivalent == 1 and result.fit.n_alternatives == 0
    assert "symmetry: 1 other placement" in "\n".join(result.lines())


def test_domains_follow_the_map_into_another_conformation(closed, density, tmp_path):
    """The open structure, 7 Å from the closed one, cut in four by its own contacts."""
    write_mrc(tmp_path / "map.mrc", density, PIXEL, ORIGIN)
    path = shipped_path("adk/open.cif")
    result = cryosphere.fit(path, tmp_path / "map.mrc", tmp_path / "placed.cif", domains=4)
    before = calpha(path)
    assert result.fit.domains.n_domains == 4
    assert rmsd(before @ result.fit.rotmat.T + result.fit.translation, calpha(closed)) > 6.0
    assert rmsd(calpha(result.structure), calpha(closed)) < 2.5
    assert "domains: 4, turned by" in "\n".join(result.lines())


def test_real_map_and_structure_agree_only_where_the_header_has_the_map(test_data):
    body = make_body(read_structure(test_data / "structures" / "pdb1ake.pdb"))
    density = read_volume(test_data / "structures" / "1ake.mrc")
    grid = prepare(density, "1ake.mrc")

    def correlation(offset):
        points = body.atoms + torch.tensor(body.centroid - grid.centre + offset, dtype=torch.float32)
        return agreement.compare(grid, points, body.atom_electrons).correlation

    assert correlation(np.zeros(3)) > 0.6
    assert correlation(-density.origin) < 0.3 and correlation(np.full(3, 20.0)) < 0.3


def test_rotations_cover_all_turns_evenly():
    grid = Rotation.from_matrix(poses.uniform_rotations(4608).double().numpy())
    np.testing.assert_allclose(np.linalg.det(grid.as_matrix()), 1.0, atol=1e-5)
    nearest = [np.degrees((grid.inv() * turn).magnitude().min()) for turn in Rotation.random(200, random_state=0)]
    assert max(nearest) < 15.0 and np.mean(nearest) < 9.0


def test_distance_of_two_placements_is_that_of_their_points():
    generator = torch.Generator().manual_seed(0)
    ball = torch.randn(4000, 3, generator=generator) * 12
    ball = ball - ball.mean(0)
    radius = float(ball.square().sum(1).mean().sqrt())
    turns = torch.tensor(Rotation.random(4, random_state=1).as_matrix(), dtype=torch.float32)
    both = poses.Placements(turns, torch.randn(4, 3, generator=generator) * 10, torch.zeros(4))
    points = both.points(ball)
    expected = (points[1:] - points[0]).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(both.distances(0, [1, 2, 3], radius), expected, rtol=0.03, atol=0.1)


@pytest.mark.parametrize(("old", "new"), [(24, 16), (24, 15), (15, 24), (16, 24), (16, 16)])
def test_resampling_keeps_a_smooth_density_at_its_place(old, new):
    edge, centre, width = 48.0, np.array([3.0, -5.0, 2.0]), 6.0

    def gaussian(size):
        axis = (np.arange(size) - size // 2) * edge / size
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        return torch.tensor(np.exp(-squared / (2 * width**2)), dtype=torch.float32)

    torch.testing.assert_close(resample(gaussian(old), new), gaussian(new), atol=6e-3, rtol=0)


@pytest.mark.parametrize("size", [8, 9])
def test_mirror_turns_z_about_the_box_centre(size):
    volume = torch.zeros(size, size, size)
    volume[size // 2 + 2, 1, 3] = 1.0
    assert mirror(volume)[size // 2 - 2, 1, 3] == 1.0
    torch.testing.assert_close(mirror(mirror(volume)), volume)


def test_sampling_is_zero_outside_and_exact_on_voxels():
    volume = torch.arange(27.0).view(3, 3, 3)
    points = torch.tensor([[[0.0, 0.0, 0.0], [2.0, 0.0, -2.0], [1.0, 0.0, 0.0], [50.0, 0.0, 0.0]]])
    torch.testing.assert_close(sample(volume, points, 2.0), torch.tensor([[13.0, 5.0, 13.5, 0.0]]))


def test_search_finds_what_direct_sums_find(closed, density):
    """At the best shift of the best rotation the FFT correlation is the density met by the residues."""
    body = make_body(read_structure(shipped_path("adk/closed.cif")))
    grid = FittingMap(torch.tensor(density), PIXEL, np.zeros(3))
    (found,) = search.search(body, [grid])
    best = found.take([int(found.score.argmax())])
    smooth = grid.low_passed(search.search_resolution(body, grid))
    share = body.residue_electrons / body.residue_electrons.sum()
    direct = float(sample(smooth, best.points(body.residues), PIXEL)[0] @ share)
    assert float(best.score) == pytest.approx(direct, rel=0.05)
    assert direct > 2 * float(found.score.mean()) - float(found.score.max())
