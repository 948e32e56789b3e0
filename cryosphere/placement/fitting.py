"""Placing a structure in a map: search in both hands, refinement, and what can be said of the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.errors import InputError
from cryosphere.io.mrc import DensityMap
from cryosphere.placement.agreement import Agreement, compare, mask_about, significance, weighted_correlation
from cryosphere.placement.body import Body, make_body
from cryosphere.placement.density import FittingMap, prepare, sample
from cryosphere.placement.domains import DomainMotions, refine_domains
from cryosphere.placement.poses import Placements, joined
from cryosphere.placement.refinement import refine
from cryosphere.placement.search import search, search_resolution
from cryosphere.records import Structure

# Placements that go through the levels of refinement in each hand, and that are compared at full resolution.
_KEPT = 24
_COMPARED = 4
# Two placements that differ by less (Å, root mean square) are one.
_SAME_PLACEMENT_A = 5.0
_FINEST_A = 5.0
# Standard errors that count as a difference.
SIGNIFICANT = 3.0
# A placement in the file's own frame is kept unless another is better by so many standard errors.
_KEEP_START = 1.0
# Two places look the same if the map there correlates with itself so well (two chains of a structure: 0.6 to 0.8).
_SYMMETRIC_CORRELATION = 0.9
# An unclear placement of a lower correlation than this is no better than chance (other proteins reach 0.4 to 0.7).
_CHANCE_CORRELATION = 0.5

Hand = Literal["as given", "mirrored", "cannot tell"]


@dataclass(frozen=True)
class _Rated:
    """One refined placement: in which hand, from which start (empty if searched), and how well it agrees."""

    placement: Placements
    mirrored: bool
    start: str
    agreement: Agreement


@dataclass(frozen=True)
class Fit:
    """A structure placed in a map.

    Attributes
    ----------
    rotmat, translation : arrays of shape (3, 3) and (3,)
        From the file's frame to the map's: x → rotmat x + translation (Å).
    displacement : float
        Root mean square distance (Å) by which the residues moved.
    start : str
        The frame in which the structure lay in the map already; empty if it was searched for.
    hand : str
        ``"as given"``, ``"mirrored"`` (the structure lies in the mirrored map) or ``"cannot tell"``.
    hand_significance : float
        Standard errors by which the hand as given is ahead of the mirrored one.
    other_hand_correlation : float
        Best correlation in the hand that was not taken.
    agreement : Agreement
        In the hand that was taken.
    n_equivalent, n_alternatives : int
        Other placements that agree as well: by a symmetry of the map, and without one.
    domains : DomainMotions, optional
        Further motion of each domain, if asked for and better.
    grid : FittingMap
        The map in the hand that was taken.
    """

    rotmat: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, " 3"]
    displacement: float
    start: str
    hand: Hand
    hand_significance: float
    other_hand_correlation: float
    agreement: Agreement
    n_equivalent: int
    n_alternatives: int
    domains: DomainMotions | None
    grid: FittingMap

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation."""
        cosine = 0.5 * (np.trace(self.rotmat) - 1)
        return math.degrees(math.acos(float(np.clip(cosine, -1, 1))))

    @property
    def low_pass_resolution(self) -> float | None:
        """Å to train at: where map and structure stop to agree; None if they agree as far as the map goes."""
        if self.agreement.resolution <= 2 * self.grid.spacing or math.isinf(self.agreement.resolution):
            return None
        return round(self.agreement.resolution, 1)

    @property
    def is_mirrored(self) -> bool:
        """Whether the structure lies in the mirrored map."""
        return self.hand == "mirrored"


