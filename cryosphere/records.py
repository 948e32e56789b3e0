"""Frozen records that travel between the rooms of the package; shapes in the annotations, units in the names."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Atoms:
    """Heavy atoms of a structure's residues and ligands, row by row of the structure, within one as in the file.

    ``residue_index`` is the row in the owning :class:`Structure`; positions in Å in the structure's frame,
    ``b_factors`` in Å² (of predicted models what their pLDDT stands for, never the pLDDT itself).
    """

    positions: Float[np.ndarray, "atom 3"]
    elements: np.ndarray
    names: np.ndarray
    b_factors: Float[np.ndarray, " atom"]
    residue_index: Int[np.ndarray, " atom"]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.elements)


@dataclass(frozen=True)
class Structure:
    """A nominal structure: one Gaussian per polymer residue or ligand group, with the atoms it stands for.

    Polymer residues come first, in the order of the file, then the ligands. What is said of residues holds for ligand
    groups too, unless polymers are named.

    Attributes
    ----------
    source : str
        File name it was read from, for messages.
    chain_ids, residue_numbers, insertion_codes, residue_names : array of shape (residue,)
        Author numbering as in the file; ``insertion_codes`` are ``""`` where there is none.
    kinds : array of str, shape (residue,)
        ``"protein"``, ``"nucleic"`` or ``"ligand"`` (a ligand, sugar or ion, or a part of a large one).
    residue_positions : float64 array of shape (residue, 3)
        Cα of amino acids, C1′ of nucleotides, the middle atom of ligand groups, Å.
    amplitudes : array of shape (residue,)
        Electrons of the residue.
    sigmas : array of shape (residue,)
        Width of the residue's Gaussian, Å.
    bonded : bool array of shape (residue - 1,)
        Whether residues i and i + 1 are neighbours in one chain without a gap.
    atoms : Atoms
        Heavy atoms of these residues.
    plddt : array of shape (residue,), optional
        Confidence of a predicted model, 0 to 100; None for other structures.
    source_rows : int array of shape (residue,), optional
        Row of every residue among the ``n_source_residues`` polymer residues that the file has, before any were
        trimmed; -1 for ligands.
    frame_shift : array of shape (3,)
        ``file = model + frame_shift`` in Å; zero for a structure as read.
    notes : tuple of str
        What the reader left out or chose, one sentence each, to be shown to the user.
    """

    source: str
    chain_ids: np.ndarray
    residue_numbers: Int[np.ndarray, " residue"]
    insertion_codes: np.ndarray
    residue_names: np.ndarray
    kinds: np.ndarray
    residue_positions: Float[np.ndarray, "residue 3"]
    amplitudes: Float[np.ndarray, " residue"]
    sigmas: Float[np.ndarray, " residue"]
    bonded: Bool[np.ndarray, " bond"]
    atoms: Atoms
    frame_shift: Float[np.ndarray, " 3"]
    notes: tuple[str, ...] = ()
    plddt: Float[np.ndarray, " residue"] | None = None
    source_rows: Int[np.ndarray, " residue"] | None = None
    n_source_residues: int | None = None

    @property
    def n_residues(self) -> int:
        """Number of residues and ligand groups, which is the number of Gaussians."""
        return len(self.residue_names)

    @property
    def n_polymer_residues(self) -> int:
        """Number of amino acids and nucleotides, which are the first rows."""
        return int((self.kinds != "ligand").sum())

    def label(self, row: int | np.integer) -> str:
        """Residue as people write it, for example ``A/52A``."""
        return f"{self.chain_ids[row]}/{self.residue_numbers[row]}{self.insertion_codes[row]}"

    def translated(self, vector: Float[np.ndarray, " 3"]) -> Structure:
        """Copy moved by ``vector`` (Å); ``frame_shift`` keeps the way back to the file's frame."""
        atoms = replace(self.atoms, positions=self.atoms.positions + vector)
        return replace(
            self,
            residue_positions=self.residue_positions + vector,
            atoms=atoms,
            frame_shift=self.frame_shift - vector,
        )


