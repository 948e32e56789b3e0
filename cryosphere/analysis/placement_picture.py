"""A picture of a structure placed in a map: slices of both, and their Fourier shell correlation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cryosphere.analysis.style import BLUE, INK, ORANGE, PALE, bare, new_figure, save
from cryosphere.io.atomic import atomic_output
from cryosphere.placement.agreement import FSC_THRESHOLD
from cryosphere.placement.fitting import Fit

_AXES = (("z", "x", "y"), ("y", "x", "z"), ("x", "y", "z"))
# The slices show the structure and so much around it (Å).
_MARGIN_A = 15.0
_CONTOURS = (0.3, 0.6)


def draw(path: Path, fit: Fit, positions: np.ndarray, overwrite: bool = False) -> None:
    """Draw three slices of the map with contours of the model, and the FSC of both.

    Parameters
    ----------
    path : Path
        PNG to write.
    fit : Fit
    positions : array of shape (residue, 3)
        Placed residues, Å, model frame.
    overwrite : bool
        Whether an existing file may be replaced.
    """
    figure = new_figure(11, 3.2)
    axes = figure.subplots(1, 4)
    for axis, place in zip(range(3), axes[:3], strict=True):
        _draw_slice(place, fit, positions, axis)
    _draw_fsc(axes[3], fit)
    with atomic_output(path, overwrite=overwrite) as temporary:
        save(figure, temporary)


def _draw_slice(place, fit: Fit, positions: np.ndarray, axis: int) -> None:
    """Map as grey, model as contours, in the plane through the structure's centre across an axis of the array."""
    normal, across, up = _AXES[axis]
    centre = positions.mean(0)
    size, spacing = fit.grid.size, fit.grid.spacing
    index = int(np.clip(round(centre["xyz".index(normal)] / spacing) + size // 2, 0, size - 1))
    density, model = (np.take(v.numpy(), index, axis=axis) for v in (fit.grid.volume, fit.agreement.simulated))
    first, last = ((end - size // 2 - 0.5) * spacing for end in (0, size))
    top = max(float(model.max()), 1e-30)
    place.imshow(density, cmap="gray_r", origin="lower", extent=(first, last, first, last), vmin=0, vmax=top)
    ticks = (np.arange(size) - size // 2) * spacing
    if model.max() > 0:
        place.contour(ticks, ticks, model, levels=[share * top for share in _CONTOURS], colors=[BLUE], linewidths=0.8)
    low, high = positions.min(0) - _MARGIN_A, positions.max(0) + _MARGIN_A
    place.set_xlim(low["xyz".index(across)], high["xyz".index(across)])
    place.set_ylim(low["xyz".index(up)], high["xyz".index(up)])
    place.set_xlabel(f"{across} (Å)", fontsize=8)
    place.set_ylabel(f"{up} (Å)", fontsize=8)
    place.set_title(f"map (grey), model (blue), {normal} = {round(centre['xyz'.index(normal)])} Å", fontsize=8)
    place.tick_params(labelsize=7)


def _draw_fsc(place, fit: Fit) -> None:
    agreement = fit.agreement
    place.plot(agreement.frequency, agreement.fsc, color=BLUE)
    place.axhline(FSC_THRESHOLD, color=PALE, linewidth=0.8, zorder=0)
    if math.isfinite(agreement.resolution):
        place.axvline(1 / agreement.resolution, color=ORANGE, linewidth=0.8)
        place.annotate(
            f"{agreement.resolution:.1f} Å",
            (1 / agreement.resolution, 0.03),
            fontsize=8,
            color=INK,
            xytext=(4, 0),
            textcoords="offset points",
        )
    place.set_ylim(min(-0.05, float(agreement.fsc.min())), 1.02)
    place.set_xlim(0, agreement.frequency[-1])
    place.set_xlabel("spatial frequency (1/Å)", fontsize=8)
    place.set_title("FSC of map and model, masked", fontsize=8)
    bare(place)
