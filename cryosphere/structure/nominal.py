"""The nominal structure as the configuration asks for it."""

from __future__ import annotations

from pathlib import Path

from cryosphere.config import StructureConfig
from cryosphere.io.structures import read_structure
from cryosphere.records import ParticleTable, Structure
from cryosphere.structure.placement import place


def read_nominal(config: StructureConfig, table: ParticleTable, file: Path | None = None) -> Structure:
    """Read the nominal structure and place it in the model frame.

    Parameters
    ----------
    config : StructureConfig
    table : ParticleTable
        Of the particles, in whose map the structure lies.
    file : Path, optional
        In place of ``config.file``.

    Raises
    ------
    InputError, ConfigError
        As :func:`cryosphere.io.structures.read_structure` and :func:`cryosphere.structure.placement.place`.
    """
    structure = read_structure(
        config.file if file is None else file,
        sigma=config.sigma,
        assembly=config.assembly,
        ligands=config.ligands,
        min_plddt=config.min_plddt,
    )
    return place(structure, config.origin, table.box_size, table.pixel_size, table.file_box_centres)