@dataclass(frozen=True)
class CTFParameters:
    """Contrast-transfer parameters per image; Å, radians, Å² and kV/mm as named (see ``conventions``).

    ``even_zernike`` holds RELION's symmetric aberrations (rad), where there are any.
    """

    defocus_u: Float[Tensor, " batch"]
    defocus_v: Float[Tensor, " batch"]
    defocus_angle: Float[Tensor, " batch"]
    phase_shift: Float[Tensor, " batch"]
    b_factor: Float[Tensor, " batch"]
    scale: Float[Tensor, " batch"]
    voltage_kv: Float[Tensor, " batch"]
    spherical_aberration_mm: Float[Tensor, " batch"]
    amplitude_contrast: Float[Tensor, " batch"]
    even_zernike: Float[Tensor, "batch even"] | None = None

    def to(self, *args, **kwargs) -> CTFParameters:
        """Every field through ``Tensor.to``."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        return CTFParameters(**{name: value.to(*args, **kwargs) for name, value in present.items()})

    def take(self, rows: slice) -> CTFParameters:
        """Those of some images."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        return CTFParameters(**{name: value[rows] for name, value in present.items()})

    def pin_memory(self) -> CTFParameters:
        """Every field in page-locked memory."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        return CTFParameters(**{name: value.pin_memory() for name, value in present.items()})


@dataclass(frozen=True)
class ParticleTable:
    """One row per particle of an input table, in the order of the file.

    Attributes
    ----------
    source : Path
        The table that was read.
    stack_paths : tuple of Path
        The image stacks, resolved and existing.
    stack_index, image_index : int arrays of shape (particle,)
        Which stack, and which image in it (from 0).
    rotmat : float64 array of shape (particle, 3, 3)
        Pose matrix A; a model point r lands at (A r)_xy - shift.
    shift : float64 array of shape (particle, 2)
        (x, y) in Å, in the images as they are in their files (before the magnification is corrected).
    defocus_u, defocus_v : Å. defocus_angle, phase_shift : rad. b_factor : Å². scale : 1.
    voltage_kv, spherical_aberration_mm, amplitude_contrast : of the particle's optics group.
    optics_group : int array of shape (particle,)
        Row in ``optics_group_names``.
    box_size : int, pixels. pixel_size : float, Å.
    notes : tuple of str
        What the reader wants the user to know (warnings), one sentence each.
    half_set : int array of shape (particle,), optional
        1 or 2, the half of a gold-standard refinement that the particle belonged to (``rlnRandomSubset``, or
        ``alignments3D/split`` + 1).
    group_box_size, group_pixel_size : arrays of shape (group,), optional
        Box (pixels) and pixel size (Å) that the images of each optics group have in their files, where they differ
        from ``box_size`` and ``pixel_size``, the grid that all are brought to when they are read.
    group_beam_tilt : array of shape (group, 2), optional
        Beam tilt (x, y) in rad; see ``physics.aberrations``.
    group_odd_zernike, group_even_zernike : arrays of shape (group, coefficient), optional
        RELION's antisymmetric (``rlnOddZernike``) and symmetric (``rlnEvenZernike``) aberrations, rad.
    group_magnification : array of shape (group, 2, 2), optional
        Anisotropic magnification, RELION's ``rlnMagMat00`` … ``rlnMagMat11``.
    sign : array of shape (particle,), optional
        1 or -1, by which the images in the files are multiplied so that protein is bright (``blob/sign``).
    input_row : int array of shape (particle,), optional
        Where particles were selected: their rows (from 0) in the input table, ascending. None: all of them.
    n_input : int, optional
        Where particles were selected: rows of the input table.
    """

    source: Path
    stack_paths: tuple[Path, ...]
    stack_index: Int[np.ndarray, " particle"]
    image_index: Int[np.ndarray, " particle"]
    rotmat: Float[np.ndarray, "particle 3 3"]
    shift: Float[np.ndarray, "particle 2"]
    defocus_u: Float[np.ndarray, " particle"]
    defocus_v: Float[np.ndarray, " particle"]
    defocus_angle: Float[np.ndarray, " particle"]
    phase_shift: Float[np.ndarray, " particle"]
    b_factor: Float[np.ndarray, " particle"]
    scale: Float[np.ndarray, " particle"]
    voltage_kv: Float[np.ndarray, " particle"]
    spherical_aberration_mm: Float[np.ndarray, " particle"]
    amplitude_contrast: Float[np.ndarray, " particle"]
    optics_group: Int[np.ndarray, " particle"]
    optics_group_names: tuple[str, ...]
    box_size: int
    pixel_size: float
    notes: tuple[str, ...] = ()
    half_set: Int[np.ndarray, " particle"] | None = None
    group_box_size: Int[np.ndarray, " group"] | None = None
    group_pixel_size: Float[np.ndarray, " group"] | None = None
    group_beam_tilt: Float[np.ndarray, "group 2"] | None = None
    group_odd_zernike: Float[np.ndarray, "group odd"] | None = None
    group_even_zernike: Float[np.ndarray, "group even"] | None = None
    group_magnification: Float[np.ndarray, "group 2 2"] | None = None
    sign: Float[np.ndarray, " particle"] | None = None
    input_row: Int[np.ndarray, " particle"] | None = None
    n_input: int | None = None

    @property
    def n_particles(self) -> int:
        """Number of rows."""
        return len(self.image_index)

    @property
    def file_pixel_sizes(self) -> Float[np.ndarray, " particle"]:
        """Pixel size (Å) that every image has in its file."""
        if self.group_pixel_size is None:
            return np.full(self.n_particles, self.pixel_size)
        return self.group_pixel_size[self.optics_group]

    @property
    def file_box_centres(self) -> Float[np.ndarray, " group"]:
        """Distance (Å) along every axis from the first pixel to the box centre, for the images of each optics group
        as they are in their files."""
        if self.group_box_size is None or self.group_pixel_size is None:
            return np.full(len(self.optics_group_names), (self.box_size // 2) * self.pixel_size)
        return (self.group_box_size // 2) * self.group_pixel_size

    @property
    def input_rows(self) -> Int[np.ndarray, " particle"]:
        """Row (from 0) that every particle has in the input table."""
        return np.arange(self.n_particles) if self.input_row is None else self.input_row

    @property
    def n_input_rows(self) -> int:
        """Number of rows of the input table."""
        return self.n_particles if self.n_input is None else self.n_input

    def take(self, rows: Int[np.ndarray, " chosen"]) -> ParticleTable:
        """Table of some rows, ascending, without the stacks and optics groups that they do not use.

        Every array is one value per particle, but for those whose name begins with ``group_``.
        """
        stacks, stack_index = np.unique(self.stack_index[rows], return_inverse=True)
        groups, optics_group = np.unique(self.optics_group[rows], return_inverse=True)
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        taken = {name: value[groups if name.startswith("group_") else rows] for name, value in arrays.items()}
        taken |= {
            "stack_paths": tuple(self.stack_paths[stack] for stack in stacks),
            "stack_index": stack_index,
            "optics_group_names": tuple(self.optics_group_names[group] for group in groups),
            "optics_group": optics_group,
            "input_row": self.input_rows[rows],
            "n_input": self.n_input_rows,
        }
        return replace(self, **taken)

    def ctf_parameters(self, rows: Int[np.ndarray, " batch"], dtype=torch.float32) -> CTFParameters:
        """CTF parameters of some rows as tensors on the CPU."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(CTFParameters) if f.name != "even_zernike"}
        if self.group_even_zernike is not None:
            columns["even_zernike"] = self.group_even_zernike[self.optics_group[rows]]
        return CTFParameters(**{name: torch.as_tensor(value, dtype=dtype) for name, value in columns.items()})


