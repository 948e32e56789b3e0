"""What the check before training found."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, bullets, joined, missing, paragraph, table, tag


def section(contents: Contents) -> Section:
    """Verdicts, notes and what was tested, as training stored them."""
    found = contents.read_json(contents.run.layout.check)
    if found is None:
        return Section(
            "checks",
            "Do images and structure belong together?",
            missing(
                "Training stored no check of the inputs in this run (it was switched off, or an earlier version "
                f"trained it); `cryosphere check {contents.run.layout.config}` makes one and prints it."
            ),
        )
    return Section("checks", "Do images and structure belong together?", joined(_body(found)))


def _body(found: dict[str, Any]) -> list[Markup]:
    compared = found.get("comparison") or {}
    images = f" compared {compared['n_images']} images with the structure and" if "n_images" in compared else ""
    faults = [f"{fault['sentence']} {fault['remedy']}" for fault in found.get("faults", [])]
    said = "no fault found" if not faults else f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'} found"
    if not faults and (not compared or compared.get("undecided")):
        said += ", as far as these images can tell"
    body = [
        paragraph(
            f"The check before training{images} has one result: {said}.",
            class_="verdict good" if not faults else "verdict bad",
        )
    ]
    if faults:
        body.append(bullets(faults))
    if found.get("notes"):
        body += [tag("h3", "Notes"), bullets(found["notes"])]
    tested = compared.get("tested") or []
    if tested:
        frame = pd.DataFrame(tested)
        names = {
            "name": "tested",
            "nats": "nats per image",
            "difference": "against as given",
            "standard_error": "± standard error",
        }
        frame = frame[[column for column in names if column in frame]].rename(columns=names)
        whole = table(frame, "Log-likelihood of the images under every way in which the inputs could be meant")
        body.append(tag("details", tag("summary", "What was tested"), whole))
    return body
