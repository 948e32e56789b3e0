"""What is said of a placement: sentences for people, a mapping for programs."""

from __future__ import annotations

import math
from typing import Any

from cryosphere.placement.fitting import SIGNIFICANT, Fit

_HANDS = {
    "as given": "the hand of the map is right",
    "mirrored": "the map is mirrored",
    "cannot tell": "the hand of the map cannot be told",
}


def sentences(fit: Fit) -> list[str]:
    """What was found, most important first."""
    agreement = fit.agreement
    lines = [
        _place(fit),
        f"correlation of map and model inside the mask: {agreement.correlation:.3f}",
        _resolution(fit),
        _hand(fit),
    ]
    if fit.n_equivalent:
        lines.append(
            f"symmetry: {fit.n_equivalent} other placement{'s' * (fit.n_equivalent > 1)} found that the map cannot "
            "tell from this one, because it looks the same there"
        )
    if fit.n_alternatives:
        lines.append(
            f"uncertain: {fit.n_alternatives} other placement{'s' * (fit.n_alternatives > 1)} explain"
            f"{'s' * (fit.n_alternatives == 1)} the map as well (within {SIGNIFICANT:g} standard errors); look at it, "
            "and ask whether the structure is of what the map shows, in this conformation"
        )
    if fit.domains is not None:
        turns = ", ".join(f"{angle:.0f}°" for angle in fit.domains.rotation_deg)
        lines.append(f"domains: {fit.domains.n_domains}, turned by {turns} against the rigid placement")
    return lines


def _place(fit: Fit) -> str:
    vector = ", ".join(f"{value:.2f}" for value in fit.translation)
    motion = f"rotation {fit.rotation_deg:.2f}°, shift ({vector}) Å; residues moved {fit.displacement:.1f} Å"
    if fit.start:
        return f"placed from where it lay already, in {fit.start}: {motion}"
    return f"placed by search: {motion}"


def _resolution(fit: Fit) -> str:
    resolution, finest = fit.agreement.resolution, 2 * fit.grid.spacing
    if math.isinf(resolution):
        return "FSC of map and model (masked) is nowhere above 0.5: they do not agree at any resolution"
    if fit.low_pass_resolution is None:
        return f"FSC of map and model (masked) stays above 0.5 to {finest:.1f} Å, the end of the grid"
    return (
        f"FSC of map and model (masked) falls to 0.5 at {resolution:.1f} Å; beyond it the structure says nothing of "
        f"the map: loss.low_pass_resolution: {fit.low_pass_resolution}"
    )


def _hand(fit: Fit) -> str:
    given, mirrored = fit.agreement.correlation, fit.other_hand_correlation
    if fit.is_mirrored:
        given, mirrored = mirrored, given
    line = (
        f"hand: {_HANDS[fit.hand]} (best correlation {given:.3f} as given, {mirrored:.3f} mirrored, "
        f"{abs(fit.hand_significance):.1f} standard errors)"
    )
    if fit.is_mirrored:
        line += (
            "; the structure was placed in the mirrored map (z → -z about the box centre), which is written too. The "
            "poses of the particles are mirrored as well: flip the hand of the refinement before training"
        )
    if fit.hand == "cannot tell":
        line += "; the structure was placed in the map as given, so make sure of its hand by other means"
    return line


def as_dict(fit: Fit) -> dict[str, Any]:
    """The same for programs: Å, degrees, row-major matrices."""
    agreement = fit.agreement
    resolution = None if math.isinf(agreement.resolution) else round(agreement.resolution, 3)
    return {
        "correlation": round(agreement.correlation, 5),
        "fsc_half_resolution": resolution,
        "low_pass_resolution": fit.low_pass_resolution,
        "hand": fit.hand,
        "hand_significance": round(fit.hand_significance, 2),
        "other_hand_correlation": round(fit.other_hand_correlation, 5),
        "start": fit.start or "search",
        "rotation_deg": round(fit.rotation_deg, 4),
        "rotmat": fit.rotmat.tolist(),
        "translation": fit.translation.tolist(),
        "displacement": round(fit.displacement, 3),
        "n_equivalent": fit.n_equivalent,
        "n_alternatives": fit.n_alternatives,
        "box_centre": fit.grid.centre.tolist(),
        "domain_rotation_deg": None if fit.domains is None else fit.domains.rotation_deg,
        "frequency": agreement.frequency.tolist(),
        "fsc": agreement.fsc.tolist(),
    }
