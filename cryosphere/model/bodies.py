"""Segments in space: every residue's own weights over bodies, smooth over the structure's contacts."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from cryosphere.structure.contacts import diffuse

# Weights are softmax(logits / temperature) over the bodies that are near; logits begin at the log of diffused labels.
_TEMPERATURE = 0.5
# Least share of a body about a residue, after diffusion, for the residue to be able to join it.
_NEAR = 0.01


class BodySegmentation(nn.Module):
    """Soft assignment of residues to bodies that the images may change.

    ``w_r = softmax(logits_r / ½)`` over the bodies that hold residues near r: inside a body the weights are exactly 1
    and 0, and only its borders are soft and can move. The prior is smooth over contacts:
    ``½ Σ_{r<r'} A_rr' |w_r - w_r'|²`` nats with the contact graph's weights A. Rows of residues outside (label -1)
    are 0.

    Parameters
    ----------
    graph : sparse array of shape (residue, residue)
        Of :func:`cryosphere.structure.contacts.contact_graph`.
    labels : int array of shape (residue,)
        Body of every residue at the start, -1 for none; numbers from 0 without gaps.
    hosts : int array of shape (residue,), optional
        Row whose weights every row has (:func:`cryosphere.structure.ligands.find_hosts`); by default its own.
    """

    def __init__(
        self,
        graph: sparse.csr_array,
        labels: Int[np.ndarray, " residue"],
        hosts: Int[np.ndarray, " residue"] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.hosts = np.arange(len(labels)) if hosts is None else hosts
        self.has_guests = bool((self.hosts != np.arange(len(labels))).any())
        self.register_buffer("host_rows", torch.tensor(self.hosts, dtype=torch.long), persistent=False)
        shares = torch.tensor(diffuse(graph, labels), dtype=torch.float32)
        self.logits = nn.Parameter(torch.log(shares + _NEAR))
        self.register_buffer("near", shares >= _NEAR)
        upper = sparse.triu(graph).tocoo()
        for name, value in (("first", upper.row), ("second", upper.col)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.long), persistent=False)
        self.register_buffer("contact", torch.tensor(upper.data, dtype=torch.float32), persistent=False)

    @property
    def n_segments(self) -> int:
        """Number of bodies."""
        return self.logits.shape[1]

    @property
    def names(self) -> list[str]:
        """Name of every body."""
        return [f"segment {body + 1}" for body in range(self.n_segments)]

    def mean(self) -> Tensor:
        """What every evaluation and export uses."""
        return self.logits

    def noise(self, generator: torch.Generator) -> Float[Tensor, 0]:
        """Nothing: the assignment has a prior, but no spread."""
        return torch.zeros(0)

    def sample(self, noise: Float[Tensor, 0]) -> Tensor:
        """The same as :meth:`mean`."""
        return self.logits

    def weights(self, logits: Float[Tensor, "residue segment"]) -> Float[Tensor, "residue segment"]:
        """Soft assignment; rows sum to 1, or to 0 outside."""
        lowest = torch.finfo(logits.dtype).min
        weights = torch.softmax((logits / _TEMPERATURE).masked_fill(~self.near, lowest), dim=1)
        weights = weights.masked_fill(~self.near, 0.0)
        return weights[self.host_rows] if self.has_guests else weights

    def kl(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Minus the log prior in nats (up to a constant), and 0 for the proportions that this kind has not."""
        weights = self.weights(self.logits)
        step = weights[self.first] - weights[self.second]
        return 0.5 * (self.contact * (step**2).sum(1)).sum(), weights.new_zeros(())

    @torch.no_grad()
    def labels(self) -> Int[np.ndarray, " residue"]:
        """Body of largest weight of every residue, -1 outside; bodies without residues leave gaps."""
        weights = self.weights(self.logits).cpu().numpy()
        return np.where(weights.sum(1) > 0, weights.argmax(1), -1)
