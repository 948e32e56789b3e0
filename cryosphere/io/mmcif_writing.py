"""Multi-model mmCIF files: entities, atoms, and names and populations of the models.

Categories are those of the PDBx/mmCIF dictionary (mmcif.wwpdb.org); names and populations of models are in those of the
IHM extension for integrative structures in several states (mmcif.wwpdb.org/dictionaries/mmcif_ihm.dic).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

import gemmi
import numpy as np
from jaxtyping import Int

from cryosphere.io.structure_sites import WRITTEN_BY, ModelLabels, Sites, first_rows, record_groups
from cryosphere.records import Structure

ATOM_SITE_COLUMNS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id "
    "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_comp_id auth_asym_id "
    "auth_atom_id pdbx_PDB_model_num"
).split()


def write_mmcif(
    file: TextIO, name: str, sites: Sites, models: Iterable[tuple[int, np.ndarray]], labels: ModelLabels
) -> None:
    """Write the entities and one ``_atom_site`` loop over all models."""
    quote = gemmi.cif.quote
    block = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    file.write(f"data_{block}\n#\n_entry.id {quote(block)}\n#\n")
    _write_loop(file, "software", ("pdbx_ordinal", "name"), [("1", WRITTEN_BY)])
    _write_entities(file, sites)
    _write_states(file, labels)
    file.write("loop_\n" + "".join(f"_atom_site.{column}\n" for column in ATOM_SITE_COLUMNS))
    before, after = _mmcif_site_text(sites)
    residue_groups = record_groups(sites.structure)
    groups = [residue_groups[row] for row in sites.residue_index]
    serial = 0
    for number, coordinates in models:
        lines = []
        for row, (x, y, z) in enumerate(coordinates.tolist()):
            serial += 1
            lines.append(f"{groups[row]} {serial} {before[row]} {x:.3f} {y:.3f} {z:.3f} {after[row]} {number}\n")
        file.write("".join(lines))
    file.write("#\n")


def _write_states(file: TextIO, labels: ModelLabels) -> None:
    """Write every model as a state of its own: a model in a group, and the state that the group stands for.

    As IHM has it, fractions, their deviations and names are the state's.
    """
    quote = gemmi.cif.quote
    rows = [(str(number), quote(name), share, std) for number, name, share, std in labels.rows()]
    own = [(number, number) for number, *_ in rows]
    models = [(number, name, "1", "1", "?") for number, name, _, _ in rows]
    states = [(number, "1", share, std, name, "'Single molecule'") for number, name, share, std in rows]
    model_columns = ("model_id", "model_name", "assembly_id", "representation_id", "protocol_id")
    fractions = ("population_fraction", "population_fraction_sd")
    state_columns = ("state_id", "state_group_id", *fractions, "state_name", "experiment_type")
    _write_loop(file, "ihm_model_list", model_columns, models)
    _write_loop(file, "ihm_model_group", ("id", "name"), [(number, name) for number, name, _, _ in rows])
    _write_loop(file, "ihm_model_group_link", ("group_id", "model_id"), own)
    _write_loop(file, "ihm_multi_state_modeling", state_columns, states)
    _write_loop(file, "ihm_multi_state_model_group_link", ("state_id", "model_group_id"), own)


def _mmcif_site_text(sites: Sites) -> tuple[list[str], list[str]]:
    """Columns before and after the coordinates for every site; they are the same in all models."""
    quote = gemmi.cif.quote
    structure = sites.structure
    labels, entities = _asym_ids(sites), _entity_ids(sites)
    before, after = [], []
    for name, element, b_factor, row in zip(
        sites.names, sites.elements, sites.b_factors, sites.residue_index, strict=True
    ):
        run = sites.run_of_residue[row]
        atom, residue = quote(str(name)), quote(str(structure.residue_names[row]))
        # mmCIF has no chain without a name.
        chain = quote(str(structure.chain_ids[row]) or labels[run])
        insertion = str(structure.insertion_codes[row]) or "?"
        before.append(
            f"{str(element).upper()} {atom} . {residue} {quote(labels[run])} {entities[run]} "
            f"{'.' if structure.kinds[row] == 'ligand' else sites.sequence_number[row]} {insertion}"
        )
        after.append(f"1.00 {b_factor:.2f} {structure.residue_numbers[row]} {residue} {chain} {atom}")
    return before, after


def _asym_ids(sites: Sites) -> list[str]:
    """One distinct ``label_asym_id`` per run: the chain's name, with a number where a chain has several runs."""
    labels: list[str] = []
    for chain in sites.structure.chain_ids[first_rows(sites)]:
        base = str(chain) or "A"
        label, count = base, 1
        while label in labels:
            count += 1
            label = f"{base}{count}"
        labels.append(label)
    return labels


