"""The accuracy benchmark: simulate, train, score against the truth and the Bayes limit, cell by cell, resumable.

A folder of the benchmark has a folder per cell: ``cell.json`` (what it is), ``seed-N/`` with the image set, the run
and its ``result.json``, ``paper/`` with the paper's preset on the images of seed 1, and ``result.json`` with all of
these. Whatever is there already is not made again. Beside them lie ``results.json`` and ``accuracy.png``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.config import choose_device
from cryosphere.errors import ConfigError, RunError
from cryosphere.evaluation.bayes_limit import bayes_limit
from cryosphere.evaluation.evaluate import evaluate, read_per_image
from cryosphere.io.atomic import atomic_output
from cryosphere.pipelines.accuracy_cells import CELLS, SIZES, Cell, cell_settings, missing_input
from cryosphere.pipelines.accuracy_families import FAMILIES, Inputs, check_inputs
from cryosphere.pipelines.accuracy_table import as_records, judge, measure, write_table
from cryosphere.pipelines.checked_training import train
from cryosphere.runs.run import Run
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.particles import NOMINAL, STAR, TRUTH, simulate
from cryosphere.simulation.progress import ProgressBars

PROGRAM = "cryosphere benchmark accuracy"
CELL, RESULT, RESULTS, PICTURE = "cell.json", "result.json", "results.json", "accuracy.png"
_SET, _RUN, _TRAINED, _LIMIT, _PAPER, _PROBE = "set", "run", "trained.json", "limit.npz", "paper", "probe"
# Images, evenly spread, for which the Bayes limit is computed, and those whose volumes are compared.
N_LIMIT_IMAGES, N_VOLUME_IMAGES = 1000, 100


@dataclass(frozen=True)
class Suite:
    """Results of all finished cells in a folder, in the order of the benchmark, and the table that tells them."""

    folder: Path
    results: tuple[dict[str, Any], ...]
    table: str


@dataclass(frozen=True)
class _Options:
    """What holds for all cells of a call."""

    size: str
    device: str
    show_progress: bool
    say: Callable[[str], None]


class _States:
    """Conformations of the cells; those of one family are kept, as making them may take a minute."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._family: str | None = None
        self._states: Conformations | None = None

    def __call__(self, cell: Cell) -> Conformations:
        """Conformations of a cell."""
        if self._states is None or self._family != cell.family:
            self._family, self._states = cell.family, FAMILIES[cell.family].make(self._inputs)
        return self._states


def run_suite(
    folder: Path | str,
    cells: list[Cell],
    *,
    size: str = "small",
    seeds: int = 3,
    paper: bool = False,
    inputs: Inputs | None = None,
    device: str = "auto",
    overwrite: bool = False,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda sentence: None,
) -> Suite:
    """Run cells of the accuracy benchmark; what the folder has of them already is kept.

    Parameters
    ----------
    folder : path
        Of this benchmark, old or new.
    cells : list of Cell
        Those that need an input that is not there are left out, and that is said.
    size : str
        ``small`` (10,000 images of 64 pixels, for two CPU cores) or ``full`` (100,000 of 128, for a GPU).
    seeds : int
        Seeds (of images and training) of those cells that are run more than once.
    paper : bool
        Train the paper's preset on the images of seed 1 too, in the cells that ask for it, for as many epochs as fit
        into the time that the default took.
    inputs : Inputs, optional
        Structures that do not come with the package.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    overwrite : bool
        Whether to remove what the folder has of these cells first.
    show_progress : bool
        Progress bars on stderr.
    say : callable
        Receives each sentence meant for the user.

    Raises
    ------
    ConfigError, InputError
        No cell is left, or a structure is not what the cells need.
    RunError
        The folder has other things under the cells' names, or cells made with other settings.
    """
    folder, inputs = Path(folder), inputs or Inputs()
    left_out = [sentence for cell in cells if (sentence := missing_input(cell, inputs))]
    cells = [cell for cell in cells if missing_input(cell, inputs) is None]
    if not cells:
        raise ConfigError(f"No cell can be run. {' '.join(dict.fromkeys(left_out))}")
    for sentence in left_out:
        say(sentence)
    check_inputs(inputs)
    for cell in cells:
        _open_cell(folder / cell.name, cell, size, overwrite)
    options, states = _Options(size, device, show_progress, say), _States(inputs)
    for cell in cells:
        _run_cell(folder / cell.name, cell, min(seeds, cell.most_seeds), paper, options, states)
    return _conclude(folder, size, cells)


