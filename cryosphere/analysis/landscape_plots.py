"""Pictures of the free-energy landscape and of the states (PNG)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryosphere.analysis.ensemble import Ensemble
from cryosphere.analysis.landscape import Landscape, kt_in_kj_per_mol
from cryosphere.analysis.landscape_of_run import EasiestPath
from cryosphere.analysis.sample import weighted_percentiles
from cryosphere.analysis.state_summary import States
from cryosphere.analysis.style import BLUE, INK, ORANGE, bare, new_figure, save, segment_colour

# Energies above this are not told apart in the picture, kT.
_TOP = 6.0
_UNITS = {"deg": "degrees", "Å": "Å"}
_ROOM_TEMPERATURE = 298.15


def plot_landscape(path: Path, landscape: Landscape, easiest: EasiestPath | None) -> None:
    """Draw the free energy over one motion with its error, or over two as a map with basins and the path."""
    figure = new_figure(6.6, 5.2 if len(landscape.names) == 2 else 3.8)
    axes = figure.subplots()
    labels = [f"{name} ({_UNITS[unit]})" for name, unit in zip(landscape.names, landscape.units, strict=True)]
    axes.set_xlabel(labels[0])
    if len(landscape.names) == 1:
        _draw_curve(axes, landscape)
    else:
        _draw_map(figure, axes, landscape, easiest)
        axes.set_ylabel(labels[1])
    kj = kt_in_kj_per_mol(_ROOM_TEMPERATURE)
    axes.set_title(f"Free energy −ln p in kT (1 kT = {kj:.2f} kJ/mol at 298 K)", fontsize=10, loc="left")
    bare(axes)
    save(figure, path)


def _draw_curve(axes, landscape: Landscape) -> None:
    centres, energy, error = landscape.centres[0], landscape.energy, landscape.error
    axes.fill_between(centres, energy - error, energy + error, color=BLUE, alpha=0.3, linewidth=0, label="± 1 s.d.")
    axes.plot(centres, energy, color=BLUE, lw=1.6)
    for number, (place, share) in enumerate(zip(landscape.minima[:, 0], landscape.populations, strict=True), start=1):
        height = float(np.interp(place, centres, np.nan_to_num(energy, nan=_TOP)))
        axes.plot(place, height, "v", color=ORANGE, markeredgecolor=INK, zorder=3)
        axes.annotate(
            f"{number}: {100 * share:.0f} %", (place, height), xytext=(0, 12), textcoords="offset points", ha="center"
        )
    axes.set_ylim(-0.3, max(1.5, min(_TOP, float(np.nanmax(energy))) + 0.7))
    axes.set_ylabel("free energy (kT)")
    axes.legend(frameon=False, fontsize=8)


def _draw_map(figure, axes, landscape: Landscape, easiest: EasiestPath | None) -> None:
    image = axes.pcolormesh(*landscape.edges, landscape.energy.T, cmap="viridis_r", vmin=0, vmax=_TOP, rasterized=True)
    levels = np.arange(1, _TOP)
    if np.nanmax(landscape.energy) > 1:
        lines = axes.contour(*landscape.centres, landscape.energy.T, levels=levels, colors=INK, linewidths=0.5)
        axes.clabel(lines, fontsize=7, fmt="%g")
    figure.colorbar(image, ax=axes, label="kT", shrink=0.8, extend="max")
    if easiest is not None:
        axes.plot(*easiest.values.T, "o-", color="white", markeredgecolor=INK, ms=5, lw=1.2, label="easiest path")
        axes.legend(frameon=True, fontsize=8, loc="best")
    for number, (place, share) in enumerate(zip(landscape.minima, landscape.populations, strict=True), start=1):
        axes.plot(*place, "v", color=ORANGE, markeredgecolor=INK, zorder=4)
        axes.annotate(
            f"{number}: {100 * share:.0f} %",
            place,
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )


def plot_states(path: Path, ensemble: Ensemble, states: States) -> None:
    """Draw the ensemble along its first two modes, coloured by state, and the populations with 68 % intervals."""
    figure = new_figure(8.6, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    _draw_modes(left, ensemble, states)
    places = np.arange(1, states.n_states + 1)
    found = states.populations
    colours = [segment_colour(state) for state in range(states.n_states)]
    right.bar(places, 100 * found.share, color=colours, edgecolor=INK, linewidth=0.5)
    spread = 100 * np.stack([found.share - found.low, found.high - found.share]).clip(min=0)
    right.errorbar(places, 100 * found.share, yerr=spread, fmt="none", ecolor=INK, capsize=3, lw=1)
    right.set_xticks(places)
    right.set_xlabel("state")
    right.set_ylabel("population (%), bars: 68 % interval")
    for axes in (left, right):
        bare(axes)
    save(figure, path)


def _draw_modes(axes, ensemble: Ensemble, states: States) -> None:
    """Histogram along one mode, or weighted conformations over two."""
    modes, weights = ensemble.modes, ensemble.sample.weights
    owner = states.division.states_of(ensemble.coordinates)
    axes.set_xlabel(f"mode 1 ({100 * modes.explained[0]:.0f} % of the motion), Å r.m.s.")
    first = ensemble.coordinates[:, 0]
    if modes.n_modes == 1:
        bins = np.linspace(first.min(), first.max() + 1e-6, 60)
        columns = [first[owner == state] for state in range(states.n_states)]
        shares = [100 * weights[owner == state] for state in range(states.n_states)]
        colours = [segment_colour(state) for state in range(states.n_states)]
        axes.hist(columns, bins, weights=shares, color=colours, stacked=True)
        axes.set_ylabel("% of the ensemble")
        return
    size = 4000 * weights / weights.sum() * np.sqrt(len(weights) / 400)
    for state in range(states.n_states):
        inside = owner == state
        axes.scatter(
            *ensemble.coordinates[inside, :2].T,
            s=size[inside].clip(0.3, 60),
            color=segment_colour(state),
            alpha=0.6,
            linewidths=0,
            label=f"state {state + 1}",
            rasterized=True,
        )
    for set_limits, column in ((axes.set_xlim, 0), (axes.set_ylim, 1)):
        low, high = weighted_percentiles(ensemble.coordinates[:, column], weights, (0.1, 99.9))
        set_limits(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set_ylabel(f"mode 2 ({100 * modes.explained[1]:.0f} %), Å r.m.s.")
    if states.n_states > 1:
        axes.legend(frameon=False, fontsize=8, markerscale=1.5)
