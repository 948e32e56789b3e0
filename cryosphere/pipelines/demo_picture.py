"""One picture of a run with known truth: images in, structures out, and how far they agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryosphere.analysis.style import BLUE, INK, ORANGE, PALE, bare, new_figure, save
from cryosphere.io.atomic import atomic_output
from cryosphere.runs.run import Run
from cryosphere.simulation.truth import Truth, read_truth

_N_IMAGES = 4
_COLOURS = "viridis"


def draw(path: Path, run: Run, truth_folder: Path, overwrite: bool = False) -> None:
    """Draw images and their renderings, the structures along the motion, and predicted against true progress.

    Parameters
    ----------
    path : Path
        PNG to write.
    run : Run
        With a posterior and its image stacks in place.
    truth_folder : Path
    """
    truth = read_truth(truth_folder)
    figure = new_figure(11, 4.2)
    columns = figure.subfigures(1, 3, width_ratios=[1.05, 1.15, 1])
    _draw_images(columns[0], run)
    _draw_structures(columns[1], run, truth)
    _draw_progress(columns[2], run, truth)
    with atomic_output(path, overwrite=overwrite) as temporary:
        save(figure, temporary)


def _draw_images(figure, run: Run) -> None:
    rows = np.arange(_N_IMAGES)
    batch = run.open_images().batch(rows)
    sites = torch.as_tensor(run.decode_sites(run.posterior.mean[run.posterior_rows(rows)]))
    with torch.no_grad():
        renderer = run.model.cpu().renderer
        rendered = renderer.render(renderer.prepare(batch), sites)
    images = batch.images
    axes = figure.subplots(_N_IMAGES, 2)
    for row in range(_N_IMAGES):
        for column, image in enumerate((images[row], rendered[row])):
            axes[row, column].imshow(image.numpy(), cmap="gray", interpolation="nearest")
            axes[row, column].set_axis_off()
    axes[0, 0].set_title("particle image", fontsize=9)
    axes[0, 1].set_title("its model", fontsize=9)


def _draw_structures(figure, run: Run, truth: Truth) -> None:
    """Cα traces seen along the direction in which the true motion spreads least."""
    from matplotlib import colormaps

    axes = figure.subplots()
    states = truth.coordinates.astype(np.float64)
    displacement = (states[-1] - states[0]).reshape(-1, 3)
    _, _, view = np.linalg.svd(displacement, full_matrices=False)
    progress = motion_progress(run.conformations(), truth)
    order = np.argsort(progress)
    chosen = order[np.linspace(0.03, 0.97, 7).__mul__(len(order) - 1).astype(int)]
    predicted = run.conformations(particles=run.posterior.index[chosen])
    for end, label in ((0, "truth, ends of the path"), (-1, None)):
        flat = states[end] @ view[:2].T
        axes.plot(flat[:, 0], flat[:, 1], color=INK, linewidth=0.9, linestyle=(0, (1, 1)), label=label)
    for positions, fraction in zip(predicted, np.linspace(0, 1, len(chosen)), strict=True):
        flat = positions @ view[:2].T
        axes.plot(flat[:, 0], flat[:, 1], color=colormaps[_COLOURS](0.92 * fraction), linewidth=1.1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title("recovered structures, closed to open", fontsize=9)
    axes.legend(loc="lower center", fontsize=7, frameon=False, bbox_to_anchor=(0.5, -0.08))


def _draw_progress(figure, run: Run, truth: Truth) -> None:
    axes = figure.subplots()
    true = motion_progress(truth.coordinates[truth.state[run.posterior.index]], truth)
    found = motion_progress(run.conformations(), truth)
    shown = np.linspace(0, len(true) - 1, min(len(true), 2000)).astype(int)
    axes.scatter(true[shown], found[shown], s=4, color=BLUE, alpha=0.35, linewidths=0)
    limits = (min(true.min(), found.min()), max(true.max(), found.max()))
    axes.plot(limits, limits, color=ORANGE, linewidth=1.2, label="perfect")
    axes.axhline(0.0, color=PALE, linewidth=1, linestyle="--", label="nominal structure")
    axes.set_xlabel("true progress along the motion", fontsize=9)
    axes.set_ylabel("progress found in each image", fontsize=9)
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    bare(axes)


def motion_progress(positions: np.ndarray, truth: Truth) -> np.ndarray:
    """Projection of structures onto the line from the first to the last true state: 0 and 1 at the ends."""
    first, last = truth.coordinates[0].astype(np.float64), truth.coordinates[-1].astype(np.float64)
    direction = (last - first).ravel()
    return (positions.reshape(len(positions), -1) - first.ravel()) @ direction / (direction @ direction)