def _entity_ids(sites: Sites) -> list[int]:
    """Entity of every run: each polymer its own, equal ligands one."""
    structure, entities = sites.structure, {}
    ids = []
    for run, row in enumerate(first_rows(sites)):
        key = str(structure.residue_names[row]) if structure.kinds[row] == "ligand" else run
        ids.append(entities.setdefault(key, len(entities) + 1))
    return ids


def _write_entities(file: TextIO, sites: Sites) -> None:
    """Write the entities; sequences have ``UNK``, ``N`` or ``DN`` for the residues missing in between."""
    quote = gemmi.cif.quote
    structure, ids = sites.structure, _entity_ids(sites)
    polymers, ligands, sequences = [], {}, []
    for run, first in enumerate(first_rows(sites)):
        entity = str(ids[run])
        if structure.kinds[first] == "ligand":
            ligands[entity] = str(structure.residue_names[first])
            continue
        rows = np.flatnonzero(sites.run_of_residue == run)
        polymer_type, unknown = _polymer_type(structure, rows)
        polymers.append((entity, polymer_type))
        names = dict(zip(sites.sequence_number[rows], structure.residue_names[rows], strict=True))
        sequences += [
            (entity, str(number), quote(str(names.get(number, unknown))), "n")
            for number in range(1, sites.sequence_number[rows[-1]] + 1)
        ]
    kinds = [(entity, "polymer") for entity, _ in polymers] + [(entity, "non-polymer") for entity in ligands]
    _write_loop(file, "entity", ("id", "type"), kinds)
    _write_loop(file, "entity_poly", ("entity_id", "type"), [(entity, quote(kind)) for entity, kind in polymers])
    _write_loop(file, "entity_poly_seq", ("entity_id", "num", "mon_id", "hetero"), sequences)
    nonpolymers = [(entity, quote(name), quote(name)) for entity, name in ligands.items()]
    _write_loop(file, "pdbx_entity_nonpoly", ("entity_id", "name", "comp_id"), nonpolymers)
    asym = [(quote(label), str(entity)) for label, entity in zip(_asym_ids(sites), ids, strict=True)]
    _write_loop(file, "struct_asym", ("id", "entity_id"), asym)


def _polymer_type(structure: Structure, rows: Int[np.ndarray, " row"]) -> tuple[str, str]:
    """MmCIF polymer type of a run, and the name of an unknown residue in it."""
    if structure.kinds[rows[0]] == "protein":
        return "polypeptide(L)", "UNK"
    names = structure.residue_names[rows]
    is_dna = [gemmi.find_tabulated_residue(str(name)).kind == gemmi.ResidueKind.DNA for name in names]
    return ("polydeoxyribonucleotide", "DN") if all(is_dna) else ("polyribonucleotide", "N")


def _write_loop(file: TextIO, category: str, columns: Sequence[str], rows: list[tuple[str, ...]]) -> None:
    """Write one mmCIF loop, or nothing if it has no rows."""
    if rows:
        file.write("loop_\n" + "".join(f"_{category}.{column}\n" for column in columns))
        file.writelines(" ".join(row) + "\n" for row in rows)
        file.write("#\n")
