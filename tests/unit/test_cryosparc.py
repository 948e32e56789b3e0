"""cryoSPARC datasets: values against numpy's own reading, conventions against SciPy and RELION's files."""

import mrcfile
import numpy as np
import pytest
import starfile
import yaml
from scipy.spatial.transform import Rotation

from cryosphere.config_files import parse_config
from cryosphere.io.particles import read_particles
from cryosphere.io.star import read_particles as read_star
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.sources import OriginalImages
from cryosphere.preflight.check import quick_check
from cryosphere.runs.tables import load_table, save_table
from cryosphere.training.train import load_inputs
from tests.cryosparc_files import only, particle_columns, write_cs
from tests.particle_sets import configuration, write_particle_set
from tests.reference_files import reference_file


@pytest.fixture
def columns(tmp_path, make_stack):
    make_stack(tmp_path / "stack.mrcs")
    return particle_columns()


def test_real_refinement_is_read_with_numpys_values(tmp_path, make_stack):
    data = np.load(reference_file("cryosparc", "cryosparc_P12_J24_001_particles.cs"))
    stacks = np.unique(data["blob/path"])[:3]
    data = data[np.isin(data["blob/path"], stacks) & (data["blob/idx"] < 4)]
    for name in stacks:
        make_stack(tmp_path / "P12" / name.decode(), n_images=4, box_size=180, pixel_size=2.95)
    path = tmp_path / "P12" / "J24" / "cryosparc_P12_J24_001_particles.cs"
    path.parent.mkdir()
    with open(path, "wb") as file:
        np.save(file, data)
    table = read_particles(path)
    assert table.n_particles == len(data) == 12
    expected = Rotation.from_rotvec(data["alignments3D/pose"].astype(float)).as_matrix().transpose(0, 2, 1)
    np.testing.assert_allclose(table.rotmat, expected, atol=1e-12)
    np.testing.assert_allclose(
        table.shift, data["alignments3D/shift"] * data["alignments3D/psize_A"][:, None], rtol=1e-6
    )
    for name, field in {
        "defocus_u": "df1_A",
        "defocus_v": "df2_A",
        "defocus_angle": "df_angle_rad",
        "phase_shift": "phase_shift_rad",
        "scale": "scale",
        "voltage_kv": "accel_kv",
        "spherical_aberration_mm": "cs_mm",
        "amplitude_contrast": "amp_contrast",
    }.items():
        np.testing.assert_array_equal(getattr(table, name), data[f"ctf/{field}"].astype(float), err_msg=name)
    np.testing.assert_array_equal(table.image_index, data["blob/idx"])
    expected_stacks = [tmp_path / "P12" / name.decode() for name in data["blob/path"]]
    assert [table.stack_paths[stack] for stack in table.stack_index] == expected_stacks
    np.testing.assert_array_equal(table.half_set, data["alignments3D/split"] + 1)
    np.testing.assert_array_equal(table.sign, -np.ones(12))
    assert (table.box_size, table.pixel_size, table.optics_group_names) == (180, np.float32(2.95), ("exposureGroup0",))
    assert any("protein is dark in all images (blob/sign -1)" in note for note in table.notes)
    assert table.group_beam_tilt is None


