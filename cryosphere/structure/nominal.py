"""The nominal structure as the configuration asks for it."""

from __future__ import annotations

from pathlib import Path

from cryosphere.config import StructureConfig
from cryosphere.io.structures import read_structure
from cryosphere.records import Structure
from cryosphere.structure.placement import place


def read_nominal(config: StructureConfig, box_size: int, pixel_size: float, file: Path | None = None) -> Structure:
    """Read the nominal structure and place it in the model frame.

    Parameters
    ----------
    config : StructureConfig
    box_size, pixel_size : int (pixels), float (Å)
        Of the particles.
    file : Path, optional
        In place of ``config.file``.

    Raises
    ------
    InputError
        As :func:`cryosphere.io.structures.read_structure`.
    """
    structure = read_structure(
        config.file if file is None else file,
        sigma=config.sigma,
        assembly=config.assembly,
        ligands=config.ligands,
        min_plddt=config.min_plddt,
    )
    return place(structure, config.origin, box_size, pixel_size)
