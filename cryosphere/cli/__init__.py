"""The ``cryosphere`` command: parse, make one call into the package, print."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from cryosphere.errors import CryosphereError

# OpenMP threads that spin while they wait slow a shared machine down many times over; on an idle one a short spin
# costs nothing. Must be set before torch is imported; what the user has set wins.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_OUT_OF_MEMORY = (
    "the GPU's memory is full. Other programs may be using it; smaller training.n_nodes, inference.n_conformations or "
    "training.batch_size, or larger pixels (particles.pixel_size), take less; --device cpu takes none."
)

_COMMANDS = {
    "demo": "the whole method on adenylate kinase, from nothing, in minutes",
    "init": "write a commented configuration for your particles and structure",
    "check": "whether particles, CTF, poses and structure belong together",
    "fit": "place a structure in a map, in the right hand",
    "simulate": "particle sets with known truth",
    "train": "learn segments and motions from particle images",
    "analyze": "motions, states, free energy, RMSF: tables and plots",
    "export": "coordinates, ensembles, volumes, and particles for RELION or cryoSPARC",
    "report": "one HTML page about a run, to read, print and send",
    "view": "a run in a napari window: conformations, particles, map",
    "evaluate": "score a run against known truth",
    "benchmark": "how accurate this installation is on sets with known truth",
}


class _LazyGroup(click.Group):
    """Loads a command's module when the command is called, and turns the package's errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return importlib.import_module(f"cryosphere.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def main(self, *args: Any, **options: Any) -> Any:
        """As click does it; but the failure of one of several processes ends it at once."""
        try:
            return super().main(*args, **options)
        except BaseException as error:
            processes = sys.modules.get("cryosphere.distributed")  # not imported, not joined
            status = error.code if isinstance(error, SystemExit) else 1
            if processes is not None and processes.count() > 1 and status:
                if not isinstance(error, SystemExit):
                    traceback.print_exc()
                processes.abandon(1 if isinstance(error, SystemExit) else processes.CRASHED)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CryosphereError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)
        except RuntimeError as error:  # torch.OutOfMemoryError, without importing torch for commands that do not
            if ctx.params.get("debug") or type(error).__name__ != "OutOfMemoryError":
                raise
            click.echo(f"Error: {_OUT_OF_MEMORY}", err=True)
            sys.exit(1)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cryosphere")
@click.option("--debug", is_flag=True, help="Show the traceback of errors.")
def main(debug: bool) -> None:
    """Conformational ensembles from single-particle cryo-EM images and a nominal structure.

    \b
    Try it:          cryosphere demo -o demo
    On your data:    cryosphere init particles.star model.cif -o config.yaml
                     cryosphere check config.yaml
                     cryosphere train config.yaml -o run1
                     cryosphere analyze run1
    """