@dataclass(frozen=True)
class ParticleBatch:
    """Images and what is known of them.

    ``fourier`` are the half Fourier images (``physics.fourier.image_to_fourier``), centred (the known shift undone),
    protein-bright, background mean 0, and whitened: their noise has variance 1 at every frequency. ``whitening`` is the
    filter that did it, per shell of width 1 / edge, which the model applies to its renderings. ``rows`` are rows of the
    table, ``optics_group`` their groups.
    """

    rows: Int[Tensor, " batch"]
    optics_group: Int[Tensor, " batch"]
    fourier: Complex[Tensor, "batch y half"]
    rotmat: Float[Tensor, "batch 3 3"]
    ctf: CTFParameters
    whitening: Float[Tensor, "batch shell"]

    @property
    def images(self) -> Float[Tensor, "batch y x"]:
        """The images themselves, origin at pixel n // 2."""
        size = self.fourier.shape[-2]
        return torch.fft.fftshift(torch.fft.irfft2(self.fourier, s=(size, size)), dim=(-2, -1))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ParticleBatch:
        """Every tensor on a device; ``non_blocking`` as of ``Tensor.to``."""
        moved = {name: value.to(device, non_blocking=non_blocking) for name, value in vars(self).items()}
        return ParticleBatch(**moved)

    def take(self, rows: slice) -> ParticleBatch:
        """Some of the images."""
        taken = {name: value.take(rows) if name == "ctf" else value[rows] for name, value in vars(self).items()}
        return ParticleBatch(**taken)

    def pin_memory(self) -> ParticleBatch:
        """Every tensor in page-locked memory, from where it is copied to a GPU while that computes."""
        return ParticleBatch(**{name: value.pin_memory() for name, value in vars(self).items()})


