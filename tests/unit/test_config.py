from pathlib import Path

import pytest
import yaml

from cryosphere.config import PAPER_PRESET, Config
from cryosphere.config_files import dump_config, parse_config, read_config, template
from cryosphere.errors import ConfigError

GIVEN = {("particles", "file"): "p.star", ("structure", "file"): "m.cif", ("segments", "n_segments"): 5}


@pytest.fixture
def inputs(tmp_path: Path) -> dict:
    (tmp_path / "p.star").touch()
    (tmp_path / "m.cif").touch()
    return {"particles": {"file": "p.star"}, "structure": {"file": "m.cif"}}


def test_template_reads_back_as_the_defaults(tmp_path, inputs):
    path = tmp_path / "config.yaml"
    path.write_text(template(GIVEN, ["64 px"]))
    expected = parse_config({**inputs, "segments": {"n_segments": 5}}, tmp_path)
    assert read_config(path) == expected


def test_every_key_of_the_template_is_live_when_its_sign_is_removed(tmp_path, inputs):
    lines = template(GIVEN, []).splitlines()
    freed = [line.replace("  # ", "  ", 1) if line.startswith("  # ") and ": " in line else line for line in lines]
    text = "\n".join(line for line in freed if not line.lstrip().startswith("for example"))
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(tmp_path / "config.yaml") == parse_config({**inputs, "segments": {"n_segments": 5}}, tmp_path)
    keys = {f"{section}.{key}" for section, inner in yaml.safe_load(text).items() for key in inner}
    known = {
        f"{section}.{key}" for section, field in Config.model_fields.items() for key in field.annotation.model_fields
    }
    assert keys == known


def test_dump_reads_back(tmp_path, inputs):
    config = parse_config({**inputs, "segments": {"regions": [{"chain": "A", "n_segments": 2}]}}, tmp_path)
    assert parse_config(yaml.safe_load(dump_config(config)), Path("/")) == config


def test_paper_preset_changes_defaults_but_not_what_is_set(tmp_path, inputs):
    config = parse_config({**inputs, "model": {"preset": "paper", "latent_dim": 3}}, tmp_path)
    assert config.model.latent_dim == 3
    assert config.loss.data == "correlation"
    assert config.model.motion == "sequential"
    assert config.training.learning_rate == PAPER_PRESET["training"]["learning_rate"] == 3e-5


def test_overrides_win_and_are_typed(tmp_path, inputs):
    config = parse_config(inputs, tmp_path, overrides=("training.epochs=7", "loss.low_pass_resolution=8"))
    assert (config.training.epochs, config.loss.low_pass_resolution) == (7, 8.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'training.epochs'"),
        ("trainnig.epochs=3", "unknown key 'trainnig'; did you mean 'training'"),
        ("segments.n_segments=0", "'segments.n_segments': expected greater than or equal to 1, or 'auto', found 0"),
        ("model.decoder_layers=[0]", "'model.decoder_layers.0': expected greater than or equal to 1, found 0"),
        ("training.epochs=many", "'training.epochs': expected a valid integer, found 'many'"),
        ("training.epochs=2.5", "'training.epochs'"),
        ("training.epochs=0", "greater than or equal to 1, found 0"),
        ("training.learning_rate=.nan", "'training.learning_rate'"),
        ("model.preset=papr", "expected 'default' or 'paper', found 'papr'"),
        ("segments.regions=[{chane: A, n_segments: 2}]", "did you mean 'segments.regions.0.chain'"),
        ("structure.origin=middle", "or 'auto', 'center' or 'corner', found 'middle'"),
        ("structure.origin=[1, 2]", "'structure.origin': list should have at least 3 items"),
        ("epochs=3", "expected section.key=value"),
        ("particles.file=absent.star", "does not exist"),
    ],
)
def test_bad_values_are_named(tmp_path, inputs, override, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(inputs, tmp_path, overrides=(override,))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_in_scientific_notation_are_numbers(tmp_path, inputs):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(inputs) + "training:\n  learning_rate: 1e-4\n  seed: 3\n")
    assert read_config(path, ("loss.continuity=2E2",)).training.learning_rate == 1e-4
    assert read_config(path, ("loss.continuity=2E2",)).loss.continuity == 200.0


def test_a_link_to_the_particles_stays_a_link(tmp_path, inputs):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "job.star").touch()
    (tmp_path / "link.star").symlink_to(tmp_path / "elsewhere" / "job.star")
    config = parse_config({**inputs, "particles": {"file": "link.star"}}, tmp_path)
    assert config.particles.file == tmp_path / "link.star"


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match="no such configuration"):
        read_config(path)
    path.write_text("particles:\n\tfile: p.star\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: line 2 is indented with a tab"):
        read_config(path)
    path.write_text("particles: [1, 2\n")
    with pytest.raises(ConfigError, match="not YAML"):
        read_config(path)
    path.write_text("particles:\n  file: a\n  file: b\n")
    with pytest.raises(ConfigError, match="key 'file' is given twice"):
        read_config(path)
    path.write_text("just words\n")
    with pytest.raises(ConfigError, match="expected sections"):
        read_config(path)
    path.write_text("particles:\n  datadir: .\nstructure:\n  file: x\n")
    with pytest.raises(ConfigError, match=r"'particles\.file' is missing"):
        read_config(path)
