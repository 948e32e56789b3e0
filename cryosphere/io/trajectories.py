"""Molecular-dynamics trajectories (DCD, XTC and others) with their topology, through mdtraj, in Å."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import gemmi
import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output, check_output
from cryosphere.io.confidence import read_confidence, with_confidence
from cryosphere.io.polymers import collect_residues
from cryosphere.io.structures import DEFAULT_SIGMA, Models, structure_of_residues, write_models
from cryosphere.records import Structure

WRITTEN_SUFFIXES = (".dcd", ".xtc")
GEMMI_TOPOLOGY_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".gz")
ANGSTROMS = {"angstroms": 1.0, "nanometers": 10.0}
# Coordinates held at once while reading (120 MB).
ATOMS_AT_ONCE = 10_000_000
# Å; no unresolved loop between consecutive numbers spans this, a periodic box does.
SPLIT_DISTANCE = 20.0
# The DCD title: two lines of 80 characters after the first record and the title's length and count.
DCD_TITLE_OFFSET, DCD_LINE_BYTES = 100, 80
DCD_TITLE = b"Created by cryoSPHERE"


def read_trajectory(
    trajectory: str | Path, topology: str | Path, sigma: float = DEFAULT_SIGMA, stride: int = 1
) -> Models:
    """Read the polymer residues of every frame of a trajectory.

    Parameters
    ----------
    trajectory : path
        DCD, XTC or another coordinate file that mdtraj opens.
    topology : path
        PDB or mmCIF file (which may be gzipped) or PSF file with the same atoms in the same order.
    sigma : float
        Width of every residue's Gaussian, Å.
    stride : int
        Take every ``stride``-th frame.

    Returns
    -------
    Models
        The structure with the coordinates of the topology file (of the first frame if that is a PSF file),
        and the residue and atom positions of the frames in Å.

    Raises
    ------
    InputError
        If a file is missing or unreadable, if their atoms are not equally many, or if there is no polymer residue.
    """
    trajectory, topology = Path(trajectory), Path(topology)
    for path in (trajectory, topology):
        if not path.is_file():
            raise InputError(f"{path} does not exist or is not a file; a trajectory and its topology are expected.")
    if topology.suffix.lower() in GEMMI_TOPOLOGY_SUFFIXES:
        atoms = _topology_from_structure_file(topology)
    else:
        atoms = _topology_from_mdtraj(topology, trajectory)
    n_atoms = atoms[0].count_atom_sites()
    atoms.setup_entities()
    residues, left_out = collect_residues(atoms[0])
    structure = structure_of_residues(topology.name, residues, left_out, sigma)
    confidence = read_confidence(atoms, None, topology.name, residues)
    if confidence is not None:
        structure = with_confidence(structure, confidence)
    atom_rows = np.array([atom.serial for residue in residues for atom in residue.atoms])
    positions = np.concatenate(list(_frames(trajectory, topology, n_atoms, atom_rows, stride)))
    anchor_serials = np.array([residue.anchor.serial for residue in residues])
    residue_positions = positions[:, np.flatnonzero(np.isin(atom_rows, anchor_serials))]
    notes = (*structure.notes, *_split_notes(trajectory.name, structure, residue_positions))
    return Models(replace(structure, notes=notes), residue_positions, positions)


def write_trajectory(
    path: str | Path,
    structure: Structure,
    positions: Iterable[Float[np.ndarray, "site 3"]],
    *,
    topology_path: str | Path | None = None,
    what: Literal["atoms", "residues"] = "atoms",
    frame: Literal["file", "model"] = "file",
    overwrite: bool = False,
) -> None:
    """Write conformations as DCD or XTC (by the suffix) with a topology file beside it.

    Parameters
    ----------
    path : path
        ``.dcd``, or ``.xtc`` (which rounds to 0.01 Å).
    structure : Structure
        What the positions are of; its own coordinates go to the topology file.
    positions : array of shape (frame, site, 3) or iterable of arrays of shape (site, 3)
        Å, in the frame of ``structure``; sites are its atoms or its residues.
    topology_path : path, optional
        PDB or mmCIF file; by default ``path`` with the suffix ``.cif``.
    what, frame : str
        As in :func:`cryosphere.io.structures.write_models`.
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    InputError
        If the suffix is another, or a file exists and may not be replaced.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise InputError(f"{path} has the suffix {suffix or '(none)'!r}, expected .dcd or .xtc; rename it.")
    topology_path = path.with_suffix(".cif") if topology_path is None else Path(topology_path)
    check_output(topology_path, overwrite=overwrite)
    shift = structure.frame_shift if frame == "file" else np.zeros(3)
    nominal = structure.atoms.positions if what == "atoms" else structure.residue_positions
    with atomic_output(path, overwrite=overwrite) as temporary:
        with _opened(temporary, "w") as file:
            scale = ANGSTROMS[file.distance_unit]
            for number, coordinates in enumerate(positions, start=1):
                found = np.shape(coordinates)
                if found != nominal.shape:
                    raise ValueError(f"frame {number} has the shape {found}, expected {nominal.shape}")
                file.write(((np.asarray(coordinates) + shift) / scale).astype(np.float32)[None])
        if suffix == ".dcd":
            _fix_dcd_title(temporary)
        write_models(topology_path, structure, nominal[None], what=what, frame=frame, overwrite=overwrite)


