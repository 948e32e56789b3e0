"""What went in: particles, optics, box, structure, and what their readers noted."""

from __future__ import annotations

from cryosphere.preflight.facts import describe_inputs
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, bullets, definitions, joined, tag, whole_number


def section(contents: Contents) -> Section:
    """Facts about the particle table and the nominal structure."""
    table, structure = contents.run.table, contents.run.structure
    files = [("particle table", _file(table.source)), ("structure file", _file(contents.run.config.structure.file))]
    if table.n_input_rows != table.n_particles:
        chosen = f"{whole_number(table.n_particles)} of {whole_number(table.n_input_rows)} rows were chosen"
        files.append(("selection", chosen))
    body = [definitions([*files, *((fact.name, fact.text) for fact in describe_inputs(table, structure))])]
    notes = [*table.notes, *structure.notes]
    if notes:
        body += [tag("h3", "Notes of the readers"), bullets(notes)]
    return Section("inputs", "What went in", joined(body))


def _file(path) -> object:
    return tag("code", str(path))