def cryosparc_of_relion(star, path):
    """RELION's particles as a cryoSPARC dataset, by SciPy's Euler angles; shifts in pixels of another size than the
    images have."""
    blocks = starfile.read(star)
    particles = blocks["particles"].merge(blocks["optics"], on="rlnOpticsGroup", sort=False)
    angles = particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]]
    number, stack = zip(*particles["rlnImageName"].str.split("@"), strict=True)
    columns = particle_columns(len(particles))
    columns |= {
        "blob/path": np.array([f">{name}".encode() for name in stack]),
        "blob/idx": np.array(number, dtype=np.uint32) - 1,
        "blob/shape": np.full((len(particles), 2), 64, np.uint32),
        "ctf/exp_group_id": particles["rlnOpticsGroup"].to_numpy(np.uint32),
        "ctf/accel_kv": particles["rlnVoltage"].to_numpy(np.float32),
        "ctf/cs_mm": particles["rlnSphericalAberration"].to_numpy(np.float32),
        "ctf/amp_contrast": particles["rlnAmplitudeContrast"].to_numpy(np.float32),
        "ctf/df1_A": particles["rlnDefocusU"].to_numpy(np.float32),
        "ctf/df2_A": particles["rlnDefocusV"].to_numpy(np.float32),
        "ctf/df_angle_rad": np.deg2rad(particles["rlnDefocusAngle"].to_numpy(np.float32)),
        "ctf/phase_shift_rad": np.deg2rad(particles["rlnPhaseShift"].to_numpy(np.float32)),
        "alignments3D/pose": Rotation.from_euler("ZYZ", angles, degrees=True).as_rotvec().astype(np.float32),
        "alignments3D/shift": (particles[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy() / 2.25).astype(np.float32),
        "alignments3D/psize_A": np.full(len(particles), 2.25, np.float32),
    }
    return write_cs(path, columns)


def test_relions_particles_as_a_cryosparc_dataset_are_the_same_table(tmp_path):
    star = reference_file("relion_adk", "adk_open_64_1p5_ctf.star")
    path = cryosparc_of_relion(star, tmp_path / "particles.cs")
    expected, table = read_star(star), read_particles(path, datadir=star.parent)
    np.testing.assert_allclose(table.rotmat, expected.rotmat, atol=1e-6)
    np.testing.assert_allclose(table.shift, expected.shift, atol=1e-6)
    for name in (
        "defocus_u defocus_v defocus_angle phase_shift b_factor scale voltage_kv spherical_aberration_mm "
        "amplitude_contrast stack_index image_index optics_group pixel_size box_size"
    ).split():
        np.testing.assert_allclose(getattr(table, name), getattr(expected, name), rtol=1e-6, atol=1e-6, err_msg=name)
    rows = np.array([1, 30])
    batches = [ParticleImages(each, mask_radius=40.0).batch(rows).images for each in (table, expected)]
    np.testing.assert_allclose(batches[0], batches[1], atol=1e-3)


def test_fields_of_passthrough_files_are_matched_by_uid(tmp_path, columns, make_stack):
    complete = read_particles(write_cs(tmp_path / "complete.cs", columns))
    folder = tmp_path / "J24"
    make_stack(folder / "stack.mrcs")
    write_cs(folder / "cryosparc_P12_J24_001_particles.cs", only(columns, "alignments3D", "alignments2D"))
    passthrough = only(particle_columns(7), "blob", "ctf")
    order = np.array([5, 2, 0, 6, 3, 1, 4])
    for name, values in only(columns, "blob", "ctf").items():
        passthrough[name][:4] = values
    passthrough["uid"][4:] = [1, 2, 3]
    passthrough = {name: values[order] for name, values in passthrough.items()}
    write_cs(folder / "cryosparc_P12_J24_passthrough_particles.cs", passthrough)
    other_job = {name: values + 1 if name == "ctf/df1_A" else values for name, values in passthrough.items()}
    write_cs(folder / "cryosparc_P12_J23_passthrough_particles.cs", other_job)
    table = read_particles(folder / "cryosparc_P12_J24_001_particles.cs")
    for name in ("defocus_u", "image_index", "rotmat", "shift", "half_set"):
        np.testing.assert_array_equal(getattr(table, name), getattr(complete, name), err_msg=name)
    (note,) = table.notes
    assert note.endswith(": blob, ctf taken from cryosparc_P12_J24_passthrough_particles.cs, matched by uid.")


def test_the_passthrough_file_that_has_the_particles_is_taken(tmp_path, columns):
    path = write_cs(tmp_path / "J5_class_01_particles.cs", only(columns, "alignments3D", "blob"))
    strangers = only(columns, "ctf")
    strangers["uid"] = strangers["uid"] + np.uint64(1000)
    write_cs(tmp_path / "J5_passthrough_particles_class_0.cs", strangers)
    write_cs(tmp_path / "J5_passthrough_particles_class_1.cs", only(columns, "ctf"))
    write_cs(tmp_path / "J5_passthrough_exposures.cs", only(columns, "ctf"))
    (note,) = read_particles(path).notes
    assert "ctf taken from J5_passthrough_particles_class_1.cs" in note


def test_poses_of_the_job_itself_are_not_replaced_by_inherited_ones(tmp_path, columns):
    inherited = only(columns, "ctf", "alignments3D") | {"alignments3D/shift": columns["alignments3D/shift"] + 5}
    path = write_cs(tmp_path / "J6_particles.cs", only(columns, "alignments3D", "blob"))
    write_cs(tmp_path / "J6_passthrough_particles.cs", inherited)
    np.testing.assert_allclose(read_particles(path).shift, 1.5 * columns["alignments3D/shift"])


def write_group(path, slots, kind="particle"):
    results = {
        slot: {"metafile": f">{name}", "num_items": 4, "type": f"particle.{slot}"} for slot, name in slots.items()
    }
    path.write_text(
        yaml.safe_dump({"created": "2024", "group": {"type": kind}, "results": results, "version": "v4.4.1"})
    )
    return path


def test_group_file(tmp_path, columns):
    complete = read_particles(write_cs(tmp_path / "complete.cs", columns))
    order = [2, 0, 3, 1]
    write_cs(tmp_path / "refined.cs", only(columns, "alignments3D"))
    old_poses = {
        "alignments_class_0/pose": columns["alignments3D/pose"] * 0,
        "alignments_class_0/shift": np.zeros((4, 2)),
    }
    inherited = {name: values[order] for name, values in (only(columns, "blob", "ctf") | old_poses).items()}
    write_cs(tmp_path / "J9_passthrough_particles.cs", inherited)
    places = {"alignments_class_0": "J9_passthrough_particles.cs", "blob": "J9_passthrough_particles.cs"}
    places |= {"alignments3D": "refined.cs", "ctf": "J9_passthrough_particles.cs"}
    table = read_particles(write_group(tmp_path / "J9_particles.csg", places))
    for name in ("defocus_u", "image_index", "rotmat", "shift", "half_set"):
        np.testing.assert_array_equal(getattr(table, name), getattr(complete, name), err_msg=name)
    assert table.source == tmp_path / "J9_particles.csg"


def test_poses_of_classes_are_those_of_the_most_probable_one(tmp_path, columns):
    generator = np.random.default_rng(3)
    pose, shift = generator.normal(size=(4, 3, 3)), generator.normal(size=(4, 3, 2))
    posterior = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.0, 0.0, 1.0], [0.3, 0.4, 0.3]])
    best = [1, 0, 2, 1]
    plain = {name: values for name, values in columns.items() if not name.startswith("alignments3D")}
    multi = {
        "pose": pose,
        "shift": shift,
        "class_posterior": posterior,
        "psize_A": np.full(4, 3.0),
        "split": np.zeros(4),
    }
    one_slot = plain | {f"alignments3D_multi/{name}": values for name, values in multi.items()}
    slots = dict(plain)
    for number in range(3):
        slots |= {
            f"alignments_class_{number}/{name}": multi[name][:, number] for name in ("pose", "shift", "class_posterior")
        }
        slots[f"alignments_class_{number}/psize_A"] = np.full(4, 3.0)
    for fields in (one_slot, slots):
        table = read_particles(write_cs(tmp_path / "p.cs", fields))
        expected = Rotation.from_rotvec(pose[np.arange(4), best]).as_matrix().transpose(0, 2, 1)
        np.testing.assert_allclose(table.rotmat, expected, atol=1e-12)
        np.testing.assert_allclose(table.shift, 3.0 * shift[np.arange(4), best], atol=1e-12)
        (note,) = table.notes
        assert "most probable class of alignments" in note and "(1, 2, 1 particles)" in note
        assert table.half_set is None


