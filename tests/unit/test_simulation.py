"""The simulator: images against direct numpy Fourier sums, SNR, poses, seeds, truth folder."""

from __future__ import annotations

import json
from dataclasses import replace

import gemmi
import mrcfile
import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from cryosphere.errors import ConfigError, InputError
from cryosphere.io.structures import read_structure
from cryosphere.simulation.acquisition import SimulatedOptics, SimulationSettings, optics_groups
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.hinges import Hinge, hinge_conformations
from cryosphere.simulation.matching import atoms_of_residues, take_residues
from cryosphere.simulation.particles import simulate
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.simulation.truth import read_truth


@pytest.fixture(scope="module")
def states() -> Conformations:
    """Five states of the last 40 residues of adenylate kinase, ten of which turn."""
    structure = read_structure(shipped_path("adk/closed.cif"))
    rows = np.arange(174, 214)
    part = take_residues(structure, rows, atoms_of_residues(structure, rows))
    hinge = Hinge("A:205-214", (0.0, 1.2), np.array([0.0, 0, 1]), part.residue_positions[29])
    return hinge_conformations(part, [hinge], 5)


def _settings(**values) -> SimulationSettings:
    defaults = {"n_particles": 12, "box_size": 32, "pixel_size": 2.5, "snr": 0.2, "seed": 5, "write_clean": True}
    return SimulationSettings(**{**defaults, **values})


def _stack(folder, name="particles.mrcs"):
    return mrcfile.read(folder / name).astype(np.float64)


def _same(folder, other, *names):
    return [(folder / name).read_bytes() == (other / name).read_bytes() for name in names]


def _oracle_spectra(folder, states_positions, elements, b_factor):
    """Direct sums over atoms and CTF in numpy from the written STAR file, gemmi's factors, SciPy's rotations."""
    tables = starfile.read(folder / "particles.star")
    optics, particles = tables["optics"].set_index("rlnOpticsGroup"), tables["particles"]
    state = np.load(folder / "truth" / "state.npy")
    spectra = []
    for row, p in particles.iterrows():
        o = optics.loc[p.rlnOpticsGroup]
        box, pixel = int(o.rlnImageSize), float(o.rlnImagePixelSize)
        ky, kx = np.meshgrid(np.fft.fftfreq(box, pixel), np.fft.rfftfreq(box, pixel), indexing="ij")
        k2 = kx**2 + ky**2
        angles = [p.rlnAngleRot, p.rlnAngleTilt, p.rlnAnglePsi]
        matrix = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix().T
        x, y, _ = matrix @ states_positions[state[row]].T
        x, y = x - p.rlnOriginXAngst, y - p.rlnOriginYAngst
        total = np.zeros(k2.shape, complex)
        for element in set(elements):
            factor = np.vectorize(gemmi.Element(element).c4322.calculate_sf)(k2 / 4) * np.exp(-b_factor * k2 / 4)
            for i in np.flatnonzero(elements == element):
                total += factor * np.exp(-2j * np.pi * (kx * x[i] + ky * y[i]))
        volts = 1e3 * o.rlnVoltage
        wavelength = 12.2643247 / np.sqrt(volts * (1 + 0.978466e-6 * volts))
        theta = np.arctan2(ky, kx) - np.radians(p.rlnDefocusAngle)
        defocus = (p.rlnDefocusU + p.rlnDefocusV) / 2 + (p.rlnDefocusU - p.rlnDefocusV) / 2 * np.cos(2 * theta)
        chi = np.pi * wavelength * defocus * k2 - np.pi / 2 * 1e7 * o.rlnSphericalAberration * wavelength**3 * k2**2
        spectra.append(total * np.sin(chi + np.radians(p.rlnPhaseShift) + np.arcsin(o.rlnAmplitudeContrast)) / pixel**2)
    return np.array(spectra)


