"""Multi-model mmCIF and PDB files, written model by model, the same bytes for the same coordinates.

Formats: the PDBx/mmCIF dictionary (mmcif.wwpdb.org) and PDB format 3.3 (www.wwpdb.org).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import gemmi
import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.io.polymers import ANCHOR_NAMES
from cryosphere.records import Structure

# In every file that is written, so that its B factors are not taken for the confidence of a prediction.
WRITTEN_BY = "CRYOSPHERE"
MMCIF_SUFFIXES = (".cif", ".mmcif")
PDB_SUFFIXES = (".pdb", ".ent")
PDB_MAX_SERIAL = 99999
PDB_MAX_MODELS = 9999
PDB_RESIDUE_NUMBERS = (-999, 9999)
PDB_COORDINATES = (-999.9995, 9999.9995)

ATOM_SITE_COLUMNS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id "
    "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_comp_id auth_asym_id "
    "auth_atom_id pdbx_PDB_model_num"
).split()


@dataclass(frozen=True)
class _Sites:
    """The atoms that every model has: names, elements, B factors (Å²), residue rows, and their runs.

    A run is an uninterrupted stretch of rows of one chain and kind, or one ligand; it becomes an mmCIF entity.
    """

    structure: Structure
    names: np.ndarray
    elements: np.ndarray
    b_factors: Float[np.ndarray, " site"]
    residue_index: Int[np.ndarray, " site"]
    run_of_residue: Int[np.ndarray, " residue"]
    sequence_number: Int[np.ndarray, " residue"]


@dataclass(frozen=True)
class _ModelLabels:
    """Optional name and population of every model."""

    names: Sequence[str] | None
    populations: Sequence[float] | np.ndarray | None

    def rows(self) -> list[tuple[int, str, str]]:
        """(number, name, population) of every labelled model; ``?`` where one is not given."""
        count = max(len(values) for values in (self.names, self.populations, ()) if values is not None)
        names = ["?"] * count if self.names is None else self.names
        shares = ["?"] * count if self.populations is None else [f"{share:.6f}" for share in self.populations]
        return [(number, name, share) for number, (name, share) in enumerate(zip(names, shares, strict=True), start=1)]


def write_models(
    path: str | Path,
    structure: Structure,
    positions: Iterable[Float[np.ndarray, "site 3"]],
    *,
    what: Literal["atoms", "residues"] = "atoms",
    frame: Literal["file", "model"] = "file",
    model_names: Sequence[str] | None = None,
    populations: Sequence[float] | np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write conformations of a structure as one multi-model file, mmCIF or PDB by the suffix.

    Chains, residue numbers, insertion codes and names are the structure's. Models are written as they come, so
    that ``positions`` may be a generator.

    Parameters
    ----------
    path : path
        ``.cif``, ``.mmcif``, ``.pdb`` or ``.ent``.
    structure : Structure
        What the positions are of.
    positions : array of shape (model, site, 3) or iterable of arrays of shape (site, 3)
        Å, in the frame of ``structure``; sites are its atoms or its residues.
    what : str
        ``"atoms"``, or ``"residues"`` for Cα, C1′ and the middle atoms of ligand groups only.
    frame : str
        ``"file"`` adds ``structure.frame_shift``, so that the models lie on the file the structure came from;
        ``"model"`` writes the positions as they are.
    model_names, populations : sequences, optional
        One per model; a ``_cryosphere_model`` loop in mmCIF, remarks in PDB.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the suffix is another, the file exists and may not be replaced, or PDB cannot hold the structure.
    ValueError
        If positions do not fit the structure, are not finite, or are not as many as their labels.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MMCIF_SUFFIXES + PDB_SUFFIXES:
        raise InputError(f"{path} has the suffix {suffix or '(none)'!r}, expected .cif or .pdb; rename it.")
    sites = _sites(structure, what)
    labels = _ModelLabels(model_names, populations)
    shift = structure.frame_shift if frame == "file" else np.zeros(3)
    if suffix in PDB_SUFFIXES:
        _check_fits_pdb(path, sites)
    with (
        atomic_output(path, overwrite=overwrite) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as file,
    ):
        models = _checked_models(path, positions, shift, len(sites.names), labels)
        if suffix in MMCIF_SUFFIXES:
            _write_mmcif(file, _block_name(structure), sites, models, labels)
        else:
            _write_pdb(file, path, sites, models, labels)


def _block_name(structure: Structure) -> str:
    """Name of the mmCIF block: the structure's source, so that equal ensembles are equal files under any name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", structure.source.split(".")[0]) or "structure"


