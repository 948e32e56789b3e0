"""Training on some particles, cropped and prepared once: what the run folder says of which particle."""

import mrcfile
import numpy as np
import pytest
import starfile
import yaml
from click.testing import CliRunner

from cryosphere.analysis.tables import write_particles
from cryosphere.cli import main
from cryosphere.errors import InputError, RunError
from cryosphere.evaluation.evaluate import evaluate
from cryosphere.export.coordinates import export_coordinates
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.runs.run import Run
from tests.particle_sets import configuration, write_particle_set

CONDITION = "rlnDefocusU > 6000 and rlnOriginXAngst < 2"


def invoke(*arguments: object):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the particles that fulfil a condition, at 6 Å instead of 4 Å; its folder, and what was said."""
    base = tmp_path_factory.mktemp("chosen")
    folder = write_particle_set(base / "set", 90)
    values = configuration(folder, particles={"file": "set/particles.star", "pixel_size": 6.0}, training={"epochs": 1})
    (base / "config.yaml").write_text(yaml.safe_dump(values))
    result = invoke("train", base / "config.yaml", "-o", base / "run", "--quiet", "--select", CONDITION)
    return base, result.stderr


@pytest.fixture
def expected_rows(trained):
    star = starfile.read(trained[0] / "set" / "particles.star")["particles"]
    return star.index[(star.rlnDefocusU > 6000) & (star.rlnOriginXAngst < 2)].to_numpy()


def test_results_keep_the_rows_of_the_input_file(trained, expected_rows, tmp_path):
    base, said = trained
    run = Run.load(base / "run")
    assert 20 < len(expected_rows) < 70
    assert run.posterior.index.tolist() == expected_rows.tolist()
    assert (run.table.box_size, run.table.pixel_size) == (16, 6.0)
    assert set(run.table.file_pixel_sizes) == {4.0} and run.table.file_box_centres.tolist() == [48.0]
    assert f"{len(expected_rows)} of 90 particles of particles.star are used." in said
    assert "Images of 24 px at 4 Å/px are brought to 16 px at 6 Å/px." in said
    assert f"Preparing {len(expected_rows)} images (16 px at 6 Å/px, float16) once: 0.0" in said

    positions = np.load(export_coordinates(run, tmp_path / "all.npy"))
    assert len(positions) == len(expected_rows)
    some = np.load(export_coordinates(run, tmp_path / "some.npy", particles=expected_rows[[5, 1]]))
    assert some == pytest.approx(positions[[5, 1]], abs=1e-5)
    assert run.conformations(particles=expected_rows[[5]])[0] == pytest.approx(positions[5], abs=1e-5)
    absent = np.setdiff1d(np.arange(90), expected_rows)[:1]
    with pytest.raises(InputError, match=rf"row {absent[0]} of particles\.star was not selected for this run"):
        export_coordinates(run, tmp_path / "none.npy", particles=absent)
    with pytest.raises(InputError, match=r"row 90 does not exist; particles\.star has 90 particles"):
        export_coordinates(run, tmp_path / "none.npy", particles=np.array([90]))


def test_scores_and_tables_are_of_the_chosen_particles(trained, expected_rows, tmp_path):
    base, _ = trained
    assert evaluate(base / "run", base / "set" / "truth", n_volumes=1).n_particles == len(expected_rows)
    state = np.load(base / "set" / "truth" / "state.npy")
    scored = np.loadtxt(base / "run" / "evaluation" / "per_image.csv", delimiter=",", skiprows=1)
    assert scored[:, 0].tolist() == expected_rows.tolist()
    assert scored[:, 1].tolist() == state[expected_rows].tolist()
    run = Run.load(base / "run")
    write_particles(tmp_path / "particles.csv", run.table, run.posterior, {"z1": run.posterior.mean[:, 0]})
    lines = (tmp_path / "particles.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [
        [str(row), f"{row + 1:06d}@particles.mrcs"] for row in expected_rows
    ]


def test_the_stack_serves_resume_and_posteriors_after_the_files_have_gone(trained):
    base, _ = trained
    stack = base / "run" / "prepared" / "particles.mrcs"
    with mrcfile.open(stack, header_only=True) as mrc:
        assert (int(mrc.header.mode), int(mrc.header.nx)) == (12, 16)
    before, posterior = stack.stat().st_mtime_ns, Run.load(base / "run").posterior
    again = invoke(
        "train", base / "config.yaml", "-o", base / "run", "--quiet", "--select", CONDITION, "--resume"
    )  # fmt: skip
    assert "Preparing" not in again.stderr
    assert stack.stat().st_mtime_ns == before

    original = base / "set" / "particles.mrcs"
    original.rename(base / "moved.mrcs")
    (base / "run" / "posterior.npz").unlink()
    assert (ensure_posterior(Run.load(base / "run")).posterior.mean == posterior.mean).all()
    (base / "run" / "posterior.npz").unlink()
    stack.rename(base / "stack.mrcs")
    with pytest.raises(RunError, match="needs the image stacks, of which 1 are missing"):
        ensure_posterior(Run.load(base / "run"))
    (base / "moved.mrcs").rename(original)
    found = ensure_posterior(Run.load(base / "run")).posterior.mean
    assert found == pytest.approx(posterior.mean, abs=2e-2)
    (base / "stack.mrcs").rename(stack)


def test_a_run_is_resumed_only_with_its_own_particles(trained):
    base, _ = trained
    result = CliRunner().invoke(
        main, ["train", str(base / "config.yaml"), "-o", str(base / "run"), "--resume", "--select", "rlnDefocusU > 0"]
    )
    assert result.exit_code == 1
    assert "was started with particles.select" in result.stderr


def test_init_tries_the_choice_and_writes_it_down(trained, tmp_path):
    base, _ = trained
    inputs = (base / "set" / "particles.star", base / "set" / "nominal.cif")
    (tmp_path / "rows.txt").write_text("3\n4\n")
    out = tmp_path / "new" / "config.yaml"
    result = invoke("init", *inputs, "--index-file", tmp_path / "rows.txt", "-o", out)
    assert "2 of 90 particles of particles.star are used." in result.stderr
    assert yaml.safe_load(out.read_text())["particles"]["index_file"] == "../rows.txt"
    wrong = CliRunner().invoke(main, ["init", *map(str, inputs), "--select", "rlnClass == 1", "-o", str(out)])
    assert wrong.exit_code == 1
    assert "there is no column 'rlnClass'" in wrong.stderr
