"""Clean images and volumes of given states, by the forward model that the settings name."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.config import choose_device
from cryosphere.errors import ConfigError
from cryosphere.physics import fourier, gaussians
from cryosphere.physics.atoms import (
    Scatterers,
    atom_volume,
    group_scatterers,
    images_per_chunk,
    project_atoms,
)
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.records import ParticleTable
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.conformations import Conformations

# Images of Gaussians that are rendered at a time.
_RESIDUE_BATCH = 64


class Imager:
    """Computes clean images and volumes of given states.

    Parameters
    ----------
    conformations : Conformations
        In the model frame, with all their atoms (``particles.prepare_conformations``).
    settings : SimulationSettings
        Box, pixel size, forward model, B factor and device.
    """

    def __init__(self, conformations: Conformations, settings: SimulationSettings) -> None:
        self.settings = settings
        self.device = torch.device(choose_device(settings.device))
        structure = conformations.structure
        self.scatterers = scatterers_of(conformations, settings)
        self.atom_positions = self._tensor(conformations.atom_positions)
        self.residue_positions = self._tensor(conformations.residue_positions)
        self.amplitudes, self.sigmas = self._tensor(structure.amplitudes), self._tensor(structure.sigmas)
        self.grid = fourier.frequency_grid(settings.box_size, settings.pixel_size, device=self.device)

    def _tensor(self, values) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=self.device)

    @property
    def batch_size(self) -> int:
        """Images at a time."""
        if self.settings.forward == "residues":
            return _RESIDUE_BATCH
        return images_per_chunk(self.scatterers.n_atoms, self.settings.box_size)

    def images(
        self, table: ParticleTable, state: Int[np.ndarray, " particle"], rows: Int[np.ndarray, " n"]
    ) -> Float[Tensor, "n y x"]:
        """Clean images, with CTF and contrast (the table's scale), of some rows of the table."""
        box_size, pixel_size = self.settings.box_size, self.settings.pixel_size
        rotmat, shift = self._tensor(table.rotmat[rows]), self._tensor(table.shift[rows])
        picked = torch.as_tensor(state[rows], device=self.device)
        if self.settings.forward == "residues":
            posed = torch.einsum("bij,brj->bri", rotmat, self.residue_positions[picked])
            posed[..., :2] -= shift[:, None]
            identity = torch.eye(3, device=self.device).expand_as(rotmat)
            spectrum = gaussians.project_fourier(posed, self.amplitudes, self.sigmas, identity, box_size, pixel_size)
        else:
            positions = self.atom_positions[picked]
            spectrum = project_atoms(positions, self.scatterers, rotmat, shift, box_size, pixel_size)
        ctf = contrast_transfer(*self.grid, table.ctf_parameters(rows).to(self.device))
        return fourier.fourier_to_image(spectrum * ctf, box_size)

    def volume(self, state: int) -> Float[Tensor, "z y x"]:
        """Volume of one state from all atoms, per Å³."""
        box_size, pixel_size = self.settings.box_size, self.settings.pixel_size
        return atom_volume(self.atom_positions[state], self.scatterers, box_size, pixel_size)


def scatterers_of(conformations: Conformations, settings: SimulationSettings) -> Scatterers:
    """Elements and B factors of the atoms, as the settings have them."""
    atoms = conformations.structure.atoms
    b_factors = atoms.b_factors if settings.b_factor is None else np.full(atoms.n_atoms, settings.b_factor)
    if b_factors.min() < 0:
        raise ConfigError(
            f"{conformations.structure.source} has negative B factors ({b_factors.min():g} Å²): give "
            "--b-factor a number."
        )
    return group_scatterers(atoms.elements, b_factors)
