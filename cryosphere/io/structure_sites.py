"""What every model of a written structure file has: its atoms, their chains and entities, and the models' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from jaxtyping import Float, Int

from cryosphere.io.polymers import ANCHOR_NAMES
from cryosphere.records import Structure

# In every file that is written, so that its B factors are not taken for the confidence of a prediction.
WRITTEN_BY = "CRYOSPHERE"


@dataclass(frozen=True)
class Sites:
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
class ModelLabels:
    """Optional name and population of every model, and the population's standard deviation."""

    names: Sequence[str] | None = None
    populations: Sequence[float] | np.ndarray | None = None
    population_stds: Sequence[float] | np.ndarray | None = None

    def rows(self) -> list[tuple[int, str, str, str]]:
        """(number, name, population, its deviation) of every labelled model; ``?`` where one is not given."""
        given = [values for values in (self.names, self.populations, self.population_stds) if values is not None]
        count = len(given[0]) if given else 0
        names = ["?"] * count if self.names is None else [str(name) for name in self.names]
        shares, stds = (
            ["?"] * count if values is None else [f"{value:.6f}" for value in values]
            for values in (self.populations, self.population_stds)
        )
        return list(zip(range(1, count + 1), names, shares, stds, strict=True))


def list_sites(structure: Structure, what: str) -> Sites:
    """Atoms to be written: all heavy atoms, or one anchor per residue."""
    atoms = structure.atoms
    run, sequence_number = _runs(structure)
    if what == "atoms":
        return Sites(structure, atoms.names, atoms.elements, atoms.b_factors, atoms.residue_index, run, sequence_number)
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
    return Sites(
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


def first_rows(sites: Sites) -> Int[np.ndarray, " run"]:
    """First residue row of every run."""
    return np.searchsorted(sites.run_of_residue, np.arange(sites.run_of_residue[-1] + 1))


def record_groups(structure: Structure) -> list[str]:
    """Record name of every residue: ``ATOM`` for the standard ones, ``HETATM`` for modified ones and ligands."""
    return [
        "ATOM" if kind != "ligand" and gemmi.find_tabulated_residue(name).is_standard() else "HETATM"
        for name, kind in zip(structure.residue_names.tolist(), structure.kinds.tolist(), strict=True)
    ]