def _sites(structure: Structure, what: str) -> _Sites:
    """Atoms to be written: all heavy atoms, or one anchor per residue."""
    atoms = structure.atoms
    run, sequence_number = _runs(structure)
    if what == "atoms":
        return _Sites(
            structure, atoms.names, atoms.elements, atoms.b_factors, atoms.residue_index, run, sequence_number
        )
    if what != "residues":
        raise ValueError(f"what is 'atoms' or 'residues', not {what!r}")
    anchor_names = [name for names in ANCHOR_NAMES.values() for name in names]
    b_factors = np.zeros(structure.n_residues)
    is_ligand = structure.kinds == "ligand"
    anchors = np.isin(atoms.names, anchor_names) & ~is_ligand[atoms.residue_index]
    b_factors[atoms.residue_index[anchors]] = atoms.b_factors[anchors]
    names = np.array([ANCHOR_NAMES.get(kind, ("",))[0] for kind in structure.kinds], dtype=atoms.names.dtype)
    elements = np.full(structure.n_residues, "C", dtype=atoms.elements.dtype)
    for row in np.flatnonzero(is_ligand):
        own = np.flatnonzero(atoms.residue_index == row)
        anchor = own[np.linalg.norm(atoms.positions[own] - structure.residue_positions[row], axis=1).argmin()]
        names[row], elements[row], b_factors[row] = atoms.names[anchor], atoms.elements[anchor], atoms.b_factors[anchor]
    return _Sites(
        structure=structure,
        names=names,
        elements=elements,
        b_factors=b_factors,
        residue_index=np.arange(structure.n_residues),
        run_of_residue=run,
        sequence_number=sequence_number,
    )


def _runs(structure: Structure) -> tuple[Int[np.ndarray, " residue"], Int[np.ndarray, " residue"]]:
    """Run of every residue, and its number in the run from 1, one number being skipped at an interruption."""
    same = (structure.chain_ids[1:] == structure.chain_ids[:-1]) & (structure.kinds[1:] == structure.kinds[:-1])
    for column in (structure.residue_numbers, structure.insertion_codes, structure.residue_names):
        same &= (structure.kinds[1:] != "ligand") | (column[1:] == column[:-1])
    run = np.concatenate([[0], np.cumsum(~same)])
    steps = np.concatenate([[1], np.where(structure.bonded, 1, 2)])
    position = np.cumsum(steps)
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    return run, position - position[starts][run] + 1


def _checked_models(
    path: Path, positions: Iterable[np.ndarray], shift: np.ndarray, n_sites: int, labels: _ModelLabels
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, coordinates to write) of every model, refusing what does not fit."""
    number = 0
    for number, frame in enumerate(positions, start=1):
        coordinates = np.asarray(frame, dtype=np.float64)
        if coordinates.shape != (n_sites, 3):
            raise ValueError(f"model {number} for {path} has the shape {coordinates.shape}, expected ({n_sites}, 3)")
        if not np.isfinite(coordinates).all():
            raise ValueError(f"model {number} for {path} has coordinates that are not finite")
        # Adding 0 turns -0.0 into 0.0, so that equal coordinates give equal text.
        yield number, np.round(coordinates + shift, 3) + 0.0
    for values in (labels.names, labels.populations):
        if values is not None and len(values) != number:
            raise ValueError(f"{len(values)} labels were given for the {number} models of {path}")


def _groups(structure: Structure) -> list[str]:
    """Record name of every residue: ``ATOM`` for the standard ones, ``HETATM`` for modified ones and ligands."""
    return [
        "ATOM" if kind != "ligand" and gemmi.find_tabulated_residue(name).is_standard() else "HETATM"
        for name, kind in zip(structure.residue_names.tolist(), structure.kinds.tolist(), strict=True)
    ]


def _write_mmcif(
    file: TextIO, name: str, sites: _Sites, models: Iterable[tuple[int, np.ndarray]], labels: _ModelLabels
) -> None:
    """Write the entities and one ``_atom_site`` loop over all models."""
    quote = gemmi.cif.quote
    block = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    file.write(f"data_{block}\n#\n_entry.id {quote(block)}\n#\n")
    _write_loop(file, "software", ("pdbx_ordinal", "name"), [("1", WRITTEN_BY)])
    _write_entities(file, sites)
    _write_loop(
        file,
        "cryosphere_model",
        ("id", "name", "population"),
        [(str(number), quote(str(text)), share) for number, text, share in labels.rows()],
    )
    file.write("loop_\n" + "".join(f"_atom_site.{column}\n" for column in ATOM_SITE_COLUMNS))
    before, after = _mmcif_site_text(sites)
    residue_groups = _groups(sites.structure)
    groups = [residue_groups[row] for row in sites.residue_index]
    serial = 0
    for number, coordinates in models:
        lines = []
        for row, (x, y, z) in enumerate(coordinates.tolist()):
            serial += 1
            lines.append(f"{groups[row]} {serial} {before[row]} {x:.3f} {y:.3f} {z:.3f} {after[row]} {number}\n")
        file.write("".join(lines))
    file.write("#\n")


def _mmcif_site_text(sites: _Sites) -> tuple[list[str], list[str]]:
    """Columns before and after the coordinates for every site; they are the same in all models."""
    quote = gemmi.cif.quote
    structure = sites.structure
    labels, entities = _asym_ids(sites), _entity_ids(sites)
    before, after = [], []
    for name, element, b_factor, row in zip(
        sites.names, sites.elements, sites.b_factors, sites.residue_index, strict=True
    ):
        run = sites.run_of_residue[row]
        atom, residue = quote(str(name)), quote(str(structure.residue_names[row]))
        # mmCIF has no chain without a name.
        chain = quote(str(structure.chain_ids[row]) or labels[run])
        insertion = str(structure.insertion_codes[row]) or "?"
        before.append(
            f"{str(element).upper()} {atom} . {residue} {quote(labels[run])} {entities[run]} "
            f"{'.' if structure.kinds[row] == 'ligand' else sites.sequence_number[row]} {insertion}"
        )
        after.append(f"1.00 {b_factor:.2f} {structure.residue_numbers[row]} {residue} {chain} {atom}")
    return before, after


def _asym_ids(sites: _Sites) -> list[str]:
    """One distinct ``label_asym_id`` per run: the chain's name, with a number where a chain has several runs."""
    labels: list[str] = []
    for chain in sites.structure.chain_ids[_first_rows(sites)]:
        base = str(chain) or "A"
        label, count = base, 1
        while label in labels:
            count += 1
            label = f"{base}{count}"
        labels.append(label)
    return labels


