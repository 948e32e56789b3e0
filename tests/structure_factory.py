"""Structures and PDB files made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryosphere.records import Atoms, Structure


def chain_structure(positions: np.ndarray) -> Structure:
    """A chain of alanines with nothing but Cα at the positions (Å)."""
    n_residues = len(positions)
    rows = np.arange(n_residues)
    return Structure(
        source="made.pdb",
        chain_ids=np.full(n_residues, "A"),
        residue_numbers=rows + 1,
        insertion_codes=np.full(n_residues, ""),
        residue_names=np.full(n_residues, "ALA"),
        kinds=np.full(n_residues, "protein"),
        residue_positions=positions,
        amplitudes=np.full(n_residues, 38.0),
        sigmas=np.full(n_residues, 2.0),
        bonded=np.ones(n_residues - 1, dtype=bool),
        atoms=Atoms(positions, np.full(n_residues, "C"), np.full(n_residues, "CA"), np.zeros(n_residues), rows),
        frame_shift=np.zeros(3),
    )


def atom_line(name, residue, chain, number, xyz, b_factor=30.0, element=None, record="ATOM", serial=1) -> str:
    """One ATOM or HETATM record."""
    element = element or name[0]
    padded = f" {name:<3}" if len(element) == 1 and len(name) < 4 else f"{name:<4}"
    x, y, z = xyz
    return (
        f"{record:<6}{serial:5d} {padded} {residue:>3} {chain}{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{b_factor:6.2f}          {element:>2}"
    )


def chain_lines(b_factors, chain="A", start=(0.0, 0.0, 0.0), residue="ALA") -> list[str]:
    """A straight chain along x, N, Cα and C of each residue, with a B factor for each, then TER."""
    lines = []
    for number, b_factor in enumerate(b_factors, start=1):
        for name, offset in (("N", -1.2), ("CA", 0.0), ("C", 1.3)):
            xyz = (start[0] + 3.8 * number + offset, start[1], start[2])
            lines.append(atom_line(name, residue, chain, number, xyz, b_factor))
    return [*lines, "TER"]


def write_lines(path: Path, *groups: list[str]) -> Path:
    """Write groups of records and END."""
    path.write_text("\n".join([*(line for group in groups for line in group), "END", ""]))
    return path
