"""The conformations that are simulated, as one record, and their sources among files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryosphere.errors import ConfigError, InputError
from cryosphere.records import Structure
from cryosphere.simulation.frames import rmsd, superposition

TRAJECTORY_SUFFIXES = (".dcd", ".xtc")


@dataclass(frozen=True)
class Conformations:
    """States of one molecule.

    Attributes
    ----------
    structure : Structure
        Residues and atoms, in any one state.
    residue_positions, atom_positions : float64 arrays of shape (state, residue, 3) and (state, atom, 3)
        Å, one frame for all states.
    description : str
        What moves, one sentence.
    bodies : tuple of int arrays, optional
        Residue rows of each rigid body, where that is known.
    notes : tuple of str
        What the user should know of how the states were made.
    """

    structure: Structure
    residue_positions: Float[np.ndarray, "state residue 3"]
    atom_positions: Float[np.ndarray, "state atom 3"]
    description: str
    bodies: tuple[np.ndarray, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.residue_positions)

    def state(self, index: int) -> Structure:
        """Structure of one state."""
        atoms = replace(self.structure.atoms, positions=self.atom_positions[index])
        return replace(self.structure, residue_positions=self.residue_positions[index], atoms=atoms)

    def centred(self) -> Conformations:
        """Copy whose residues, averaged over all states, have their centroid at the origin."""
        centre = self.residue_positions.mean((0, 1))
        structure = self.structure.translated(-centre)
        return replace(
            self,
            structure=structure,
            residue_positions=self.residue_positions - centre,
            atom_positions=self.atom_positions - centre,
        )

    def aligned(self) -> Conformations:
        """Copy with every state superposed on the first (Cα, C1′; least squares), and a note that says so."""
        rotmat, translation = superposition(self.residue_positions, self.residue_positions[0])

        def move(points):
            return np.einsum("sij,saj->sai", rotmat, points) + translation[:, None]

        residues = move(self.residue_positions)
        residues[0] = self.residue_positions[0]
        atoms = move(self.atom_positions)
        atoms[0] = self.atom_positions[0]
        spread = rmsd(residues, residues[0]).mean()
        note = f"Every state was superposed on the first (mean RMSD to it {spread:.2f} Å after that)."
        return replace(self, residue_positions=residues, atom_positions=atoms, notes=(*self.notes, note))


def conformations_from_models(path: Path) -> Conformations:
    """Take every model of a multi-model PDB or mmCIF file as a state.

    Raises
    ------
    InputError
        If the file has one model only.
    """
    from cryosphere.io.structures import read_models

    structure, residue_positions, atom_positions = read_models(path)
    if len(residue_positions) < 2:
        raise InputError(
            f"{path} has one model only, where at least two are needed: give a multi-model file, or a DCD or "
            "XTC "
            "trajectory with --topology, or use 'simulate hinge' to move one structure."
        )
    description = f"{len(residue_positions)} models of {Path(path).name}"
    return _as_conformations(structure, residue_positions, atom_positions, description)


def conformations_from_trajectory(path: Path, topology: Path, stride: int = 1) -> Conformations:
    """Take the frames of a DCD or XTC trajectory as states.

    Parameters
    ----------
    path, topology : Path
        Trajectory, and a PDB or mmCIF file with the same atoms.
    stride : int
        Use every so many frames.
    """
    from cryosphere.io.trajectories import read_trajectory

    structure, residue_positions, atom_positions = read_trajectory(path, topology, stride=stride)
    if len(residue_positions) < 2:
        raise InputError(
            f"{path} gives {len(residue_positions)} frame with a stride of {stride}, where at least two "
            "states are "
            "needed: lower --stride or give a longer trajectory."
        )
    description = f"{len(residue_positions)} frames of {Path(path).name}"
    return _as_conformations(structure, residue_positions, atom_positions, description)


def _as_conformations(structure, residue_positions, atom_positions, description) -> Conformations:
    return Conformations(
        structure,
        np.asarray(residue_positions, dtype=np.float64),
        np.asarray(atom_positions, dtype=np.float64),
        description,
    )


def read_conformations(
    path: Path, topology: Path | None = None, *, stride: int = 1, align: bool | None = None
) -> Conformations:
    """Read states from a multi-model file, or from a trajectory if there is a topology.

    Parameters
    ----------
    path, topology : Path
        As :func:`conformations_from_models` and :func:`conformations_from_trajectory`.
    stride : int
        Use every so many frames of a trajectory.
    align : bool, optional
        Superpose on the first state; by default trajectories are, models are not.
    """
    if stride < 1:
        raise ConfigError(f"The stride is {stride}: expected a whole number of at least 1.")
    path = Path(path)
    if topology is not None:
        states = conformations_from_trajectory(path, topology, stride)
    elif path.suffix.lower() in TRAJECTORY_SUFFIXES:
        raise InputError(
            f"{path} is a trajectory, which names no atoms: give a PDB or mmCIF file of it with --topology."
        )
    else:
        states = conformations_from_models(path)
    if align is None:
        align = topology is not None
    return states.aligned() if align else states
