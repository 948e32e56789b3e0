"""From a latent to one rigid motion per segment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryosphere.model.networks import multilayer_perceptron
from cryosphere.physics.rotations import normalise_quat
from cryosphere.records import SegmentMotions

# Shrinks the last layer at the start, so that training begins at the nominal structure.
_INITIAL_SCALE = 0.1


class Decoder(nn.Module):
    """MLP from the latent to a translation (Å) and a quaternion per segment.

    Parameters
    ----------
    latent_dim, n_segments : int
    hidden : sequence of int
        Widths of the hidden layers.
    free_rotation : bool
        True: a free 4-vector about the identity, normalised, so that any turn is within reach;
        False: (1, q) normalised, the paper's form, which stays under 180°.
    """

    def __init__(self, latent_dim: int, n_segments: int, hidden: Sequence[int], free_rotation: bool) -> None:
        super().__init__()
        self.n_segments = n_segments
        self.free_rotation = free_rotation
        self.network = multilayer_perceptron(latent_dim, hidden, n_segments * (7 if free_rotation else 6))
        with torch.no_grad():
            self.network[-1].weight.mul_(_INITIAL_SCALE)
            self.network[-1].bias.zero_()

    def forward(self, latent: Float[Tensor, "batch latent"]) -> SegmentMotions:
        """Motions of all segments, unit quaternions."""
        output = self.network(latent).unflatten(1, (self.n_segments, -1))
        translation, rotation = output[..., :3], output[..., 3:]
        if self.free_rotation:
            real, imaginary = 1 + rotation[..., :1], rotation[..., 1:]
        else:
            real, imaginary = torch.ones_like(rotation[..., :1]), rotation
        return SegmentMotions(normalise_quat(torch.cat([real, imaginary], dim=-1)), translation)
