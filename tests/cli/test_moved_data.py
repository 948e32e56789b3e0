"""Images that are elsewhere: ``--datadir`` and ``--path-map`` of ``init`` and ``train``, and on resuming."""

import pytest
import yaml
from click.testing import CliRunner

from cryosphere.cli import main
from cryosphere.config_files import dump_config, parse_config, read_config
from cryosphere.errors import RunError
from cryosphere.runs.layout import RunLayout
from cryosphere.training.train import _check_same_config, load_inputs
from tests.cryosparc_files import particle_columns, write_cs
from tests.particle_sets import configuration, write_particle_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_particle_set(tmp_path_factory.mktemp("moved") / "set", 30)


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def moved(folder, tmp_path):
    """A STAR file whose stack is said to lie in /gone, and the folder where it is."""
    star = tmp_path / "job" / "particles.star"
    star.parent.mkdir()
    star.write_text((folder / "particles.star").read_text().replace("@particles.mrcs", "@/gone/project/particles.mrcs"))
    return star, folder


def test_init_writes_the_path_map_and_training_reads_through_it(moved, tmp_path):
    star, folder = moved
    config = tmp_path / "config.yaml"
    result = invoke("init", star, folder / "nominal.cif", "--path-map", f"/gone/project={folder}", "-o", config)
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(config.read_text())["particles"]["path_map"] == {"/gone/project": str(folder)}
    table, _ = load_inputs(read_config(config))
    assert table.stack_paths == (folder / "particles.mrcs",)


def test_init_reads_cryosparc_datasets(folder, tmp_path, make_stack):
    make_stack(tmp_path / "stack.mrcs")
    path = write_cs(tmp_path / "particles.cs", particle_columns())
    result = invoke("init", path, folder / "nominal.cif", "-o", tmp_path / "config.yaml")
    assert result.exit_code == 0 and "4 particles, box 8 px, 1.5 Å/px, 1 optics group\n" in result.output
    assert read_config(tmp_path / "config.yaml").particles.file == path


@pytest.mark.parametrize("option", ["--path-map", "--datadir"])
def test_train_takes_both_options_in_place_of_the_configuration(moved, tmp_path, monkeypatch, option):
    star, folder = moved
    given = []

    def train(config, *arguments, **options):
        given.append(config)
        raise RunError("stopped here.")

    monkeypatch.setattr("cryosphere.training.train.train", train)
    config = tmp_path / "config.yaml"
    sections = {"particles": {"file": str(star)}, "structure": {"file": str(folder / "nominal.cif")}}
    config.write_text(yaml.safe_dump(sections))
    monkeypatch.chdir(folder.parent)
    value = folder.name if option == "--datadir" else f"/gone/project={folder}"
    result = invoke("train", config, "-o", tmp_path / "run", option, value)
    assert "stopped here" in result.output and len(given) == 1
    table, _ = load_inputs(given[0])
    assert table.stack_paths == (folder / "particles.mrcs",)


def test_an_item_without_an_equals_sign_is_wrong_usage(moved, tmp_path):
    result = invoke("init", moved[0], "model.cif", "--path-map", "/gone/project")
    assert result.exit_code == 2 and "expected OLD=NEW, found '/gone/project'" in result.output


def test_a_run_resumes_where_the_data_have_moved(folder, tmp_path):
    before, after = (
        parse_config(configuration(folder, particles={"path_map": mapping}), folder)
        for mapping in ({}, {"/gone": str(folder)})
    )
    (tmp_path / "run").mkdir()
    layout = RunLayout(tmp_path / "run")
    layout.config.write_text(dump_config(before))
    _check_same_config(layout, after)
    other = after.model_copy(update={"particles": after.particles.model_copy(update={"invert": True})})
    with pytest.raises(RunError, match=r"particles\.invert"):
        _check_same_config(layout, other)
