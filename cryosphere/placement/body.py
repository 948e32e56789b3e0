"""The structure as the search sees it: residues and atoms about their centroid, with their electrons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import gemmi
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.records import Structure
from cryosphere.structure.sites import scattering_centres


@dataclass(frozen=True)
class Body:
    """Residues and atoms (Å) about ``centroid`` (file frame), and their electrons."""

    residues: Float[Tensor, "residue 3"]
    residue_electrons: Float[Tensor, " residue"]
    atoms: Float[Tensor, "atom 3"]
    atom_electrons: Float[Tensor, " atom"]
    centroid: Float[np.ndarray, " 3"]

    @property
    def radius_of_gyration(self) -> float:
        """Root mean square distance of the electrons from the centroid, Å."""
        share = self.residue_electrons / self.residue_electrons.sum()
        return math.sqrt(float(share @ self.residues.square().sum(1)))

    @property
    def diameter(self) -> float:
        """Twice the largest distance of a residue from the centroid, Å."""
        return 2 * float(self.residues.norm(dim=1).max())


def make_body(structure: Structure) -> Body:
    """Centre a structure; residues sit at the centroids of their electrons."""
    centres = scattering_centres(structure)
    centroid = np.average(centres, axis=0, weights=structure.amplitudes)
    atoms = structure.atoms
    numbers = {name: float(gemmi.Element(str(name)).atomic_number) for name in np.unique(atoms.elements)}
    electrons = [numbers[name] for name in atoms.elements]
    return Body(
        residues=torch.tensor(centres - centroid, dtype=torch.float32),
        residue_electrons=torch.tensor(structure.amplitudes, dtype=torch.float32),
        atoms=torch.tensor(atoms.positions - centroid, dtype=torch.float32),
        atom_electrons=torch.tensor(electrons, dtype=torch.float32),
        centroid=centroid,
    )
