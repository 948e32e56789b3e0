"""Maps of a run's states from images, which are made here in numpy from the run's own conformations."""

import csv
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from cryosphere.cli import main
from cryosphere.errors import InputError, RunError
from cryosphere.export.image_maps import export_image_maps, reconstruct_states
from cryosphere.export.selection import select_kmeans, select_latents
from cryosphere.export.state_weights import StateWeights, weigh_nearest, weigh_particles
from cryosphere.export.volumes import density_maps, map_origin
from cryosphere.io.mrc import write_stack
from cryosphere.physics.backprojection import Backprojection
from cryosphere.reconstruction import half_maps
from cryosphere.reconstruction.half_maps import backproject_states, masked_correlation
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_table
from tests.conventions import relion
from tests.run_factory import BOX_SIZE, PIXEL_SIZE, make_run

N = 400
CENTRES = np.array([[-1.2], [1.2]])


def _clean_images(run, rotmat, state):
    """Exact projections of the two conformations, without CTF: w = 1 is asked of the table's CTF instead."""
    k = np.fft.fftfreq(BOX_SIZE, PIXEL_SIZE)
    images = np.empty((len(state), BOX_SIZE, BOX_SIZE), np.float32)
    sites = run.decode_sites(CENTRES)
    decay = np.exp(-2 * (np.pi * run.structure.sigmas) ** 2 * (k**2)[:, None])
    for row, (turn, which) in enumerate(zip(rotmat, state, strict=True)):
        x, y, _ = (sites[which] @ turn.T).T
        along, across = (np.exp(-2j * np.pi * k[:, None] * values) * decay for values in (x, y))
        spectrum = across @ (run.structure.amplitudes[:, None] * along.T) / PIXEL_SIZE**2
        images[row] = np.fft.fftshift(np.fft.ifft2(spectrum).real)
    return images


def _make(folder, half_set=None, blank=None, noise=1.0):
    """A run with two tight clusters of latents and its images; phase plates make the CTF 1."""
    rng = np.random.default_rng(0)
    state = (np.arange(N) % 5 > 2).astype(int)
    latent = CENTRES[state] + rng.normal(0, 0.02, (N, 1))
    run = make_run(folder, n_particles=N, latent_dim=1, latent=latent, shared=True)
    rotmat = Rotation.random(N, random_state=rng).as_matrix()
    flat = {"defocus_u": np.zeros(N), "defocus_v": np.zeros(N), "spherical_aberration_mm": np.zeros(N)}
    table = replace(run.table, rotmat=rotmat, amplitude_contrast=np.ones(N), half_set=half_set, **flat)
    save_table(run.layout.particles, table)
    images = _clean_images(run, rotmat, state) + rng.normal(0, noise, (N, BOX_SIZE, BOX_SIZE)).astype(np.float32)
    if blank is not None:
        images[blank] = 0
    write_stack(table.stack_paths[0], [images], n_images=N, pixel_size=PIXEL_SIZE)
    return Run.load(folder), state


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return _make(tmp_path_factory.mktemp("maps") / "run")


@pytest.fixture(scope="module")
def run(made):
    return made[0]


def _states(run, state):
    return StateWeights(np.eye(2)[state].T, ("low", "high"), CENTRES)


def test_every_states_map_is_its_own_and_better_than_the_mixed_one(made):
    run, state = made
    models = list(density_maps(run, CENTRES, "residues"))
    own = list(backproject_states(run, np.eye(2)[state].T, ("low", "high")))
    (mixed,) = backproject_states(run, np.ones((1, N)), ("all",))
    for number, found in enumerate(own):
        agreement = [
            masked_correlation(run, volume, models[other]).mean()
            for volume, other in ((found.unweighed, number), (found.unweighed, 1 - number), (mixed.unweighed, number))
        ]
        assert agreement[0] > 0.9
        assert agreement[0] > agreement[1] + 0.1
        assert agreement[0] > agreement[2] + 0.01
        assert found.half_weights[0] == pytest.approx(np.bincount(state)[number] / 2, abs=25)
        assert sum(found.half_weights) == np.bincount(state)[number]


def test_the_maps_sum_along_z_gives_the_images_in_their_grey_values(made):
    run, state = made
    low, _ = backproject_states(run, np.eye(2)[state].T, ("low", "high"))
    image = _clean_images(run, np.eye(3)[None], np.zeros(1, int))[0]
    found = low.unweighed.sum(0)
    assert (found * image).sum() / (image**2).sum() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(found.ravel(), image.ravel())[0, 1] > 0.97


