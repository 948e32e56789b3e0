"""Options about where images lie, shared by commands."""

from __future__ import annotations

import os

import click


def _parse_path_map(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Mapping from ``OLD=NEW`` items."""
    mapping = {}
    for value in values:
        old, equals, new = value.partition("=")
        if not (old and equals):
            raise click.BadParameter(f"expected OLD=NEW, found {value!r}.")
        mapping[old] = os.path.abspath(os.path.expanduser(new)) if new else ""
    return mapping


path_map_option = click.option(
    "--path-map",
    multiple=True,
    metavar="OLD=NEW",
    callback=_parse_path_map,
    help="Stack paths that begin with the folder OLD begin with NEW now; repeatable.",
)
