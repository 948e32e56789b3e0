"""What the inputs hold, in numbers and in words: particles, optics, poses, shifts, limits, grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from cryosphere.physics.ctf import electron_wavelength
from cryosphere.preflight.sample import GreyValues
from cryosphere.records import ParticleTable, Structure

# Equal-area bins of the view directions, at most, and particles per bin on average.
_MOST_BINS, _PER_BIN = 500, 10
# Share of the sphere that views as even as these would fill.
_EVEN, _UNEVEN = 0.8, 0.4
_GROUPS_NAMED = 4


@dataclass(frozen=True)
class Fact:
    """One line of the table: a name, a sentence, and the numbers in it."""

    name: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)


def describe_inputs(table: ParticleTable, structure: Structure) -> list[Fact]:
    """Everything that the particle table and the structure say of themselves."""
    return [
        _particles(table),
        _optics(table),
        _images(table),
        *_ctf(table),
        _views(table),
        _shifts(table),
        *_limits(table),
        _structure(table, structure),
    ]


def describe_grey_values(grey: GreyValues) -> Fact:
    """Grey values of the sampled images."""
    low, middle, high = grey.std
    usable = "all finite" if grey.n_unusable == 0 else f"{grey.n_unusable} not finite or constant"
    text = (
        f"{grey.n_images} read, {usable}; mean {grey.mean[1]:.3g} ({grey.mean[0]:.3g} to {grey.mean[2]:.3g}), standard "
        f"deviation {middle:.3g} ({low:.3g} to {high:.3g}), {1e6 * grey.outliers:.0f} outliers per million pixels"
    )
    return Fact("sampled images", text, {**vars(grey), "mean": list(grey.mean), "std": list(grey.std)})


def _particles(table: ParticleTable) -> Fact:
    images = np.unique(np.column_stack([table.stack_index, table.image_index]), axis=0)
    n, n_images, n_stacks = table.n_particles, len(images), len(table.stack_paths)
    text = f"{n:,} in {n_stacks:,} stack{'s' if n_stacks > 1 else ''}"
    if n_images < n:
        text += f", of {n_images:,} images ({n / n_images:.1f} rows each: symmetry expansion?)"
    if table.half_set is not None:
        text += f"; half sets of {np.sum(table.half_set == 1):,} and {np.sum(table.half_set == 2):,}"
    return Fact("particles", text, {"n_particles": n, "n_images": n_images, "n_stacks": n_stacks})


def _optics(table: ParticleTable) -> Fact:
    names = table.optics_group_names
    shown = ", ".join(names[:_GROUPS_NAMED]) + (" …" if len(names) > _GROUPS_NAMED else "")
    columns = {
        "voltage_kv": (table.voltage_kv, "kV"),
        "spherical_aberration_mm": (table.spherical_aberration_mm, "mm Cs"),
        "amplitude_contrast": (table.amplitude_contrast, "amplitude contrast"),
    }
    values = {name: np.unique(column).tolist() for name, (column, _) in columns.items()}
    listed = "; ".join(f"{_listed(values[name])} {unit}" for name, (_, unit) in columns.items())
    text = f"{len(names)} ({shown}): {listed}"
    return Fact("optics groups", text, {"n_optics_groups": len(names), **values})


def _listed(values: list[float]) -> str:
    if len(values) <= _GROUPS_NAMED:
        return ", ".join(f"{value:g}" for value in values)
    return f"{values[0]:g} to {values[-1]:g}"


def _images(table: ParticleTable) -> Fact:
    edge = table.box_size * table.pixel_size
    text = f"{table.box_size} px of {table.pixel_size:.4g} Å: {edge:.0f} Å"
    return Fact("box", text, {"box_size": table.box_size, "pixel_size": table.pixel_size, "edge": edge})


def _ctf(table: ParticleTable) -> list[Fact]:
    defocus = 0.5 * (table.defocus_u + table.defocus_v)
    astigmatism = np.abs(table.defocus_u - table.defocus_v)
    phase = np.degrees(table.phase_shift)
    low, high = float(defocus.min()), float(defocus.max())
    middle, most = float(np.median(astigmatism)), float(astigmatism.max())
    text = f"{low:,.0f} to {high:,.0f} Å, astigmatism {middle:,.0f} Å (median), {most:,.0f} Å (most)"
    words = {"min": low, "max": high, "astigmatism_median": middle, "astigmatism_max": most}
    if low < 0:
        text += "; negative values are overfocus"
    plate = "none" if not phase.any() else f"{phase.min():.0f} to {phase.max():.0f}°"
    return [
        Fact("defocus", text, words),
        Fact("phase plate", plate, {"min_deg": float(phase.min()), "max_deg": float(phase.max())}),
    ]


def view_coverage(rotmat: Float[np.ndarray, "particle 3 3"]) -> tuple[float, float, int]:
    """Share of equal-area bins of the sphere of views that are seen, how even they are, and the number of bins.

    Evenness is the share of the sphere that equally many, equally full bins would cover: exp(entropy) / bins.
    """
    view = rotmat[:, 2]
    n_bands = max(2, int(math.sqrt(min(_MOST_BINS, len(view) / _PER_BIN) / 2)))
    n_bins = 2 * n_bands**2
    band = np.clip(((view[:, 2] + 1) / 2 * n_bands).astype(int), 0, n_bands - 1)
    turn = (np.arctan2(view[:, 1], view[:, 0]) / (2 * np.pi)) % 1.0
    sector = np.clip((turn * 2 * n_bands).astype(int), 0, 2 * n_bands - 1)
    counts = np.bincount(band * 2 * n_bands + sector, minlength=n_bins)
    share = counts[counts > 0] / len(view)
    return float(np.mean(counts > 0)), float(np.exp(-np.sum(share * np.log(share))) / n_bins), n_bins


def _views(table: ParticleTable) -> Fact:
    seen, even, n_bins = view_coverage(table.rotmat)
    word = "even" if even > _EVEN else "uneven" if even > _UNEVEN else "few preferred views"
    text = f"{word}: {100 * seen:.0f} % of {n_bins} equal-area bins seen, as even as {100 * even:.0f} % of the sphere"
    return Fact("views", text, {"seen": seen, "evenness": even, "n_bins": n_bins})


def _shifts(table: ParticleTable) -> Fact:
    length = np.linalg.norm(table.shift, axis=1)
    rms, most = float(np.sqrt(np.mean(length**2))), float(length.max())
    pixel = table.pixel_size
    text = f"{rms:.2f} Å ({rms / pixel:.2f} px) rms, {most:.1f} Å ({most / pixel:.1f} px) at most"
    if most > table.box_size * pixel / 2:
        text += "; more than half the box: are they in pixels or Å?"
    return Fact("shifts", text, {"rms": rms, "max": most})


def _limits(table: ParticleTable) -> list[Fact]:
    """Nyquist, and where neighbouring rings of the steepest CTF fall on one shell of the box."""
    nyquist, edge = 2 * table.pixel_size, table.box_size * table.pixel_size
    wavelength = electron_wavelength(torch.as_tensor(table.voltage_kv, dtype=torch.float64)).numpy()
    steepest = np.maximum(np.abs(table.defocus_u), np.abs(table.defocus_v)) * wavelength
    aliasing = float(2 * np.percentile(steepest, 95) / edge)
    text = f"Nyquist {nyquist:.2f} Å; the box holds the CTF's rings of 95 % of the particles to {aliasing:.1f} Å"
    if aliasing > nyquist:
        text += " (finer ones need a larger box: delocalised signal is cut off)"
    return [Fact("resolution limits", text, {"nyquist": nyquist, "ctf_limit": aliasing})]


def _structure(table: ParticleTable, structure: Structure) -> Fact:
    positions = structure.residue_positions
    centre = np.average(positions, axis=0, weights=structure.amplitudes)
    reach = float(np.linalg.norm(positions, axis=1).max())
    radius = float(np.linalg.norm(positions - centre, axis=1).max())
    needed = 2 * math.ceil(radius / table.pixel_size)
    text = (
        f"{structure.n_residues:,} residues, radius {radius:.0f} Å; reaches {reach:.0f} Å from the box centre "
        f"(half the box is {table.box_size * table.pixel_size / 2:.0f} Å; centred it needs at least {needed} px)"
    )
    return Fact("structure", text, {"n_residues": structure.n_residues, "radius": radius, "reach": reach})