def _first_rows(sites: _Sites) -> Int[np.ndarray, " run"]:
    """First residue row of every run."""
    return np.searchsorted(sites.run_of_residue, np.arange(sites.run_of_residue[-1] + 1))


def _entity_ids(sites: _Sites) -> list[int]:
    """Entity of every run: each polymer its own, equal ligands one."""
    structure, entities = sites.structure, {}
    ids = []
    for run, row in enumerate(_first_rows(sites)):
        key = str(structure.residue_names[row]) if structure.kinds[row] == "ligand" else run
        ids.append(entities.setdefault(key, len(entities) + 1))
    return ids


def _write_entities(file: TextIO, sites: _Sites) -> None:
    """Write the entities; sequences have ``UNK``, ``N`` or ``DN`` for the residues missing in between."""
    quote = gemmi.cif.quote
    structure, ids = sites.structure, _entity_ids(sites)
    polymers, ligands, sequences = [], {}, []
    for run, first in enumerate(_first_rows(sites)):
        entity = str(ids[run])
        if structure.kinds[first] == "ligand":
            ligands[entity] = str(structure.residue_names[first])
            continue
        rows = np.flatnonzero(sites.run_of_residue == run)
        polymer_type, unknown = _polymer_type(structure, rows)
        polymers.append((entity, polymer_type))
        names = dict(zip(sites.sequence_number[rows], structure.residue_names[rows], strict=True))
        sequences += [
            (entity, str(number), quote(str(names.get(number, unknown))), "n")
            for number in range(1, sites.sequence_number[rows[-1]] + 1)
        ]
    kinds = [(entity, "polymer") for entity, _ in polymers] + [(entity, "non-polymer") for entity in ligands]
    _write_loop(file, "entity", ("id", "type"), kinds)
    _write_loop(file, "entity_poly", ("entity_id", "type"), [(entity, quote(kind)) for entity, kind in polymers])
    _write_loop(file, "entity_poly_seq", ("entity_id", "num", "mon_id", "hetero"), sequences)
    nonpolymers = [(entity, quote(name), quote(name)) for entity, name in ligands.items()]
    _write_loop(file, "pdbx_entity_nonpoly", ("entity_id", "name", "comp_id"), nonpolymers)
    asym = [(quote(label), str(entity)) for label, entity in zip(_asym_ids(sites), ids, strict=True)]
    _write_loop(file, "struct_asym", ("id", "entity_id"), asym)


def _polymer_type(structure: Structure, rows: Int[np.ndarray, " row"]) -> tuple[str, str]:
    """MmCIF polymer type of a run, and the name of an unknown residue in it."""
    if structure.kinds[rows[0]] == "protein":
        return "polypeptide(L)", "UNK"
    names = structure.residue_names[rows]
    is_dna = [gemmi.find_tabulated_residue(str(name)).kind == gemmi.ResidueKind.DNA for name in names]
    return ("polydeoxyribonucleotide", "DN") if all(is_dna) else ("polyribonucleotide", "N")


def _write_loop(file: TextIO, category: str, columns: Sequence[str], rows: list[tuple[str, ...]]) -> None:
    """Write one mmCIF loop, or nothing if it has no rows."""
    if rows:
        file.write("loop_\n" + "".join(f"_{category}.{column}\n" for column in columns))
        file.writelines(" ".join(row) + "\n" for row in rows)
        file.write("#\n")


def _check_fits_pdb(path: Path, sites: _Sites) -> None:
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


def _write_pdb(
    file: TextIO,
    path: Path,
    sites: _Sites,
    models: Iterable[tuple[int, np.ndarray]],
    labels: _ModelLabels,
) -> None:
    """Write MODEL blocks with a TER after every polymer."""
    file.write(f"REMARK   6 WRITTEN BY {WRITTEN_BY}\n")
    for number, name, share in labels.rows():
        file.write(f"REMARK   6 MODEL {number} NAME {name} POPULATION {share}\n")
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


def _pdb_site_text(sites: _Sites) -> tuple[list[str], list[str], dict[int, str]]:
    """Columns 1-30 and 55-80 of every site, and the TER records after the last site of each polymer."""
    structure, groups = sites.structure, _groups(sites.structure)
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
