"""Pictures of an analysis (PNG): latent space, RMSF, segment map, segment motions, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis.ensemble import Fluctuations
from cryosphere.analysis.latent import Conformers, PrincipalComponents
from cryosphere.analysis.segments import SegmentMotion
from cryosphere.analysis.style import (
    BLUE,
    INK,
    ORANGE,
    PALE,
    bare,
    chain_positions,
    chain_rows,
    new_figure,
    runs_of,
    save,
    segment_colour,
)
from cryosphere.records import Structure

# Fewer particles than this are drawn one by one.
_SCATTER_LIMIT = 400
# A component with less than this share of the variance is not worth an axis.
_FLAT = 1e-9
_LINE_STYLES = {"train": (BLUE, "-", "training"), "held_out": (ORANGE, "--", "held out")}
_LOSS_NAMES = {
    "marginal": "− log marginal likelihood",
    "total": "total",
    "data": "data",
    "kl_latent": "KL, latent",
    "kl_segmentation": "KL, segments",
    "continuity": "continuity",
    "clash": "clash",
    "weight_decay": "weight decay",
}


def plot_latent(
    path: Path,
    scores: Float[np.ndarray, "particle component"],
    components: PrincipalComponents,
    traversals: Sequence[Conformers],
) -> None:
    """Draw the density of particles over the first two components, or the histogram of one, with traversals."""
    figure = new_figure(6.4, 5.2)
    axes = figure.subplots()
    if components.n_components == 1 or components.explained[1] < _FLAT:
        _latent_histogram(axes, scores[:, 0], traversals[0])
    else:
        _latent_density(figure, axes, scores[:, :2], traversals)
        axes.set_ylabel(_component_label(components, 1))
    axes.set_xlabel(_component_label(components, 0))
    title = f"Posterior means of {len(scores):,} particles".replace(",", "\N{THIN SPACE}")
    axes.set_title(title, fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1.0), borderaxespad=0)
    bare(axes)
    save(figure, path)


def _component_label(components: PrincipalComponents, component: int) -> str:
    if components.n_components == 1:
        return "latent z (prior standard deviations, from the mean)"
    return f"PC{component + 1} of the latent space ({100 * components.explained[component]:.0f} % of the variance)"


def _latent_histogram(axes, scores: np.ndarray, traversal: Conformers) -> None:
    n_bins = int(np.clip(np.sqrt(len(scores)), 10, 80))
    counts, *_ = axes.hist(scores, bins=n_bins, color=BLUE, alpha=0.75)
    top = float(np.max(counts))
    height = 1.06 * top
    points = scores[traversal.rows]
    axes.plot(points, np.full(len(points), height), "v", color=ORANGE, markeredgecolor=INK, clip_on=False)
    for index in sorted({0, len(points) - 1}):
        axes.annotate(str(index + 1), (points[index], height), xytext=(0, 7), textcoords="offset points", ha="center")
    axes.set_ylim(0, 1.2 * top)
    axes.set_ylabel("particles")
    axes.plot([], [], "v", color=ORANGE, markeredgecolor=INK, label="traversal (real particles)")


def _latent_density(figure, axes, scores: np.ndarray, traversals: Sequence[Conformers]) -> None:
    if len(scores) < _SCATTER_LIMIT:
        axes.plot(*scores.T, ".", color=BLUE, alpha=0.5, markersize=5)
    else:
        size = int(np.clip(np.sqrt(len(scores)) / 1.5, 20, 80))
        hexagons = axes.hexbin(*scores.T, gridsize=size, mincnt=1, bins="log", cmap="viridis", linewidths=0.1)
        figure.colorbar(hexagons, ax=axes, label="particles per bin", shrink=0.8)
    for number, (traversal, marker) in enumerate(zip(traversals[:2], "os", strict=False)):
        points = scores[traversal.rows]
        axes.plot(
            *points.T,
            marker,
            color="white" if number == 0 else ORANGE,
            markeredgecolor=INK,
            markersize=7,
            label=f"traversal along PC{number + 1}",
        )
        for index in sorted({0, len(points) - 1}):
            axes.annotate(
                str(index + 1),
                points[index],
                xytext=(7, 7),
                textcoords="offset points",
                fontsize=9,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )


def plot_fluctuations(
    path: Path, structure: Structure, labels: Int[np.ndarray, " residue"], fluctuations: Fluctuations
) -> None:
    """Draw the RMSF along every chain, with its 68 % interval, and the segments as coloured, numbered bands."""
    rmsf = fluctuations.rmsf
    chains = chain_rows(structure)
    figure = new_figure(9.0, 0.9 + 1.9 * len(chains))
    top = 1.15 * float(rmsf.max()) or 1.0
    for axes, (chain, rows) in zip(_stack(figure, len(chains)), chains, strict=True):
        numbers = chain_positions(structure, rows)
        _segment_bands(axes, numbers, labels[rows])
        gaps = np.flatnonzero(~structure.bonded[rows[:-1]]) + 1
        drawn = (numbers, rmsf[rows], fluctuations.rmsf_low[rows], fluctuations.rmsf_high[rows])
        place, middle, low, high = (np.insert(values.astype(float), gaps, np.nan) for values in drawn)
        axes.fill_between(place, low, high, color=INK, alpha=0.3, linewidth=0)
        axes.plot(place, middle, color=INK, lw=1.3)
        axes.set_ylim(0, top)
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.set_title(f"chain {chain}", fontsize=9, loc="left", pad=14)
        bare(axes)
    figure.supylabel("RMSF over the ensemble (Å)", fontsize=10)
    figure.supxlabel("residue number (bands: segments)", fontsize=10)
    save(figure, path)


def _segment_bands(axes, numbers: np.ndarray, labels: np.ndarray) -> None:
    """Coloured spans with the segment's number above them where there is room."""
    length = numbers[-1] - numbers[0] + 1
    for segment, first, last in runs_of(labels):
        if segment < 0:
            continue
        left, right = numbers[first] - 0.5, numbers[last] + 0.5
        axes.axvspan(left, right, color=segment_colour(segment), alpha=0.3, linewidth=0)
        if right - left > 0.02 * length:
            axes.text(
                0.5 * (left + right),
                1.02,
                str(segment + 1),
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=8,
            )


