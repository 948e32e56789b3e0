"""Scripts for ChimeraX, held line by line against the grammar of its commands, and for PyMOL, run where it is."""

import re
import shutil
import subprocess
from dataclasses import replace

import gemmi
import numpy as np
import pytest

from cryosphere.analysis.style import segment_colour
from cryosphere.errors import InputError
from cryosphere.export.residue_colours import residue_colours
from cryosphere.export.scene import export_scene
from cryosphere.export.selection import select_kmeans, select_latents, select_traversal
from cryosphere.export.volumes import export_volumes
from cryosphere.inference.ensemble import hard_segments
from cryosphere.io.mrc import write_volume
from tests.run_factory import make_run

COLOUR = r"#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?"
NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
MODEL = r"#\d+"
# Grammar of the commands used, after the ChimeraX user guide (rbvi.ucsf.edu/chimerax/docs/user): open, volume, hide,
# show, style, cartoon, color bfactor (= color byattribute bfactor), morph, view, coordset.
GRAMMAR = [
    r"# [^;]*",
    r"open [\w.]+",
    rf"volume {MODEL} style surface level {NUMBER} color {COLOUR} step \d+",
    rf"(hide|show) {MODEL}( & ligand)? atoms",
    rf"show {MODEL} & ligand atoms",
    rf"style {MODEL} sphere",
    rf"cartoon {MODEL}",
    rf"color bfactor {MODEL} palette {NUMBER},{COLOUR}(:{NUMBER},{COLOUR})+",
    rf"morph {MODEL}\.1-\d+ same true frames \d+ play false",
    r"view",
    rf"coordset {MODEL} 1, bounce true loop \d+",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("scene") / "run", origin="corner", spread=0.6, shared=True)


@pytest.fixture(scope="module")
def consensus(run, tmp_path_factory):
    maps = tmp_path_factory.mktemp("maps") / "maps"
    return export_volumes(run, select_latents(run, [[0.0, 0.0]]), maps)[0]


def _commands(path):
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("colour_by", ["segment", "rmsf", "plddt"])
@pytest.mark.parametrize("with_map", [True, False])
@pytest.mark.parametrize(("n_models", "what"), [(1, "atoms"), (2, "residues"), (5, "atoms")])
def test_every_line_for_chimerax_is_in_the_grammar(run, consensus, tmp_path, colour_by, with_map, n_models, what):
    predicted = replace(run.structure, plddt=np.linspace(20, 99, run.n_residues))
    run_of = _with_structure(run, predicted)
    chosen = select_kmeans(run, n_models)
    folder = tmp_path / "scene ü 1"
    export_scene(run_of, chosen, folder, consensus if with_map else None, colour_by, what)
    lines = _commands(folder / "scene.cxc")
    for line in lines:
        assert any(re.fullmatch(pattern, line) for pattern in GRAMMAR), line
    opened = [line.split()[1] for line in lines if line.startswith("open ")]
    assert opened == (["consensus.mrc"] if with_map else []) + ["models.cif"]
    assert all((folder / name).is_file() for name in opened)
    named = {
        int(number) for line in lines if not line.startswith("# ") for number in re.findall(r"#(\d+)\b(?!,)", line)
    }
    assert max(number for number in named if number < 1000) <= len(opened) + (n_models > 1)
    assert (sum(line.startswith("morph ") for line in lines) == 1) == (n_models > 1)
    assert lines[-1].startswith("coordset" if n_models > 1 else "view")


def _with_structure(run, structure):
    """The run with another nominal structure."""
    other = type(run)(run.layout, run.config, run.table, structure, run.model, run.epoch, run._state)
    other.__dict__["posterior"] = run.posterior
    return other


def _b_factors(path, names=("CA",)):
    model = gemmi.read_structure(str(path))[0]
    return np.array([atom.b_iso for chain in model for residue in chain for atom in residue if atom.name in names])


def test_segments_have_the_colours_of_the_analysis(run, tmp_path):
    export_scene(run, select_kmeans(run, 2), tmp_path / "scene")
    labels = hard_segments(run.segment_weights())
    assert len(np.unique(labels)) > 1
    (palette,) = {line.split()[-1] for line in _commands(tmp_path / "scene" / "scene.cxc") if "palette" in line}
    values, colours = zip(*(stop.split(",") for stop in palette.split(":")), strict=True)
    values = np.array(values, dtype=float)
    assert (np.diff(values) > 0).all()
    for b_factor, label in zip(_b_factors(tmp_path / "scene" / "models.cif"), labels, strict=True):
        below, above = colours[np.searchsorted(values, b_factor) - 1], colours[np.searchsorted(values, b_factor)]
        assert below == above == segment_colour(int(label))


