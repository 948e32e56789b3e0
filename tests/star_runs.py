"""Particle files as people have them, and runs that were trained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cryosphere.particles.columns import source_columns
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_posterior, save_table

N = 60
OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
1 low 200 1.4 0.1 4.0 24
2 "high dose" 300 2.7 0.1 4.0 24
"""


def star_text(n: int, flat: bool = False, images: list[int] | None = None, comments: bool = True) -> str:
    """A RELION 3.1 file (or 3.0: one flat table) of many kinds of cells, lines and comments."""
    generator = np.random.default_rng(8)
    head = ["", "data_images" if flat else "data_particles", "", "loop_"]
    names = (
        "rlnMicrographName rlnImageName rlnAngleRot rlnAngleTilt rlnAnglePsi rlnDefocusU rlnDefocusV rlnDefocusAngle"
    )
    names = [*names.split(), *("rlnOriginX rlnOriginY" if flat else "rlnOriginXAngst rlnOriginYAngst").split()]
    names += ["rlnClassNumber", "rlnLogLikeliContribution"]
    names += (
        ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnMagnification", "rlnDetectorPixelSize"]
        if flat
        else ["rlnOpticsGroup"]
    )
    lines = [*head, *(f"_{name} #{number}" for number, name in enumerate(names, start=1))]
    for row in range(n):
        number = row if images is None else images[row]
        cells = [f"'mic {row % 3}.mrc'" if row % 2 else f'"mic {row % 3}.mrc"', f"{number + 1:06d}@particles.mrcs"]
        cells += [f"{value:.6f}" for value in generator.uniform(-90, 90, 3)]
        cells += [f"{value:.2f}" for value in generator.uniform(9000, 11000, 2)] + ["12.5", "0.5", "-1.25"]
        cells += [str(row % 4 + 1), f"{1e5 + row:.6e}"]
        cells += ["300", "2.7", "0.1", "10000", "4.0"] if flat else [str(row % 2 + 1)]
        lines.append("  ".join(cells) + ("  # looked at" if comments and row % 9 == 4 else "   "))
        if comments and row % 11 == 5:
            lines.append("# between rows")
    tail = "\ndata_other\n\n_note 1\n"
    return ("" if flat else OPTICS) + "\n".join(lines) + "\n" + tail


def attach(run: Run, source: Path, kept: np.ndarray | None = None) -> Run:
    """The run as if it had been trained on a particle file, or on some rows of it."""
    columns = source_columns(source)
    stack, image = columns.images()
    rows = np.arange(columns.n_rows) if kept is None else kept
    given = {} if kept is None else {"input_row": kept, "n_input": columns.n_rows}
    paths = tuple(source.parent / f"stack{number}.mrcs" for number in range(stack.max() + 1))
    table = replace(
        run.table, source=source, stack_paths=paths, stack_index=stack[rows], image_index=image[rows], **given
    )
    save_table(run.layout.particles, table)
    save_posterior(run.layout.posterior, replace(run.posterior, index=rows), run.weights_hash())
    return Run.load(run.folder)