def test_single_class_of_an_ab_initio_model(tmp_path, columns):
    renamed = {name.replace("alignments3D", "alignments_class_0"): values for name, values in columns.items()}
    table = read_particles(write_cs(tmp_path / "p.cs", renamed))
    np.testing.assert_allclose(table.shift, 1.5 * columns["alignments3D/shift"])
    assert any("poses are those of alignments_class_0" in note for note in table.notes)


def test_shifts_without_their_own_pixel_size(tmp_path, columns):
    del columns["alignments3D/psize_A"]
    table = read_particles(write_cs(tmp_path / "p.cs", columns))
    np.testing.assert_allclose(table.shift, 1.5 * columns["alignments3D/shift"])
    assert any("no alignments3D/psize_A" in note for note in table.notes)


def test_images_of_both_signs_come_out_protein_bright(tmp_path, columns):
    with mrcfile.open(tmp_path / "stack.mrcs", mode="r+") as mrc:
        bright = mrc.data.copy()
        mrc.data[1] *= -1
        mrc.data[3] *= -1
        mrc.set_image_stack()
    columns["blob/sign"][[1, 3]] = -1
    table = read_particles(write_cs(tmp_path / "p.cs", columns))
    np.testing.assert_array_equal(table.sign, [1, -1, 1, -1])
    assert any("protein is dark in 2 of 4 images" in note for note in table.notes)
    read = OriginalImages(table).read(np.array([3, 0, 1]))
    np.testing.assert_array_equal(read, bright[[3, 0, 1]])
    np.testing.assert_array_equal(OriginalImages(table, invert=True).read(np.array([3])), -bright[[3]])
    save_table(tmp_path / "table.npz", table)
    np.testing.assert_array_equal(load_table(tmp_path / "table.npz").sign, table.sign)