def _split_notes(source: str, structure: Structure, positions: Float[np.ndarray, "frame residue 3"]) -> list[str]:
    """Say how many frames have molecules that are split across the periodic box."""
    neighbours = (structure.chain_ids[1:] == structure.chain_ids[:-1]) & (np.diff(structure.residue_numbers) == 1)
    steps = np.linalg.norm(np.diff(positions, axis=1), axis=-1)[:, neighbours]
    n_split = int((steps > SPLIT_DISTANCE).any(axis=1).sum())
    if not n_split:
        return []
    return [
        f"{source}: in {n_split} of {len(positions)} frames residues with consecutive numbers are more than "
        f"{SPLIT_DISTANCE:g} Å apart; molecules split across the periodic box must be made whole first."
    ]


def _topology_from_structure_file(path: Path) -> gemmi.Structure:
    """Atoms of the first model with their place in the file (from 0) as serial numbers."""
    try:
        parsed = gemmi.read_structure(str(path), merge_chain_parts=False, format=gemmi.CoorFormat.Detect)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as PDB or mmCIF ({reason}); export it again.") from error
    if not len(parsed):
        raise InputError(f"{path} has no atoms; a topology with coordinates is expected.")
    sites = [atom for chain in parsed[0] for residue in chain for atom in residue]
    serials = np.array([atom.serial for atom in sites])
    rows = np.arange(len(sites))
    # gemmi merges residues of one number and name (solvent of which the numbers start again), so that its order
    # need not be the file's; serial numbers tell, unless they start again too.
    if len(np.unique(serials)) == len(serials):
        rows = np.argsort(np.argsort(serials))
    for atom, row in zip(sites, rows.tolist(), strict=True):
        atom.serial = row
    parsed.merge_chain_parts()
    return parsed


def _topology_from_mdtraj(path: Path, trajectory: Path) -> gemmi.Structure:
    """Atoms of a topology that gemmi does not read (PSF and others), placed as in the first frame."""
    import mdtraj

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            topology = mdtraj.load_topology(str(path))
        except Exception as error:  # mdtraj's parsers each have exceptions of their own
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path} cannot be read as a topology ({reason}); give a PDB, mmCIF or PSF file."
            ) from error
    every_atom = np.arange(topology.n_atoms)
    frame = next(_frames(trajectory, path, topology.n_atoms, every_atom, n_frames=1))[0]
    return _as_gemmi(topology, frame.tolist())