def test_halves_are_those_of_the_table(tmp_path):
    half_set = np.random.default_rng(3).integers(1, 3, N)
    run, _ = _make(tmp_path / "run", half_set, blank=half_set == 2)
    (found,) = backproject_states(run, np.ones((1, N)), ("all",))
    assert found.half_weights == ((half_set == 1).sum(), (half_set == 2).sum())
    assert np.abs(found.half_maps[1]).max() < 1e-4 * np.abs(found.half_maps[0]).max()
    assert np.abs(found.fsc[1:]).max() < 1


def test_correlations_are_those_of_the_half_maps(made):
    run, state = made
    found = next(reconstruct_states(run, _states(run, state)))
    k = np.fft.fftfreq(BOX_SIZE, 1 / BOX_SIZE)
    shells = np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int)
    first, second = (np.fft.fftn(volume.astype(np.float64)) for volume in found.half_maps)
    for shell in range(BOX_SIZE // 2):
        x, y = first[shells == shell], second[shells == shell]
        expected = np.vdot(x, y).real / np.sqrt(np.vdot(x, x).real * np.vdot(y, y).real)
        assert found.fsc_unmasked[shell] == pytest.approx(expected, abs=1e-3)
    assert (found.fsc[1:6] > found.fsc_unmasked[1:6]).sum() >= 4  # the mask takes noise away
    assert found.fsc_model[1:6].min() > 0.95
    assert found.frequency[1] == pytest.approx(1 / (BOX_SIZE * PIXEL_SIZE))
    assert 2 * PIXEL_SIZE <= found.resolution() <= found.resolution(0.5) < 40


def test_states_that_do_not_fit_into_memory_together_are_made_in_turns(made, monkeypatch):
    run, _ = made
    weights = np.random.default_rng(4).random((3, N))
    together = list(backproject_states(run, weights, "abc"))
    monkeypatch.setattr(half_maps, "free_ram", lambda: 5 * Backprojection.n_bytes(BOX_SIZE))
    assert half_maps._states_at_once(run) == 1
    for one, other in zip(together, backproject_states(run, weights, "abc"), strict=True):
        assert np.abs(one.volume - other.volume).max() < 1e-4 * np.abs(one.volume).max()


def test_too_little_memory_is_said(run, monkeypatch):
    monkeypatch.setattr(half_maps, "free_ram", lambda: 1e5)
    with pytest.raises(RunError, match=r"images of 24 pixels need .* GB of memory, 0\.0001 GB are free"):
        next(backproject_states(run, np.ones((1, N)), ("all",)))


@pytest.mark.parametrize("shared", [True, False])
def test_shares_of_posteriors_are_those_of_the_normal_distribution(tmp_path, shared):
    run = make_run(tmp_path / "run", latent_dim=1, spread=1.0, shared=shared)
    states = weigh_nearest(run, select_latents(run, [[-1.0], [0.4], [1.2]]))
    mean, std = run.posterior.mean[:, 0], run.posterior.std[:, 0]
    below = [norm.cdf(border, mean, std) for border in (-0.3, 0.8)]
    expected = np.stack([below[0], below[1] - below[0], 1 - below[1]])
    assert states.weights.sum(0) == pytest.approx(1)
    off = np.abs(states.weights - expected)
    assert off.max() < (0.12 if shared else 0.25)  # grid points some hundredths apart; 64 draws
    assert off.mean() < 0.04


def test_particles_make_one_state_of_weight_one(run):
    states = weigh_particles(run, np.array([7, 3, 3, 8]))
    assert states.weights.shape == (1, N)
    assert np.flatnonzero(states.weights[0]).tolist() == [3, 7, 8]
    assert states.names == ("3 particles",)
    assert states.latent[0] in run.posterior.mean[[3, 7, 8]]


def test_files_are_maps_in_the_frame_of_the_structure(run, tmp_path):
    written = [export_image_maps(run, weigh_nearest(run, select_kmeans(run, 2)), tmp_path / name) for name in "ab"]
    names = [path.name for path in written[0]]
    assert names[:4] == ["state_01.mrc", "state_01_half1.mrc", "state_01_half2.mrc", "state_01_fsc.csv"]
    assert names[4:] == [name.replace("01", "02") for name in names[:4]] + ["index.csv"]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    for path in written[0][:3]:
        assert mrcfile.validate(path)
        with mrcfile.open(path) as mrc:
            assert mrc.is_volume() and mrc.header.mode == 2
            assert (int(mrc.header.mapc), int(mrc.header.mapr), int(mrc.header.maps)) == (1, 2, 3)
            assert [mrc.voxel_size[axis] for axis in "xyz"] == pytest.approx([PIXEL_SIZE] * 3)
            assert [mrc.header.origin[axis] for axis in "xyz"] == pytest.approx(map_origin(run).tolist())
    with open(tmp_path / "a" / "index.csv", newline="") as file:
        index = list(csv.DictReader(file))
    assert [row["file"] for row in index] == ["state_01.mrc", "state_02.mrc"]
    assert [float(row["mean_weight"]) for row in index] == pytest.approx([0.6, 0.4], abs=0.01)
    assert float(index[0]["z1"]) == pytest.approx(-1.2, abs=0.1)
    with open(tmp_path / "a" / "state_02_fsc.csv", newline="") as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == BOX_SIZE // 2
    assert float(curves[3]["frequency"]) * float(curves[3]["resolution"]) == pytest.approx(1, rel=1e-4)
    assert float(curves[2]["fsc"]) > 0.9 and float(curves[2]["fsc_model"]) > 0.9


def _export(run, folder, *choice):
    arguments = ("export", run.folder, "volumes", *choice, "--from-images", "-o", folder, "--quiet")
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        (("--particles", "0-99"), 1),
        (("--latent=-1.2", "--latent", "1.2"), 2),
        (("--traversal", "1", "--points", "2"), 2),
        (("--kmeans", "2", "--atoms", "all"), 2),
    ],
)
def test_command_line(run, tmp_path, choice, count):
    arguments = [
        "export",
        str(run.folder),
        "volumes",
        *choice,
        "--from-images",
        "-o",
        str(tmp_path / "maps"),
        "--quiet",
    ]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 4 * count + 1
    assert all((tmp_path / "maps" / name).is_file() for name in ("state_01.mrc", "index.csv"))


