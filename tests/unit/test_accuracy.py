"""The accuracy benchmark with tiny cells and a stand-in for training whose errors are known."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cryosphere.config_files import parse_config
from cryosphere.errors import ConfigError, RunError
from cryosphere.io.star import read_particles
from cryosphere.io.structures import read_structure
from cryosphere.pipelines import accuracy, accuracy_cells
from cryosphere.pipelines.accuracy_cells import CELLS, SIZES, Bar, Cell, Size, cell_settings, choose_cells
from cryosphere.pipelines.accuracy_families import FAMILIES, Family, Inputs
from cryosphere.pipelines.accuracy_table import MEASURES, judge, write_table
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.run import Run
from cryosphere.simulation.acquisition import check_settings
from cryosphere.simulation.frames import rmsd
from cryosphere.simulation.hinges import Hinge, hinge_conformations
from cryosphere.simulation.matching import atoms_of_residues, take_residues
from cryosphere.simulation.shipped_data import shipped_path
from cryosphere.simulation.truth import read_truth

N_IMAGES, N_STATES = 40, 5


def _helix_end(_: Inputs):
    """The last 40 residues of adenylate kinase, ten of which turn."""
    structure = read_structure(shipped_path("adk/closed.cif"))
    rows = np.arange(174, 214)
    part = take_residues(structure, rows, atoms_of_residues(structure, rows))
    hinge = Hinge("A:205-214", (0.0, 1.6), np.array([0.0, 0, 1]), part.residue_positions[29])
    return hinge_conformations(part, [hinge], N_STATES)


class _StandInRun(Run):
    """Knows the state of every image but for an error of a quarter of a step; its latent is the state's number."""

    def __init__(self, folder) -> None:
        config = json.loads((folder / "stand_in.json").read_text())
        star = config["particles"]["file"]
        self.layout, self.epoch = RunLayout(folder), 7
        self.table, self.structure = read_particles(star), read_structure(config["structure"]["file"])
        self.truth = read_truth(accuracy.Path(star).parent / "truth")
        n = len(self.truth.state)
        mean = (self.truth.state + 0.25 * (-1.0) ** np.arange(n))[:, None]
        self.posterior = SimpleNamespace(index=np.arange(n), mean=mean, covariance=np.full((n, 1, 1), 1e-6))

    latent_dim = 1
    segment_names = ("rest", "end")

    @classmethod
    def load(cls, folder, device="cpu"):
        return cls(folder)

    def decode(self, latent):
        states = self.truth.coordinates
        place = np.asarray(latent)[:, 0].clip(0, len(states) - 1)
        lower = np.floor(place).astype(int).clip(max=max(len(states) - 2, 0))
        upper = np.minimum(lower + 1, len(states) - 1)
        part = (place - lower)[:, None, None]
        return ((1 - part) * states[lower] + part * states[upper]).astype(np.float32)

    decode_sites = decode

    @property
    def nominal_sites(self):
        return self.structure.residue_positions

    def expected_coordinates(self, rows=None, batch_size=256):
        rows = np.arange(len(self.posterior.index)) if rows is None else rows
        yield rows, self.decode(self.posterior.mean[rows])

    def sample_posterior(self, rows, n_samples, seed=0):
        noise = np.random.default_rng(seed).normal(size=(len(rows), n_samples, 1))
        return self.posterior.mean[rows][:, None] + 0.2 * noise

    def segment_weights(self):
        return np.repeat(np.eye(2), [30, 10], axis=0)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Tiny cells and size, the stand-in in place of training, and a clock that only training moves."""
    calls, clock = [], SimpleNamespace(now=0.0, fail=False)

    def train(config, run_folder, **options):
        calls.append((config, run_folder, options))
        if clock.fail:
            raise KeyboardInterrupt
        epochs = config["training"].get("epochs")
        clock.now += 330.0 if epochs is None else 60.0 * epochs
        run_folder.mkdir(parents=True, exist_ok=True)
        (run_folder / "stand_in.json").write_text(json.dumps(config))

    monkeypatch.setattr(accuracy, "train", train)
    monkeypatch.setattr(accuracy, "Run", _StandInRun)
    monkeypatch.setattr(accuracy, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr("cryosphere.evaluation.evaluate.ensure_posterior", lambda run, progress: run)
    monkeypatch.setitem(SIZES, "tiny", Size(N_IMAGES, 32))
    monkeypatch.setitem(FAMILIES, "tiny", Family(make=_helix_end, pixel_size={"tiny": 2.5}))
    monkeypatch.setitem(FAMILIES, "igg-only", Family(make=_helix_end, needs="igg", pixel_size={"tiny": 2.5}))
    cell = Cell(
        name="t-0.1",
        label="tiny",
        title="the end of adenylate kinase turns",
        family="tiny",
        snr=0.1,
        bars=(Bar("ratio_to_limit", high=100.0), Bar("ari", low=0.9), Bar("changed_bonds_percent", high=-1.0)),
        most_seeds=2,
        with_paper=True,
    )
    folder = tmp_path / "bench"

    def run(cells=(cell,), **options):
        return accuracy.run_suite(folder, list(cells), size="tiny", show_progress=False, device="cpu", **options)

    return SimpleNamespace(run=run, cell=cell, folder=folder, calls=calls, clock=clock)


def test_a_static_cell_has_no_limit_to_compare_with(bench, monkeypatch):
    def still(inputs):
        states = _helix_end(inputs)
        return replace(states, residue_positions=states.residue_positions[:1], atom_positions=states.atom_positions[:1])

    monkeypatch.setitem(FAMILIES, "still", Family(make=still, pixel_size={"tiny": 2.5}))
    cell = Cell(**{**vars(bench.cell), "family": "still", "bars": (Bar("rmsd_to_nominal", high=0.5),)})
    suite = bench.run([cell], seeds=1)
    measures = suite.results[0]["seeds"][0]["measures"]
    assert measures["rmsd_to_nominal"] < 1e-2
    assert [measures[key] for key in ("ratio_to_limit", "ratio_to_best_single", "inside_50_percent")] == [None] * 3
    assert (measures["limit"], measures["population_error_points"]) == (pytest.approx(0, abs=1e-6), 0.0)
    assert "1 of 1 measured bars met" in suite.table


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_cell_is_simulated_trained_and_scored(bench):
    suite = bench.run()
    assert [call[0]["training"]["seed"] for call in bench.calls] == [1, 2]
    images = bench.folder / "t-0.1" / "seed-1" / "set"
    config, _, options = bench.calls[0]
    assert config == {
        "particles": {"file": str(images / "particles.star")},
        "structure": {"file": str(images / "nominal.cif")},
        "training": {"seed": 1},
    }
    assert options["device"] == "cpu"
    result = _read(bench.folder / "t-0.1" / "result.json")
    assert suite.results == (result,)
    assert [seed["seed"] for seed in result["seeds"]] == [1, 2]
    first = result["seeds"][0]
    assert (first["minutes"], first["n_segments"], first["latent_dim"], first["epoch"]) == (5.5, 2, 1, 7)
    # The stand-in's error is a quarter of the distance to the next state, but 0 where it is cut at the ends.
    truth = read_truth(images / "truth")
    states = truth.coordinates.astype(float)
    step = float(rmsd(states[1], states[0]))
    inside = (truth.state + np.where(np.arange(N_IMAGES) % 2 == 0, 1, -1)).clip(0, N_STATES - 1) != truth.state
    assert first["measures"]["rmsd"] == pytest.approx(0.25 * step * inside.mean(), rel=1e-3)
    with np.load(images.parent / "limit.npz") as limit:
        expected = 0.25 * step * inside[limit["rows"]].mean() / limit["rmsd"].mean()
    assert first["measures"]["ratio_to_limit"] == pytest.approx(expected, rel=1e-3)
    assert first["measures"]["ari"] == 1.0


def test_results_table_and_picture_are_written(bench):
    suite = bench.run()
    content = _read(bench.folder / "results.json")
    assert [cell["name"] for cell in content["cells"]] == ["t-0.1"]
    assert {bar["measure"]: bar["met"] for bar in content["bars"]} == {
        "ratio_to_limit": True,
        "ari": True,
        "changed_bonds_percent": False,
    }
    assert (bench.folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "2 of 3 measured bars met" in suite.table
    assert "the end of adenylate kinase turns; SNR 0.1, 2 seeds" in suite.table


def test_what_is_there_is_kept(bench):
    bench.run(seeds=1)
    bench.run()
    bench.run()
    assert [call[0]["training"]["seed"] for call in bench.calls] == [1, 2]
    # A run without a result is scored again, not trained again.
    seed = bench.folder / "t-0.1" / "seed-2"
    before = (seed / "result.json").read_text()
    (seed / "result.json").unlink()
    bench.run()
    assert len(bench.calls) == 2
    assert (seed / "result.json").read_text() == before


def test_an_interrupted_training_starts_again_on_the_same_images(bench, monkeypatch):
    bench.clock.fail = True
    with pytest.raises(KeyboardInterrupt):
        bench.run(seeds=1)
    bench.clock.fail = False

    def refuse(*arguments, **options):
        raise AssertionError("made again")

    monkeypatch.setattr(accuracy, "simulate", refuse)
    monkeypatch.setattr(accuracy, "bayes_limit", refuse)
    assert len(bench.run(seeds=1).results[0]["seeds"]) == 1
    assert [call[2]["overwrite"] for call in bench.calls] == [True, True]


def test_the_papers_preset_gets_the_same_images_and_the_same_time(bench):
    result = bench.run(seeds=1, paper=True).results[0]
    _, (probe, probe_folder, options), (config, folder, _) = bench.calls
    images = str(bench.folder / "t-0.1" / "seed-1" / "set" / "particles.star")
    assert probe["particles"]["file"] == config["particles"]["file"] == images
    assert (probe["training"]["epochs"], options["posterior"]) == (1, False)
    # The default took 330 s and an epoch takes 60 s.
    assert config["training"]["epochs"] == 5
    assert config["model"] == {"preset": "paper"}
    assert not probe_folder.exists()
    assert folder.is_dir()
    assert result["paper"]["minutes"] == 5.0
    # Asked for later, it is added to what is there.
    assert "the paper's preset" not in (bench.folder / "results.json").read_text()
    bench.run(seeds=1, paper=True)
    assert len(bench.calls) == 3


def test_configuration_of_a_cell_reaches_training(bench):
    cell = Cell(
        name="t-poses",
        label="tiny",
        title="tiny",
        family="tiny",
        snr=0.1,
        config={"particles": {"refine_poses": True}, "training": {"epochs": 2}},
        simulation={"rotation_error_deg": 3.0},
    )
    bench.run([cell])
    config = bench.calls[0][0]
    assert config["particles"].keys() == {"file", "refine_poses"}
    assert config["training"] == {"seed": 1, "epochs": 2}
    assert (bench.folder / "t-poses" / "seed-1" / "set" / "truth" / "rotmat.npy").is_file()


def test_other_settings_and_other_folders_are_refused(bench):
    bench.run(seeds=1)
    changed = Cell(**{**vars(bench.cell), "snr": 0.2})
    with pytest.raises(RunError, match=r"made with other settings.*--overwrite"):
        bench.run([changed])
    assert bench.run([changed], seeds=1, overwrite=True).results[0]["snr"] == 0.2
    thesis = bench.folder / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="not of this benchmark"):
        bench.run([Cell(**{**vars(bench.cell), "name": "thesis"})], overwrite=True)
    assert (thesis / "chapter.txt").exists()


def test_cells_without_their_structure_are_left_out(bench):
    needy = Cell(**{**vars(bench.cell), "name": "i-0.1", "family": "igg-only"})
    said = []
    suite = bench.run([needy, bench.cell], seeds=1, say=said.append)
    assert [result["name"] for result in suite.results] == ["t-0.1"]
    assert said[0] == "i-0.1 is left out: it needs PDB 1IGY (--igg)."
    with pytest.raises(ConfigError, match=r"No cell can be run.*--igg"):
        bench.run([needy])


def _result(name, size="small", seeds=(1,), **measures):
    return {
        "name": name,
        "title": name,
        "size": size,
        "snr": 0.1,
        "paper": None,
        "seeds": [
            {"seed": seed, "measures": {key: value[i] for key, value in measures.items()}}
            for i, seed in enumerate(seeds)
        ],
    }


def _cell(name, *bars, clean=None):
    return Cell(name=name, label=name, title=name, family="adk", snr=0.1, bars=bars, clean=clean)


def test_every_seed_has_to_meet_a_bar():
    cells = {"x": _cell("x", Bar("ari", low=0.9), Bar("inside_50_percent", 40, 60), Bar("rmsd", high=1.0))}
    found = _result("x", seeds=(1, 2), ari=(0.95, 0.89), inside_50_percent=(40.0, 60.0), rmsd=(None, 0.5))
    assert [verdict.met for verdict in judge([found], cells)] == [False, True, None]


def test_time_counts_for_small_sets_only():
    cells = {"x": _cell("x", Bar("minutes", high=20))}
    assert [v.met for v in judge([_result("x", minutes=(21.0,))], cells)] == [False]
    assert judge([_result("x", size="full", minutes=(21.0,))], cells) == []


def test_pose_errors_are_compared_with_the_same_seed_of_the_clean_cell():
    cells = {"clean": _cell("clean"), "g": _cell("g", Bar("ratio_to_clean", high=1.5), clean="clean")}
    clean, wrong = _result("clean", seeds=(1, 2), rmsd=(1.0, 2.0)), _result("g", seeds=(2,), rmsd=(2.9,))
    (verdict,) = judge([clean, wrong], cells)
    assert (verdict.values, verdict.met) == ((1.45,), True)
    assert judge([wrong], cells)[0].met is None


def test_the_table_shows_means_the_worst_seed_and_the_paper():
    own = {key: (1.0, 3.0) for key in MEASURES}
    result = _result("c-0.1", seeds=(1, 2), **own)
    result["paper"] = {"seed": 1, "measures": dict.fromkeys(MEASURES, 7.0)}
    cells = {"c-0.1": _cell("c-0.1", Bar("ratio_to_limit", high=1.5), Bar("ari", low=0.9))}
    lines = write_table([result], judge([result], cells)).splitlines()
    assert lines[1].split()[:6] == ["c-0.1", "2.00", "(3.00)", "2.00", "2.00", "(3.00)"]
    assert lines[2].split()[:4] == ["paper's", "preset", "7.00", "7.00"]
    assert "    not met       c-0.1\N{NO-BREAK SPACE}3.00" in lines
    assert "    met           c-0.1\N{NO-BREAK SPACE}1.00" in lines
    assert lines[1].split()[-2:] == ["1–3", "1–3"]
    assert max(map(len, lines)) <= 130


def test_cells_are_chosen_by_name_and_letter():
    names = [cell.name for cell in CELLS]
    assert [cell.name for cell in choose_cells("all")] == names
    assert [cell.name for cell in choose_cells("e, c-0.1,c-0.1")] == ["c-0.1", "e-0.01"]
    assert [cell.name for cell in choose_cells("c")] == [name for name in names if name.startswith("c-")]
    with pytest.raises(ConfigError, match=r"no cell 'z'.*a-0\.1"):
        choose_cells("c,z")
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("size", ["small", "full"])
def test_settings_and_configurations_of_all_cells_are_valid(size, tmp_path):
    files = {"particles": {"file": "p.star"}, "structure": {"file": "s.cif"}}
    for cell in CELLS:
        n_states = len(cell.simulation.get("populations", range(100)))
        check_settings(cell_settings(cell, size, 1, n_states), n_states)
        values = {**cell.config, **{key: {**value, **cell.config.get(key, {})} for key, value in files.items()}}
        parse_config(values, tmp_path, check_files=False)


def test_pose_errors_are_three_degrees_and_one_angstrom_in_all():
    simulation = choose_cells("g-0.1")[0].simulation
    assert math.sqrt(3) * simulation["rotation_error_deg"] == pytest.approx(accuracy_cells.ROTATION_ERROR_DEG)
    assert math.sqrt(2) * simulation["shift_error"] == pytest.approx(accuracy_cells.SHIFT_ERROR_A)
