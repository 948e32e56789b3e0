"""Biological assemblies: copies of chains by the operators that a PDB (REMARK 350) or mmCIF file lists."""

from __future__ import annotations

import gemmi
import numpy as np

from cryosphere.errors import InputError


def expand_assembly(parsed: gemmi.Structure, name: str, source: str) -> tuple[gemmi.Model, str]:
    """Make an assembly of the first model.

    The first copy of a chain keeps its name, further ones are ``A-2``, ``A-3`` …, as in the assembly files of the PDB.
    Numbers count the operators in the order in which the file applies them to the chain.

    Returns
    -------
    model : gemmi.Model
        One operator's chains after the other's.
    note : str
        What was made, one sentence.

    Raises
    ------
    InputError
        If the file has no assembly of that name, or it names no chain of the model.
    """
    assembly = next((one for one in parsed.assemblies if one.name == name), None)
    if assembly is None:
        there = ", ".join(one.name for one in parsed.assemblies)
        remedy = f"it has {there}" if there else "it lists none, so leave structure.assembly out"
        raise InputError(f"{source} has no assembly {name!r}; {remedy}.")
    model, copies = gemmi.Model(1), _Copies(parsed[0])
    for generator in assembly.generators:
        for operator in generator.operators:
            for chain in parsed[0]:
                residues = _chosen(chain, generator)
                if residues:
                    copies.add(chain.name, residues, operator.transform)
    for chain in copies.chains.values():
        model.add_chain(chain)
    if not len(model):
        raise InputError(f"{source}: assembly {name!r} names no chain of the model; choose another or none.")
    names = [chain.name for chain in model]
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return model, f"{source}: assembly {name} has {len(names)} chains ({listed})."


class _Copies:
    """Chains made so far, by name and operator."""

    def __init__(self, model: gemmi.Model) -> None:
        self.chains: dict[tuple, gemmi.Chain] = {}
        self._names = {chain.name for chain in model}
        self._counts: dict[str, int] = {}

    def add(self, chain_name: str, residues: list[gemmi.Residue], transform: gemmi.Transform) -> None:
        """Append moved copies of residues to the chain of this name and operator."""
        numbers = np.concatenate([np.array(transform.mat.tolist()).ravel(), transform.vec.tolist()])
        key = (chain_name, *numbers.round(4).tolist())
        if key not in self.chains:
            self.chains[key] = gemmi.Chain(self._new_name(chain_name))
        for residue in residues:
            copy = residue.clone()
            for atom in copy:
                atom.pos = gemmi.Position(transform.apply(atom.pos))
            self.chains[key].add_residue(copy)

    def _new_name(self, chain_name: str) -> str:
        self._counts[chain_name] = self._counts.get(chain_name, 0) + 1
        if self._counts[chain_name] == 1:
            return chain_name
        name = f"{chain_name}-{self._counts[chain_name]}"
        return self._new_name(chain_name) if name in self._names else name


def _chosen(chain: gemmi.Chain, generator: gemmi.Assembly.Gen) -> list[gemmi.Residue]:
    """Residues of a chain that a generator copies: whole chains in PDB files, parts of them in mmCIF."""
    if chain.name in generator.chains:
        return list(chain)
    parts = set(generator.subchains)
    return [residue for residue in chain if residue.subchain in parts]
