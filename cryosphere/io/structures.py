"""Atomic structures: PDB and mmCIF (also gzipped) read with gemmi, multi-model files written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.assemblies import expand_assembly
from cryosphere.io.confidence import MinimumConfidence, read_confidence, trim, with_confidence
from cryosphere.io.ligands import LigandChoice
from cryosphere.io.polymers import (
    KeptResidue,
    LeftOut,
    anchor_positions,
    atom_positions,
    build_structure,
    collect_residues,
    gap_notes,
)
from cryosphere.io.structure_writing import write_models
from cryosphere.records import Structure

__all__ = ["Models", "read_models", "read_structure", "structure_of_residues", "write_models"]

DEFAULT_SIGMA = 2.0


class Models(NamedTuple):
    """Several conformations of one structure, Å in the file's frame; ``structure`` is the first of them."""

    structure: Structure
    residue_positions: Float[np.ndarray, "model residue 3"]
    atom_positions: Float[np.ndarray, "model atom 3"]


def read_structure(
    path: str | Path,
    sigma: float = DEFAULT_SIGMA,
    *,
    assembly: str | None = None,
    ligands: LigandChoice = "auto",
    min_plddt: MinimumConfidence = "auto",
) -> Structure:
    """Read protein, nucleic acid and ligands of the first model of a PDB or mmCIF file, also gzipped.

    Waters, buffer molecules and hydrogens are left out and counted in the notes (hydrogens count as electrons); of
    alternative locations the one of highest occupancy is kept; chains come in the order of the file under their
    author names, ligands after all chains. Of predicted models, the pLDDT is read from the B factors, which become
    the B factors that it stands for, and residues that have no defined place are left out.

    Parameters
    ----------
    path : path
        The file; its content decides the format.
    sigma : float
        Width of every residue's Gaussian, Å.
    assembly : str, optional
        Biological assembly to make by symmetry (:func:`cryosphere.io.assemblies.expand_assembly`); by default the
        chains as they are in the file.
    ligands : str
        ``"auto"``, ``"all"`` or ``"none"`` (:func:`cryosphere.io.ligands.is_kept`).
    min_plddt : float or ``"auto"``
        Least pLDDT of a residue that stays (:func:`cryosphere.io.confidence.placed_residues`). A number says that the
        B factors are pLDDT even if the file does not.

    Raises
    ------
    InputError
        If the file is missing, cannot be parsed, or has no polymer residue, no such assembly, or no pLDDT where a
        number is given.
    """
    path = Path(path)
    parsed, document = _read_gemmi(path)
    notes = [f"{path.name} has {len(parsed)} models; the first is used."] if len(parsed) > 1 else []
    model = parsed[0]
    if assembly is not None:
        model, note = expand_assembly(parsed, assembly, path.name)
        notes.append(note)
    residues, left_out = collect_residues(model, ligands)
    source_rows = np.array([-1 if residue.kind == "ligand" else row for row, residue in enumerate(residues)], dtype=int)
    n_source = int((source_rows >= 0).sum())
    confidence = read_confidence(parsed, document, path.name, residues, min_plddt)
    if confidence is not None:
        residues, confidence, stays, note = trim(path.name, residues, confidence, min_plddt)
        source_rows = source_rows[stays]
        notes.append(note)
    structure = structure_of_residues(path.name, residues, left_out, sigma, source_rows)
    if confidence is not None:
        structure = with_confidence(structure, confidence)
    return replace(structure, notes=(*notes, *structure.notes), n_source_residues=n_source)


def read_models(path: str | Path, sigma: float = DEFAULT_SIGMA, *, ligands: LigandChoice = "auto") -> Models:
    """Read every model of a multi-model PDB or mmCIF file; the structure is that of the first, nothing trimmed.

    Raises
    ------
    InputError
        As :func:`read_structure`, or if a model has other residues or atoms than the first.
    """
    path = Path(path)
    parsed, document = _read_gemmi(path)
    partitions: dict = {}
    first, left_out = collect_residues(parsed[0], ligands, partitions)
    structure = structure_of_residues(path.name, first, left_out, sigma)
    confidence = read_confidence(parsed, document, path.name, first)
    if confidence is not None:
        structure = with_confidence(structure, confidence)
    signatures = [residue.signature for residue in first]
    residue_frames, atom_frames = [structure.residue_positions], [structure.atoms.positions]
    for number, model in enumerate(list(parsed)[1:], start=2):
        residues, _ = collect_residues(model, ligands, partitions)
        _check_same_residues(path, number, [residue.signature for residue in residues], signatures)
        residue_frames.append(anchor_positions(residues))
        atom_frames.append(atom_positions(residues))
    return Models(structure, np.stack(residue_frames), np.stack(atom_frames))


def structure_of_residues(
    source: str,
    residues: list[KeptResidue],
    left_out: LeftOut,
    sigma: float = DEFAULT_SIGMA,
    source_rows: Int[np.ndarray, " residue"] | None = None,
) -> Structure:
    """Make the :class:`Structure` of collected residues with its notes; chains break where rows were left out.

    Raises
    ------
    InputError
        If there is no residue, or a coordinate is not finite.
    """
    if all(residue.kind == "ligand" for residue in residues):
        found = left_out.describe() or "no atoms"
        if left_out.without_anchor:
            found = f"residues without a Cα or C1′ atom: {len(left_out.without_anchor)}"
        raise InputError(
            f"{source} has no protein or nucleic-acid residues (found {found}); give a structure with a polymer chain."
        )
    structure = build_structure(source, residues, sigma, left_out.notes(source))
    finite = np.isfinite(structure.atoms.positions).all(axis=1)
    if not finite.all():
        row = structure.atoms.residue_index[np.flatnonzero(~finite)[0]]
        raise InputError(
            f"{source}: residue {structure.label(row)} has a coordinate that is not a number; correct the file."
        )
    if source_rows is not None:
        follows = np.diff(source_rows) == 1
        structure = replace(structure, bonded=structure.bonded & follows, source_rows=source_rows)
    return replace(structure, notes=(*structure.notes, *gap_notes(structure)))


def _read_gemmi(path: Path) -> tuple[gemmi.Structure, gemmi.cif.Document]:
    """Models of a file with entity types assigned, and the mmCIF document it came from (empty for PDB)."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; a PDB or mmCIF file is expected.")
    document = gemmi.cif.Document()
    try:
        parsed = gemmi.read_structure(str(path), format=gemmi.CoorFormat.Detect, save_doc=document)
        parsed.setup_entities()
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as PDB or mmCIF ({reason}); export it again.") from error
    if not len(parsed):
        raise InputError(f"{path} has no atoms; a PDB or mmCIF file with coordinates is expected.")
    return parsed, document


def _check_same_residues(path: Path, number: int, found: list[tuple], expected: list[tuple]) -> None:
    """Refuse a model whose residues or atoms differ from the first model's, naming the first difference."""
    if found == expected:
        return
    remedy = "all models must have the same residues and atoms, so remove or mend this model"
    if len(found) != len(expected):
        raise InputError(f"{path}: model {number} has {len(found)} residues, model 1 has {len(expected)}; {remedy}.")
    here, there = next(pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1])
    raise InputError(
        f"{path}: model {number} has {_residue_text(here)} where model 1 has {_residue_text(there)}; {remedy}."
    )


def _residue_text(signature: tuple) -> str:
    """Residue of a signature in words."""
    chain_id, number, insertion_code, name, atom_names = signature
    return f"{name} {chain_id}/{number}{insertion_code} with {len(atom_names)} atoms"
