"""A structure file with all that is in it, its atoms moved: ligands, waters, hydrogens, alternatives, B factors.

Reading and writing are gemmi's. An mmCIF file that stays one keeps every category but the atoms' own and those of the
crystal, which the moved atoms no longer belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output
from cryosphere.io.confidence import PLDDT_REMARK, find_evidence, name_plddt
from cryosphere.io.pdb_writing import PDB_COORDINATES, PDB_MAX_SERIAL
from cryosphere.io.structure_writing import MMCIF_SUFFIXES, PDB_SUFFIXES
from cryosphere.records import Structure


@dataclass(frozen=True)
class RigidMotions:
    """Motions x → rotmat x + translation (Å, file frame), and which of them every residue of a structure takes."""

    rotmat: Float[np.ndarray, "motion 3 3"]
    translation: Float[np.ndarray, "motion 3"]
    of_residue: Int[np.ndarray, " residue"]


def check_structure_suffix(path: str | Path) -> None:
    """Refuse an output name that is neither mmCIF nor PDB."""
    suffix = Path(path).suffix.lower()
    if suffix not in MMCIF_SUFFIXES + PDB_SUFFIXES:
        raise InputError(f"{path} has the suffix {suffix or '(none)'!r}, expected .cif or .pdb; rename it.")


def check_output_holds(source: str | Path, path: str | Path) -> None:
    """Refuse an output name whose format cannot hold a structure file, wherever its atoms are moved."""
    check_structure_suffix(path)
    if Path(path).suffix.lower() in PDB_SUFFIXES:
        _check_fits_pdb(path, gemmi.read_structure(str(source), format=gemmi.CoorFormat.Detect))


def write_moved(
    source: str | Path, path: str | Path, structure: Structure, motions: RigidMotions, overwrite: bool = False
) -> None:
    """Write every atom of every model of a structure file, moved with its residue.

    Atoms of residues that the structure does not have (ligands, waters) move with the nearest residue that it has.
    The file says that a predicted model is one, so that its B factors are read as pLDDT under any name.

    Parameters
    ----------
    source : path
        PDB or mmCIF file (.gz too), which stays as it is.
    path : path
        ``.cif``, ``.mmcif``, ``.pdb`` or ``.ent``.
    structure : Structure
        What was read from ``source``, in the file's frame.
    motions : RigidMotions
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the suffix is another, the file exists and may not be replaced, or PDB cannot hold the structure.
    """
    check_structure_suffix(path)
    moved = gemmi.read_structure(str(source), format=gemmi.CoorFormat.Detect)
    moved.setup_entities()
    for model in moved:
        _move_model(model, structure, motions)
    _leave_crystal(moved, motions)
    moved.raw_remarks = []  # those on symmetry would contradict the moved atoms
    is_predicted = structure.plddt is not None
    with atomic_output(path, overwrite=overwrite) as temporary:
        if Path(path).suffix.lower() in PDB_SUFFIXES:
            _check_fits_pdb(path, moved)
            _check_coordinates_fit_pdb(path, moved)
            if is_predicted:
                remarks = [line for line in moved.make_pdb_headers().splitlines() if line.startswith("REMARK")]
                moved.raw_remarks = sorted([f"REMARK   6 {PLDDT_REMARK}", *remarks], key=lambda line: line[:10])
            moved.write_pdb(str(temporary))
        else:
            document = _mmcif_document(source, moved)
            if is_predicted and find_evidence(moved, document, file_name="") is None:
                name_plddt(document[0])
            document.write_file(str(temporary))


def _move_model(model: gemmi.Model, structure: Structure, motions: RigidMotions) -> None:
    transforms = [_transform(*motion) for motion in zip(motions.rotmat, motions.translation, strict=True)]
    if len(transforms) == 1:
        model.transform_pos_and_adp(transforms[0])
        return
    keys = zip(structure.chain_ids, structure.residue_numbers, structure.insertion_codes, strict=True)
    known = {
        (str(chain), int(number), str(code)): int(row)
        for (chain, number, code), row in zip(keys, motions.of_residue, strict=True)
    }
    tree = cKDTree(structure.residue_positions)
    for chain in model:
        for residue in chain:
            row = known.get((chain.name.strip(), residue.seqid.num, residue.seqid.icode.strip()))
            if row is None:
                centre = np.mean([atom.pos.tolist() for atom in residue], axis=0)
                row = int(motions.of_residue[tree.query(centre)[1]])
            for atom in residue:
                atom.pos = gemmi.Position(transforms[row].apply(atom.pos))
                if atom.aniso.nonzero():
                    atom.aniso = atom.aniso.transformed_by(transforms[row].mat)


def _transform(rotmat: Float[np.ndarray, "3 3"], translation: Float[np.ndarray, " 3"]) -> gemmi.Transform:
    return gemmi.Transform(gemmi.Mat33(rotmat.tolist()), gemmi.Vec3(*translation.tolist()))


def _leave_crystal(moved: gemmi.Structure, motions: RigidMotions) -> None:
    """Take the atoms out of their crystal; assemblies are built from the moved atoms if all moved as one."""
    moved.cell = gemmi.UnitCell()
    moved.spacegroup_hm = "P 1"
    moved.has_origx = False
    if len(motions.rotmat) > 1:
        moved.assemblies.clear()
        moved.ncs.clear()
        return
    there = _transform(motions.rotmat[0], motions.translation[0])
    back = there.inverse()
    for assembly in moved.assemblies:
        for generator in assembly.generators:
            for operator in generator.operators:
                operator.transform = there.combine(operator.transform).combine(back)
    for operator in moved.ncs:
        operator.tr = there.combine(operator.tr).combine(back)


def _mmcif_document(source: str | Path, moved: gemmi.Structure) -> gemmi.cif.Document:
    """The source with its atoms replaced if it is mmCIF, else a new document."""
    if moved.input_format != gemmi.CoorFormat.Mmcif:
        return moved.make_mmcif_document()
    document = gemmi.cif.read(str(source))
    block = next(block for block in document if block.find_loop("_atom_site.id"))
    groups = gemmi.MmcifOutputGroups(False)
    groups.atoms = groups.cell = groups.symmetry = groups.origx = groups.scale = True
    groups.assembly, groups.ncs = True, bool(moved.ncs)
    moved.update_mmcif_block(block, groups)
    return document


def _check_fits_pdb(path: str | Path, moved: gemmi.Structure) -> None:
    """Refuse what the columns of a PDB file cannot hold, coordinates apart."""
    chains = [chain.name for model in moved for chain in model]
    names = [residue.name for model in moved for chain in model for residue in chain]
    n_atoms = sum(len(residue) for model in moved for chain in model for residue in chain)
    problems = (
        (n_atoms > PDB_MAX_SERIAL, f"{n_atoms} atoms, at most {PDB_MAX_SERIAL} fit"),
        (max(map(len, chains)) > 1, "chain names of more than one letter"),
        (max(map(len, names)) > 3, "residue names of more than three letters"),
    )
    for is_problem, found in problems:
        if is_problem:
            raise InputError(f"{path} cannot be a PDB file: the structure has {found}; use a .cif name.")


def _check_coordinates_fit_pdb(path: str | Path, moved: gemmi.Structure) -> None:
    low, high = PDB_COORDINATES
    atoms = [site.atom.pos.tolist() for model in moved for site in model.all()]
    if np.min(atoms) <= low or np.max(atoms) >= high:
        raise InputError(
            f"{path} cannot be a PDB file: the structure has coordinates outside {low:.0f} to {high:.0f} Å; "
            "use a .cif name."
        )
