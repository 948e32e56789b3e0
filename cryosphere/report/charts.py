"""Charts as inline SVG that take their colours from the page, so that they fit light, dark and paper."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from cryosphere.report.html import joined, number, tag

Real = float | int | np.floating | np.integer
# In user units; the page scales them.
_WIDTH, _HEIGHT = 480.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 14.0, 14.0, 46.0
_MOST_BINS = 90
# Points of a line that have dots, at most.
_MOST_DOTS = 60


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, its points, and its style (``train``, ``held-out`` …: a class of the page)."""

    name: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    style: str


@dataclass(frozen=True)
class Axes:
    """Scales of a chart in user units, and what is written along them."""

    x_range: tuple[Real, Real]
    y_range: tuple[Real, Real]
    x_label: str
    y_label: str
    width: Real = _WIDTH
    height: Real = _HEIGHT
    x_ticks: Sequence[tuple[Real, str]] | None = None
    y_ticks: Sequence[tuple[Real, str]] | None = None
    grid: bool = True
    left: Real = _LEFT

    @property
    def inner(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the plot itself."""
        return self.left, _TOP, self.width - _RIGHT, self.height - _BOTTOM

    def x(self, value: Float[np.ndarray, "*n"] | Real):
        """Abscissa in user units."""
        low, high = self.x_range
        return self.inner[0] + (np.asarray(value) - low) / (high - low) * (self.inner[2] - self.inner[0])

    def y(self, value: Float[np.ndarray, "*n"] | Real):
        """Ordinate in user units."""
        low, high = self.y_range
        return self.inner[3] - (np.asarray(value) - low) / (high - low) * (self.inner[3] - self.inner[1])

    def drawing(self, label: str, *content: Markup) -> Markup:
        """The chart with its axes; ``label`` is what a screen reader says."""
        return svg(self.width, self.height, label, self._axes(), *content)

    def _axes(self) -> Markup:
        left, top, right, bottom = self.inner
        pieces = []
        for value, text in self.x_ticks if self.x_ticks is not None else ticks(*self.x_range):
            place = f"{float(self.x(value)):.1f}"
            pieces.append(tag("line", x1=place, x2=place, y1=bottom, y2=bottom + 4, class_="axis"))
            pieces.append(tag("text", text, x=place, y=bottom + 16, text_anchor="middle"))
        for value, text in self.y_ticks if self.y_ticks is not None else ticks(*self.y_range):
            place = float(self.y(value))
            if self.grid:
                pieces.append(tag("line", x1=left, x2=right, y1=f"{place:.1f}", y2=f"{place:.1f}", class_="grid"))
            pieces.append(tag("text", text, x=left - 7, y=f"{place + 4:.1f}", text_anchor="end"))
        pieces.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        middle = (left + right) / 2
        pieces.append(tag("text", self.x_label, x=middle, y=self.height - 8, text_anchor="middle", class_="label"))
        middle = f"{(top + bottom) / 2:.1f}"
        turned = {"transform": f"rotate(-90 12 {middle})", "text_anchor": "middle", "class_": "label"}
        pieces.append(tag("text", self.y_label, x=12, y=middle, **turned))
        if not self.grid:
            pieces.append(tag("line", x1=left, x2=left, y1=top, y2=bottom, class_="axis"))
        return joined(pieces)


def svg(width: Real, height: Real, label: str, *content: Markup, class_: str = "chart") -> Markup:
    """An SVG element with a text for screen readers."""
    view = f"0 0 {width:g} {height:g}"
    return tag("svg", tag("title", label), *content, viewBox=view, role="img", aria_label=label, class_=class_)


def ticks(low: Real, high: Real, most: int = 6) -> list[tuple[float, str]]:
    """Round values within a range, with their texts."""
    if not high > low:
        return [(low, number(low))]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= most)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step - 1e-9)
    values = step * np.arange(first, math.floor(high / step + 1e-9) + 1)
    return [(float(v), f"{v + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")) for v in np.round(values, 12)]


def padded(values: Float[np.ndarray, " n"], share: float = 0.06) -> tuple[Real, Real]:
    """Range of finite values with a margin; never empty."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = share * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - margin, high + margin


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, label: str, *behind: Markup) -> Markup:
    """Lines with a dot at every point; NaN breaks a line."""
    axes = Axes(
        padded(np.concatenate([line.x for line in lines]), 0.03),
        padded(np.concatenate([line.y for line in lines])),
        x_label,
        y_label,
    )
    return axes.drawing(label, *behind, *(draw_line(axes, line) for line in lines))


