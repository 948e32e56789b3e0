"""Whether the decoded conformations are possible: consecutive Cα distances and clashes, against the nominal's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryosphere.evaluation.metrics import CHANGED_BOND_A, CLASH_DISTANCE_A, changed_bonds, clashes_per_1000
from cryosphere.inference.ensemble import spread_rows
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, joined, number, paragraph, table, tag

# Decoded conformations, evenly spread over the particles along their first latent dimension.
_N_MODELS = 100
_N_WORST = 10


def section(contents: Contents) -> Section:
    """Numbers for all conformations, and the worst places."""
    run = contents.run
    n_residues = run.structure.n_polymer_residues  # ligands touch residues without clashing
    nominal, bonded = run.structure.residue_positions[:n_residues], run.structure.bonded[: n_residues - 1]
    order = run.posterior.mean[:, 0].argsort(kind="stable")
    models = run.decode(run.posterior.mean[order[spread_rows(len(order), _N_MODELS)]])[:, :n_residues]
    changed = 100 * changed_bonds(models, nominal, bonded)
    clashes, before = clashes_per_1000(models, bonded), float(clashes_per_1000(nominal[None], bonded)[0])
    frame = pd.DataFrame(
        {
            "": [
                f"consecutive Cα distances changed by > {CHANGED_BOND_A} Å (%)",
                f"clashes (< {CLASH_DISTANCE_A:g} Å) per 1000 residues",
            ],
            "nominal": [0.0, before],
            "conformations, mean": [changed.mean(), clashes.mean()],
            "conformations, worst": [changed.max(), clashes.max()],
        }
    )
    said = (
        f"In {len(models)} conformations decoded at particles spread over the latent space, {number(changed.mean())} % "
        f"of the distances between consecutive residues (Cα, C1′) differ by more than {CHANGED_BOND_A} Å from the "
        f"nominal structure's, and {number(clashes.mean())} pairs per 1000 residues are closer than "
        f"{CLASH_DISTANCE_A:g} Å (nominal: {number(before)})."
    )
    body = [paragraph(said), table(frame, "Geometry of the decoded conformations")]
    worst = _worst(contents, models, nominal, bonded)
    if len(worst):
        summary = tag("summary", f"The {len(worst)} distances that change most")
        body.append(tag("details", summary, table(worst, "Distances between consecutive residues that change most")))
    return Section("geometry", "Geometry", joined(body))


def _worst(contents: Contents, models: np.ndarray, nominal: np.ndarray, bonded: np.ndarray) -> pd.DataFrame:
    bonds = np.flatnonzero(bonded)
    lengths = np.linalg.norm(models[:, bonds + 1] - models[:, bonds], axis=-1)
    before = np.linalg.norm(nominal[bonds + 1] - nominal[bonds], axis=-1)
    change = np.abs(lengths - before).max(0)
    places = change.argsort(kind="stable")[::-1][:_N_WORST]
    structure = contents.run.structure
    return pd.DataFrame(
        {
            "residues": [f"{structure.label(bonds[i])} – {structure.label(bonds[i] + 1)}" for i in places],
            "nominal (Å)": before[places],
            "shortest (Å)": lengths.min(0)[places],
            "longest (Å)": lengths.max(0)[places],
        }
    )
