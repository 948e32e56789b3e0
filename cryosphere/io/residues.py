"""Electrons of amino acids and nucleotides inside a chain, and the names that force fields give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import gemmi

# Formulas of the residue in the chain, which is the free molecule minus one water, with neutral side chains.
# Amino acids: Creighton, Proteins (1993), table 1.1; nucleotides: Saenger, Principles of Nucleic Acid Structure (1984).
RESIDUE_FORMULAS = {
    "ALA": "C3H5NO",
    "ARG": "C6H12N4O",
    "ASN": "C4H6N2O2",
    "ASP": "C4H5NO3",
    "CYS": "C3H5NOS",
    "GLN": "C5H8N2O2",
    "GLU": "C5H7NO3",
    "GLY": "C2H3NO",
    "HIS": "C6H7N3O",
    "ILE": "C6H11NO",
    "LEU": "C6H11NO",
    "LYS": "C6H12N2O",
    "MET": "C5H9NOS",
    "PHE": "C9H9NO",
    "PRO": "C5H7NO",
    "SER": "C3H5NO2",
    "THR": "C4H7NO2",
    "TRP": "C11H10N2O",
    "TYR": "C9H9NO2",
    "VAL": "C5H9NO",
    "SEC": "C3H5NOSe",
    "PYL": "C12H19N3O2",
    "MSE": "C5H9NOSe",
    "HYP": "C5H7NO2",
    "SEP": "C3H6NO5P",
    "TPO": "C4H8NO5P",
    "PTR": "C9H10NO5P",
    "A": "C10H12N5O6P",
    "C": "C9H12N3O7P",
    "G": "C10H12N5O7P",
    "U": "C9H11N2O8P",
    "I": "C10H11N4O7P",
    "PSU": "C9H11N2O8P",
    "DA": "C10H12N5O5P",
    "DC": "C9H12N3O6P",
    "DG": "C10H12N5O6P",
    "DT": "C10H13N2O7P",
    "DU": "C9H11N2O7P",
    "DI": "C10H11N4O6P",
}

# Protonation states and chain ends of CHARMM, AMBER, OPLS and GROMACS.
FORCE_FIELD_NAMES = {
    "HSD": "HIS",
    "HSE": "HIS",
    "HSP": "HIS",
    "HID": "HIS",
    "HIE": "HIS",
    "HIP": "HIS",
    "CYX": "CYS",
    "CYM": "CYS",
    "ASH": "ASP",
    "ASPP": "ASP",
    "GLH": "GLU",
    "GLUP": "GLU",
    "LYN": "LYS",
    "LSN": "LYS",
    "ADE": "A",
    "CYT": "C",
    "GUA": "G",
    "URA": "U",
    "THY": "DT",
    **{f"R{base}": base for base in "ACGU"},
    **{f"{base}{end}": base for base in "ACGU" for end in "35"},
    **{f"R{base}{end}": base for base in "ACGU" for end in "35"},
    **{f"D{base}{end}": f"D{base}" for base in "ACGT" for end in "35"},
}

# Waters under names that are not the PDB's.
WATER_NAMES = frozenset({"SOL", "WAT", "TIP", "TIP3", "TIP4", "TP3", "TP4", "T3P", "T4P", "SPC"})

# A residue of unknown name with no side-chain atoms in the file: the mean amino acid or nucleotide is as good as any.
UNKNOWN_RESIDUE = {"protein": "ALA", "nucleic": "C"}


def residue_electrons(name: str, kind: str, elements: Iterable[gemmi.Element]) -> float:
    """Count the electrons of a whole residue in a chain, hydrogens included, whatever atoms the model has.

    Known residues have their formula. A modified residue has at least the electrons of its parent and of the
    atoms that the file has; an unknown one at least those of alanine or cytidine.

    Parameters
    ----------
    name : str
        Residue name in the file.
    kind : str
        ``"protein"`` or ``"nucleic"``.
    elements : iterable of gemmi.Element
        Heavy atoms of the residue in the file.
    """
    name = FORCE_FIELD_NAMES.get(name, name)
    if name in RESIDUE_FORMULAS:
        return _ELECTRONS[name]
    info = gemmi.find_tabulated_residue(name)
    parent = info.one_letter_code.upper() if info.found() else ""
    parent_name = gemmi.expand_one_letter(parent, _sequence_kind(info, kind)) if parent.strip() else ""
    # Two of the tabulated hydrogens leave with the water.
    hydrogens = max(info.hydrogen_count - 2, 0) if info.found() else 0
    present = sum(element.atomic_number for element in elements) + hydrogens
    return max(_ELECTRONS.get(parent_name, _ELECTRONS[UNKNOWN_RESIDUE[kind]]), float(present))


def _sequence_kind(info: gemmi.ResidueInfo, kind: str) -> gemmi.ResidueKind:
    """Alphabet in which gemmi's one-letter code of a residue is to be read."""
    if kind == "protein":
        return gemmi.ResidueKind.AA
    return gemmi.ResidueKind.DNA if info.kind == gemmi.ResidueKind.DNA else gemmi.ResidueKind.RNA


def _formula_electrons(formula: str) -> float:
    """Electrons of a formula such as ``C3H5NO``."""
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return float(sum(gemmi.Element(symbol).atomic_number * int(count or 1) for symbol, count in parts))


_ELECTRONS = {name: _formula_electrons(formula) for name, formula in RESIDUE_FORMULAS.items()}
