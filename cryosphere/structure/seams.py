"""Seams closed: bonds and angles between residues that moved differently are brought back to the nominal structure's.

Residues about a broken seam are fitted to restraints that the nominal structure gives (bonds, distances of atoms two
bonds apart, rings, planarity, chirality, ω), while every atom is held weakly to where it was decoded and atoms that
are not bonded keep their distance. Everything else stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.spatial import cKDTree

from cryosphere.physics.restraints import Distances, Volumes, distances, fit, volumes
from cryosphere.records import Structure
from cryosphere.structure.bonds import adjacency, covalent_bonds, link_bonds, ring_pairs

# Å; the spread of bond lengths and of 1-3 distances (2°) in well-refined structures, rounded up.
_BOND_TOLERANCE, _ANGLE_TOLERANCE, _STIFF_TOLERANCE = 0.02, 0.05, 0.05
# Å³; an atom 0.03 Å out of its plane, or ω off by 4°.
_VOLUME_TOLERANCE = 0.15
# Å; how far atoms go from where they were decoded is told by this.
_TETHER_TOLERANCE = 1.0
# Å; atoms more than three bonds apart come no nearer than this, unless they do in the nominal structure.
_CONTACT_DISTANCE, _CONTACT_TOLERANCE = 2.8, 0.1
# Bonds apart up to which the chain's geometry, not contacts, says how near atoms are.
_LOCAL_BONDS = 3
# A seam is open if a bond (Å), a 1-3 distance (Å) or a volume (Å³) of it is off by more.
_OPEN_BOND, _OPEN_ANGLE, _OPEN_VOLUME = 0.01, 0.04, 0.15
# Residues on each side of an open seam that may move; more where these were not enough.
_WINDOWS = (6, 12, 24)
# Å; no bond may be off by more when a window is enough.
_CLOSED = 0.05
# Rounds of finding contacts and fitting, at most; they end when no atom moves by more (Å).
_ROUNDS, _SETTLED = 3, 0.1
# Shares of the sum of squares by which the first fit, without contacts, and later ones may still fall when they end.
_FIRST_GAIN, _LEAST_GAIN = 0.05, 0.01
# Å; heavy atoms of residues that are not bonded clash when they are nearer.
CLASH_DISTANCE = 2.5
# Å; pairs of the nominal structure this little farther apart are no new clashes.
_NEW_CLASH_MARGIN = 0.05


@dataclass(frozen=True)
class Seams:
    """What closing the seams of a conformation did.

    Attributes
    ----------
    n_open : int
        Bonds between residues that were open: themselves or an angle or plane about them off.
    bond_change_before, bond_change : float
        Largest change of the length of a bond between residues from the nominal structure's, Å, as decoded and after.
    bond_change_rms : float
        Root mean square over the bonds that were open, Å, after.
    angle_change, angle_change_rms : float
        Of the angles about bonds between residues that were open, degrees, after.
    n_clashes_before, n_clashes : int
        Pairs of heavy atoms of residues that are not bonded nearer than 2.5 Å that are not so near in the nominal
        structure, as decoded and after.
    anchor_shift : float
        Root mean square distance of the anchors (Cα) of all residues from where they were decoded, Å.
    largest_anchor_shift : float
    """

    n_open: int
    bond_change_before: float
    bond_change: float
    bond_change_rms: float
    angle_change: float
    angle_change_rms: float
    n_clashes_before: int
    n_clashes: int
    anchor_shift: float
    largest_anchor_shift: float


class SeamCloser:
    """The nominal geometry of a structure, to which conformations of it are brought back at their seams."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        positions, self._owner = structure.atoms.positions, structure.atoms.residue_index
        self._nominal = positions
        bonds = covalent_bonds(structure)
        is_link = link_bonds(structure, bonds)
        self.links = bonds[is_link]
        bonded = adjacency(bonds, len(positions))
        self.angles = _angles(bonded)
        torsions = _peptide_torsions(structure, self.links)
        stiff = np.concatenate([ring_pairs(structure, bonds), torsions[:, [0, 3]]])
        stiff = _without(stiff, np.concatenate([bonds, self.angles[:, [0, 2]]]), len(positions))
        self._bonds = _at_nominal(positions, bonds, _BOND_TOLERANCE)
        self._spans = _at_nominal(positions, self.angles[:, [0, 2]], _ANGLE_TOLERANCE)
        self._stiff = _at_nominal(positions, stiff, _STIFF_TOLERANCE)
        centres = _centres(bonded)
        quadruples = np.concatenate([centres, torsions])
        targets = volumes(positions, quadruples)[0]
        self._volumes = Volumes(quadruples, targets, np.full(len(targets), _VOLUME_TOLERANCE))
        self._centres = self._volumes.take(np.arange(len(quadruples)) < len(centres))
        near = bonded + sparse.eye_array(len(positions), format="csr", dtype=np.int32)
        self._local = near.copy()
        for _ in range(_LOCAL_BONDS - 1):
            self._local = self._local @ near
        linked = self._owner[self.links]
        self._residues = adjacency(np.unique(np.sort(linked, axis=1), axis=0), structure.n_residues)
        self._residues = self._residues + sparse.eye_array(structure.n_residues, format="csr", dtype=np.int32)

    def close(self, positions: Float[np.ndarray, "atom 3"]) -> tuple[Float[np.ndarray, "atom 3"], Seams]:
        """Close the seams of one conformation.

        Parameters
        ----------
        positions : array of shape (atom, 3)
            Atoms of the structure, each moved rigidly with its residue, Å, in any frame.

        Returns
        -------
        positions : array of shape (atom, 3)
        seams : Seams
        """
        decoded = np.asarray(positions, dtype=np.float64)
        open_links = self._open(decoded)
        seeds = np.zeros(self.structure.n_residues, dtype=bool)
        seeds[self._owner[self.links[open_links]].ravel()] = True
        seeds[self._owner[self._new_clashes(decoded)].ravel()] = True
        closed = decoded
        if seeds.any():
            for window in _WINDOWS:
                closed = self._fit(decoded, self._within(seeds, window)[self._owner])
                if self._changes(closed, self.links).max(initial=0.0) < _CLOSED:
                    break
        return closed, self._describe(decoded, closed, open_links)

    def _fit(self, decoded: Float[np.ndarray, "atom 3"], free: Bool[np.ndarray, " atom"]) -> np.ndarray:
        """Fit free atoms, with contacts found anew after every round."""
        current = decoded
        always = [self._bonds, self._spans, self._stiff]
        # A peptide that is turned over as decoded finds its way back without the term that is 0 for cis and trans.
        current = fit(decoded, free, [*always, self._centres], decoded, _TETHER_TOLERANCE, least_gain=_FIRST_GAIN)
        for _ in range(_ROUNDS):
            contacts = self._contacts(current, free)
            terms = [*always, self._volumes, contacts]
            before = current
            current = fit(current, free, terms, decoded, _TETHER_TOLERANCE, least_gain=_LEAST_GAIN)
            if np.abs(current - before).max() < _SETTLED:
                break
        return current

    def _contacts(self, positions: Float[np.ndarray, "atom 3"], free: Bool[np.ndarray, " atom"]) -> Distances:
        """Pairs that may not come nearer: atoms more than three bonds apart that are near now."""
        pairs = cKDTree(positions).query_pairs(_CONTACT_DISTANCE + 0.5, output_type="ndarray")
        pairs = pairs[free[pairs].any(1)]
        pairs = pairs[~_are_linked(self._local, pairs)]
        wanted = np.minimum(distances(self._nominal, pairs)[0], _CONTACT_DISTANCE)
        return Distances(pairs, wanted, np.full(len(pairs), _CONTACT_TOLERANCE), at_least=True)

    def _open(self, positions: Float[np.ndarray, "atom 3"]) -> Bool[np.ndarray, " link"]:
        """Which bonds between residues are off, themselves or by an angle, or a plane of theirs."""
        n_residues = self.structure.n_residues
        off = []
        for term, limit in ((self._bonds, _OPEN_BOND), (self._spans, _OPEN_ANGLE)):
            change = np.abs(distances(positions, term.points)[0] - term.targets)
            off.append(self._owner[term.points[change > limit]][:, [0, -1]])
        change = np.abs(volumes(positions, self._volumes.points)[0] - self._volumes.targets)
        owners = self._owner[self._volumes.points[change > _OPEN_VOLUME]]
        off.append(np.stack([owners.min(1), owners.max(1)], axis=1))
        rows = np.sort(np.concatenate(off), axis=1)
        keys = np.unique(rows[:, 0] * n_residues + rows[:, 1])
        ends = np.sort(self._owner[self.links], axis=1)
        return np.isin(ends[:, 0] * n_residues + ends[:, 1], keys)

    def _within(self, seeds: Bool[np.ndarray, " residue"], steps: int) -> Bool[np.ndarray, " residue"]:
        """Residues at most so many bonds between residues away from some."""
        reached = seeds.astype(np.int32)
        for _ in range(steps):
            reached = (self._residues @ reached > 0).astype(np.int32)
        return reached > 0

    def _changes(self, positions: Float[np.ndarray, "atom 3"], pairs: Int[np.ndarray, "pair 2"]) -> np.ndarray:
        return np.abs(distances(positions, pairs)[0] - distances(self._nominal, pairs)[0])

    def _about(self, links: Int[np.ndarray, "link 2"]) -> Bool[np.ndarray, " angle"]:
        """Which angles have one of these bonds as a side."""
        n_atoms = len(self._nominal)
        keys = links.min(1) * n_atoms + links.max(1)
        sides = (np.sort(self.angles[:, ends], axis=1) for ends in ([0, 1], [1, 2]))
        return np.any([np.isin(side[:, 0] * n_atoms + side[:, 1], keys) for side in sides], axis=0)

    def _new_clashes(self, positions: Float[np.ndarray, "atom 3"]) -> Int[np.ndarray, "pair 2"]:
        """Pairs of atoms of residues not bonded to each other that are within 2.5 Å, and nominally are not."""
        pairs = cKDTree(positions).query_pairs(CLASH_DISTANCE, output_type="ndarray")
        pairs = pairs[~_are_linked(self._residues, self._owner[pairs])]
        return pairs[distances(self._nominal, pairs)[0] > CLASH_DISTANCE + _NEW_CLASH_MARGIN]

    def _describe(
        self,
        decoded: Float[np.ndarray, "atom 3"],
        closed: Float[np.ndarray, "atom 3"],
        open_links: Bool[np.ndarray, " link"],
    ) -> Seams:
        after = self._changes(closed, self.links)
        about = self._about(self.links[open_links])
        turn = np.degrees(_angle(closed, self.angles[about]) - _angle(self._nominal, self.angles[about]))
        shift = np.linalg.norm(closed - decoded, axis=1)
        anchors = np.isin(self.structure.atoms.names, ("CA", "C1'", "C1*"))
        return Seams(
            n_open=int(open_links.sum()),
            bond_change_before=float(self._changes(decoded, self.links).max(initial=0.0)),
            bond_change=float(after.max(initial=0.0)),
            bond_change_rms=_rms(after[open_links]),
            angle_change=float(np.abs(turn).max(initial=0.0)),
            angle_change_rms=_rms(turn),
            n_clashes_before=len(self._new_clashes(decoded)),
            n_clashes=len(self._new_clashes(closed)),
            anchor_shift=_rms(shift[anchors]),
            largest_anchor_shift=float(shift[anchors].max(initial=0.0)),
        )