@pytest.mark.parametrize("box", [32, 33])
def test_images_are_direct_sums_over_atoms(states, tmp_path, box):
    groups = optics_groups(None, [300, 200], [2.7, 1.4], [0.1, 0.07], [0, 90])
    simulate(states, _settings(box_size=box, optics_groups=groups, n_particles=6), tmp_path / "set")
    centred = states.centred()
    expected = _oracle_spectra(tmp_path / "set", centred.atom_positions, centred.structure.atoms.elements, 60.0)
    scale = json.loads((tmp_path / "set" / "truth" / "info.json").read_text())["signal_scale"]
    images = _stack(tmp_path / "set", "truth/clean.mrcs")
    found = np.fft.rfft2(np.fft.ifftshift(images, axes=(1, 2))) / scale
    inside = np.ones(found.shape[1:], bool)
    if box % 2 == 0:
        inside[box // 2], inside[:, box // 2] = False, False
    error = np.abs((found - expected)[:, inside]).max() / np.abs(expected).max()
    assert error < 2e-5


def test_b_factors_of_the_file_are_used_per_atom(states, tmp_path):
    """One atom per element alone carries a B factor; the sum over atoms must show it."""
    rng = np.random.default_rng(1)
    atoms = replace(states.structure.atoms, b_factors=rng.uniform(20, 150, states.structure.atoms.n_atoms))
    varied = replace(states, structure=replace(states.structure, atoms=atoms))
    simulate(varied, _settings(b_factor=None, n_particles=2), tmp_path / "set")
    centred = varied.centred()
    spectra = sum(
        _oracle_spectra(tmp_path / "set", centred.atom_positions[:, [i]], atoms.elements[[i]], atoms.b_factors[i])
        for i in range(atoms.n_atoms)
    )
    info = json.loads((tmp_path / "set" / "truth" / "info.json").read_text())
    assert info["b_factor"] == "file"
    images = _stack(tmp_path / "set", "truth/clean.mrcs") / info["signal_scale"]
    found = np.fft.rfft2(np.fft.ifftshift(images, axes=(1, 2)))[:, :16, :16]
    assert np.abs(found - spectra[:, :16, :16]).max() / np.abs(spectra).max() < 2e-5


def test_snr_noise_and_protein_sign(states, tmp_path):
    group = SimulatedOptics(amplitude_contrast=1.0)
    settings = _settings(n_particles=60, snr=0.3, optics_groups=(group,), defocus_range=(0.0, 0.0), astigmatism=0.0)
    simulate(states, settings, tmp_path / "set")
    clean, noisy = _stack(tmp_path / "set", "truth/clean.mrcs"), _stack(tmp_path / "set")
    noise = noisy - clean
    assert clean.var() / noise.var() == pytest.approx(0.3, rel=0.02)
    assert noise.std() == pytest.approx(1.0, rel=0.01)
    assert abs(noise.mean()) < 0.02
    assert np.abs(np.corrcoef(noise.reshape(60, -1))[np.triu_indices(60, 1)]).max() < 0.2
    # with CTF(0) = +w = 1 and nearly no phase error, protein is bright
    assert clean.max() > 10 * abs(clean.min())


def test_poses_shifts_and_defocus_are_spread_as_asked(states, tmp_path):
    settings = _settings(n_particles=3000, box_size=16, pixel_size=6.0, shift_range=3.0, defocus_range=(8e3, 12e3))
    simulate(states, settings, tmp_path / "set")
    p = starfile.read(tmp_path / "set" / "particles.star")["particles"]
    angles = p[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
    matrices = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    # Uniform on SO(3): every matrix entry has mean 0 and variance 1/3, different ones do not correlate.
    assert np.abs(matrices.mean(0)).max() < 4 * np.sqrt(1 / 3 / 3000)
    np.testing.assert_allclose(matrices.reshape(-1, 9).T @ matrices.reshape(-1, 9) / 3000, np.eye(9) / 3, atol=0.035)
    # The rotation angle of uniform rotations has the density (1 - cos ω)/π, mean π/2 + 2/π.
    turn = Rotation.from_matrix(matrices).magnitude()
    assert turn.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.05)
    for axis in "XY":
        shift = p[f"rlnOrigin{axis}Angst"].to_numpy()
        assert np.abs(shift).max() <= 3.0
        assert shift.std() == pytest.approx(3 / np.sqrt(3), rel=0.05)
    mean_defocus = (p.rlnDefocusU + p.rlnDefocusV) / 2
    assert 8e3 <= mean_defocus.min() < 8100 < 11900 < mean_defocus.max() <= 12e3
    astigmatism = p.rlnDefocusU - p.rlnDefocusV
    assert astigmatism.min() >= -1e-3
    assert 450 < astigmatism.max() <= 500.001
    counts = np.bincount(np.load(tmp_path / "set" / "truth" / "state.npy"), minlength=5)
    assert ((counts - 600) ** 2 / 600).sum() < 20


def test_same_seed_same_bytes_other_seed_other_images(states, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(states, _settings(seed=seed, n_volumes=1), tmp_path / name)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(names) == 8
    assert all(_same(tmp_path / "a", tmp_path / "b", *names))
    assert _same(tmp_path / "a", tmp_path / "c", "particles.mrcs") == [False]


def test_truth_folder_and_nominal_structure(states, tmp_path):
    summary = simulate(states, _settings(nominal_state=3, n_volumes=2), tmp_path / "set")
    truth = read_truth(tmp_path / "set" / "truth")
    assert truth.coordinates.shape == (5, 40, 3)
    assert truth.coordinates.dtype == np.float32
    np.testing.assert_allclose(truth.coordinates.mean((0, 1)), 0, atol=1e-4)
    nominal = read_structure(tmp_path / "set" / "nominal.cif")
    np.testing.assert_allclose(nominal.residue_positions, truth.coordinates[3], atol=1e-3)
    assert nominal.atoms.n_atoms == states.structure.atoms.n_atoms
    assert truth.info["bodies"] == [list(range(30)), list(range(30, 40))]
    assert truth.info["snr"] == 0.2
    assert truth.info["noise_std"] == 1.0
    assert (truth.info["forward"], truth.info["b_factor"]) == ("atoms", 60.0)
    # nuisances that are not used leave no trace
    assert not {"noise_spectrum", "contrast_spread", "rotation_error_deg", "shift_error"} & set(truth.info)
    assert truth.rotmat is truth.shift is truth.contrast is None
    assert sorted(truth.volumes) == [0, 4]
    mean = truth.coordinates[truth.state].mean(0)
    per_image = np.sqrt(((truth.coordinates[truth.state] - mean) ** 2).sum(-1).mean(-1))
    assert summary.mean_structure_rmsd == pytest.approx(per_image.mean(), rel=1e-4)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("box", [30, 31])
def test_volumes_are_the_density_of_the_atoms_in_their_place(states, tmp_path, box):
    settings = _settings(box_size=box, n_volumes=1, n_particles=1, shift_range=0.0, b_factor=400.0)
    simulate(states, settings, tmp_path / "set")
    atoms = states.centred().state(0).atoms
    info = json.loads((tmp_path / "set" / "truth" / "info.json").read_text())
    with mrcfile.open(tmp_path / "set" / "truth" / "volumes" / "state_0000.mrc") as mrc:
        volume, voxel = mrc.data / info["signal_scale"], float(mrc.voxel_size.x)
        origin = np.array([mrc.header.origin[axis] for axis in "xyz"], dtype=float)
    assert voxel == pytest.approx(2.5)
    # The total is Σ f(0), and the centre of mass that of the atoms weighted by f(0).
    weight = np.array([gemmi.Element(str(e)).c4322.calculate_sf(0.0) for e in atoms.elements])
    assert volume.sum() * voxel**3 == pytest.approx(weight.sum(), rel=1e-4)
    axis = np.arange(box) * voxel
    centre = [(volume.sum(tuple({0, 1, 2} - {a})) * axis).sum() / volume.sum() + origin[2 - a] for a in (2, 1, 0)]
    np.testing.assert_allclose(centre, weight @ atoms.positions / weight.sum(), atol=0.05)
    # Against the sum over atoms of gemmi's radial densities, at a B that the pixel samples without aliasing.
    z, y, x = np.meshgrid(*[axis + origin[a] for a in (2, 1, 0)], indexing="ij")
    density = np.zeros_like(volume)
    for position, element in zip(atoms.positions, atoms.elements, strict=True):
        r2 = (x - position[0]) ** 2 + (y - position[1]) ** 2 + (z - position[2]) ** 2
        near = r2 < 144
        coefficients = gemmi.Element(str(element)).c4322
        density[near] += [coefficients.calculate_density_iso(value, 400.0) for value in r2[near]]
    assert np.corrcoef(volume.ravel(), density.ravel())[0, 1] > 0.999


def test_residue_images_are_one_gaussian_per_residue(states, tmp_path):
    simulate(states, _settings(forward="residues", n_particles=3), tmp_path / "set")
    residues = states.centred()
    info = json.loads((tmp_path / "set" / "truth" / "info.json").read_text())
    tables = starfile.read(tmp_path / "set" / "particles.star")
    state, p = np.load(tmp_path / "set" / "truth" / "state.npy"), tables["particles"].iloc[0]
    angles = [p.rlnAngleRot, p.rlnAngleTilt, p.rlnAnglePsi]
    matrix = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix().T
    x, y, _ = matrix @ residues.residue_positions[state[0]].T
    k = np.fft.fftfreq(32, 2.5)[:12]
    phase_x = np.exp(-2j * np.pi * np.outer(k, x - p.rlnOriginXAngst))
    phase_y = np.exp(-2j * np.pi * np.outer(k, y - p.rlnOriginYAngst))
    plain = (phase_y * states.structure.amplitudes) @ phase_x.T
    k2 = k[:, None] ** 2 + k[None] ** 2
    expected = plain * np.exp(-2 * np.pi**2 * 2.0**2 * k2)
    image = _stack(tmp_path / "set", "truth/clean.mrcs")[0] / info["signal_scale"]
    found = np.fft.rfft2(np.fft.ifftshift(image))[:12, :12] * 2.5**2
    theta = np.arctan2(k[:, None], k[None]) - np.radians(p.rlnDefocusAngle)
    defocus = (p.rlnDefocusU + p.rlnDefocusV) / 2 + (p.rlnDefocusU - p.rlnDefocusV) / 2 * np.cos(2 * theta)
    wavelength = 0.0196875
    chi = np.pi * wavelength * defocus * k2 - np.pi / 2 * 2.7e7 * wavelength**3 * k2**2
    expected *= np.sin(chi + np.arcsin(0.1))
    assert np.abs(found - expected).max() / np.abs(expected).max() < 0.005


def test_populations_are_followed(states, tmp_path):
    settings = _settings(n_particles=400, box_size=16, pixel_size=6.0, populations=(0.0, 1.0, 0.0, 3.0, 0.0))
    simulate(states, settings, tmp_path / "set")
    counts = np.bincount(np.load(tmp_path / "set" / "truth" / "state.npy"), minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    assert counts[3] == pytest.approx(300, abs=35)


def test_backbone_models_get_side_chains_in_the_images(states, tmp_path):
    """Images from a backbone correlate with the full model's far better once templates have filled it."""
    keep = np.isin(states.structure.atoms.names, ["N", "CA", "C", "O"])
    rows = np.flatnonzero(keep)
    part = take_residues(states.structure, np.arange(40), rows)
    bare = replace(states, structure=part, atom_positions=states.atom_positions[:, rows])
    simulate(states, _settings(), tmp_path / "full")
    summary = simulate(bare, _settings(), tmp_path / "bare")
    assert any("atoms were added from templates" in note for note in summary.notes)
    full, filled = (_stack(tmp_path / name, "truth/clean.mrcs").ravel() for name in ("full", "bare"))
    assert np.corrcoef(full, filled)[0, 1] > 0.95
    assert read_structure(tmp_path / "bare" / "nominal.cif").atoms.n_atoms >= states.structure.atoms.n_atoms - 1


def test_nothing_is_overwritten_unasked_and_only_simulations_are_replaced(states, tmp_path):
    out = tmp_path / "set"
    simulate(states, _settings(), out)
    before = (out / "particles.mrcs").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        simulate(states, _settings(seed=9), out)
    assert (out / "particles.mrcs").read_bytes() == before
    simulate(states, _settings(seed=9), out, overwrite=True)
    assert (out / "particles.mrcs").read_bytes() != before
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="was not written by"):
        simulate(states, _settings(), thesis, overwrite=True)
    assert (thesis / "chapter.txt").exists()


def test_failure_leaves_nothing(states, tmp_path):
    def stop(what, step, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(states, _settings(), tmp_path / "set", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr": 0.0}, "SNR is 0.0"),
        ({"n_particles": 0}, "particles is 0"),
        ({"pixel_size": -1.0}, "pixel size is -1.0"),
        ({"nominal_state": 5}, "nominal state is 5.*0 to 4"),
        ({"defocus_range": (2.0, 1.0)}, "defocus range"),
        ({"populations": (1.0, 2.0)}, "2 populations for 5 states"),
        ({"box_size": 16}, "use a box of at least"),
        ({"n_volumes": 6}, "number of volumes is 6"),
        ({"noise": "pink"}, "noise is pink.*'white' or 'coloured'"),
        ({"noise": "coloured", "noise_ratio": 0.5}, "noise ratio is 0.5.*at least 1"),
        ({"noise_ratio": 5.0}, "noise ratio is 5.0.*coloured noise"),
        ({"contrast_spread": -0.1}, "contrast spread is -0.1"),
        ({"rotation_error_deg": 181.0}, "rotation error is 181.0.*degrees"),
        ({"shift_error": float("nan")}, "shift error is nan.*Å"),
    ],
)
def test_settings_that_make_no_sense_are_refused(states, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        simulate(states, _settings(**change), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_the_stated_box_is_enough(states, tmp_path):
    with pytest.raises(ConfigError) as error:
        simulate(states, _settings(box_size=16), tmp_path / "set")
    needed = int(str(error.value).split("at least ")[1].split()[0])
    simulate(states, _settings(box_size=needed), tmp_path / "set")


def test_contrast_scales_every_image(states, tmp_path):
    plain, varied = tmp_path / "plain", tmp_path / "varied"
    settings = _settings(n_particles=2000, box_size=20, pixel_size=4.5, forward="residues")
    simulate(states, settings, plain)
    simulate(states, replace(settings, contrast_spread=0.4), varied)
    truth = read_truth(varied / "truth")
    assert (truth.rotmat, truth.shift, truth.info["contrast_spread"]) == (None, None, 0.4)
    assert truth.contrast.mean() == pytest.approx(1.0, abs=4 * 0.4 / np.sqrt(2000))
    assert truth.contrast.std() == pytest.approx(0.4, rel=0.1)
    assert np.log(truth.contrast).std() == pytest.approx(np.sqrt(np.log(1.16)), rel=0.06)
    power = [(_stack(folder, "truth/clean.mrcs") ** 2).sum((1, 2)) for folder in (varied, plain)]
    scale = truth.info["signal_scale"] / read_truth(plain / "truth").info["signal_scale"]
    np.testing.assert_allclose(power[0] / power[1], (truth.contrast * scale) ** 2, rtol=1e-4)
    assert _stack(varied, "truth/clean.mrcs").var() == pytest.approx(0.2, rel=1e-4)
    assert _same(plain, varied, "particles.star", "truth/state.npy") == [True, True]


def test_written_poses_have_the_asked_errors_and_images_do_not(states, tmp_path):
    exact, wrong = tmp_path / "exact", tmp_path / "wrong"
    settings = _settings(n_particles=3000, box_size=20, pixel_size=4.5, forward="residues")
    simulate(states, settings, exact)
    simulate(states, replace(settings, rotation_error_deg=5.0, shift_error=1.5), wrong)
    assert _same(exact, wrong, "particles.mrcs", "truth/clean.mrcs", "particles.star") == [True, True, False]
    truth = read_truth(wrong / "truth")
    assert (truth.info["rotation_error_deg"], truth.info["shift_error"], truth.contrast) == (5.0, 1.5, None)
    poses = []
    for folder in (exact, wrong):
        p = starfile.read(folder / "particles.star")["particles"]
        angles = p[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
        matrices = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix().transpose(0, 2, 1)
        poses.append((matrices, p[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(float)))
    np.testing.assert_allclose(poses[0][0], truth.rotmat, atol=1e-6)
    np.testing.assert_allclose(poses[0][1], truth.shift, atol=1e-5)
    turn = np.degrees(Rotation.from_matrix(poses[1][0] @ truth.rotmat.transpose(0, 2, 1)).as_rotvec())
    assert np.sqrt((turn**2).sum(1).mean()) == pytest.approx(np.sqrt(3) * 5.0, rel=0.03)
    np.testing.assert_allclose(np.cov(turn.T), 25.0 * np.eye(3), atol=3.0)
    move = poses[1][1] - truth.shift
    np.testing.assert_allclose(np.cov(move.T), 1.5**2 * np.eye(2), atol=0.25)
    np.testing.assert_allclose([*turn.mean(0) / 5.0, *move.mean(0) / 1.5], 0, atol=4 / np.sqrt(3000))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rotmat", np.zeros((12, 3, 3)), "rotmat.npy has a matrix in row 0 that is no rotation"),
        ("rotmat", np.tile(np.diag([1.0, 1.0, -1.0]), (12, 1, 1)), "no rotation"),
        ("shift", np.zeros((11, 2)), "shift.npy has the shape .11, 2..*expected floats of shape .12, 2."),
        ("shift", np.full((12, 2), np.nan), "shift.npy holds values that are no numbers"),
        ("contrast", np.ones(12, int), "contrast.npy has the shape .12,. and type int64"),
        ("contrast", np.linspace(-1, 1, 12), "contrast.npy has the contrast -1"),
    ],
)
def test_broken_arrays_of_the_truth_are_named(states, tmp_path, name, values, message):
    simulate(states, _settings(forward="residues", shift_error=1.0, contrast_spread=0.1), tmp_path / "set")
    folder = tmp_path / "set" / "truth"
    assert len(getattr(read_truth(folder), name)) == 12
    np.save(folder / f"{name}.npy", values)
    with pytest.raises(InputError, match=message):
        read_truth(folder)


def test_broken_truth_folders_are_named(states, tmp_path):
    simulate(states, _settings(), tmp_path / "set")
    folder = tmp_path / "set" / "truth"
    state = np.load(folder / "state.npy")

    def expect(message):
        with pytest.raises(InputError, match=message):
            read_truth(folder)

    np.save(folder / "state.npy", state + 100)
    expect("names states 10")
    np.save(folder / "state.npy", state.astype(float))
    expect("expected one integer per particle")
    np.save(folder / "state.npy", state)
    (folder / "info.json").write_text("{")
    expect("is not JSON")
    (folder / "info.json").write_text('{"bodies": [[0, 999]]}')
    expect("residues outside 0 to 39")
    (folder / "info.json").write_text("{}")
    np.save(folder / "coordinates.npy", np.zeros((5, 40)))
    expect("shape .state, residue, 3.")
    (folder / "coordinates.npy").write_bytes(b"no array")
    expect("cannot be read as a numpy array")
    (folder / "coordinates.npy").unlink()
    expect("coordinates.npy is missing")
