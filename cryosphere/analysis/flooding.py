"""Peaks of a function on a graph, told apart by the depth of the valleys between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Flooding:
    """What flooding a function from above finds (persistence of peaks; Chazal et al., J. ACM 60, 41, 2013).

    Attributes
    ----------
    depth : array of shape (place,)
        Height of each place above the pass where its group met one with a higher peak; 0 for places that are no peak,
        infinite for the highest of each connected part.
    joins : int array of shape (place,)
        Neighbour across that pass.
    """

    depth: Float[np.ndarray, " place"]
    joins: Int[np.ndarray, " place"]

    def peak_of(self, least: float) -> Int[np.ndarray, " place"]:
        """The peak of at least some depth that every place belongs to."""
        found = np.arange(len(self.joins))
        while (low := self.depth[found] < least).any():
            found = np.where(low, self.joins[found], found)
        return found


def flood(height: Float[np.ndarray, " place"], pairs: Int[np.ndarray, "pair 2"]) -> Flooding:
    """Flood a function from above along pairs of neighbours: where two groups meet, that with the lower peak ends."""
    level = np.minimum(height[pairs[:, 0]], height[pairs[:, 1]])
    above = np.arange(len(height)).tolist()
    heights, levels = height.tolist(), level.tolist()
    depth, joins = np.full(len(height), np.inf), np.arange(len(height))

    def top(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    ordered = np.argsort(-level, kind="stable")
    for edge, (one, other) in zip(ordered.tolist(), pairs[ordered].tolist(), strict=True):
        first, second = top(one), top(other)
        if first != second:
            if heights[first] < heights[second]:
                low, high, link = first, second, other
            else:
                low, high, link = second, first, one
            depth[low], joins[low], above[low] = heights[low] - levels[edge], link, high
    return Flooding(depth, joins)
