"""Parts of a structure: residues named by the user, residues that two structures share."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from cryosphere.errors import ConfigError, InputError
from cryosphere.records import Atoms, Structure

_RANGE = re.compile(r"^(?P<chain>[^:]+)(:(?P<first>-?\d+)(-(?P<last>-?\d+))?)?$")


def select_residues(structure: Structure, selection: str) -> Bool[np.ndarray, " residue"]:
    """Find residues by chain and author number.

    Parameters
    ----------
    structure : Structure
        Where to look.
    selection : str
        Parts with commas between: ``B`` (a chain), ``A:12`` (a residue), ``A:1-120`` (a range, both ends
        included).

    Returns
    -------
    bool array of shape (residue,)

    Raises
    ------
    ConfigError
        If a part cannot be read or names a chain or residue that the structure does not have.
    """
    chosen = np.zeros(structure.n_residues, dtype=bool)
    for part in selection.split(","):
        match = _RANGE.match(part.strip())
        if match is None:
            raise ConfigError(
                f"Cannot read '{part.strip()}' in the residues '{selection}': write a chain (B), a residue "
                "(A:12) or a "
                "range (A:1-120), with commas between."
            )
        chosen |= _select_part(structure, part.strip(), match)
    return chosen


def _select_part(structure: Structure, part: str, match: re.Match) -> Bool[np.ndarray, " residue"]:
    in_chain = structure.chain_ids == match["chain"]
    if not in_chain.any():
        chains = ", ".join(dict.fromkeys(str(c) for c in structure.chain_ids))
        raise ConfigError(
            f"The residues '{part}' name chain '{match['chain']}', but {structure.source} has the chains {chains}."
        )
    if match["first"] is None:
        return in_chain
    first = int(match["first"])
    last = first if match["last"] is None else int(match["last"])
    numbers = structure.residue_numbers
    for end in (first, last):
        if not (in_chain & (numbers == end)).any():
            span = numbers[in_chain]
            raise ConfigError(
                f"The residues '{part}' name residue {end}, but chain {match['chain']} of {structure.source} "
                f"has none of that number (it runs from {span.min()} to {span.max()})."
            )
    return in_chain & (numbers >= min(first, last)) & (numbers <= max(first, last))


def take_residues(
    structure: Structure, rows: Int[np.ndarray, " kept"], atom_rows: Int[np.ndarray, " atom"]
) -> Structure:
    """Copy of a structure with some residues (ascending rows) and some of their atoms."""
    new_row = np.full(structure.n_residues, -1)
    new_row[rows] = np.arange(len(rows))
    old = structure.atoms
    atoms = Atoms(
        positions=old.positions[atom_rows],
        elements=old.elements[atom_rows],
        names=old.names[atom_rows],
        b_factors=old.b_factors[atom_rows],
        residue_index=new_row[old.residue_index[atom_rows]],
    )
    follows = np.diff(rows) == 1
    return replace(
        structure,
        chain_ids=structure.chain_ids[rows],
        residue_numbers=structure.residue_numbers[rows],
        insertion_codes=structure.insertion_codes[rows],
        residue_names=structure.residue_names[rows],
        kinds=structure.kinds[rows],
        residue_positions=structure.residue_positions[rows],
        amplitudes=structure.amplitudes[rows],
        sigmas=structure.sigmas[rows],
        bonded=follows & structure.bonded[rows[:-1]],
        atoms=atoms,
        plddt=None if structure.plddt is None else structure.plddt[rows],
        source_rows=None if structure.source_rows is None else structure.source_rows[rows],
    )


def _residue_keys(structure: Structure, with_chain: bool) -> list[tuple]:
    chains = structure.chain_ids if with_chain else [""] * structure.n_residues
    columns = (chains, structure.residue_numbers, structure.insertion_codes, structure.residue_names)
    seen: Counter = Counter()
    keys = []
    for chain, number, code, name in zip(*columns, strict=True):
        residue = (str(chain), int(number), str(code), str(name))
        keys.append((*residue, seen[residue]))  # parts of a large ligand have one name
        seen[residue] += 1
    return keys


def match_residues(
    first: Structure, second: Structure
) -> tuple[Int[np.ndarray, " match"], Int[np.ndarray, " match"], tuple[str, ...]]:
    """Pair the residues of two structures that have the same chain, number, insertion code and name.

    Structures of one chain each are matched whatever the chains are called.

    Returns
    -------
    rows_first, rows_second : int arrays of shape (match,)
        In the order of the first structure.
    notes : tuple of str
        How many residues were left out, if any.

    Raises
    ------
    InputError
        If fewer than half the residues of the smaller structure match, or their order differs.
    """
    single = len(set(map(str, first.chain_ids))) == len(set(map(str, second.chain_ids))) == 1
    where = {key: row for row, key in enumerate(_residue_keys(second, not single))}
    pairs = [(row, where[key]) for row, key in enumerate(_residue_keys(first, not single)) if key in where]
    smaller = min(first.n_residues, second.n_residues)
    if len(pairs) < max(3, 0.5 * smaller):
        raise InputError(
            f"{first.source} and {second.source} share {len(pairs)} residues of chain, number and name, "
            "where at least "
            f"half of {smaller} are needed: give two conformations of one molecule, numbered alike."
        )
    rows_first, rows_second = np.array(pairs).T
    if (np.diff(rows_second) <= 0).any():
        raise InputError(
            f"{second.source} has its residues in another order than {first.source}: reorder the chains of one of them."
        )
    notes = []
    for structure, rows in ((first, rows_first), (second, rows_second)):
        if len(rows) < structure.n_residues:
            notes.append(
                f"{structure.n_residues - len(rows)} of {structure.n_residues} residues of "
                f"{structure.source} have no "
                "partner in the other conformation and were left out."
            )
    return rows_first, rows_second, tuple(notes)


def atoms_of_residues(structure: Structure, rows: Int[np.ndarray, " kept"]) -> Int[np.ndarray, " atom"]:
    """Rows of the atoms that belong to some residues."""
    return np.flatnonzero(np.isin(structure.atoms.residue_index, rows))
