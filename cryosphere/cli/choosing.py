"""Options that choose particles, shared by commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

_OPTIONS = (
    click.option(
        "--select", metavar="EXPR", help="Only particles for which this holds: 'rlnClassNumber in [1, 3]' (any column)."
    ),
    click.option(
        "--index-file",
        type=click.Path(path_type=Path),
        help="Only these rows of PARTICLES, from 0: text with one per line, or an integer .npy.",
    ),
    click.option("--subset", type=click.Path(path_type=Path), help="Only images that this other STAR file has too."),
)


def choosing_options(function: Callable) -> Callable:
    """Add ``--select``, ``--index-file`` and ``--subset``; several together must all hold."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def choosing_overrides(select: str | None, index_file: Path | None, subset: Path | None) -> tuple[str, ...]:
    """The options as overrides of configuration keys; paths are those of the command line, not of the configuration."""
    values = {
        "select": select,
        "index_file": None if index_file is None else str(index_file.absolute()),
        "subset": None if subset is None else str(subset.absolute()),
    }
    return tuple(f"particles.{key}={json.dumps(value)}" for key, value in values.items() if value is not None)
