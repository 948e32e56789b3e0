"""A first configuration from the input files themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.config import StructureConfig
from cryosphere.config_files import template
from cryosphere.io.atomic import atomic_output
from cryosphere.io.mrc import read_volume
from cryosphere.io.particles import read_particles
from cryosphere.particles.chosen import chosen_particles
from cryosphere.records import ParticleTable
from cryosphere.structure.nominal import read_nominal


def write_template(
    particles: Path,
    structure: Path,
    datadir: Path | None,
    output: Path,
    overwrite: bool = False,
    settings: dict[tuple[str, str], Any] | None = None,
    path_map: Mapping[str, str] | None = None,
    select: str | None = None,
    index_file: Path | None = None,
    subset: Path | None = None,
    map_file: Path | None = None,
) -> list[str]:
    """Read both inputs and write a commented YAML configuration, with ``settings`` by (section, key) set in it.

    ``select``, ``index_file`` and ``subset`` choose particles (:mod:`cryosphere.particles.chosen`), which is tried now
    and goes into the configuration. With ``map_file``, the map in whose frame the structure lies, ``structure.origin``
    is the middle of that map.

    Returns
    -------
    list of str
        Sentences for the user: what was read, and the readers' notes.

    Raises
    ------
    InputError
        An input cannot be used, or ``output`` exists.
    """
    table = read_particles(particles, datadir, path_map or {})
    table = chosen_particles(table, select=select, index_file=index_file, subset=subset)
    origin, map_notes = (None, []) if map_file is None else _map_centre(map_file, table)
    asked = {key: value for (section, key), value in (settings or {}).items() if section == "structure"}
    asked |= {} if origin is None else {"origin": origin}
    nominal = read_nominal(StructureConfig(file=structure, **asked), table)
    n_ligands = nominal.n_residues - nominal.n_polymer_residues
    chains = dict.fromkeys(nominal.chain_ids[: nominal.n_polymer_residues].tolist())
    groups = len(table.optics_group_names)
    facts = [
        f"{table.n_particles} particles, box {table.box_size} px, {table.pixel_size:.4g} Å/px, "
        f"{groups} optics group{'s' if groups > 1 else ''}",
        f"{nominal.n_polymer_residues} residues in chains {', '.join(chains)}"
        + (f", {n_ligands} ligand Gaussian{'s' if n_ligands > 1 else ''}" if n_ligands else ""),
    ]
    folder = os.path.dirname(os.path.abspath(output))

    def relative(path: Path) -> str:
        return os.path.relpath(os.path.abspath(path.expanduser()), folder)

    given = {
        ("particles", "file"): relative(particles),
        ("particles", "datadir"): relative(datadir) if datadir else None,
        ("particles", "path_map"): dict(path_map) if path_map else None,
        ("particles", "select"): select,
        ("particles", "index_file"): relative(index_file) if index_file else None,
        ("particles", "subset"): relative(subset) if subset else None,
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
