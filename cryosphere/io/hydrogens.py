"""Hydrogens that a ligand's file leaves out, from the lengths of its bonds."""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
from jaxtyping import Bool, Float, Int

# Å beyond the sum of covalent radii at which atoms still are bonded.
_BOND_TOLERANCE = 0.45
# Single bonds to carbon of these elements (Å); a bond is multiple or conjugated if shorter by this much.
_SINGLE_BOND = {"C": 1.53, "N": 1.47, "O": 1.42, "S": 1.81}
_SHORTENED = 0.08
# Triple bonds are shorter than this (Å), carbonyl bonds than that.
_TRIPLE_BOND, _CARBONYL_BOND = 1.25, 1.30
# A ring nitrogen between two short bonds bears a hydrogen from this angle on (rad): guanine N1 125°, adenine N1 119°.
_PROTONATED_ANGLE = np.radians(121.5)


def bonds_between(
    elements: Sequence[gemmi.Element], positions: Float[np.ndarray, "atom 3"]
) -> Bool[np.ndarray, "atom atom"]:
    """Which atoms are bonded: nearer than their covalent radii and 0.45 Å."""
    radii = np.array([element.covalent_r for element in elements])
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonded = distances < radii[:, None] + radii[None] + _BOND_TOLERANCE
    np.fill_diagonal(bonded, False)
    return bonded


def count_hydrogens(
    elements: Sequence[gemmi.Element], positions: Float[np.ndarray, "atom 3"], n_own: int
) -> Int[np.ndarray, " own"]:
    """Estimate how many hydrogens the neutral molecule has on each heavy atom.

    Carbons are tetrahedral, planar or linear as their shortest bond says; acids count as protonated, since a proton
    less leaves the electrons as they are. Against the dictionary's formulas within 2 hydrogens (ATP, NAG, heme).

    Parameters
    ----------
    elements, positions : per heavy atom
        Those of the ligand first, then those of other residues that may be bonded to it; Å.
    n_own : int
        Atoms of the ligand.
    """
    organic = np.array([not element.is_metal for element in elements])
    bonded = bonds_between(elements, positions) & organic & organic[:, None]
    names = [element.name for element in elements]
    counts = np.zeros(n_own, dtype=np.int64)
    for atom in range(n_own):
        neighbours = np.flatnonzero(bonded[atom])
        steps = positions[neighbours] - positions[atom]
        if names[atom] == "C":
            counts[atom] = _on_carbon([names[other] for other in neighbours], np.linalg.norm(steps, axis=1))
        elif names[atom] == "N":
            counts[atom] = _on_nitrogen(steps)
        elif names[atom] in ("O", "S") and len(neighbours) == 1:
            is_double = names[neighbours[0]] == "C" and np.linalg.norm(steps) < _CARBONYL_BOND
            counts[atom] = not is_double
    return _without_double_bonds(counts, names, bonded, n_own)


def _on_carbon(neighbours: list[str], lengths: Float[np.ndarray, " bond"]) -> int:
    """Hydrogens on a carbon by the number and lengths of its bonds."""
    single = np.array([_SINGLE_BOND.get(name, np.inf) for name in neighbours])
    short = (lengths < single - _SHORTENED) & np.isfinite(single)
    bonds = 4 - int(short.any()) - int((lengths[short] < _TRIPLE_BOND).any() and "O" not in neighbours)
    return max(bonds - len(neighbours), 0)


def _on_nitrogen(steps: Float[np.ndarray, "bond 3"]) -> int:
    """Hydrogens on a nitrogen: two on amines at an end, none on nitriles, one on amides and some in rings."""
    lengths = np.linalg.norm(steps, axis=1)
    if len(steps) == 1:
        return 0 if lengths[0] < _TRIPLE_BOND else 2
    if len(steps) != 2:
        return 0
    if (lengths >= _SINGLE_BOND["N"] - _SHORTENED + 0.02).any():
        return 1
    return int(np.arccos(np.clip(steps[0] @ steps[1] / lengths.prod(), -1, 1)) > _PROTONATED_ANGLE)


def _without_double_bonds(
    counts: Int[np.ndarray, " own"], names: list[str], bonded: Bool[np.ndarray, "atom atom"], n_own: int
) -> Int[np.ndarray, " own"]:
    """Take the hydrogen from the oxygens that phosphate (1), sulfate (2), acids and nitro groups bind doubly."""
    counts = counts.copy()
    for centre in range(n_own):
        ends = [o for o in np.flatnonzero(bonded[centre, :n_own]) if names[o] in ("O", "S") and bonded[o].sum() == 1]
        double = {"P": 1, "S": 2, "N": 2}.get(names[centre], 0)
        for end in ends[:double]:
            counts[end] = 0
        if names[centre] == "C" and len(ends) == 2:
            counts[ends[0]], counts[ends[1]] = 0, 1
    return counts
