"""Files as napari layers: values, axes and places as mrcfile and gemmi have them; bad files in plain words."""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import gemmi
import mrcfile
import numpy as np
import pytest

import cryosphere.viewer
from tests.run_factory import write_protein

npe2 = pytest.importorskip("npe2", reason="napari is not installed: pip install 'cryosphere[gui]'")
MANIFEST = Path(cryosphere.viewer.__file__).parent / "napari.yaml"


@pytest.fixture
def viewer(window):
    yield window
    window.layers.clear()


def read(path, kind="image"):
    from cryosphere.viewer.readers import get_reader

    layers = get_reader(str(path))(str(path))
    assert all(layer[2] == kind for layer in layers)
    return layers


@pytest.fixture
def told():
    """What was told in notifications since the test began."""
    from napari.utils.notifications import notification_manager

    before = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[before:]]


def assert_refused(path, told, *words):
    from cryosphere.viewer.readers import NO_LAYER, get_reader

    assert get_reader(str(path))(str(path)) == NO_LAYER
    (sentence,) = told()
    assert all(word in sentence for word in words), sentence


def test_the_manifest_is_valid_and_everything_it_names_is_there():
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    assert manifest.name == "cryosphere" and manifest.contributions.readers[0].accepts_directories
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    patterns = manifest.contributions.readers[0].filename_patterns
    from cryosphere.viewer.readers import get_reader

    assert all(get_reader(pattern.replace("*", "some")) is not None for pattern in patterns)


def test_other_things_are_left_to_others(tmp_path):
    from cryosphere.viewer.readers import get_reader

    (tmp_path / "config.yaml").write_text("a: 1\n")
    for path in (tmp_path, tmp_path / "image.tif", tmp_path / "map.mrc.gz", tmp_path / "stack.star.gz"):
        assert get_reader(str(path)) is None
    assert get_reader([str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")]) is None


def test_a_run_folder_opens_in_the_window_that_is_there(analysed_folder, viewer, monkeypatch):
    opened = []
    window = SimpleNamespace(open_run=lambda *what: opened.append(what))
    monkeypatch.setitem(sys.modules, "cryosphere.viewer.window", window)
    from cryosphere.viewer.readers import NO_LAYER, get_reader

    assert get_reader(str(analysed_folder))(str(analysed_folder)) == NO_LAYER
    assert opened == [(viewer, analysed_folder)]


@pytest.mark.parametrize("problem", ["", "the images cannot be made"])
def test_the_demo_opens_at_once_and_its_images_are_made_meanwhile(
    viewer, monkeypatch, tmp_path, told, wait_until, problem
):
    pytest.importorskip("cryosphere.viewer.tube")
    from cryosphere.errors import RunError
    from cryosphere.viewer import readers, sample

    opened, made, looked, gate = [], [], [], threading.Event()

    def make(folder, progress):
        gate.wait(20)
        made.append(folder)
        if problem:
            raise RunError(problem)

    window = SimpleNamespace(open_run=lambda *what: opened.append(what), look_for_images=looked.append)
    monkeypatch.setitem(sys.modules, "cryosphere.viewer.window", window)
    monkeypatch.setattr(sample, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(sample, "make_images", make)
    for _ in range(2):  # the images are made once for both
        (((vertices, _), settings, kind),) = readers.open_demo_run()
        assert kind == "surface" and not settings["visible"] and len(vertices) > 214
    (folder,) = tmp_path.glob("*/run")
    assert opened == [(viewer, folder)] * 2 and not made
    gate.set()
    wait_until(lambda: not readers._being_made)
    assert made == [folder] and looked == ([] if problem else [folder])
    assert told()[-1] == (problem or "The demo's particle images are there: choose a particle to see its own.")


def test_the_demo_needs_a_window(monkeypatch):
    from cryosphere.errors import InputError
    from cryosphere.viewer.readers import open_demo_run

    monkeypatch.setattr("napari.current_viewer", lambda: None)
    with pytest.raises(InputError, match="none is open"):
        open_demo_run()


def test_star_images_are_in_table_order_from_several_stacks(tmp_path, make_stack, star_blocks, write_star):
    first = make_stack(tmp_path / "a" / "one.mrcs", n_images=4)
    second = make_stack(tmp_path / "b" / "two.mrcs", n_images=3)
    names = ["000002@a/one.mrcs", "000003@b/two.mrcs", "000001@b/two.mrcs", "000004@a/one.mrcs"]
    star_blocks["particles"]["rlnImageName"] = names
    for column in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        del star_blocks["particles"][column]  # as before any refinement
    ((data, settings, _),) = read(write_star(tmp_path / "set.star", star_blocks))
    expected = np.stack([first[1], second[2], second[0], first[3]])
    assert data.shape == expected.shape and data.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(data), expected)
    np.testing.assert_array_equal(np.asarray(data[2]), expected[2])
    np.testing.assert_array_equal(np.asarray(data[1:3, 2:5, ::-1]), expected[1:3, 2:5, ::-1])
    np.testing.assert_array_equal(np.asarray(data[:, 3, 1]), expected[:, 3, 1])
    assert settings["scale"] == (1.0, 1.5, 1.5) and settings["units"] == ("angstrom",) * 3
    assert settings["axis_labels"] == ("particle", "y", "x")


def test_only_the_images_that_are_looked_at_are_read(tmp_path, make_stack, monkeypatch):
    make_stack(tmp_path / "stack.mrcs", n_images=300)
    ((data, _, _),) = read(tmp_path / "stack.mrcs")
    from cryosphere.viewer import readers

    asked = []
    plain = readers.read_images
    monkeypatch.setattr(
        readers, "read_images", lambda paths, stack, image: asked.extend(image.tolist()) or plain(paths, stack, image)
    )
    monkeypatch.setattr(readers, "_MOST_CHUNKS", 7)
    ((coarse, _, _),) = read(tmp_path / "stack.mrcs")
    assert coarse.numblocks[0] <= 7
    for array in (data, coarse):
        asked.clear()
        np.asarray(array[123])
        assert asked == [123]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.float16])