def draw_line(axes: Axes, line: Line, dots: bool = True) -> Markup:
    """One line in axes, with a dot at every point where they are few."""
    pieces, points = [], list(zip(axes.x(line.x), axes.y(line.y), strict=True))
    finite = np.isfinite(line.y)
    for part in np.split(np.arange(len(points)), np.flatnonzero(~finite)):
        part = part[finite[part]]
        if len(part) > 1:
            way = " ".join(f"{points[i][0]:.1f},{points[i][1]:.1f}" for i in part)
            pieces.append(tag("polyline", points=way, class_=f"line {line.style}"))
    if dots and finite.sum() <= _MOST_DOTS:
        pieces += [
            tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="2.6", class_=f"dot {line.style}")
            for (x, y), known in zip(points, finite, strict=True)
            if known
        ]
    return joined(pieces)


def histogram(
    values: Float[np.ndarray, " n"],
    membership: Int[np.ndarray, " n"] | None,
    colours: Sequence[str],
    x_label: str,
    label: str,
) -> Markup:
    """Counts of values, stacked by what they belong to (rows of ``colours``)."""
    edges = np.linspace(*padded(values, 0.0), int(np.clip(math.sqrt(len(values)), 10, _MOST_BINS)) + 1)
    groups = range(len(colours)) if membership is not None else [0]
    member = np.zeros(len(values), dtype=int) if membership is None else membership
    counts = np.stack([np.histogram(values[member == group], edges)[0] for group in groups])
    below = np.vstack([np.zeros(len(edges) - 1), counts.cumsum(0)])
    axes = Axes((edges[0], edges[-1]), (0.0, 1.05 * float(below[-1].max()) or 1.0), x_label, "particles")
    bars = []
    for group in groups:
        for i in np.flatnonzero(counts[group]):
            left, right = float(axes.x(edges[i])), float(axes.x(edges[i + 1]))
            top, bottom = float(axes.y(below[group + 1, i])), float(axes.y(below[group, i]))
            place = {
                "x": f"{left:.1f}",
                "y": f"{top:.2f}",
                "width": f"{right - left:.2f}",
                "height": f"{bottom - top:.2f}",
            }
            bars.append(tag("rect", **place, fill=colours[group], class_="bar"))
    return axes.drawing(label, *bars)


def density(
    points: Float[np.ndarray, "n 2"],
    membership: Int[np.ndarray, " n"] | None,
    colours: Sequence[str],
    x_label: str,
    y_label: str,
    label: str,
    marks: Sequence[tuple[Real, Real, str]] = (),
) -> Markup:
    """Density of points as one image: strength by log of the count, colour by what most of a bin's points belong to."""
    n_bins = int(np.clip(2.0 * len(points) ** (1 / 3), 16, 160))
    edges = [np.linspace(*padded(points[:, axis], 0.02), n_bins + 1) for axis in (0, 1)]
    member = np.zeros(len(points), dtype=int) if membership is None else membership
    counts = np.stack([np.histogram2d(*points[member == group].T, bins=edges)[0] for group in range(len(colours))])
    total = counts.sum(0)
    strength = np.log1p(total) / (np.log1p(total.max()) or 1.0)
    axes = Axes((edges[0][0], edges[0][-1]), (edges[1][0], edges[1][-1]), x_label, y_label, height=380.0, grid=False)
    picture = shade(axes, strength, *colours, choice=counts.argmax(0))
    return axes.drawing(label, picture, *(mark(axes, x, y, text) for x, y, text in marks))


