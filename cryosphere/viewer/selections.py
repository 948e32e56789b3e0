"""Selections of particles: what they are in numbers, and new ones from others; no Qt, no napari."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from cryosphere.errors import InputError
from cryosphere.export.particle_selection import ParticleSelection
from cryosphere.export.particles import ParticleSummary, summarise
from cryosphere.viewer.points import unit_of
from cryosphere.viewer.session import ChosenParticles, Session


def input_rows(session: Session, selection: ChosenParticles | None) -> Int[np.ndarray, " n"]:
    """Rows (from 0) of the particle file, ascending; of all particles without a selection."""
    index = session.run.posterior.index
    return index if selection is None else index[selection.chosen]


def summarise_selection(session: Session, selection: ChosenParticles | None) -> ParticleSummary:
    """Share, states and mean motions of a selection, or of all particles, as ``export RUN particles`` tells them."""
    chosen = np.ones(session.n_particles, dtype=bool) if selection is None else selection.chosen
    return summarise(session.columns, ParticleSelection(chosen, session.run.posterior.index[chosen], ()))


def unit(column: str) -> str:
    """Unit of a column, as it stands behind a number: ``°``, `` Å``, or nothing."""
    return unit_of(column).replace("Å", " Å")


def inverted(session: Session, selection: ChosenParticles) -> ChosenParticles:
    """All particles that are not in a selection."""
    name = free_name(session, f"not {selection.name}")
    return ChosenParticles(name, ~selection.chosen, f"all but {selection.name}")


def combined(session: Session, names: Sequence[str], how: Literal["or", "and"]) -> ChosenParticles:
    """Particles in any, or in all, of two or more selections.

    Raises
    ------
    InputError
        Fewer than two selections.
    """
    if len(names) < 2:
        raise InputError("One selection cannot be combined; mark two or more in the list (Ctrl and click).")
    masks = np.stack([session.selections[name].chosen for name in names])
    text = f" {how} ".join(names)
    return ChosenParticles(free_name(session, text), masks.any(0) if how == "or" else masks.all(0), text)


def free_name(session: Session, wanted: str) -> str:
    """A name, with a number behind it where it is in use."""
    name, number = wanted, 2
    while name in session.selections:
        name, number = f"{wanted} ({number})", number + 1
    return name
