"""How to cite, and how to repeat the run: commands, seeds, versions, configuration."""

from __future__ import annotations

import shlex

import pandas as pd
from markupsafe import Markup

from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, joined, missing, paragraph, table, tag
from cryosphere.runs.versions import package_versions

_PAPER = "Ducrocq, Grunewald, Westenhoff, Lindsten: "
_TITLE = "cryoSPHERE: Single-Particle HEterogeneous REconstruction from cryo EM"
_BIBTEX = """@inproceedings{ducrocq2025cryosphere,
  title     = {cryoSPHERE: Single-Particle HEterogeneous REconstruction from cryo EM},
  author    = {Ducrocq, Gabriel and Grunewald, Lukas and Westenhoff, Sebastian and Lindsten, Fredrik},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2025},
  note      = {arXiv:2407.01574}
}"""


def citation(contents: Contents) -> Section:
    """The paper, as text and BibTeX; the same for every run."""
    paper = tag("p", _PAPER, tag("cite", _TITLE), ", ICLR 2025, arXiv:2407.01574.")
    return Section("cite", "How to cite", joined([paper, tag("pre", _BIBTEX)]))


def section(contents: Contents) -> Section:
    """Commands, seeds, versions and the whole configuration."""
    layout, config = contents.run.layout, contents.run.config
    again = shlex.quote(f"{layout.folder}-again")
    commands = [
        f"cryosphere train {shlex.quote(str(layout.config))} -o {again}",
        f"cryosphere analyze {again}",
        f"cryosphere report {again}",
    ]
    body = [
        paragraph(
            f"The configuration below has every setting; the seed of training is {config.training.seed}. On one CPU "
            "with the same versions the commands give the same run."
        ),
        tag("pre", "\n".join(commands)),
        _versions(contents),
        tag(
            "details",
            tag("summary", "Configuration (", tag("code", layout.config.name), ")"),
            tag("pre", _text(layout.config)),
        ),
        tag("p", "Run folder: ", tag("code", str(layout.folder.resolve())), class_="quiet"),
    ]
    return Section("reproduce", "How to reproduce", joined(body))


def _versions(contents: Contents) -> Markup:
    then, now = contents.read_json(contents.run.layout.versions), package_versions()
    if then is None:
        frame = pd.DataFrame({"package": list(now), "this page": list(now.values())})
        note = missing(
            "The versions this run was trained with were not stored (an earlier version of cryosphere trained it)."
        )
        return joined([note, _folded(frame)])
    names = list(dict.fromkeys([*then, *now]))
    columns = {"training": [then.get(n, "") for n in names], "this page": [now.get(n, "") for n in names]}
    return _folded(pd.DataFrame({"package": names, **columns}))


def _folded(frame: pd.DataFrame) -> Markup:
    return tag("details", tag("summary", "Versions"), table(frame, "Versions of the packages"))


def _text(path) -> str:
    return path.read_text(encoding="utf-8")
