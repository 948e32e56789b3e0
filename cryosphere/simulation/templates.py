"""Missing atoms from residue templates, for models that have only a backbone or only Cα atoms.

Templates (``data/residue_templates.json``) hold each amino acid's heavy atoms as they were observed, so that
bond lengths and angles are right. They are placed rigidly, on N, Cα, C where these exist, else on the trace
of the neighbouring Cα.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from cryosphere.records import Atoms, Structure
from cryosphere.simulation.frames import frame_from_directions, trace_frames
from cryosphere.simulation.shipped_data import shipped_path

BACKBONE = ("N", "CA", "C", "O", "OXT")
# Residue names that modelling programs use for a standard amino acid.
ALIASES = {"HSD": "HIS", "HSE": "HIS", "HSP": "HIS", "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "CYX": "CYS"}
# Å between the Cα before and after a residue: below it the chain is coiled, above it extended.
COMPACT_TRACE_LIMIT = 6.1


@dataclass(frozen=True)
class ResidueTemplate:
    """Heavy atoms of an amino acid in its backbone frame: origin Cα, first axis to C, second towards N; Å."""

    names: tuple[str, ...]
    elements: tuple[str, ...]
    positions: Float[np.ndarray, "atom 3"]


@dataclass(frozen=True)
class _Placement:
    """Atoms to add to a residue: its row, which atoms of the template, the rows of N, Cα, C (or None)."""

    residue: int
    template: ResidueTemplate
    chosen: Int[np.ndarray, " new"]
    anchor_rows: tuple[int, int, int] | None


@cache
def read_templates() -> tuple[dict[str, ResidueTemplate], dict[str, Float[np.ndarray, "3 3"]], dict]:
    """Read the shipped templates.

    Returns
    -------
    templates : dict
        Residue name → template.
    trace_rotmats : dict
        ``"compact"`` and ``"extended"`` → rotation from the backbone frame to the frame of the Cα trace.
    provenance : dict
        As written in the file.
    """
    content = json.loads(shipped_path("residue_templates.json").read_text())
    templates = {
        name: ResidueTemplate(tuple(entry["atoms"]), tuple(entry["elements"]), np.array(entry["positions"]))
        for name, entry in content["residues"].items()
    }
    rotmats = {name: np.array(value) for name, value in content["trace_rotmats"].items()}
    return templates, rotmats, content["provenance"]


def backbone_frame(
    n: Float[np.ndarray, "*batch 3"], ca: Float[np.ndarray, "*batch 3"], c: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Frame (columns) of a residue from its N, Cα and C."""
    return frame_from_directions(c - ca, n - ca)


def _find_placements(structure: Structure) -> tuple[list[_Placement], list[str]]:
    """List the residues that need atoms, and the names of those that do but have no template."""
    templates, _, _ = read_templates()
    rows_of = [[] for _ in range(structure.n_residues)]
    for row, residue in enumerate(structure.atoms.residue_index):
        rows_of[residue].append(row)
    placements, unknown = [], []
    for residue, rows in enumerate(rows_of):
        present = {str(structure.atoms.names[row]): row for row in rows}
        if structure.kinds[residue] == "ligand":
            continue
        name = str(structure.residue_names[residue])
        template = templates.get(ALIASES.get(name, name))
        if template is None:
            if len(rows) <= 1:
                unknown.append(f"{structure.label(residue)} {name}")
            continue
        chosen = _missing_atoms(template, present)
        if len(chosen) == 0:
            continue
        anchors = tuple(present.get(atom) for atom in ("N", "CA", "C"))
        anchor_rows = None if None in anchors else anchors
        placements.append(_Placement(residue, template, chosen, anchor_rows))
    return placements, unknown


def _missing_atoms(template: ResidueTemplate, present: dict[str, int]) -> Int[np.ndarray, " new"]:
    """Template atoms to add: none where a side chain has begun (beyond Cβ), else all that are not there."""
    side_chain = set(template.names) - set(BACKBONE) - {"CB"}
    whole_backbone = {"N", "CA", "C", "O"} <= set(present)
    if side_chain & set(present) or (whole_backbone and set(template.names) <= set(present)):
        return np.array([], dtype=np.int64)
    return np.array([i for i, name in enumerate(template.names) if name not in present], dtype=np.int64)


