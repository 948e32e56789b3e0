"""Particles averaged by view and state beside the model's projections of the same particles, averaged the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryosphere.errors import RunError
from cryosphere.inference.ensemble import spread_rows
from cryosphere.physics.fourier import fourier_to_image, image_to_fourier
from cryosphere.preflight.picture import turned_in_plane, view_groups
from cryosphere.runs.run import Run

_WITHIN_DEGREES = 25.0
_RESOLUTION_A = 8.0
# Particles among which views are looked for, and images read and rendered at a time.
_SAMPLE, _BATCH = 1500, 64


@dataclass(frozen=True)
class ViewAverages:
    """Averages of every state (row) in every view (column).

    Attributes
    ----------
    particles, model, still : arrays of shape (state, view, y, x)
        Averages of the images, of the model's projections at each particle's posterior mean, and of the nominal
        structure's projections; NaN where a state has no particles in a view. All are multiplied with each particle's
        CTF (and whitening), turned in the plane onto the view's first particle, and masked.
    counts : int array of shape (state, view)
        Particles averaged.
    direction : array of shape (view, 3)
        Viewing direction in the model frame.
    pixel_size : float
        Å.
    """

    particles: Float[np.ndarray, "state view y x"]
    model: Float[np.ndarray, "state view y x"]
    still: Float[np.ndarray, "state view y x"]
    counts: Int[np.ndarray, "state view"]
    direction: Float[np.ndarray, "view 3"]
    pixel_size: float

    def correlations(self, of: Float[np.ndarray, "state view y x"]) -> Float[np.ndarray, "state view"]:
        """Pearson correlation of each average of the particles with that of ``model`` or ``still``."""
        a, b = (values.reshape(*values.shape[:2], -1) for values in (self.particles, of))
        a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
        norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
        return (a * b).sum(-1) / np.where(norm > 0, norm, np.nan)


def average_views(
    run: Run,
    membership: Int[np.ndarray, " particle"],
    n_states: int,
    n_views: int = 5,
    n_each: int = 80,
) -> ViewAverages:
    """Average particles of each state that look along nearly the same direction, and the model's projections likewise.

    Parameters
    ----------
    run : Run
        With a posterior; its image stacks, or the prepared stack, must be there.
    membership : int array of shape (particle,)
        State of every row of the posterior, from 0; others are left out.
    n_states, n_views : int
        Views are those that most particles share, within 25°.
    n_each : int
        Particles averaged per state and view at most, evenly spread.

    Raises
    ------
    RunError
        The images are not there any more.
    """
    missing = [path for path in run.table.stack_paths if not path.exists()]
    if missing and run.open_prepared() is None:
        raise RunError(f"{missing[0]}: missing; averages of particles need the image stacks.")
    rows = np.searchsorted(run.table.input_rows, run.posterior.index)  # of the table
    rotmat = torch.tensor(run.table.rotmat[rows], dtype=torch.float32)
    sample = spread_rows(len(rows), _SAMPLE)
    middles = [sample[group[0]] for group in view_groups(rotmat[sample], n_views, _WITHIN_DEGREES)]
    averager = _Averager(run, rows)
    shape = (3, n_states, len(middles), averager.level.size, averager.level.size)
    averages, counts = np.full(shape, np.nan, dtype=np.float32), np.zeros(shape[1:3], dtype=int)
    near = np.cos(np.radians(_WITHIN_DEGREES))
    for view, middle in enumerate(middles):
        seen = (rotmat[:, 2] @ rotmat[middle, 2] > near).numpy()
        for state in range(n_states):
            members = np.flatnonzero(seen & (membership == state))
            if len(members):
                members = members[spread_rows(len(members), n_each)]
                averages[:, state, view] = averager.average(members, rotmat[middle]).numpy()
                counts[state, view] = len(members)
    direction = rotmat[middles, 2].numpy()
    return ViewAverages(*averages, counts, direction, averager.level.pixel_size)


class _Averager:
    """Averages of particles (rows of the posterior), of the model's projections, and of the nominal structure's."""

    def __init__(self, run: Run, table_rows: Int[np.ndarray, " particle"]) -> None:
        self.run, self.table_rows, self.images = run, table_rows, run.open_images()
        renderer = run.model.renderer
        self.level = renderer.level(renderer.band_at(_RESOLUTION_A))
        self.nominal = torch.from_numpy(run.nominal_sites)

    @torch.no_grad()
    def average(self, members: Int[np.ndarray, " n"], rotmat: Float[Tensor, "3 3"]) -> Float[Tensor, "3 y x"]:
        """Of images, model and nominal structure, in the plane of ``rotmat``."""
        total = torch.zeros(3, self.level.size, self.level.size)
        for start in range(0, len(members), _BATCH):
            rows = members[start : start + _BATCH]
            batch = self.images.batch(self.table_rows[rows]).to(self.run.model.device)
            renderer = self.run.model.renderer
            prepared = renderer.prepare(batch, self.level)
            moved = torch.from_numpy(self.run.decode_sites(self.run.posterior.mean[rows])).to(batch.rotmat.device)
            still = self.nominal.to(moved).expand_as(moved)
            kinds = [image_to_fourier(prepared.images)]
            for sites in (moved, still):
                rendered = fourier_to_image(renderer.render_fourier(prepared, sites), self.level.size)
                kinds.append(image_to_fourier(rendered * self.level.mask))
            poses = torch.cat([rotmat[None].to(batch.rotmat), batch.rotmat])
            for kind, fourier in enumerate(kinds):
                images = fourier_to_image(fourier * prepared.transfer, self.level.size)
                images = torch.cat([images[:1], images])  # the first one's pose is that of the view
                total[kind] += turned_in_plane(images, poses)[1:].sum(0).cpu()
        return total / len(members)