def _open_cell(folder: Path, cell: Cell, size: str, overwrite: bool) -> None:
    """Make a cell's folder, or see that the one that is there is this cell's."""
    plan = _plan(cell, size)
    marker = folder / CELL
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.is_file():
            raise RunError(f"{folder}: exists and is not of this benchmark; choose another -o.")
        if not overwrite:
            if json.loads(marker.read_text(encoding="utf-8")) != plan:
                raise RunError(
                    f"{folder}: was made with other settings (see {marker.name}); pass --overwrite to replace it, or "
                    "another -o."
                )
            return
        shutil.rmtree(folder)
    _write_json(marker, plan)


def _plan(cell: Cell, size: str) -> dict[str, Any]:
    """All that a cell's results depend on besides the program and the structures, as JSON has it."""
    plan = {
        "program": PROGRAM,
        "name": cell.name,
        "family": cell.family,
        "size": {"name": size, **asdict(SIZES[size])},
        "pixel_size": FAMILIES[cell.family].pixel_size[size],
        "snr": cell.snr,
        "simulation": dict(cell.simulation),
        "config": dict(cell.config),
    }
    return json.loads(json.dumps(plan))


def _run_cell(folder: Path, cell: Cell, seeds: int, paper: bool, options: _Options, states: _States) -> None:
    """Do what is left of a cell, and gather its results."""
    for seed in range(1, seeds + 1):
        if not (folder / f"seed-{seed}" / RESULT).is_file():
            _run_seed(folder / f"seed-{seed}", cell, seed, options, states)
    if paper and cell.with_paper and not (folder / _PAPER / RESULT).is_file():
        _run_paper(folder, cell, options)
    finished = sorted(folder.glob(f"seed-*/{RESULT}"), key=lambda path: int(path.parent.name.split("-")[1]))
    result = {
        "name": cell.name,
        "title": cell.title,
        "size": options.size,
        "snr": cell.snr,
        "seeds": [_read_json(path) for path in finished],
        "paper": _read_json(folder / _PAPER / RESULT) if (folder / _PAPER / RESULT).is_file() else None,
    }
    _write_json(folder / RESULT, result)


def _run_seed(folder: Path, cell: Cell, seed: int, options: _Options, states: _States) -> None:
    """Simulate, compute the limit, train and score, each if it has not been done."""
    name = f"{cell.name}, seed {seed}"
    images = folder / _SET
    if not (images / STAR).is_file():
        options.say(f"{name}: simulate")
        conformations = states(cell)
        settings = cell_settings(cell, options.size, seed, conformations.n_states, options.device)
        with ProgressBars(options.show_progress) as progress:
            simulate(conformations, settings, images, progress=progress)
    if not (folder / _LIMIT).is_file():
        options.say(f"{name}: Bayes limit")
        with ProgressBars(options.show_progress) as progress:
            limit = bayes_limit(images, states(cell), n_images=N_LIMIT_IMAGES, device=options.device, progress=progress)
        with atomic_output(folder / _LIMIT) as temporary:
            np.savez(temporary, rows=limit.rows, rmsd=limit.rmsd)
    if not (folder / _TRAINED).is_file():
        options.say(f"{name}: train")
        _train(folder, _configuration(images, seed, cell.config), options)
    options.say(f"{name}: score")
    _score(folder, images, folder / _LIMIT, seed, options)