def test_stacks_of_every_number_type(tmp_path, make_stack, dtype):
    images = make_stack(tmp_path / "stack.mrcs", n_images=5, dtype=dtype)
    ((data, settings, _),) = read(tmp_path / "stack.mrcs")
    np.testing.assert_array_equal(np.asarray(data), images.astype(np.float32))
    low, high = settings["contrast_limits"]
    assert images.min() <= low < high <= images.max()


def test_cryosparc_images(tmp_path, make_stack):
    images = make_stack(tmp_path / "J1" / "stack.mrc", n_images=4)
    rows = [(b">J1/stack.mrc", index) for index in (3, 0, 2)]
    np.save(tmp_path / "set.npy", np.array(rows, dtype=[("blob/path", "S20"), ("blob/idx", "u4")]))
    (tmp_path / "set.npy").rename(tmp_path / "set.cs")
    ((data, _, _),) = read(tmp_path / "set.cs")
    np.testing.assert_array_equal(np.asarray(data), images[[3, 0, 2]])


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_a_map_lies_where_its_header_says(tmp_path, order):
    stored = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    path = tmp_path / "some.map"
    with mrcfile.new(path) as mrc:
        mrc.set_data(stored)
        mrc.voxel_size = 2.5
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = order
        mrc.header.origin = (1.0, -2.0, 30.0)
    ((volume, settings, _),) = read(path)
    at = {axis: place for place, axis in enumerate(order[::-1])}  # of x, y and z among the stored axes
    np.testing.assert_array_equal(volume, stored.transpose(at[3], at[2], at[1]))
    assert settings["scale"] == (2.5, 2.5, 2.5) and settings["translate"] == (30.0, -2.0, 1.0)
    assert settings["units"] == ("angstrom",) * 3 and settings["axis_labels"] == ("z", "y", "x")
    low, high = settings["contrast_limits"]
    assert low <= settings["iso_threshold"] <= high


def test_a_single_section_is_an_image(tmp_path, make_stack):
    images = make_stack(tmp_path / "micrograph.mrc", n_images=1)
    ((data, _, _),) = read(tmp_path / "micrograph.mrc")
    np.testing.assert_array_equal(np.asarray(data), images)


@pytest.fixture
def protein(tmp_path):
    path = tmp_path / "protein.cif"
    write_protein(path, (10.0, 20.0, 30.0))
    return path


def calphas(path, model=0):
    return np.array(
        [
            [*atom.pos]
            for chain in gemmi.read_structure(str(path))[model]
            for atom in (residue.find_atom("CA", "*") for residue in chain)
        ]
    )


@pytest.mark.parametrize("suffix", [".cif", ".pdb", ".pdb.gz"])
def test_a_structure_is_a_tube_coloured_by_chain(tmp_path, protein, suffix):
    pytest.importorskip("cryosphere.viewer.tube")
    path = tmp_path / f"copy{suffix}"
    if suffix == ".cif":
        shutil.copy(protein, path)
    else:
        import gzip

        text = gemmi.read_structure(str(protein)).make_pdb_string()
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    (((vertices, faces), settings, _),) = read(path, "surface")
    places, colours = calphas(protein), settings["vertex_colors"]
    assert faces.max() < len(vertices) == len(colours) and faces.min() == 0
    assert settings["units"] == ("angstrom",) * 3 and settings["visible"]
    distance = np.linalg.norm(vertices[:, None, ::-1] - places[None], axis=2)
    assert distance.min(0).max() < 1.5 and distance.min(1).max() < 3.5  # radius 1 Å, half a bond between residues
    chain = np.repeat([0, 1], (24, 16))[distance.argmin(1)]
    assert [len(np.unique(colours[chain == number], axis=0)) for number in (0, 1)] == [1, 1]
    assert (colours[chain == 0][0] != colours[chain == 1][0]).any()


