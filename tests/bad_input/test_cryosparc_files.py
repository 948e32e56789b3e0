"""cryoSPARC files that cannot be used: one sentence naming file, row or field, what was found and what to do."""

import numpy as np
import pytest
import yaml

from cryosphere.errors import InputError
from cryosphere.io.particles import read_particles
from tests.cryosparc_files import only, particle_columns, write_cs
from tests.reference_files import reference_file


def message(path, **options):
    """The error of reading ``path``: one sentence that names the file."""
    with pytest.raises(InputError) as caught:
        read_particles(path, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and str(path) in text
    return text


@pytest.fixture
def complain(tmp_path, make_stack):
    """Change a valid dataset by a function of its fields, and return the error of reading it."""
    make_stack(tmp_path / "stack.mrcs")

    def run(change):
        columns = particle_columns()
        change(columns)
        return message(write_cs(tmp_path / "p.cs", columns))

    return run


@pytest.mark.parametrize(
    ("name", "found"), [("cryosparc_J2_particles_exported.cs", "alignments2D"), ("empiar_10076_7.cs", "no alignments")]
)
def test_real_files_without_3d_alignments(name, found):
    text = message(reference_file("cryosparc", name))
    assert "no poses: neither alignments3D" in text and f"(found {found})" in text and "3-D refinement" in text


def test_real_file_without_its_stacks():
    path = reference_file("cryosparc", "cryosparc_P12_J24_001_particles.cs")
    assert "50 of 50 image stacks are missing, the first is J19/extract/2015" in message(path)


def test_no_rows(tmp_path):
    columns = {name: values[:0] for name, values in particle_columns().items()}
    assert "has no particles: the table has 0 rows" in message(write_cs(tmp_path / "p.cs", columns))


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "p.cs"
    for content in (b"", b"data_\n\nloop_\n", b"PK\x03\x04 zip", bytes(2000)):
        path.write_bytes(content)
        assert "not a cryoSPARC .cs file" in message(path)
    path.write_bytes(b"\x94CSDAT" + bytes(100))
    assert "stream format" in message(path) and "Dataset.save" in message(path)
    path.write_bytes(write_cs(tmp_path / "whole.cs", particle_columns()).read_bytes()[:-50])
    assert "cannot be read as a numpy array" in message(path)
    for array in (np.zeros((4, 3)), np.arange(5)):
        with open(path, "wb") as file:
            np.save(file, array)
        assert "expected a row of named fields per particle" in message(path)
    assert "does not exist" in message(tmp_path / "absent.cs")


def test_pickled_objects_are_not_loaded(tmp_path):
    with open(tmp_path / "p.cs", "wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "pickled Python objects" in message(tmp_path / "p.cs")


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("ctf/df1_A", "CTF parameters: ctf/df1_A missing"),
        ("ctf/accel_kv", "CTF parameters: ctf/accel_kv missing"),
        ("blob/path", "images: blob/path missing"),
        ("blob/psize_A", "images: blob/psize_A missing"),
        ("alignments3D/pose", "no poses"),
        ("alignments3D/shift", "no poses"),
    ],
)
def test_missing_field(complain, field, what):
    assert what in complain(lambda columns: columns.pop(field))


@pytest.mark.parametrize(
    "field", ["alignments3D/pose", "alignments3D/shift", "ctf/df2_A", "ctf/df_angle_rad", "ctf/tilt_A", "blob/psize_A"]
)
def test_values_that_are_not_finite(complain, field):
    def change(columns):
        columns[field][2] = np.nan

    text = complain(change)
    assert f"row 3: {field} is" in text and "finite numbers (1 such rows)" in text


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("blob/sign", 0.0, "1 or -1"),
        ("blob/psize_A", -1.0, "more than 0"),
        ("alignments3D/psize_A", 0.0, "more than 0"),
        ("blob/shape", [8, 6], "a square box"),
        ("blob/path", b"", "the path of a stack"),
        ("ctf/accel_kv", 300000.0, "a number of kV"),
        ("ctf/amp_contrast", 7.0, "a fraction"),
    ],
)
def test_impossible_values(complain, field, value, expected):
    def change(columns):
        columns[field][1] = value

    text = complain(change)
    assert f"row 2: {field} is" in text and expected in text


