"""Predicted models: the pLDDT in their B factors, the residues they do not place, and the B factors it stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import gemmi
import numpy as np
from jaxtyping import Bool, Float

from cryosphere.errors import InputError
from cryosphere.io.polymers import KeptResidue
from cryosphere.io.structure_sites import WRITTEN_BY
from cryosphere.records import Structure

MinimumConfidence = Literal["auto"] | float

_PREDICTORS = re.compile(
    r"alphafold|colabfold|esmfold|openfold|rosettafold|omegafold|helixfold|protenix|\bboltz\b|\bchai-\d", re.IGNORECASE
)
# Names that these programs give their files, for PDB files without a word about where they come from.
_FILE_NAMES = re.compile(
    r"^AF-[A-Z0-9]+-F\d|alphafold|colabfold|esmfold|openfold|rosettafold|omegafold|helixfold|protenix|boltz|"
    r"(^|_)(un)?relaxed_(model|rank)|^ranked_\d+\.|^fold_.+_model_\d",
    re.IGNORECASE,
)
_PLDDT_RANGE = (0.0, 100.0)
_BY_NAME = "its file name says so"
# What PDB files that this program moved say of predicted models.
PLDDT_REMARK = "B FACTORS ARE PLDDT"
# A name alone is believed if all atoms of a residue have one B factor (to the rounding of a file), as these have.
_SAME_B = 0.02
# A residue below this pLDDT has no defined place: "a strong predictor of disorder" (AlphaFold DB).
DISORDERED_PLDDT = 50.0
# Runs of such residues that are left out by default: at the ends of chains, and inside.
_SHORTEST_TAIL, _SHORTEST_LOOP = 5, 15
# Fewer residues than this between longer runs of such residues belong to them.
_SHORTEST_ISLAND = 8
# pLDDT → expected error (Å) → B factor, no larger than a PDB file holds.
_ERROR_AT_70, _ERROR_RATE, _LARGEST_B = 1.5, 4.0, 999.0
_MAX_RANGES = 12


def find_evidence(parsed: gemmi.Structure, document: gemmi.cif.Document | None, file_name: str) -> str | None:
    """Say what shows that a file is a predicted model with pLDDT in its B factors; None for every other file.

    The file's own words count (the metrics and software of mmCIF, title and remarks of PDB), then its name. A file
    with an experimental method or a resolution is none, whatever it mentions, nor is one that this program wrote.
    """
    software, remarks = " ".join(item.name for item in parsed.meta.software), " ".join(parsed.raw_remarks)
    if _is_measured(parsed) or WRITTEN_BY in software or WRITTEN_BY in remarks:
        return None
    if document is not None and len(document):
        metrics = document[0].get_mmcif_category("_ma_qa_metric.")
        words = [str(word).lower() for column in ("name", "type") for word in metrics.get(column, ())]
        if any("plddt" in word for word in words):
            return "its metrics name pLDDT"
    if PLDDT_REMARK in remarks:
        return "its remarks say so"
    title = parsed.info["_struct.title"] if "_struct.title" in parsed.info else ""
    for place, text in (("software list names", software), ("title names", title), ("remarks name", remarks)):
        if match := _PREDICTORS.search(text):
            return f"its {place} {match[0]}"
    return _BY_NAME if _FILE_NAMES.search(file_name) else None


def name_plddt(block: gemmi.cif.Block) -> None:
    """Add pLDDT to the metrics of an mmCIF block, which then shows that it is a predicted model."""
    metrics = block.get_mmcif_category("_ma_qa_metric.")
    n_metrics = len(next(iter(metrics.values()), ()))
    added = {"id": str(n_metrics + 1), "mode": "local", "name": "pLDDT", "type": "pLDDT"}
    columns = {name: [*metrics.get(name, [None] * n_metrics), added.get(name)] for name in {**metrics, **added}}
    block.set_mmcif_category("_ma_qa_metric.", columns)


@dataclass(frozen=True)
class Confidence:
    """PLDDT (0 to 100) of every residue and atom of a predicted model, and what shows that it is one."""

    plddt: Float[np.ndarray, " residue"]
    atom_plddt: Float[np.ndarray, " atom"]
    evidence: str


def read_confidence(
    parsed: gemmi.Structure,
    document: gemmi.cif.Document | None,
    file_name: str,
    residues: list[KeptResidue],
    minimum: MinimumConfidence = "auto",
) -> Confidence | None:
    """Take the B factors of a predicted model as pLDDT (0 to 1 is stretched to 100); None for other models.

    A residue has the mean over its heavy atoms. A ``minimum`` above 0 is the user's word that the model is predicted.

    Raises
    ------
    InputError
        If such a minimum is given for a measured structure, or the B factors cannot be pLDDT.
    """
    if not residues:
        return None
    asked = minimum != "auto" and minimum > 0
    evidence = find_evidence(parsed, document, file_name)
    values = [np.array([atom.b_iso for atom in residue.atoms]) for residue in residues]
    if evidence == _BY_NAME and any(np.ptp(value) > _SAME_B for value in values):
        evidence = None  # refined since
    plddt, atom_plddt = np.array([value.mean() for value in values]), np.concatenate(values)
    low, high = float(atom_plddt.min()), float(atom_plddt.max())
    possible = _PLDDT_RANGE[0] <= low < high <= _PLDDT_RANGE[1]
    if asked and (not possible or (evidence is None and _is_measured(parsed))):
        why = f"its B factors run from {low:g} to {high:g}" if not possible else "it was determined by experiment"
        raise InputError(f"{file_name} has no pLDDT ({why}); leave structure.min_plddt at auto.")
    if not possible or not (evidence or asked):
        return None
    scale = 100.0 if high <= 1 else 1.0
    return Confidence(scale * plddt, scale * atom_plddt, evidence or "structure.min_plddt says so")


def _is_measured(parsed: gemmi.Structure) -> bool:
    """Whether the file names an experimental method or a resolution."""
    method = parsed.info["_exptl.method"] if "_exptl.method" in parsed.info else ""
    return parsed.resolution > 0 or bool(method.strip("?. ") and "THEORETICAL" not in method.upper())


def with_confidence(structure: Structure, confidence: Confidence) -> Structure:
    """Copy of a predicted model with its pLDDT, and the B factors that this stands for."""
    atoms = replace(structure.atoms, b_factors=implied_b_factors(confidence.atom_plddt))
    return replace(structure, atoms=atoms, plddt=confidence.plddt)


def trim(
    source: str, residues: list[KeptResidue], confidence: Confidence, minimum: MinimumConfidence
) -> tuple[list[KeptResidue], Confidence, Bool[np.ndarray, " residue"], str]:
    """Leave out the residues that a predicted model does not place.

    Returns
    -------
    residues, confidence
        What stays.
    stays : bool array of shape (residue,)
    note : str
        How sure the model is, and what was left out.

    Raises
    ------
    InputError
        If no polymer residue stays.
    """
    stays = placed_residues(residues, confidence.plddt, minimum)
    note = _trimming_note(source, residues, confidence, stays, minimum)
    atom_stays = np.repeat(stays, [len(residue.atoms) for residue in residues])
    left = replace(confidence, plddt=confidence.plddt[stays], atom_plddt=confidence.atom_plddt[atom_stays])
    return [residue for residue, kept in zip(residues, stays, strict=True) if kept], left, stays, note


def implied_b_factors(plddt: Float[np.ndarray, " atom"]) -> Float[np.ndarray, " atom"]:
    """B factors (Å²) that a pLDDT stands for.

    ``B = 8π²/3 Δ²`` with the error ``Δ = 1.5 Å exp(4 (0.7 - pLDDT/100))`` (Oeffner et al., Acta Cryst. D78, 1303,
    2022), at most 999: 12 at a pLDDT of 90, 59 at 70, 293 at 50.
    """
    error = _ERROR_AT_70 * np.exp(_ERROR_RATE * (0.7 - plddt / 100))
    return np.minimum(8 * np.pi**2 / 3 * error**2, _LARGEST_B)


def placed_residues(
    residues: list[KeptResidue], plddt: Float[np.ndarray, " residue"], minimum: MinimumConfidence
) -> Bool[np.ndarray, " residue"]:
    """Which residues stay.

    With a number, those of at least that pLDDT. ``auto`` leaves out the runs of pLDDT under 50 that are at least 5
    residues long at the end of a chain or 15 inside, and ligands of such pLDDT as a whole.
    """
    chains = np.array([residue.chain_id for residue in residues])
    is_ligand = np.array([residue.kind == "ligand" for residue in residues])
    whole = plddt.copy()
    names = np.array([f"{residue.chain_id}/{residue.residue.seqid} {residue.residue.name}" for residue in residues])
    for name in np.unique(names[is_ligand]):
        rows = is_ligand & (names == name)
        whole[rows] = plddt[rows].mean()
    stays = whole >= (DISORDERED_PLDDT if minimum == "auto" else minimum)
    if minimum == "auto":
        for chain in dict.fromkeys(chains.tolist()):
            rows = np.flatnonzero((chains == chain) & ~is_ligand)
            stays[rows] = ~_disordered(plddt[rows])
    return stays


def _disordered(plddt: Float[np.ndarray, " residue"]) -> Bool[np.ndarray, " residue"]:
    """Long runs of low pLDDT in one chain."""
    low, n_residues = plddt < DISORDERED_PLDDT, len(plddt)
    lengths = {row: last - first for first, last in _runs(low) for row in (first, last)}
    for first, last in _runs(~low):
        beside = [lengths[row] for row in (first, last) if row in lengths]
        if last - first < _SHORTEST_ISLAND and beside and min(beside) > last - first:
            low[first:last] = True
    result = np.zeros(n_residues, dtype=bool)
    for first, last in _runs(low):
        at_end = first == 0 or last == n_residues
        result[first:last] = last - first >= (_SHORTEST_TAIL if at_end else _SHORTEST_LOOP)
    return result


def _runs(mask: Bool[np.ndarray, " residue"]) -> list[tuple[int, int]]:
    """First row of every run of true values, and the row after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _trimming_note(
    source: str,
    residues: list[KeptResidue],
    confidence: Confidence,
    stays: Bool[np.ndarray, " residue"],
    minimum: MinimumConfidence,
) -> str:
    """One sentence that says how sure the model is and which residues were left out."""
    plddt = confidence.plddt
    polymer = np.array([residue.kind != "ligand" for residue in residues])
    asked = f"{DISORDERED_PLDDT:g}" if minimum == "auto" else f"{minimum:g}"
    if not stays[polymer].any():
        raise InputError(
            f"{source}: no residue would stay, their pLDDT runs from {plddt.min():.0f} to {plddt.max():.0f} and "
            f"at least {asked} is asked for; lower structure.min_plddt (0 keeps all)."
        )
    said = f"{source} is a predicted model ({confidence.evidence}), pLDDT {plddt.min():.0f} to {plddt.max():.0f}, mean "
    said += f"{plddt.mean():.0f}; its B factors are taken from that"
    if stays.all():
        return f"{said}."
    what = f"runs of pLDDT under {asked}" if minimum == "auto" else f"pLDDT under {asked}"
    ranges = _ranges(residues, ~stays)
    listed = ", ".join(ranges[:_MAX_RANGES]) + (", …" if len(ranges) > _MAX_RANGES else "")
    n_gone = int((polymer & ~stays).sum())
    return (
        f"{said}; {n_gone} of {polymer.sum()} residues have no defined place and are left out ({what}; "
        f"structure.min_plddt: 0 keeps them): {listed}."
    )


def _ranges(residues: list[KeptResidue], gone: Bool[np.ndarray, " residue"]) -> list[str]:
    """Residues in words, ``A/1-57``; chains and kinds apart."""
    texts = []
    for first, last in _runs(gone):
        start = first
        for row in range(first + 1, last + 1):
            if row < last and _same_chain(residues[row - 1], residues[row]):
                continue
            begin, end = residues[start].residue.seqid, residues[row - 1].residue.seqid
            texts.append(f"{residues[start].chain_id}/{begin}" + ("" if begin == end else f"-{end}"))
            start = row
    return list(dict.fromkeys(texts))


def _same_chain(first: KeptResidue, second: KeptResidue) -> bool:
    return first.chain_id == second.chain_id and (first.kind == "ligand") == (second.kind == "ligand")