def add_missing_atoms(
    structure: Structure,
    residue_positions: Float[np.ndarray, "state residue 3"],
    atom_positions: Float[np.ndarray, "state atom 3"],
) -> tuple[Structure, Float[np.ndarray, "state atom2 3"]]:
    """Add the heavy atoms that a backbone-only or Cα-only model lacks, in every state.

    Parameters
    ----------
    structure : Structure
        Residues and their atoms.
    residue_positions, atom_positions : arrays of shape (state, residue, 3) and (state, atom, 3)
        Å.

    Returns
    -------
    structure : Structure
        With the new atoms after those of their residue, B factor of the residue's Cα, and a note that says
        how many.
    atom_positions : array of shape (state, atom2, 3)
    """
    placements, unknown = _find_placements(structure)
    notes = list(structure.notes)
    if unknown:
        notes.append(
            f"{len(unknown)} residues have one atom only and no template ({', '.join(unknown[:3])} …): "
            "they scatter as that atom."
        )
    if not placements:
        return replace(structure, notes=tuple(notes)), atom_positions
    new_positions = [_place(p, structure, residue_positions, atom_positions) for p in placements]
    n_new = sum(len(p.chosen) for p in placements)
    n_trace = sum(p.anchor_rows is None for p in placements)
    notes.append(
        f"{len(placements)} residues lack their side chain: {n_new} atoms were added from templates"
        + (f" ({n_trace} residues placed on the Cα trace)." if n_trace else ".")
    )
    return _merge(structure, placements, atom_positions, new_positions, tuple(notes))


def _place(placement, structure, residue_positions, atom_positions) -> Float[np.ndarray, "state new 3"]:
    local = placement.template.positions[placement.chosen]
    if placement.anchor_rows is not None:
        n, ca, c = (atom_positions[:, row] for row in placement.anchor_rows)
        frame, origin = backbone_frame(n, ca, c), ca
    else:
        window = slice(max(0, placement.residue - 2), placement.residue + 3)
        row = placement.residue - window.start
        bonded = structure.bonded[window.start : window.stop - 1]
        frame = _backbone_frame_on_trace(residue_positions[:, window], bonded, row)
        origin = residue_positions[:, placement.residue]
    return np.einsum("sij,aj->sai", frame, local) + origin[:, None]


def _backbone_frame_on_trace(positions, bonded, row) -> Float[np.ndarray, "state 3 3"]:
    """Backbone frame of a residue from the Cα of its neighbours, by the shape of the chain about it."""
    _, trace_rotmats, _ = read_templates()
    bonded = bonded[: positions.shape[1] - 1]
    frames, _ = trace_frames(positions, bonded)
    inner = row
    if row == 0 or not bonded[row - 1]:
        inner = min(row + 1, positions.shape[1] - 1)
    elif row == positions.shape[1] - 1 or not bonded[row]:
        inner = max(row - 1, 0)
    before, after = max(inner - 1, 0), min(inner + 1, positions.shape[1] - 1)
    span = np.linalg.norm(positions[:, after] - positions[:, before], axis=-1)
    compact = (span < COMPACT_TRACE_LIMIT)[:, None, None]
    return frames[:, row] @ np.where(compact, trace_rotmats["compact"], trace_rotmats["extended"])


def _merge(structure, placements, atom_positions, new_positions, notes):
    """Put new atoms behind those of their residue."""
    old = structure.atoms
    residue_b = np.array(
        [old.b_factors[old.residue_index == p.residue].mean() for p in placements for _ in p.chosen],
        dtype=np.float64,
    )
    residue_index = np.concatenate(
        [old.residue_index, np.repeat([p.residue for p in placements], [len(p.chosen) for p in placements])]
    )
    order = np.argsort(residue_index, kind="stable")
    positions = np.concatenate([atom_positions, *new_positions], axis=1)[:, order]
    added_names = [p.template.names[i] for p in placements for i in p.chosen]
    added_elements = [p.template.elements[i] for p in placements for i in p.chosen]
    atoms = Atoms(
        positions=positions[0],
        elements=np.concatenate([old.elements, added_elements])[order],
        names=np.concatenate([old.names, added_names])[order],
        b_factors=np.concatenate([old.b_factors, residue_b])[order],
        residue_index=residue_index[order],
    )
    return replace(structure, atoms=atoms, notes=notes), positions
