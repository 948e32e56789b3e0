"""Multi-model PDB files, format 3.3 (www.wwpdb.org); names and populations of the models are remarks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import numpy as np

from cryosphere.errors import InputError
from cryosphere.io.structure_sites import WRITTEN_BY, ModelLabels, Sites, record_groups

PDB_MAX_SERIAL = 99999
PDB_MAX_MODELS = 9999
PDB_RESIDUE_NUMBERS = (-999, 9999)
PDB_COORDINATES = (-999.9995, 9999.9995)


def check_fits_pdb(path: Path, sites: Sites) -> None:
    """Refuse what the columns of a PDB file cannot hold."""
    structure, low, high = sites.structure, *PDB_RESIDUE_NUMBERS
    numbers = structure.residue_numbers
    n_records = len(sites.names) + int(sites.run_of_residue[-1]) + 1
    problems = (
        (n_records > PDB_MAX_SERIAL, f"{n_records} atom records, at most {PDB_MAX_SERIAL} fit"),
        (np.char.str_len(structure.chain_ids).max() > 1, "chain names of more than one letter"),
        (np.char.str_len(structure.residue_names).max() > 3, "residue names of more than three letters"),
        (numbers.min() < low or numbers.max() > high, f"residue numbers outside {low} to {high}"),
    )
    for is_problem, found in problems:
        if is_problem:
            raise InputError(f"{path} cannot be a PDB file: the structure has {found}; use a .cif name.")


def write_pdb(
    file: TextIO,
    path: Path,
    sites: Sites,
    models: Iterable[tuple[int, np.ndarray]],
    labels: ModelLabels,
) -> None:
    """Write MODEL blocks with a TER after every polymer."""
    file.write(f"REMARK   6 WRITTEN BY {WRITTEN_BY}\n")
    for number, name, share, std in labels.rows():
        file.write(f"REMARK   6 MODEL {number} NAME {name} POPULATION {share} SD {std}\n")
    low, high = PDB_COORDINATES
    before, after, terminators = _pdb_site_text(sites)
    for number, coordinates in models:
        if number > PDB_MAX_MODELS:
            raise InputError(f"{path} cannot hold more than {PDB_MAX_MODELS} models; use a .cif name.")
        if coordinates.min() <= low or coordinates.max() >= high:
            raise InputError(
                f"{path} cannot hold coordinates outside {low:.0f} to {high:.0f} Å (model {number}); use a .cif name."
            )
        lines = [f"MODEL     {number:4d}\n"]
        for row, (x, y, z) in enumerate(coordinates.tolist()):
            lines.append(f"{before[row]}{x:8.3f}{y:8.3f}{z:8.3f}{after[row]}\n{terminators.get(row, '')}")
        lines.append("ENDMDL\n")
        file.write("".join(lines))
    file.write("END\n")


def _pdb_site_text(sites: Sites) -> tuple[list[str], list[str], dict[int, str]]:
    """Columns 1-30 and 55-80 of every site, and the TER records after the last site of each polymer."""
    structure, groups = sites.structure, record_groups(sites.structure)
    before, after, terminators = [], [], {}
    serial = 0
    runs = sites.run_of_residue[sites.residue_index]
    for site, (name, element, b_factor, row) in enumerate(
        zip(sites.names, sites.elements, sites.b_factors, sites.residue_index, strict=True)
    ):
        serial += 1
        symbol = str(element).upper()
        # A one-letter element stands in column 14, so that CA is no calcium.
        padded = f" {name:<3}" if len(symbol) == 1 and len(name) < 4 else f"{name:<4}"
        place = (
            f"{structure.residue_names[row]:>3} {structure.chain_ids[row]:1}"
            f"{structure.residue_numbers[row]:4d}{structure.insertion_codes[row]:1}"
        )
        before.append(f"{groups[row]:<6}{serial:5d} {padded} {place}   ")
        after.append(f"{1.0:6.2f}{min(b_factor, 999.99):6.2f}          {symbol:>2}")
        if structure.kinds[row] != "ligand" and (site + 1 == len(runs) or runs[site + 1] != runs[site]):
            serial += 1
            terminators[site] = f"TER   {serial:5d}      {place}\n"
    return before, after, terminators