def test_dark_images_agree_with_the_structure_without_any_setting(tmp_path):
    folder = write_particle_set(tmp_path / "set", 60)
    star = read_star(folder / "particles.star")
    with mrcfile.open(folder / "particles.mrcs", mode="r+") as mrc:
        mrc.data[:] *= -1
    columns = particle_columns(60) | {
        "blob/path": np.full(60, b"particles.mrcs"),
        "blob/shape": np.full((60, 2), 24, np.uint32),
        "blob/psize_A": np.full(60, 4.0, np.float32),
        "blob/sign": np.full(60, -1.0, np.float32),
        "ctf/df1_A": star.defocus_u,
        "ctf/df2_A": star.defocus_v,
        "ctf/df_angle_rad": star.defocus_angle,
        "ctf/amp_contrast": star.amplitude_contrast,
        "alignments3D/pose": Rotation.from_matrix(star.rotmat.transpose(0, 2, 1)).as_rotvec(),
        "alignments3D/shift": star.shift,
        "alignments3D/psize_A": np.ones(60, np.float32),
    }
    path = write_cs(folder / "particles.cs", columns)
    config = parse_config(configuration(folder, particles={"file": str(path)}), folder)
    said = []
    quick_check(config, *load_inputs(config), said.append)
    assert any("agree with the nominal structure in sign" in sentence for sentence in said)


def test_exposure_groups_and_beam_tilt(tmp_path, columns):
    columns["ctf/exp_group_id"] = np.array([7, 2, 7, 2], np.uint32)
    columns["ctf/cs_mm"] = np.array([2.7, 2.0, 2.7, 2.7], np.float32)
    columns["ctf/tilt_A"] = np.array([[5000, -2000], [0, 0], [5000, -2000], [0, 0]], np.float32)
    table = read_particles(write_cs(tmp_path / "p.cs", columns))
    assert table.optics_group_names == ("exposureGroup2", "exposureGroup2_2", "exposureGroup7")
    np.testing.assert_array_equal(table.optics_group, [2, 0, 2, 1])
    np.testing.assert_allclose(table.spherical_aberration_mm, [2.7, 2.0, 2.7, 2.7], rtol=1e-6)
    expected = np.arcsin(np.array([[0, 0], [0, 0], [5000, -2000]]) / 2.7e7)
    np.testing.assert_allclose(table.group_beam_tilt, expected, rtol=1e-6)
    assert any("beam tilt of up to 0.19 mrad (ctf/tilt_A)" in note for note in table.notes)


def test_images_of_several_sizes_are_given_one_grid(tmp_path, columns, make_stack):
    make_stack(tmp_path / "fine.mrcs", n_images=2, box_size=12, pixel_size=1.0)
    columns["blob/path"] = np.array([b">stack.mrcs"] * 2 + [b">fine.mrcs"] * 2)
    columns["blob/idx"] = np.array([0, 1, 0, 1])
    columns["blob/shape"][2:] = 12
    columns["blob/psize_A"][2:] = 1.0
    table = read_particles(write_cs(tmp_path / "p.cs", columns))
    assert (table.box_size, table.pixel_size) == (8, 1.5)
    assert table.group_box_size[table.optics_group].tolist() == [8, 8, 12, 12]
    assert table.group_pixel_size[table.optics_group].tolist() == [1.5, 1.5, 1.0, 1.0]
    assert any("images of several sizes" in note and "8 px of 1.5 Å" in note for note in table.notes)


def test_what_is_not_modelled_is_named(tmp_path, columns):
    assert read_particles(write_cs(tmp_path / "p.cs", columns)).notes == ()
    columns["ctf/trefoil_A"][0, 1] = 300.0
    columns["ctf/anisomag"][:] = [0.001, 0, 0, -0.001]
    (note,) = read_particles(write_cs(tmp_path / "p.cs", columns)).notes
    assert note == "p.cs: ctf/trefoil_A, ctf/anisomag are not modelled and left out."


def test_text_fields_optional_fields_and_other_names(tmp_path, columns):
    fields = columns | {"blob/path": np.full(4, "stack.mrcs")}
    optional = ("blob/sign", "blob/shape", "ctf/amp_contrast", "ctf/phase_shift_rad", "ctf/exp_group_id", "uid")
    fields = {name: values for name, values in fields.items() if name not in (*optional, "ctf/tilt_A", "ctf/anisomag")}
    table = read_particles(write_cs(tmp_path / "p.npy", fields))
    assert table.stack_paths == (tmp_path / "stack.mrcs",) and table.box_size == 8
    assert table.sign is None and (table.phase_shift == 0).all() and (table.amplitude_contrast == 0.1).all()
    (note,) = table.notes
    assert "no ctf/amp_contrast; 0.1 is assumed" in note
