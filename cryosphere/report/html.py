"""Pieces of HTML in which everything that is not markup is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

_EMPTY_ELEMENTS = {"img", "input", "br", "meta", "rect", "line", "path", "circle", "image", "polyline", "stop"}
MINUS = "\N{MINUS SIGN}"
_RANGE = re.compile(r"(:\w+)-(\w+)")
# Characters from which a text in a table may be broken into lines.
_LONG = 24
# Words of column names in tables as people write them.
_WORDS = {
    "angstrom": "(Å)",
    "deg": "(°)",
    "kt": "(kT)",
    "rmsf": "RMSF",
    "n": "number of",
    "percent": "(%)",
    "std": "std",
}


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, its heading, and what it says."""

    anchor: str
    title: str
    body: Markup


def tag(name: str, /, *content: Any, **attributes: Any) -> Markup:
    """An element; content and attributes are escaped unless they are Markup already.

    Underscores in attribute names become hyphens (``class_`` is ``class``); None leaves an attribute out, True gives
    one without a value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
        written.append(Markup(" {}").format(key) if value is True else Markup(' {}="{}"').format(key, value))
    start = Markup("<{}{}>").format(name, Markup("").join(written))
    if name in _EMPTY_ELEMENTS and not content:
        return start if name in {"img", "input", "br", "meta"} else start[:-1] + Markup("/>")
    return start + joined(content) + Markup("</{}>").format(name)


def joined(content: Iterable[Any]) -> Markup:
    """Pieces one after the other, each escaped unless it is Markup."""
    return Markup("").join(escape(piece) for piece in content if piece is not None)


def paragraph(*content: Any, class_: str | None = None) -> Markup:
    """A paragraph in which `words between backticks` of plain strings are code."""
    return tag("p", *(with_code(piece) for piece in content), class_=class_)


def with_code(text: Any) -> Markup:
    """Text whose parts between backticks are code."""
    if isinstance(text, Markup):
        return text
    return joined(tag("code", part) if i % 2 else part for i, part in enumerate(str(text).split("`")))


def missing(text: str) -> Markup:
    """The one sentence of a section whose data are absent."""
    return paragraph(text, class_="missing")


def figure(drawing: Markup, caption: Any, class_: str | None = None) -> Markup:
    """A drawing with a caption."""
    return tag("figure", drawing, tag("figcaption", with_code(caption)), class_=class_)


def definitions(pairs: Iterable[tuple[Any, Any]]) -> Markup:
    """Names and what they are, in two columns."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", with_code(value))) for name, value in pairs))


def facts(items: Iterable[tuple[Any, Any]]) -> Markup:
    """Large numbers with a word below each."""
    return tag("ul", *(tag("li", tag("strong", value), tag("span", name)) for name, value in items), class_="facts")


def bullets(items: Iterable[Any]) -> Markup:
    """A plain list."""
    return tag("ul", *(tag("li", with_code(item)) for item in items))


def table(
    frame: pd.DataFrame,
    caption: str,
    swatches: Sequence[str] | None = None,
    decimals: Mapping[str, int] | None = None,
) -> Markup:
    """A table that scrolls by itself where the page is narrow.

    Parameters
    ----------
    frame : DataFrame
        Columns as they are in a file; their names get spaces and units in brackets.
    caption : str
    swatches : sequence of str, optional
        A colour for every row, shown in its first cell.
    decimals : mapping, optional
        Digits after the point of some columns; others have three significant digits.
    """
    numeric = {column: pd.api.types.is_numeric_dtype(frame[column]) for column in frame}
    aligned = {column: "number" if is_number else None for column, is_number in numeric.items()}
    head = tag("tr", *(tag("th", heading(column), scope="col", class_=aligned[column]) for column in frame))
    rows = []
    for place, row in enumerate(zip(*(frame[column].tolist() for column in frame), strict=True)):
        cells = []
        for column, value in zip(frame, row, strict=True):
            text = cell(value, (decimals or {}).get(column))
            kind = "words" if len(text) > _LONG else aligned[column]
            mark = swatch(swatches[place]) if swatches is not None and not cells else None
            cells.append(tag("td", mark, text, class_=kind))
        rows.append(tag("tr", *cells))
    whole = tag("table", tag("thead", head), tag("tbody", *rows), aria_label=caption)
    scrolling = tag("div", whole, class_="scroll", role="region", aria_label=f"{caption} (table)")
    return tag("figure", tag("figcaption", caption), scrolling, class_="table")


def swatch(colour: str) -> Markup:
    """A small square of a colour, for legends; it says nothing to screen readers."""
    return tag("span", class_="swatch", style=f"background:{colour}", aria_hidden="true")


def legend(entries: Mapping[str, str] | Iterable[tuple[str, str]]) -> Markup:
    """Names with their colours."""
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    return tag("ul", *(tag("li", swatch(colour), name) for name, colour in pairs), class_="legend")


def heading(column: Any) -> str:
    """Name of a column as people write it: ``angle_range_deg`` is ``angle range (°)``."""
    return " ".join(_WORDS.get(word, word) for word in str(column).split("_"))


def cell(value: Any, decimals: int | None = None) -> str:
    """A value in a table, empty for NaN."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        is_fixed = decimals is not None and np.isfinite(value)
        return f"{value:.{decimals}f}".replace("-", MINUS) if is_fixed else number(float(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value)).replace("-", MINUS)  # may be the number of a row: no separators
    return "" if value is None or value is pd.NA else unbroken_ranges(str(value))


def unbroken_ranges(text: str) -> str:
    """Text whose residue ranges, as in ``A:1-29``, do not break at the end of a line."""
    return _RANGE.sub("\\1\N{NON-BREAKING HYPHEN}\\2", text)


def number(value: float | np.floating) -> str:
    """A number with as many digits as it deserves."""
    if not np.isfinite(value):
        return ""
    size = abs(value)
    if size >= 1000:
        return whole_number(round(value))
    if size >= 100 or value == round(value):
        text = f"{value:.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 0.995:
        text = f"{value:.2f}"
    else:
        text = f"{value:#.2g}" if size >= 1e-4 else f"{value:.1e}" if size else "0"
    return text.replace("-", MINUS)


def whole_number(value: int | np.integer) -> str:
    """A whole number with commas between thousands."""
    return f"{int(value):,}".replace("-", MINUS)


def percent(share: float | np.floating) -> str:
    """A share in per cent."""
    return f"{number(100 * share)}\N{NO-BREAK SPACE}%"
