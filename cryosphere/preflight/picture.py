"""Particles averaged by view beside what the structure predicts for the same particles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cryosphere.physics.fourier import fourier_to_image
from cryosphere.preflight.comparison import Comparison, Hypothesis
from cryosphere.preflight.diagnosis import Diagnosis

_VIEWS, _WITHIN_DEGREES = 6, 25.0
_RESOLUTION_A = 8.0
_DPI = 150


def draw(path: Path, comparison: Comparison, diagnosis: Diagnosis) -> None:
    """Draw six views in columns: averaged particles, the structure as given, and with sign, poses and place mended.

    Particles that look along nearly the same direction are turned in the plane until they agree, multiplied with
    their CTF and averaged; renderings of the same particles go through the same. CTF and whitening are those of the
    files.

    Parameters
    ----------
    path : Path
        PNG.
    comparison : Comparison
    diagnosis : Diagnosis
    """
    comparison.set_resolution(_RESOLUTION_A)
    best = diagnosis.best.hypothesis
    rotmat = comparison.poses(best.pose)
    groups = view_groups(rotmat, _VIEWS, _WITHIN_DEGREES)
    transfer = comparison.transferred(best)
    rows = {"particles": comparison.images * transfer}
    rows["structure as given"] = comparison.placed(Hypothesis(), comparison.centre) * transfer
    if best != Hypothesis() or (diagnosis.best.position != comparison.centre).any():
        rows["structure, mended"] = best.sign * comparison.placed(best, diagnosis.best.position) * transfer
    size = comparison.level.size
    figure = Figure(figsize=(1.5 * len(groups) + 0.4, 1.5 * len(rows) + 0.65), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(groups), squeeze=False)
    for line, (name, fourier) in zip(axes, rows.items(), strict=True):
        images = fourier_to_image(fourier, size)
        for axis, members in zip(line, groups, strict=True):
            average = turned_in_plane(images[members], rotmat[members]).mean(0).numpy()
            axis.imshow(average, cmap="gray", origin="lower", interpolation="bicubic", **_range(average))
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=9)
    for axis, members in zip(axes[0], groups, strict=True):
        axis.set_title(f"{len(members)} particles", fontsize=8)
    figure.suptitle(_title(diagnosis), fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _title(diagnosis: Diagnosis) -> str:
    if not diagnosis.faults:
        return "Particles averaged by view, and the structure's projections: no fault found (differences may be motion)"
    return f"Particles averaged by view, and the structure's projections: {', '.join(diagnosis.faults)}"


def _range(average: Float[np.ndarray, "y x"]) -> dict[str, float]:
    reach = float(np.abs(average).max()) or 1.0
    return {"vmin": -0.6 * reach, "vmax": reach}


def view_groups(rotmat: Float[Tensor, "image 3 3"], n_views: int, within_degrees: float) -> list[np.ndarray]:
    """Members of the fullest views, one after the other, most first; the first member is the view's middle."""
    direction = rotmat[:, 2]
    near = (direction @ direction.T) > math.cos(math.radians(within_degrees))
    free = torch.ones(len(rotmat), dtype=torch.bool)
    groups = []
    while free.any() and len(groups) < n_views:
        counts = (near & free).sum(1) * free
        middle = int(counts.argmax())
        members = torch.nonzero(near[middle] & free).flatten()
        order = torch.cat([torch.tensor([middle]), members[members != middle]])
        groups.append(order.numpy())
        free[members] = False
    return groups


def turned_in_plane(
    images: Float[Tensor, "image y x"], rotmat: Float[Tensor, "image 3 3"]
) -> Float[Tensor, "image y x"]:
    """Images turned about pixel n // 2 so that their in-plane angles become that of the first."""
    relative = rotmat @ rotmat[0].T
    angle = torch.atan2(relative[:, 1, 0] - relative[:, 0, 1], relative[:, 0, 0] + relative[:, 1, 1])
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    size = images.shape[-1]
    centre = torch.full((2,), (2 * (size // 2) + 1) / size - 1)
    theta = torch.cat([turn, (centre - turn @ centre)[:, :, None]], dim=2)
    grid = affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    return grid_sample(images[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]
