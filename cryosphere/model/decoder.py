"""From a latent to one rigid motion per segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from cryosphere.model.networks import multilayer_perceptron
from cryosphere.physics.rotations import normalise_quat
from cryosphere.records import SegmentMotions

# Shrinks the last layer at the start, so that training begins at the nominal structure.
_INITIAL_SCALE = 0.1
# What one unit of the network's output means for free rotations: Å, and a part of a quaternion.
_TRANSLATION_UNIT_A = 10.0
_QUATERNION_UNIT = 0.3


class Decoder(nn.Module):
    """MLP from the latent to a translation (Å) and a quaternion per segment, plus a motion shared by all images.

    Parameters
    ----------
    latent_dim, n_segments : int
    hidden : sequence of int
        Widths of the hidden layers.
    free_rotation : bool
        True: a free 4-vector about the identity, normalised, so that any turn is within reach, in units of 10 Å and
        0.3, smooth in the latent; False: (1, q) normalised, the paper's form, which stays under 180°.
    """

    def __init__(self, latent_dim: int, n_segments: int, hidden: Sequence[int], free_rotation: bool) -> None:
        super().__init__()
        self.latent_dim, self.n_segments = latent_dim, n_segments
        self.free_rotation = free_rotation
        numbers = 7 if free_rotation else 6
        activation = nn.SiLU if free_rotation else nn.LeakyReLU
        self.network = multilayer_perceptron(latent_dim, hidden, n_segments * numbers, activation)
        self.static = nn.Parameter(torch.zeros(n_segments * numbers))
        unit = torch.ones(numbers)
        if free_rotation:
            unit[:3], unit[3:] = _TRANSLATION_UNIT_A, _QUATERNION_UNIT
        self.register_buffer("unit", unit, persistent=False)
        with torch.no_grad():
            self.network[-1].weight.mul_(_INITIAL_SCALE)
            self.network[-1].bias.zero_()

    def features(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch hidden"]:
        """Last hidden layer, of which the outputs are linear functions."""
        return self.network[:-1](latent)

    def forward(self, latent: Float[Tensor, "batch latent"], still: bool = False) -> SegmentMotions:
        """Motions of all segments, unit quaternions; ``still`` leaves the shared motion alone."""
        output = self.static.expand(len(latent), -1)
        if not still:
            output = output + self.network(latent)
        output = output.unflatten(1, (self.n_segments, -1)) * self.unit
        translation, rotation = output[..., :3], output[..., 3:]
        if self.free_rotation:
            real, imaginary = 1 + rotation[..., :1], rotation[..., 1:]
        else:
            real, imaginary = torch.ones_like(rotation[..., :1]), rotation
        return SegmentMotions(normalise_quat(torch.cat([real, imaginary], dim=-1)), translation)

    @torch.no_grad()
    def imitate(self, latent: Float[Tensor, "sample latent"], motions: SegmentMotions, damping: float = 1e-3) -> None:
        """Set the last layer so that the decoder gives the wanted motions at sample latents (ridge regression).

        Needs ``free_rotation``; the hidden layers stay as they are.
        """
        quat = _continuous(latent, motions.rotation_quat)
        offset = quat.new_tensor([1.0, 0.0, 0.0, 0.0])
        target = (torch.cat([motions.translation, quat - offset], dim=-1) / self.unit).flatten(1).cpu().double()
        features = self.features(latent).cpu().double()
        design = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        normal = design.T @ design + damping * torch.eye(design.shape[1], dtype=design.dtype)
        solution = torch.linalg.solve(normal, design.T @ target).float()
        self.network[-1].weight.copy_(solution[:-1].T)
        self.network[-1].bias.zero_()
        self.static.copy_(solution[-1])


def _continuous(
    latent: Float[Tensor, "sample latent"], quat: Float[Tensor, "sample segment 4"]
) -> Float[Tensor, "sample segment 4"]:
    """Each segment's quaternions with signs that change nowhere between neighbouring latents, so that even a full turn
    is one smooth curve (q and -q are the same rotation); along the shortest tree that joins all latents."""
    places = latent.cpu().double().numpy()
    tree = minimum_spanning_tree(cdist(places, places) + 1e-9)  # a distance of 0 is no edge
    order, parents = breadth_first_order(tree, 0, directed=False)
    quats = quat.cpu().numpy()
    signs = np.ones(quats.shape[:2])
    for sample in order[1:]:
        near = parents[sample]
        signs[sample] = np.where((quats[sample] * quats[near]).sum(-1) < 0, -signs[near], signs[near])
    signs *= np.where((signs * quats[..., 0]).sum(0) < 0, -1.0, 1.0)
    return quat * torch.from_numpy(signs).to(quat)[..., None]