def test_fields_of_another_form(complain):
    text = complain(lambda columns: columns.update({"alignments3D/pose": np.zeros((4, 4), np.float32)}))
    assert "alignments3D/pose has rows of float32 (4,), expected 3 number(s)" in text
    text = complain(lambda columns: columns.update({"blob/path": np.arange(4)}))
    assert "blob/path is int64, expected text" in text
    text = complain(lambda columns: columns.update({"blob/idx": np.array([0, 1, -2, 3])}))
    assert "row 3: blob/idx is -2" in text


def test_stacks_of_other_sizes_than_said(complain):
    text = complain(lambda columns: columns["blob/shape"].fill(10))
    assert "stack.mrcs has a box of 8 pixels" in text and "says 10" in text

    def beyond(columns):
        columns["blob/idx"][1] = 9

    assert "row 2: image 10 of" in complain(beyond)


def test_stretched_images(complain):
    def change(columns):
        columns["ctf/anisomag"][:] = [0.1, 0, 0, -0.1]

    text = complain(change)
    assert "ctf/anisomag stretches the images by up to 10 % (0.6 Å at the edge of the box)" in text


def test_impossible_beam_tilt(complain):
    def change(columns):
        columns["ctf/cs_mm"][:] = 0.0
        columns["ctf/tilt_A"][:] = 5.0

    text = complain(change)
    assert "ctf/tilt_A is 5 Å, expected less than ctf/cs_mm (0 mm)" in text


def test_classes_without_probabilities(complain):
    def change(columns):
        for name in ("pose", "shift"):
            values = columns.pop(f"alignments3D/{name}")
            columns |= {f"alignments_class_{number}/{name}": values for number in range(2)}

    assert "has no probabilities of its classes: alignments_class_0/class_posterior" in complain(change)

    def one_slot(columns):
        columns["alignments3D_multi/pose"] = np.zeros((4, 2, 3))
        columns["alignments3D_multi/shift"] = np.zeros((4, 3, 2))
        del columns["alignments3D/pose"]

    assert "alignments3D_multi/shift has rows of (3, 2), expected (2, 2)" in complain(one_slot)


def test_passthrough_files_that_do_not_fit(tmp_path, make_stack):
    make_stack(tmp_path / "stack.mrcs")
    columns = particle_columns()
    path = write_cs(tmp_path / "J1_particles.cs", only(columns, "blob", "alignments3D"))
    partner = tmp_path / "J1_passthrough_particles.cs"
    passthrough = only(columns, "ctf")
    write_cs(partner, {name: values[:3] for name, values in passthrough.items()})
    text = message(path)
    assert f"row 4: uid {columns['uid'][3]} has no partner in {partner} (1 such rows of 4)" in text
    passthrough["uid"] = passthrough["uid"][[0, 1, 1, 3]]
    write_cs(partner, passthrough)
    with pytest.raises(InputError, match=rf"uid {columns['uid'][1]} stands in rows 2 and 3 \(1 repeated\)"):
        read_particles(path)
    write_cs(partner, {name: values for name, values in passthrough.items() if name != "uid"})
    with pytest.raises(InputError, match=r"J1_passthrough_particles\.cs has no field uid"):
        read_particles(path)


def test_passthrough_file_in_place_of_the_particles(tmp_path):
    path = write_cs(tmp_path / "J1_passthrough_particles.cs", only(particle_columns(), "ctf", "alignments3D"))
    assert "no images: blob/path, blob/idx, blob/psize_A missing; give the particles file" in message(path)


def test_group_files(tmp_path):
    path = tmp_path / "p.csg"
    kinds = ("volume", "particle")
    volume, lost = ({"group": {"type": kind}, "results": {"blob": {"metafile": ">gone.cs"}}} for kind in kinds)
    cases = {
        "results: [": "cannot be read as YAML",
        "just text": "it has no 'results'",
        "results: {mask: {metafile: '>a.cs'}}": "no results blob, ctf or alignments3D",
        "results: {blob: {}}": "results.blob has no metafile",
        yaml.safe_dump(volume): "a group of type volume, expected particle",
        yaml.safe_dump(lost): "results.blob is in gone.cs, which is not at",
    }
    for content, expected in cases.items():
        path.write_text(content)
        assert expected in message(path)
    assert "does not exist" in message(tmp_path / "absent.csg")