def shade(
    axes: Axes, strength: Float[np.ndarray, "x y"], *colours: str, choice: Int[np.ndarray, "x y"] | None = None
) -> Markup:
    """An image over the whole of the axes: opacity by ``strength`` (0 to 1, 0 is nothing), colour by ``choice``."""
    rgba = np.zeros((*strength.shape, 4), dtype=np.uint8)
    rgba[..., :3] = np.array([_rgb(colour) for colour in colours])[0 if choice is None else choice]
    rgba[..., 3] = np.where(strength > 0, 40 + 215 * strength, 0).round()
    left, top, right, bottom = axes.inner
    place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    address = png_address(rgba.transpose(1, 0, 2)[::-1])
    return tag("image", href=address, **place, preserveAspectRatio="none", class_="pixels")


def mark(axes: Axes, x: Real, y: Real, text: str) -> Markup:
    """A numbered disc at a place."""
    place = float(axes.x(x)), float(axes.y(y))
    disc = tag("circle", cx=f"{place[0]:.1f}", cy=f"{place[1]:.1f}", r="8", class_="mark")
    at = {"x": f"{place[0]:.1f}", "y": f"{place[1] + 4:.1f}"}
    return disc + tag("text", text, **at, text_anchor="middle", class_="mark")


def bars(
    names: Sequence[str],
    values: Float[np.ndarray, " bar"],
    low: Float[np.ndarray, " bar"] | None,
    high: Float[np.ndarray, " bar"] | None,
    colours: Sequence[str],
    x_label: str,
    y_label: str,
    label: str,
) -> Markup:
    """Upright bars from 0 with error bars."""
    top = 1.08 * float(np.nanmax(values if high is None else high)) or 1.0
    places = [(i, name) for i, name in enumerate(names)]
    axes = Axes((-0.6, len(names) - 0.4), (0.0, top), x_label, y_label, x_ticks=places)
    width = min(56.0, 0.66 * float(axes.x(1) - axes.x(0)))
    pieces = []
    for i, value in enumerate(values):
        x, y = float(axes.x(i)), float(axes.y(value))
        size = {"x": f"{x - width / 2:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}"}
        pieces.append(tag("rect", **size, height=f"{float(axes.y(0)) - y:.1f}", fill=colours[i], class_="bar"))
        if low is not None and high is not None and np.isfinite(low[i] + high[i]):
            a, b = float(axes.y(low[i])), float(axes.y(high[i]))
            way = f"M{x:.1f} {a:.1f}V{b:.1f}M{x - 5:.1f} {a:.1f}h10M{x - 5:.1f} {b:.1f}h10"
            pieces.append(tag("path", d=way, class_="error"))
    return axes.drawing(label, *pieces)


def spans(
    names: Sequence[str],
    percentiles: Float[np.ndarray, "row 5"],
    x_label: str,
    label: str,
    colours: Sequence[str],
) -> Markup:
    """A row per name: a thin line from the 5th to the 95th percentile, a bar between the quartiles, a dot at the
    median."""
    height = _TOP + _BOTTOM + 26.0 * len(names)
    places = [(i, name if len(name) < 22 else name[:20] + "…") for i, name in enumerate(names)]
    axes = Axes(
        padded(percentiles.ravel()), (len(names) - 0.5, -0.5), x_label, "", 560.0, height, None, places, False, 150.0
    )
    pieces = []
    for i, values in enumerate(percentiles):
        if not np.isfinite(values).all():
            continue
        y = float(axes.y(i))
        p5, p25, p50, p75, p95 = (float(x) for x in axes.x(values))
        pieces.append(tag("line", x1=f"{p5:.1f}", x2=f"{p95:.1f}", y1=f"{y:.1f}", y2=f"{y:.1f}", class_="error"))
        box = {"x": f"{p25:.1f}", "y": f"{y - 6:.1f}", "width": f"{max(p75 - p25, 0.5):.1f}", "height": "12"}
        pieces.append(tag("rect", **box, fill=colours[i], class_="bar"))
        pieces.append(tag("circle", cx=f"{p50:.1f}", cy=f"{y:.1f}", r="3", class_="median"))
    return axes.drawing(label, *pieces)


def png_address(pixels: np.ndarray) -> str:
    """An image (uint8; grey, RGB or RGBA; first row on top) as a data address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