def test_further_models_are_hidden_layers(tmp_path, protein, told):
    pytest.importorskip("cryosphere.viewer.tube")
    structure = gemmi.read_structure(str(protein))
    for number in range(2, 25):
        model = structure[0].clone()
        model.num = number
        for chain in model:
            for residue in chain:
                for atom in residue:
                    atom.pos = gemmi.Position(atom.pos.x + number, atom.pos.y, atom.pos.z)
        structure.add_model(model)
    path = tmp_path / "many.cif"
    structure.make_mmcif_document().write_file(str(path))
    layers = read(path, "surface")
    assert [layer[1]["visible"] for layer in layers] == [True] + [False] * 20
    moved = layers[4][0][0] - layers[0][0][0]
    np.testing.assert_allclose(moved, np.broadcast_to([0, 0, 5.0], moved.shape), atol=2e-3)
    assert told() == ["many.cif has 24 models; the first 21 are layers, all but the first hidden."]


def test_layers_open_in_a_window_together(tmp_path, protein, make_stack, viewer, wait_until):
    pytest.importorskip("cryosphere.viewer.tube")
    make_stack(tmp_path / "stack.mrcs", n_images=5)
    from napari.layers import Layer

    layers = [Layer.create(*layer) for layer in (*read(tmp_path / "stack.mrcs"), *read(protein, "surface"))]
    for layer in layers:
        viewer.add_layer(layer)
        assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
    assert viewer.dims.ndisplay == 2
    viewer.dims.set_current_step(0, 3)
    assert not (viewer.screenshot(canvas_only=True, flash=False) == 0).all()
    wait_until(lambda: viewer.dims.ndisplay == 3)  # what a tube is for


def test_a_table_of_another_kind_is_refused(tmp_path, write_star, told):
    path = write_star(tmp_path / "optics.star", {"optics": {"rlnOpticsGroup": [1], "rlnVoltage": [300]}})
    assert_refused(path, told, str(path), "rlnImageName")


def test_missing_stacks_are_named(tmp_path, star_blocks, write_star, told):
    path = write_star(tmp_path / "set.star", star_blocks)
    assert_refused(path, told, "1 of 1 image stacks are missing", "stack.mrcs")


def test_a_stack_with_fewer_images_is_refused(tmp_path, make_stack, star_blocks, write_star, told):
    make_stack(tmp_path / "stack.mrcs", n_images=3)
    path = write_star(tmp_path / "set.star", star_blocks)
    assert_refused(path, told, "row 4", "image 4", "which has 3 images")


def test_stacks_of_two_boxes_are_refused(tmp_path, make_stack, star_blocks, write_star, told):
    make_stack(tmp_path / "stack.mrcs")
    make_stack(tmp_path / "other.mrcs", box_size=10)
    star_blocks["particles"]["rlnImageName"][3] = "000001@other.mrcs"
    path = write_star(tmp_path / "set.star", star_blocks)
    assert_refused(path, told, "8 x 8 pixels (stack.mrcs)", "10 x 10 (other.mrcs)")


def test_an_image_without_a_number_is_refused(tmp_path, make_stack, star_blocks, write_star, told):
    make_stack(tmp_path / "stack.mrcs")
    star_blocks["particles"]["rlnImageName"][1] = "stack.mrcs"
    assert_refused(write_star(tmp_path / "set.star", star_blocks), told, "row 2", "NUMBER@STACK.mrcs")


@pytest.mark.parametrize("name", ["text.mrc", "text.mrcs", "text.star", "text.cif", "text.pdb", "text.cs", "text.map"])
def test_files_that_are_something_else(tmp_path, name, told):
    path = tmp_path / name
    path.write_text("this is a letter, not data\n" * 60)
    assert_refused(path, told, name)


def test_more_images_than_memory_are_not_read(tmp_path, make_stack, monkeypatch):
    make_stack(tmp_path / "stack.mrcs", n_images=9)
    ((data, _, _),) = read(tmp_path / "stack.mrcs")
    monkeypatch.setattr("cryosphere.viewer.readers._MOST_BYTES", 4 * 64 * 0.5)
    with pytest.raises(MemoryError, match="look at them in 2-D"):
        np.asarray(data[3])
