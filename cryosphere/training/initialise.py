"""A first configuration from the input files themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.config_files import template
from cryosphere.io.atomic import atomic_output
from cryosphere.io.mrc import read_volume
from cryosphere.io.star import read_particles
from cryosphere.io.structures import read_structure
from cryosphere.records import ParticleTable
from cryosphere.structure.placement import place


def write_template(
    particles: Path,
    structure: Path,
    datadir: Path | None,
    output: Path,
    overwrite: bool = False,
    settings: dict[tuple[str, str], Any] | None = None,
    map_file: Path | None = None,
) -> list[str]:
    """Read both inputs and write a commented YAML configuration, with ``settings`` by (section, key) set in it.

    With ``map_file``, the map in whose frame the structure lies, ``structure.origin`` is the middle of that map.

    Returns
    -------
    list of str
        Sentences for the user: what was read, and the readers' notes.

    Raises
    ------
    InputError
        An input cannot be used, or ``output`` exists.
    """
    table = read_particles(particles, datadir)
    origin, map_notes = (None, []) if map_file is None else _map_centre(map_file, table)
    nominal = place(read_structure(structure), origin or "auto", table.box_size, table.pixel_size)
    groups = len(table.optics_group_names)
    facts = [
        f"{table.n_particles} particles, box {table.box_size} px, {table.pixel_size:.4g} Å/px, "
        f"{groups} optics group{'s' if groups > 1 else ''}",
        f"{nominal.n_residues} residues in chains {', '.join(dict.fromkeys(nominal.chain_ids.tolist()))}",
    ]
    folder = os.path.dirname(os.path.abspath(output))

    def relative(path: Path) -> str:
        return os.path.relpath(os.path.abspath(path.expanduser()), folder)

    given = {
        ("particles", "file"): relative(particles),
        ("particles", "datadir"): relative(datadir) if datadir else None,
        ("structure", "file"): relative(structure),
        ("structure", "origin"): origin,
        **(settings or {}),
    }
    text = template(given, facts)
    with atomic_output(output, overwrite=overwrite) as temporary:
        temporary.write_text(text)
    return [*facts, *table.notes, *nominal.notes, *map_notes]


def _map_centre(path: Path, table: ParticleTable) -> tuple[list[float], list[str]]:
    """Middle of a map, and what is odd about its box: a cut or padded map need not be about the particles' centre."""
    density = read_volume(path)
    centre = [round(float(value), 4) for value in density.box_centre]
    lengths = np.array(density.volume.shape[::-1]) * density.pixel_size
    box = table.box_size * table.pixel_size
    if np.abs(lengths - box).max() <= density.pixel_size:
        return centre, []
    found = " x ".join(f"{length:.0f}" for length in lengths)
    return centre, [
        f"{path} is {found} Å wide, the particles' box {box:.0f} Å: the middle of the map is taken as the centre of "
        "the particles, which is wrong if the map was cut out of another; then use the map as it was refined."
    ]