def fit_structure(
    structure: Structure,
    density: DensityMap,
    source: str,
    domains: np.ndarray | None = None,
    show_progress: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> Fit:
    """Place a structure in a map, wherever it lies before, trying both hands of the map.

    Parameters
    ----------
    structure : Structure
        In the frame of its file.
    density : DensityMap
        In its own frame.
    source : str
        Name of the map, for messages.
    domains : int array of shape (residue,), optional
        Domain of every residue; each is then refined as a rigid body of its own.
    show_progress : bool
        Progress bar on stderr.
    say : callable
        Receives sentences on what is being done.

    Raises
    ------
    InputError
        If the map is empty or not finite, or no placement is better than chance.
    """
    grid, body = prepare(density, source), make_body(structure)
    hands = [grid, grid.mirrored()]
    coarse = search_resolution(body, grid)
    say(f"searching all rotations and shifts in both hands of {source} at {coarse:.0f} Å")
    found = search(body, hands, show_progress=show_progress)
    say("refining the best placements")
    starts = _starts(body, density, grid)
    rated = _rate_searched(hands, body, coarse, found) + _rate_starts(grid, body, coarse, starts)
    chosen, others, sigmas = _choose(rated)
    taken = hands[chosen.mirrored]
    n_equivalent, n_alternatives = _count_equals(chosen, rated, taken, body)
    if n_alternatives and chosen.agreement.correlation < _CHANCE_CORRELATION:
        raise InputError(
            f"{structure.source} finds no place in {source}: its best correlation with the map is "
            f"{chosen.agreement.correlation:.2f} and {n_alternatives} other placements do as well, which is chance; "
            "give the map that the structure belongs to, and a structure of what the map shows."
        )
    rotmat = chosen.placement.rotmat[0].double().numpy()
    translation = chosen.placement.position[0].double().numpy() + grid.centre - rotmat @ body.centroid
    positions = structure.residue_positions
    fit = Fit(
        rotmat=rotmat,
        translation=translation,
        displacement=float(np.sqrt(((positions @ rotmat.T + translation - positions) ** 2).sum(1).mean())),
        start=chosen.start,
        hand="cannot tell" if abs(sigmas) < SIGNIFICANT else ("mirrored" if sigmas < 0 else "as given"),
        hand_significance=sigmas,
        other_hand_correlation=max(item.agreement.correlation for item in others),
        agreement=chosen.agreement,
        n_equivalent=n_equivalent,
        n_alternatives=n_alternatives,
        domains=None,
        grid=taken,
    )
    return fit if domains is None else _with_domains(fit, structure, body, chosen.placement, domains, say)


def _starts(body: Body, density: DensityMap, grid: FittingMap) -> dict[str, Float[Tensor, "1 3"]]:
    """Centroid of the structure as it lies in the file, for the frames that programs use (model frame, Å)."""
    corner = grid.centre - density.origin
    places = {
        "the map's frame": body.centroid - grid.centre,
        "a frame with 0 at the map's first voxel": body.centroid - corner,
        "a frame with 0 at the centre of the box": body.centroid,
    }
    distinct: dict[str, Tensor] = {}
    for name, place in places.items():
        position = torch.tensor(place, dtype=torch.float32)[None]
        if all(float((position - other).norm()) > 0.5 * grid.spacing for other in distinct.values()):
            distinct[name] = position
    return distinct


def _refined(grid: FittingMap, body: Body, placements: Placements, levels: list[tuple[float, int]]) -> Placements:
    """Refine placements from coarse to fine (resolution in Å, number kept), in the end with all atoms."""
    for resolution, kept in levels:
        volume = grid.low_passed(resolution)
        placements = refine(
            volume, grid.spacing, body.residues, body.residue_electrons, placements, resolution
        ).distinct(kept, body.radius_of_gyration, _SAME_PLACEMENT_A)
    return refine(volume, grid.spacing, body.atoms, body.atom_electrons, placements, 0.2 * resolution)


def _levels(grid: FittingMap, coarse: float) -> list[tuple[float, int]]:
    fine = max(2.5 * grid.spacing, _FINEST_A)
    middle = max(fine, math.sqrt(coarse * fine))
    return [(coarse, _KEPT), (middle, 2 * _COMPARED), (fine, _COMPARED)]


def _rate_searched(hands: list[FittingMap], body: Body, coarse: float, found: list[Placements]) -> list[_Rated]:
    rated = []
    for mirrored, (grid, placements) in enumerate(zip(hands, found, strict=True)):
        best = placements.distinct(_KEPT, body.radius_of_gyration, coarse)
        refined = _refined(grid, body, best, _levels(grid, coarse))
        rated += [_rate(grid, body, refined.take([row]), bool(mirrored)) for row in range(len(refined))]
    return rated


def _rate_starts(grid: FittingMap, body: Body, coarse: float, starts: dict[str, Tensor]) -> list[_Rated]:
    """Refine from where the structure lies in the file, if it lies in density at all."""
    volume, rated = grid.low_passed(coarse), []
    for name, position in starts.items():
        start = Placements(torch.eye(3)[None], position, torch.zeros(1))
        if float(sample(volume, start.points(body.residues), grid.spacing).mean()) <= float(volume.mean()):
            continue
        refined = _refined(grid, body, start, _levels(grid, coarse)[1:])
        rated.append(_rate(grid, body, refined, False, name))
    return rated


def _rate(grid: FittingMap, body: Body, placement: Placements, mirrored: bool, start: str = "") -> _Rated:
    return _Rated(placement, mirrored, start, compare(grid, placement.points(body.atoms)[0], body.atom_electrons))


def _choose(rated: list[_Rated]) -> tuple[_Rated, list[_Rated], float]:
    """The placement to take, those in the other hand, and standard errors by which the given hand leads."""
    by_hand = [[item for item in rated if item.mirrored is mirrored] for mirrored in (False, True)]
    given, mirrored = (max(items, key=lambda item: item.agreement.correlation) for items in by_hand)
    sigmas = significance(given.agreement, mirrored.agreement)
    if sigmas <= -SIGNIFICANT:
        return mirrored, by_hand[False], sigmas
    starts = [
        item for item in by_hand[False] if item.start and significance(given.agreement, item.agreement) < _KEEP_START
    ]
    chosen = max(starts, key=lambda item: item.agreement.correlation, default=given)
    return chosen, by_hand[True], sigmas


def _count_equals(chosen: _Rated, rated: list[_Rated], grid: FittingMap, body: Body) -> tuple[int, int]:
    """Count other placements in the same hand that agree as well: by symmetry of the map, and otherwise."""
    same_hand = [item for item in rated if item.mirrored == chosen.mirrored and item is not chosen]
    pool = joined([chosen.placement, *(item.placement for item in same_hand)])
    kept, equivalent, alternatives = [0], 0, 0
    mask = mask_about(grid, chosen.placement.points(body.atoms)[0], body.atom_electrons)
    volume = grid.low_passed(max(min(chosen.agreement.resolution, body.radius_of_gyration), 2.5 * grid.spacing))
    for row, item in enumerate(same_hand, start=1):
        if float(pool.distances(row, kept, body.radius_of_gyration).min()) < _SAME_PLACEMENT_A:
            continue
        if significance(chosen.agreement, item.agreement) >= SIGNIFICANT:
            continue
        kept.append(row)
        if _self_correlation(volume, grid, chosen, item, mask) >= _SYMMETRIC_CORRELATION:
            equivalent += 1
        else:
            alternatives += 1
    return equivalent, alternatives


def _self_correlation(volume: Tensor, grid: FittingMap, first: _Rated, second: _Rated, mask: Tensor) -> float:
    """Correlation of a smoothed map about one placement with that about another, laid onto each other."""
    rotmat = second.placement.rotmat[0] @ first.placement.rotmat[0].T
    inside = mask.nonzero()
    places = (inside.flip(1) - grid.size // 2) * grid.spacing
    moved = (places - first.placement.position) @ rotmat.T + second.placement.position
    here, there = volume[tuple(inside.T)], sample(volume, moved[None], grid.spacing)[0]
    return weighted_correlation(here, there, mask[tuple(inside.T)])


def _with_domains(
    fit: Fit, structure: Structure, body: Body, placement: Placements, labels: np.ndarray, say: Callable[[str], None]
) -> Fit:
    """Refine every domain as a rigid body and keep that if the map agrees better."""
    say(f"refining {labels.max() + 1} domains")
    fine = max(2.5 * fit.grid.spacing, _FINEST_A)
    motions = refine_domains(fit.grid, body, placement, labels, structure.bonded, fine)
    atom_labels = labels[structure.atoms.residue_index]
    points = motions.moved(placement.points(body.atoms)[0], atom_labels)
    agreement = compare(fit.grid, points, body.atom_electrons)
    if agreement.correlation <= fit.agreement.correlation:
        say("the domains explain the map no better than the rigid structure, which is kept")
        return fit
    say(f"domains raise the correlation from {fit.agreement.correlation:.3f} to {agreement.correlation:.3f}")
    return replace(fit, domains=motions, agreement=agreement)