def plot_segments(path: Path, structure: Structure, segment_weights: Float[np.ndarray, "residue segment"]) -> None:
    """Draw the share of every segment in every residue, stacked, chain by chain."""
    chains = chain_rows(structure)
    figure = new_figure(9.0, 1.1 + 1.5 * len(chains))
    main = np.where(segment_weights.sum(1) > 0, segment_weights.argmax(1), -1)
    for axes, (chain, rows) in zip(_stack(figure, len(chains)), chains, strict=True):
        numbers = chain_positions(structure, rows)
        floor = np.zeros(2 * len(rows))
        sides = (numbers[:, None] + [-0.5, 0.5]).ravel()  # a residue is as wide as one number
        for segment in np.flatnonzero(segment_weights[rows].max(0) > 1e-3).tolist():
            top = floor + np.repeat(segment_weights[rows, segment], 2)
            colour = segment_colour(segment)
            for stretch in np.split(np.arange(len(sides)), np.flatnonzero(np.diff(sides)[1::2] > 0) * 2 + 2):
                axes.fill_between(
                    sides[stretch], floor[stretch], top[stretch], color=colour, edgecolor=colour, linewidth=0.2
                )
            floor = top
        for segment, first, last in runs_of(main[rows]):
            if segment >= 0 and last - first + 1 > 0.02 * len(rows):
                axes.text(0.5 * (numbers[first] + numbers[last]), 1.03, str(segment + 1), ha="center", fontsize=8)
        axes.set_ylim(0, 1)
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.set_title(f"chain {chain}", fontsize=9, loc="left", pad=14)
        bare(axes)
    figure.supylabel("segment weight (no unit)", fontsize=10)
    figure.supxlabel("residue number (numbers above: segments; white: fixed, or not in the structure)", fontsize=10)
    save(figure, path)


def _stack(figure, count: int) -> list:
    return list(figure.subplots(count, 1, squeeze=False)[:, 0])


def plot_motions(path: Path, motions: Sequence[SegmentMotion]) -> None:
    """Draw how far every segment turns (degrees) and shifts (Å) over 5-95 % of the ensemble."""
    figure = new_figure(8.0, 1.2 + 0.28 * max(len(motions), 3))
    places = np.arange(1, len(motions) + 1)
    colours = [segment_colour(segment) for segment in range(len(motions))]
    columns = {
        "rotation (degrees)": [motion.angle_range_deg for motion in motions],
        "translation of the centre (Å)": [motion.translation_range for motion in motions],
    }
    for axes, (label, values) in zip(figure.subplots(1, 2, sharey=True), columns.items(), strict=True):
        heights = np.nan_to_num(np.array(values, dtype=float))
        axes.barh(places, heights, color=colours, edgecolor=INK, linewidth=0.5)
        for place, height, value in zip(places, heights, values, strict=True):
            text = "–" if np.isnan(value) else f"{value:.1f}"
            axes.annotate(text, (height, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, 1.18 * heights.max() or 1.0)
        axes.set_xlabel(label)
        axes.set_yticks(places)
        axes.set_ylim(len(motions) + 0.6, 0.4)
        bare(axes)
    figure.supylabel("segment", fontsize=10)
    figure.suptitle("Range of segment motions over the ensemble, 5th to 95th percentile", fontsize=11)
    save(figure, path)


def plot_training(path: Path, records: Sequence[dict]) -> None:
    """Draw every loss term by epoch, for training and held-out images; of several resolutions the last one's."""
    records = [record for record in records if record.get("resolution") == records[-1].get("resolution")]
    names = [name for name in records[-1]["train"] if any(record["train"].get(name, 0) != 0 for record in records)]
    first = "marginal" if "marginal" in names else "total"
    left_out = {"total", "data"} if first == "marginal" else set()
    names = [first, *(name for name in names if name != first and name not in left_out)]
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    figure = new_figure(3.3 * n_columns, 0.8 + 2.4 * n_rows)
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True).ravel()
    epochs = np.array([record["epoch"] for record in records])
    for axes, name in zip(grid, names, strict=False):
        for group, (colour, line, _) in _LINE_STYLES.items():
            values = [(record.get(group) or {}).get(name, np.nan) for record in records]
            marker = "." if len(records) < 15 else None
            axes.plot(epochs, values, line, color=colour, marker=marker, lw=1.5)
        axes.set_title(_LOSS_NAMES.get(name, name), fontsize=9)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.grid(color=PALE, alpha=0.4, linewidth=0.5)
        bare(axes)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    _training_legend(figure, any(record.get("held_out") for record in records))
    save(figure, path)


def _training_legend(figure, held_out: bool) -> None:
    from matplotlib.lines import Line2D

    styles = [style for group, style in _LINE_STYLES.items() if group == "train" or held_out]
    handles = [Line2D([], [], color=colour, linestyle=line, label=label) for colour, line, label in styles]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("loss term as weighted into the total", fontsize=10)