def test_relion_reads_the_maps(run, tmp_path):
    relion.require("relion_image_handler")
    path = export_image_maps(run, weigh_particles(run, np.arange(200)), tmp_path / "maps")[0]
    relion.run("relion_image_handler", "--i", str(path), "--o", "twice.mrc", "--multiply_constant", "2", cwd=tmp_path)
    with mrcfile.open(path) as ours, mrcfile.open(tmp_path / "twice.mrc") as theirs:
        assert theirs.data == pytest.approx(2 * ours.data)
        assert theirs.voxel_size.x == pytest.approx(PIXEL_SIZE)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (("--particles", "0-2"), "3 particles: too few particles for a map"),
        (("--latent", "0.5", "--latent", "0.5"), "the same latent as another one"),
        (("--particles", "0,4000"), "row 4000 does not exist"),
    ],
)
def test_mistakes_are_one_sentence(run, tmp_path, choice, words):
    arguments = [
        "export",
        str(run.folder),
        "volumes",
        *choice,
        "--from-images",
        "-o",
        str(tmp_path / "maps"),
        "--quiet",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "maps").exists()


def test_missing_stacks_are_named(tmp_path):
    run = make_run(tmp_path / "run", shared=True)
    with pytest.raises(RunError, match=r"need the image stacks, of which 1 are missing \(first: .*particles\.mrcs\)"):
        next(backproject_states(run, np.ones((1, 60)), ("all",)))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones((1, N - 1)), r"expected an array of shape \(1, 400\)"),
        (np.where(np.arange(N) == 9, -0.5, 1.0)[None], "all has the weight -0.5 for particle row 9"),
        (np.where(np.arange(N) == 9, np.nan, 1.0)[None], "weight nan"),
        (np.full((1, N), 0.005), "too few particles"),
    ],
)
def test_wrong_weights_are_refused(run, weights, words):
    with pytest.raises(InputError, match=words):
        next(backproject_states(run, weights, ("all",)))


def test_folders_of_others_are_kept(run, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    states = weigh_particles(run, np.arange(50))
    with pytest.raises(InputError, match="did not make"):
        export_image_maps(run, states, tmp_path / "home", overwrite=True)
    export_image_maps(run, states, tmp_path / "maps")
    with pytest.raises(InputError, match="--overwrite"):
        export_image_maps(run, states, tmp_path / "maps")
