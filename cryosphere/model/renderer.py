"""Deformed residues → rendered images, comparable with centred particle images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import fourier_to_image, frequency_grid
from cryosphere.physics.gaussians import project_fourier
from cryosphere.records import CTFParameters, Structure


class Renderer(nn.Module):
    """Project a structure's Gaussians in a pose and apply the CTF.

    Parameters
    ----------
    structure : Structure
        Gives amplitudes (electrons) and widths (Å), in the model frame.
    box_size : int, pixels. pixel_size : float, Å.
    """

    def __init__(self, structure: Structure, box_size: int, pixel_size: float) -> None:
        super().__init__()
        self.box_size, self.pixel_size = box_size, pixel_size
        kx, ky = frequency_grid(box_size, pixel_size)
        self.register_buffer("kx", kx.contiguous(), persistent=False)
        self.register_buffer("ky", ky.contiguous(), persistent=False)
        self.register_buffer("amplitudes", torch.tensor(structure.amplitudes, dtype=torch.float32), persistent=False)
        self.register_buffer("sigmas", torch.tensor(structure.sigmas, dtype=torch.float32), persistent=False)

    def forward(
        self,
        positions: Float[Tensor, "batch residue 3"],
        rotmat: Float[Tensor, "batch 3 3"],
        ctf: CTFParameters,
        per_ctf: int = 1,
    ) -> Float[Tensor, "batch y x"]:
        """Rendered images without shift (particle images are centred instead), electrons per Å².

        Each CTF serves ``per_ctf`` consecutive positions and poses.
        """
        fourier = project_fourier(positions, self.amplitudes, self.sigmas, rotmat, self.box_size, self.pixel_size)
        transfer = contrast_transfer(self.kx, self.ky, ctf)
        posed = fourier.unflatten(0, (-1, per_ctf)) * transfer[:, None]
        return fourier_to_image(posed.flatten(0, 1), self.box_size)
