"""README and tutorial do what they say; what they name exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cryosphere.cli import main
from tests.particle_sets import SHORT_TRAINING, write_particle_set
from tests.run_factory import make_run
from tests.star_runs import N, attach, star_text

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
INPUTS = (ROOT / "tutorials" / "inputs.md").read_text()
SELECTIONS = (ROOT / "tutorials" / "selections.md").read_text()
PERFORMANCE = (ROOT / "tutorials" / "performance.md").read_text()


def run_script(text: str, folder: Path) -> str:
    """Run Python text in a folder as a user would, but for short stages of training, and give what it printed."""
    short = [f"{place} = {value}" for place, value in SHORT_TRAINING.items()]
    imports = "import cryosphere.model.vae, cryosphere.training.evidence, cryosphere.training.stages"
    (folder / "script.py").write_text("\n".join([imports, *short, text]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_python_example_of_the_readme_runs_as_it_stands(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    folder = write_particle_set(tmp_path / "set", 120)
    for name in ("particles.star", "particles.mrcs", "truth"):
        (folder / name).rename(tmp_path / name)
    (folder / "nominal.cif").rename(tmp_path / "model.cif")
    assert len([line for line in example.splitlines() if line.strip()]) <= 14
    run_script(example, tmp_path)
    assert (tmp_path / "run1" / "posterior.npz").exists()
    assert (tmp_path / "run1" / "analysis").is_dir()


def test_the_tutorial_runs(tmp_path):
    text = (ROOT / "tutorials" / "adenylate_kinase.py").read_text()
    shortened = text.replace("N_PARTICLES, EPOCHS = 5000, None", "N_PARTICLES, EPOCHS = 200, 1")
    assert shortened != text
    assert "RMSD per image, mean" in run_script(shortened, tmp_path)


def test_the_python_example_of_the_selections_runs(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", SELECTIONS, re.DOTALL)
    run = make_run(tmp_path / "run1", n_particles=N, shared=True)
    run.table.source.write_text(star_text(N))
    attach(run, run.table.source)
    printed = run_script(example, tmp_path)
    assert f"'n_particles': {N}" in printed
    assert (tmp_path / "surest.star").exists()


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CHANGELOG.md",
        *(f"tutorials/{name}.md" for name in ("README", "inputs", "performance", "selections")),
    ],
)
def test_files_that_documents_link_to_exist(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_commands_of_the_documents_exist_with_the_options_shown():
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README + INPUTS + SELECTIONS + PERFORMANCE, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("cryosphere")]
    assert len(commands) >= 6
    for command in commands:
        words = command.split()[1:]
        if words[0] == "export":
            path = ["export", "RUN", words[2]]
        else:
            path = words[:2] if words[0] == "simulate" else words[:1]
        help_text = CliRunner().invoke(main, [*path, "--help"])
        assert help_text.exit_code == 0, command
        for option in (word for word in words if word.startswith("-")):
            assert re.search(rf"(?<!\S){re.escape(option)}\b", help_text.output), f"{option} of: {command}"