def _are_linked(graph: sparse.csr_array, pairs: Int[np.ndarray, "pair 2"]) -> Bool[np.ndarray, " pair"]:
    """Whether a graph has an edge for each pair."""
    if not len(pairs):
        return np.zeros(0, dtype=bool)
    return np.asarray(graph[pairs[:, 0], pairs[:, 1]]).ravel() > 0


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def _at_nominal(positions: np.ndarray, pairs: Int[np.ndarray, "pair 2"], tolerance: float) -> Distances:
    return Distances(pairs, distances(positions, pairs)[0], np.full(len(pairs), tolerance))


def _angles(bonded: sparse.csr_array) -> Int[np.ndarray, "angle 3"]:
    """Triples of atoms bonded in a row, each once."""
    coo = bonded.tocoo()
    starts = bonded.indptr
    # Every bond (middle, end) is paired with every later bond of its middle atom.
    rows = []
    for offset in range(1, int(np.diff(starts).max(initial=0))):
        first = np.arange(bonded.nnz - offset)
        same = coo.row[first] == coo.row[first + offset]
        first = first[same]
        rows.append(np.stack([coo.col[first], coo.row[first], coo.col[first + offset]], axis=1))
    return np.concatenate(rows).astype(np.int64) if rows else np.zeros((0, 3), dtype=np.int64)