def _run_paper(folder: Path, cell: Cell, options: _Options) -> None:
    """Train the paper's preset on the images of seed 1 for as long as the default took, and score it."""
    images, own = folder / "seed-1" / _SET, folder / _PAPER
    if not (own / _TRAINED).is_file():
        name = f"{cell.name}, the paper's preset"
        options.say(f"{name}: time one epoch")
        start = time.perf_counter()
        train(
            _configuration(images, 1, cell.config, {"model": {"preset": "paper"}, "training": {"epochs": 1}}),
            own / _PROBE,
            overwrite=True,
            device=options.device,
            posterior=False,
            show_progress=options.show_progress,
        )
        minutes = (time.perf_counter() - start) / 60
        shutil.rmtree(own / _PROBE)
        epochs = max(1, int(_read_json(folder / "seed-1" / _TRAINED)["minutes"] / minutes))
        options.say(f"{name}: train, {epochs} epochs")
        changes = {"model": {"preset": "paper"}, "training": {"epochs": epochs}}
        _train(own, _configuration(images, 1, cell.config, changes), options)
    _score(own, images, folder / "seed-1" / _LIMIT, 1, options)


def _configuration(images: Path, seed: int, *changes: Any) -> dict[str, dict[str, Any]]:
    """Training configuration: the two files, the seed, and what is changed; everything else by default."""
    config: dict[str, dict[str, Any]] = {
        "particles": {"file": os.path.abspath(images / STAR)},
        "structure": {"file": os.path.abspath(images / NOMINAL)},
        "training": {"seed": seed},
    }
    for change in changes:
        for section, values in change.items():
            config[section] = {**config.get(section, {}), **values}
    return config


def _train(folder: Path, config: dict[str, dict[str, Any]], options: _Options) -> None:
    """Train with the posterior of every particle, and write down how long it took."""
    start = time.perf_counter()
    train(
        config,
        folder / _RUN,
        overwrite=True,
        device=options.device,
        show_progress=options.show_progress,
        say=options.say,
    )
    _write_json(folder / _TRAINED, {"minutes": (time.perf_counter() - start) / 60, "config": config})


def _score(folder: Path, images: Path, limit_file: Path, seed: int, options: _Options) -> None:
    """Write the result of one run."""
    run = Run.load(folder / _RUN, choose_device(options.device))
    scores = evaluate(
        run, images / TRUTH, overwrite=True, n_volumes=N_VOLUME_IMAGES, show_progress=options.show_progress
    ).as_dict()
    trained = _read_json(folder / _TRAINED)
    with np.load(limit_file) as stored:
        rows, limit = stored["rows"], stored["rmsd"]
    particles, rmsd = read_per_image(run)
    same_images = rmsd[np.searchsorted(particles, rows)]
    result = {
        "seed": seed,
        "minutes": trained["minutes"],
        "epoch": run.epoch,
        "n_segments": scores["segments"]["n_segments"],
        "latent_dim": run.latent_dim,
        "limit": {
            "mean": float(limit.mean()),
            "median": float(np.median(limit)),
            "n_images": len(limit),
            "rmsd_of_same_images": float(same_images.mean()),
        },
        "config": trained["config"],
        "scores": scores,
    }
    _write_json(folder / RESULT, {**result, "measures": measure(result)})


def _conclude(folder: Path, size: str, cells: list[Cell]) -> Suite:
    """Table, JSON and picture of all finished cells of one size in a folder."""
    known = {cell.name: cell for cell in (*CELLS, *cells)}
    found = [folder / name / RESULT for name in known]
    results = [result for path in found if path.is_file() and (result := _read_json(path))["size"] == size]
    verdicts = judge(results, known)
    content = {"program": PROGRAM, "size": size, "cells": results, "bars": as_records(verdicts)}
    _write_json(folder / RESULTS, content)
    from cryosphere.pipelines.accuracy_picture import draw

    draw(folder / PICTURE, results, known, overwrite=True)
    return Suite(folder, tuple(results), write_table(results, verdicts))


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _finite(value: Any) -> Any:
    """Copy with None in place of what is no finite number, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_output(path, overwrite=True) as temporary:
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