def test_rmsf_is_that_of_the_expected_coordinates(run, tmp_path):
    export_scene(run, select_kmeans(run, 2), tmp_path / "scene", colour_by="rmsf")
    expected = run.conformations()
    rmsf = np.sqrt(((expected - expected.mean(0)) ** 2).sum(-1).mean(0))
    assert _b_factors(tmp_path / "scene" / "models.cif") == pytest.approx(rmsf, abs=0.006)
    assert rmsf.max() > 0.1
    stops = residue_colours(run, "rmsf").stops
    assert stops[0][0] == 0
    assert stops[-1][0] == pytest.approx(max(np.percentile(rmsf, 95), 0.5), abs=0.01)


def test_plddt_has_the_classes_of_the_alphafold_database(run):
    plddt = np.array([20.0, 50.0, 69.9, 70.0, 90.0, 100.0])
    structure = replace(run.structure, plddt=np.resize(plddt, run.n_residues))
    colours = residue_colours(_with_structure(run, structure), "plddt")
    found = [next(c for low, high, c in colours.bands if low <= value < high) for value in plddt]
    assert found == ["#FF7D45", "#FFDB13", "#FFDB13", "#65CBF3", "#0053D6", "#0053D6"]
    with pytest.raises(InputError, match="has no pLDDT; colour by segment or rmsf"):
        residue_colours(run, "plddt")


def test_the_map_is_copied_and_one_elsewhere_or_none_is_refused(run, consensus, tmp_path):
    chosen = select_kmeans(run, 2)
    scene = export_scene(run, chosen, tmp_path / "scene", consensus)
    assert (tmp_path / "scene" / "consensus.mrc").read_bytes() == consensus.read_bytes()
    assert [path.name for path in scene.files] == ["models.cif", "consensus.mrc", "scene.cxc", "scene.pml"]
    write_volume(tmp_path / "far.mrc", np.ones((8, 8, 8), np.float32), 1.0, (5000.0, 0, 0))
    (tmp_path / "text.mrc").write_text("no map")
    for name, words in (("far.mrc", "no residue of"), ("text.mrc", "text.mrc"), ("absent.mrc", "absent.mrc")):
        with pytest.raises(InputError, match=words):
            export_scene(run, chosen, tmp_path / "other", tmp_path / name)
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="--overwrite"):
        export_scene(run, chosen, tmp_path / "scene", consensus)


def _pymol():
    """PyMOL with the Python it belongs to."""
    program = shutil.which("pymol", path="/usr/bin") or shutil.which("pymol")
    if program is None:
        pytest.skip("PyMOL is not installed (apt install pymol)")
    return program


@pytest.mark.parametrize("colour_by", ["segment", "rmsf"])
def test_pymol_runs_the_script_from_another_folder(run, consensus, tmp_path, colour_by):
    program = _pymol()
    folder = tmp_path / "scene ü 1"
    chosen = select_traversal(run, 1, 4)
    export_scene(run, chosen, folder, consensus, colour_by)
    # PyMOL makes up an atom for the residue that chain A lacks.
    atoms, space = '"models and not (chain A and resi 12)"', '{"seen": seen, "cmd": cmd}'
    found = 'cmd.count_states("models"), cmd.count_frames(), cmd.get_names(), sorted(seen)'
    lines = [f"@{folder / 'scene.pml'}", "mstop", "python", "seen = set()"]
    lines.append(f'cmd.iterate({atoms}, "seen.add(cmd.get_color_tuple(color))", space={space})')
    lines += [f'print("FOUND", {found}, flush=True)', "python end", "quit"]
    check = tmp_path / "check.pml"
    check.write_text("\n".join(lines) + "\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [program, "-cq", str(check)], cwd="/", env=environment, capture_output=True, text=True, timeout=120
    )
    assert "Error" not in done.stdout + done.stderr
    ((n_states, n_frames, objects, seen),) = re.findall(
        r"^FOUND (\d+) (\d+) \[(.*?)\] \[(.*)\]$", done.stdout, re.MULTILINE
    )
    assert (n_states, n_frames, objects) == ("4", "6", "'consensus', 'surface', 'models'")
    colours = re.findall(r"\(([^)]*)\)", seen)
    if colour_by == "segment":
        expected = {segment_colour(int(label)) for label in hard_segments(run.segment_weights())}
        assert {"#" + "".join(f"{round(255 * float(x)):02X}" for x in c.split(", ")) for c in colours} == expected
    else:
        assert len(colours) > 3
