"""The page: one HTML text with styles, scripts and data inside."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files

from markupsafe import Markup, escape

from cryosphere.report.html import Section, joined, tag

# Nothing is loaded from anywhere: what is in the page is all there is.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; worker-src blob:"
)
_FOLDER = files("cryosphere.report")


def vendored_viewer() -> str:
    """3Dmol.js as it was vendored.

    Raises
    ------
    AssertionError
        The file is not the one that ``vendor.json`` describes.
    """
    about = json.loads((_FOLDER / "vendor" / "vendor.json").read_text(encoding="utf-8"))
    content = (_FOLDER / "vendor" / about["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == about["sha256"], f"{about['file']} is not version {about['version']}"
    return content.decode("utf-8")


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole HTML text.

    Parameters
    ----------
    title, subtitle : str
    sections : sequence of Section
        In their order; the table of contents is made from them.
    """
    links = [tag("li", tag("a", section.title, href=f"#{section.anchor}")) for section in sections]
    parts = [
        tag("section", tag("h2", section.title, id=f"{section.anchor}-title"), section.body, id=section.anchor,
            aria_labelledby=f"{section.anchor}-title")
        for section in sections
    ]  # fmt: skip
    made = f"Made by cryoSPHERE {version('cryosphere')} on {datetime.date.today().isoformat()}."
    body = joined(
        [
            tag("a", "Skip to the results", href="#main", class_="skip"),
            tag("header", tag("h1", title), tag("p", subtitle, class_="quiet")),
            tag("nav", tag("h2", "Contents"), tag("ol", *links), aria_label="Contents"),
            tag("main", *parts, id="main", tabindex="-1"),
            tag(
                "footer",
                tag("p", made),
                tag("p", "The 3-D view is drawn by 3Dmol.js (Rego & Koes, Bioinformatics 2015)."),
            ),
        ]
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{_static('report.css')}</style>",
            "</head>",
            f"<body>{body}",
            f"<script>{Markup(vendored_viewer())}</script>",
            f"<script>{_static('report.js')}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _static(name: str) -> str:
    return (_FOLDER / "static" / name).read_text(encoding="utf-8")
