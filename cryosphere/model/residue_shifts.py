"""Shifts of single residues within their segments: what of the motion is not that of rigid bodies."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

# Highest total degree of the functions of the latent, by its dimension.
_DEGREES = {1: 6, 2: 4, 3: 2}
_USUAL_DEGREE = 1
# Å; prior standard deviations of the difference between residues in contact, and of a shift by itself.
_CONTACT_STD, _STD = 0.5, 3.0


class ResidueShifts(nn.Module):
    """Displacements of residues (Å, in the frame of the nominal structure), smooth in the latent.

    ``u_r(z) = Σ_k φ_k(z) b_kr`` with products of cosines ``√2 cos(π n Φ(z_i))``, orthonormal under the standard normal
    prior of z (Φ its distribution function) and bounded. The prior of the coefficients is that of an elastic network:
    ``½ Σ_k (1 + n_k²) [Σ_{r<r'} A_rr' |b_kr - b_kr'|² / (½ Å)² + Σ_r |b_kr|² / (3 Å)²]`` nats with the contact graph's
    weights A and the total degree n_k.

    Parameters
    ----------
    latent_dim : int
    graph : sparse array of shape (residue, residue)
        Of :func:`cryosphere.structure.contacts.contact_graph`.
    """

    def __init__(self, latent_dim: int, graph: sparse.csr_array) -> None:
        super().__init__()
        most = _DEGREES.get(latent_dim, _USUAL_DEGREE)
        degrees = [degree for degree in itertools.product(range(most + 1), repeat=latent_dim) if sum(degree) <= most]
        self.register_buffer("degrees", torch.tensor(degrees, dtype=torch.float32), persistent=False)
        self.coefficients = nn.Parameter(torch.zeros(len(degrees), graph.shape[0], 3))
        upper = sparse.triu(graph, k=1).tocoo()
        for name, value in (("first", upper.row), ("second", upper.col)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.long), persistent=False)
        self.register_buffer("contact", torch.tensor(upper.data, dtype=torch.float32), persistent=False)

    def forward(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch residue 3"]:
        """Displacement (Å) of every residue at some latents."""
        phase = math.pi * torch.special.ndtr(latent)[:, None] * self.degrees
        scale = torch.where(self.degrees > 0, math.sqrt(2), 1.0)
        return torch.einsum("bk,kri->bri", (scale * torch.cos(phase)).prod(-1), self.coefficients)

    def energy(self) -> Float[Tensor, ""]:
        """Minus the log prior in nats, up to a constant."""
        stiffness = 1 + self.degrees.sum(1) ** 2
        strain = self.coefficients[:, self.first] - self.coefficients[:, self.second]
        elastic = (self.contact * (strain**2).sum(-1)).sum(1) / _CONTACT_STD**2
        return 0.5 * (stiffness * (elastic + (self.coefficients**2).sum((1, 2)) / _STD**2)).sum()

    @torch.no_grad()
    def freeze(self, residues: Int[Tensor, " chosen"]) -> None:
        """Leave some residues their mean shift over the prior alone, the same at every latent."""
        varying = torch.nonzero(self.degrees.sum(1) > 0)
        self.coefficients[varying, residues] = 0.0