@dataclass(frozen=True)
class SegmentMotions:
    """Rigid motion of every segment in every image: unit quaternion (w first) and translation in Å."""

    rotation_quat: Float[Tensor, "batch segment 4"]
    translation: Float[Tensor, "batch segment 3"]


@dataclass(frozen=True)
class LossTerms:
    """Every term of the objective as it was weighted into ``total`` (scalars; nats per image unless the
    correlation loss is used, where the data term is minus a correlation)."""

    data: Float[Tensor, ""]
    kl_latent: Float[Tensor, ""]
    kl_segmentation: Float[Tensor, ""]
    continuity: Float[Tensor, ""]
    clash: Float[Tensor, ""]
    weight_decay: Float[Tensor, ""]
    total: Float[Tensor, ""]

    def as_dict(self) -> dict[str, Tensor]:
        """Field name → scalar."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Posterior:
    """Posterior of the latent of every particle.

    Attributes
    ----------
    index : int array of shape (particle,)
        Input rows in ascending order.
    mean, covariance : arrays of shape (particle, latent) and (particle, latent, latent)
    effective_sample_size : array of shape (particle,)
        Of the importance weights; ``nan`` where the encoder alone was used.
    log_evidence : array of shape (particle,)
        Log marginal likelihood of the image (ratio to pure noise, nats); ``nan`` where the encoder alone was used.
    nodes : array of shape (node, latent)
        Latents with which every image was compared; none where each image had its own.
    log_likelihood : array of shape (particle, node)
        Log-likelihood (ratio to pure noise, nats) of every image at every node.
    """

    index: Int[np.ndarray, " particle"]
    mean: Float[np.ndarray, "particle latent"]
    covariance: Float[np.ndarray, "particle latent latent"]
    effective_sample_size: Float[np.ndarray, " particle"]
    log_evidence: Float[np.ndarray, " particle"]
    nodes: Float[np.ndarray, "node latent"]
    log_likelihood: Float[np.ndarray, "particle node"]

    @property
    def std(self) -> Float[np.ndarray, "particle latent"]:
        """Marginal standard deviations."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2).clip(min=0.0))

    @property
    def is_shared(self) -> bool:
        """Whether all images were compared with the same nodes, so that weights of these describe the posteriors."""
        return len(self.nodes) > 0