def _angle(positions: np.ndarray, triples: Int[np.ndarray, "angle 3"]) -> Float[np.ndarray, " angle"]:
    first, second = (positions[triples[:, end]] - positions[triples[:, 1]] for end in (0, 2))
    cross = np.linalg.norm(np.cross(first, second), axis=1)
    return np.arctan2(cross, np.einsum("ai,ai->a", first, second))


def _centres(bonded: sparse.csr_array) -> Int[np.ndarray, "centre 4"]:
    """Atoms with three neighbours or more, and three of these."""
    centres = np.flatnonzero(np.diff(bonded.indptr) >= 3)
    neighbours = bonded.indices[bonded.indptr[centres][:, None] + np.arange(3)]
    return np.concatenate([centres[:, None], neighbours], axis=1).astype(np.int64)


def _peptide_torsions(structure: Structure, links: Int[np.ndarray, "link 2"]) -> Int[np.ndarray, "torsion 4"]:
    """Cα, C, N, Cα about every peptide bond, whose torsion is ω."""
    names, owner = structure.atoms.names, structure.atoms.residue_index
    alpha = np.full(structure.n_residues, -1)
    is_alpha = (names == "CA") & (structure.kinds[owner] == "protein")
    alpha[owner[is_alpha]] = np.flatnonzero(is_alpha)
    peptide = links[(names[links[:, 0]] == "C") & (names[links[:, 1]] == "N")]
    torsions = np.stack(
        [alpha[owner[peptide[:, 0]]], peptide[:, 0], peptide[:, 1], alpha[owner[peptide[:, 1]]]], axis=1
    )
    return torsions[(torsions >= 0).all(1)]


def _without(pairs: np.ndarray, known: np.ndarray, n_atoms: int) -> Int[np.ndarray, "pair 2"]:
    """Pairs that are not among known ones."""
    pairs, known = np.sort(pairs, axis=1), np.sort(known, axis=1)
    return pairs[~np.isin(pairs[:, 0] * n_atoms + pairs[:, 1], known[:, 0] * n_atoms + known[:, 1])]