def _as_gemmi(topology, coordinates: list[list[float]]) -> gemmi.Structure:
    """Make a gemmi structure of an mdtraj topology; serial numbers are the places in the file (from 0)."""
    structure, model = gemmi.Structure(), gemmi.Model(1)
    for source_chain in topology.chains:
        letter = chr(ord("A") + source_chain.index % 26)
        for source in source_chain.residues:
            name = source_chain.chain_id or source.segment_id or letter
            if not len(model) or model[-1].name != name:
                model.add_chain(gemmi.Chain(name))
            residue = gemmi.Residue()
            residue.name, residue.seqid = source.name, gemmi.SeqId(source.resSeq, " ")
            for source_atom in source.atoms:
                atom = gemmi.Atom()
                atom.name, atom.serial, atom.occ = source_atom.name, source_atom.index, 1.0
                atom.element = gemmi.Element(source_atom.element.symbol)
                atom.pos = gemmi.Position(*coordinates[source_atom.index])
                residue.add_atom(atom)
            model[-1].add_residue(residue)
    structure.add_model(model)
    structure.merge_chain_parts()
    return structure


def _frames(
    trajectory: Path,
    topology: Path,
    n_atoms: int,
    rows: Int[np.ndarray, " atom"],
    stride: int = 1,
    n_frames: int | None = None,
) -> Iterator[Float[np.ndarray, "frame atom 3"]]:
    """Yield positions (Å) of some atoms, many frames at a time, checking the number of atoms first."""
    found = 0
    try:
        with _opened(trajectory, "r") as file:
            scale = ANGSTROMS[file.distance_unit]
            while n_frames is None or found < n_frames:
                xyz = file.read(n_frames=n_frames or max(1, ATOMS_AT_ONCE // n_atoms))
                xyz = np.asarray(xyz[0] if isinstance(xyz, tuple) else xyz)
                if not len(xyz):
                    break
                if xyz.shape[1] != n_atoms:
                    raise InputError(
                        f"{trajectory} has {xyz.shape[1]} atoms, its topology {topology} has {n_atoms}; "
                        "give the topology that the trajectory was made with."
                    )
                # Frames already read decide where the stride continues.
                first = -found % stride
                found += len(xyz)
                yield xyz[first::stride][:, rows].astype(np.float64) * scale
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{trajectory} cannot be read as a trajectory ({reason}); copy it again.") from error
    if not found:
        raise InputError(f"{trajectory} has no frames; give a trajectory with at least one.")


@contextmanager
def _opened(path: Path, mode: str) -> Iterator:
    """Open a trajectory with mdtraj, which is kept quiet about it."""
    import mdtraj

    with _ascii_name(path) as name:
        with _quiet():
            file = mdtraj.open(name, mode=mode)
        try:
            yield file
        finally:
            with _quiet():
                file.close()


@contextmanager
def _ascii_name(path: Path) -> Iterator[str]:
    """A name of a file that mdtraj's DCD plug-in, which knows ASCII alone, can open: its own or that of a link."""
    if str(path).isascii():
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"link{path.suffix}"
        link.symlink_to(path.absolute())
        yield str(link)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop warnings, and what C code prints: the DCD plug-in reports to standard output, where results go."""
    flush = getattr(ctypes.CDLL(None), "fflush", None) if os.name == "posix" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if flush is None:
            yield
            return
        sys.stdout.flush()
        flush(None)
        saved = os.dup(1)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            flush(None)
            os.dup2(saved, 1)
            os.close(saved)


def _fix_dcd_title(path: Path) -> None:
    """Replace the title, which holds the date and stray memory and would make equal files differ."""
    lines = (DCD_TITLE, b"")
    with open(path, "r+b") as file:
        file.seek(DCD_TITLE_OFFSET)
        file.write(b"".join(line.ljust(DCD_LINE_BYTES) for line in lines))
