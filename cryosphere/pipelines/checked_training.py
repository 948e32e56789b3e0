"""Training with the quick check of its inputs as the first step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from cryosphere.config import Config
from cryosphere.preflight.check import quick_check
from cryosphere.runs.run import Run
from cryosphere.training import train as training


def train(config: Config | Path | str | dict, run_folder: Path | str, *, check: bool = True, **options: Any) -> Run:
    """Say what the run takes, compare images and structure, then train a model and write the run folder.

    Parameters
    ----------
    config : Config, path of a YAML file, or mapping of sections
        Paths in a mapping are relative to the current folder.
    run_folder : path
        Made by this call; must not exist unless ``resume`` or ``overwrite``.
    check : bool
        Whether to begin with :func:`~cryosphere.preflight.check.quick_check`, which refuses inputs that certainly do
        not belong together, and runs that do not fit into memory or disk.
    **options
        ``resume``, ``overwrite``, ``device``, ``posterior``, ``show_progress`` and ``say`` of
        :func:`cryosphere.training.train.train`.

    Raises
    ------
    InputError, ConfigError, RunError
        Inputs, configuration or folder cannot be used, or the loss was not finite.
    """
    quick = partial(quick_check, run_folder=Path(run_folder), device=options.get("device"))
    return training.train(config, run_folder, check=quick if check else None, **options)
