"""Simulate a particle set: conformations → noisy images, STAR file, nominal structure, truth folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryosphere.errors import ConfigError, InputError
from cryosphere.io import star
from cryosphere.io.folders import atomic_folder
from cryosphere.io.mrc import write_stack, write_volume
from cryosphere.io.structures import write_models
from cryosphere.physics.noise import coloured_noise
from cryosphere.physics.rotations import rotmat_to_euler
from cryosphere.records import ParticleTable
from cryosphere.simulation import truth
from cryosphere.simulation.acquisition import (
    SimulationSettings,
    check_settings,
    draw_particles,
    draw_states,
    noise_spectrum,
    table_to_write,
)
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.frames import rmsd
from cryosphere.simulation.imager import Imager
from cryosphere.simulation.templates import add_missing_atoms

STAR = "particles.star"
STACK = "particles.mrcs"
NOMINAL = "nominal.cif"
TRUTH = "truth"
PROGRAM = "cryosphere simulate"
# Images that get their noise and go to the stack at a time.
_WRITE_BATCH = 256
# progress(what, step, total) is called after every further ``step`` items of ``total``.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SimulationSummary:
    """What was written: counts, box, and how far the states are apart (Å).

    ``end_to_end_rmsd`` is between the first and last state; ``nominal_rmsd`` and ``mean_structure_rmsd`` are
    means over particles of the RMSD between the true state and the nominal structure or the mean of all true
    states, which is the best single structure. Residue positions, no superposition.
    """

    folder: Path
    n_particles: int
    n_states: int
    box_size: int
    pixel_size: float
    snr: float
    end_to_end_rmsd: float
    nominal_rmsd: float
    mean_structure_rmsd: float
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The summary as text."""
        return [
            f"{self.n_particles} images of {self.box_size} pixels ({self.pixel_size:g} Å), SNR {self.snr:g}, "
            f"from {self.n_states} states: {self.folder}",
            f"RMSD of the last state to the first {self.end_to_end_rmsd:.2f} Å; of the true states, mean over images, "
            f"to the nominal structure {self.nominal_rmsd:.2f} Å, to their mean structure "
            f"{self.mean_structure_rmsd:.2f} Å",
        ]


def simulate(
    conformations: Conformations,
    settings: SimulationSettings,
    out: Path,
    *,
    overwrite: bool = False,
    centre: bool = True,
    progress: Progress | None = None,
) -> SimulationSummary:
    """Write a simulated particle set.

    Parameters
    ----------
    conformations : Conformations
        States, in any frame.
    settings : SimulationSettings
        How the images are made.
    out : Path
        Folder for ``particles.star`` (RELION 3.1), ``particles.mrcs`` (noise of standard deviation 1),
        ``nominal.cif`` (model frame) and ``truth/``. It appears when everything is written.
    overwrite : bool
        Whether a folder of an earlier simulation may be replaced.
    centre : bool
        Move the centroid over all states to the box centre; else the file's origin is the box centre.
    progress : callable, optional
        Called with (what, number of further items done, total).

    Returns
    -------
    SimulationSummary

    Raises
    ------
    InputError, ConfigError
        If the folder is there already, a setting makes no sense, or the molecule does not fit into the box.
    """
    out = Path(out)
    check_settings(settings, conformations.n_states)
    _refuse_other_folder(out)
    with atomic_folder(out, marker=f"{TRUTH}/{truth.INFO}", overwrite=overwrite) as folder:
        conformations = prepare_conformations(conformations, centre)
        generator = torch.Generator().manual_seed(settings.seed)
        state = draw_states(settings, conformations.n_states, generator)
        table = draw_particles(settings, folder / STAR, folder / STACK, generator)
        _check_fit(conformations, settings, table)
        imager = Imager(conformations, settings)
        scale = _write_images(folder, imager, table, state, generator, progress)
        _write_star(folder / STAR, table_to_write(table, settings), settings)
        nominal = conformations.state(settings.nominal_state)
        write_models(folder / NOMINAL, nominal, nominal.atoms.positions[None], frame="model")
        info, hidden = _describe(conformations, settings, scale), _hidden(table, settings)
        truth.write_truth(folder / TRUTH, conformations.residue_positions, state, info, **hidden)
        _write_volumes(folder / TRUTH / truth.VOLUMES, imager, scale, progress)
    return _summarise(out, conformations, settings, state)


def prepare_conformations(conformations: Conformations, centre: bool = True) -> Conformations:
    """Bring states into the frame of the images, with the atoms that a backbone or Cα model lacks.

    Parameters
    ----------
    conformations : Conformations
        In any frame.
    centre : bool
        Move the centroid over all states to the origin, which is the box centre.
    """
    if centre:
        conformations = conformations.centred()
    structure, atom_positions = add_missing_atoms(
        conformations.structure, conformations.residue_positions, conformations.atom_positions
    )
    return replace(conformations, structure=structure, atom_positions=atom_positions)


def _compute_clean(clean: np.ndarray, imager: Imager, table: ParticleTable, state: np.ndarray, progress) -> float:
    """Fill an array with the clean images, one batch per core at a time, and give the variance of its pixels.

    Batches, not operations, are shared among cores: that is quicker on a busy machine, and the bytes of an image do
    not depend on the number of cores.
    """
    n = table.n_particles
    starts = range(0, n, imager.batch_size)

    def compute(start: int) -> tuple[int, float, float]:
        rows = np.arange(start, min(n, start + imager.batch_size))
        images = imager.images(table, state, rows).cpu().numpy()
        clean[rows[0] : rows[-1] + 1] = images
        return len(rows), float(images.sum(dtype=np.float64)), float(np.square(images, dtype=np.float64).sum())

    n_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(n_threads if imager.device.type == "cpu" else 1)
    total = total_of_squares = 0.0
    try:
        torch.set_num_threads(1)
        for count, batch_sum, batch_squares in pool.map(compute, starts):
            total += batch_sum
            total_of_squares += batch_squares
            if progress:
                progress("projecting", count, n)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)
    return total_of_squares / clean.size - (total / clean.size) ** 2


def _write_images(folder, imager, table, state, generator, progress) -> float:
    """Write the stack by way of a scratch file, as the clean images' variance sets the scale."""
    settings, n = imager.settings, table.n_particles
    scratch = folder / "clean.scratch"
    clean = np.memmap(scratch, np.float32, "w+", shape=(n, settings.box_size, settings.box_size))
    variance = _compute_clean(clean, imager, table, state, progress)
    scale = float(np.sqrt(settings.snr / variance))

    def scaled() -> Iterator[np.ndarray]:
        for start in range(0, n, _WRITE_BATCH):
            yield clean[start : start + _WRITE_BATCH] * np.float32(scale)

    spectrum = noise_spectrum(settings)

    def noise(shape: tuple[int, int, int]) -> Tensor:
        if spectrum is None:
            return torch.randn(shape, generator=generator)
        return coloured_noise(shape, spectrum.float(), generator)

    def noisy() -> Iterator[np.ndarray]:
        for images in scaled():
            yield images + noise(images.shape).numpy()
            if progress:
                progress("writing", len(images), n)

    write_stack(folder / STACK, noisy(), n_images=n, pixel_size=settings.pixel_size)
    if settings.write_clean:
        (folder / TRUTH).mkdir()
        path = folder / TRUTH / truth.CLEAN_IMAGES
        write_stack(path, scaled(), n_images=n, pixel_size=settings.pixel_size)
    del clean
    scratch.unlink()
    return scale


def _hidden(table: ParticleTable, settings: SimulationSettings) -> dict[str, np.ndarray]:
    """What the images have and the STAR file does not tell, for the truth folder; empty where it tells all."""
    known = {"rotmat": table.rotmat, "shift": table.shift} if settings.has_pose_errors else {}
    if settings.contrast_spread > 0:
        known["contrast"] = table.scale
    return known


def _write_star(path: Path, table: ParticleTable, settings: SimulationSettings) -> None:
    """Write the particle table in RELION 3.1 form, with the stack beside it."""
    angles = torch.stack(rotmat_to_euler(torch.as_tensor(table.rotmat)), dim=-1)
    groups = [
        star.OpticsGroup(name, optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast)
        for name, optics in zip(table.optics_group_names, settings.optics_groups, strict=True)
    ]
    star.write_particles(
        path,
        image_names=[star.image_name(int(index), STACK) for index in table.image_index],
        angles_deg=np.degrees(angles.numpy()),
        shift=table.shift,
        defocus_u=table.defocus_u,
        defocus_v=table.defocus_v,
        defocus_angle_deg=np.degrees(table.defocus_angle),
        phase_shift_deg=np.degrees(table.phase_shift),
        optics_groups=groups,
        optics_group=table.optics_group,
        box_size=table.box_size,
        pixel_size=table.pixel_size,
        extra={"rlnCtfBfactor": table.b_factor, "rlnCtfScalefactor": table.scale},
    )


def _write_volumes(folder, imager, scale, progress) -> None:
    """Write volumes of evenly spread states on the images' scale; voxel n // 2 is the origin."""
    settings, n_states = imager.settings, len(imager.atom_positions)
    states = np.unique(np.linspace(0, n_states - 1, settings.n_volumes).round().astype(int))
    if len(states) == 0:
        return
    folder.mkdir()
    origin = (-(settings.box_size // 2) * settings.pixel_size,) * 3
    for state in states:
        volume = imager.volume(int(state)).cpu().numpy() * np.float32(scale)
        write_volume(folder / truth.volume_name(int(state)), volume, settings.pixel_size, origin)
        if progress:
            progress("volumes", 1, len(states))


def _check_fit(conformations: Conformations, settings: SimulationSettings, table: ParticleTable) -> None:
    """Refuse a box that the molecule leaves in some state, pose and shift."""
    radius = float(np.linalg.norm(conformations.atom_positions, axis=-1).max())
    farthest = radius + float(np.abs(table.shift).max())
    half = 0.5 * settings.box_size * settings.pixel_size
    if farthest > half:
        needed = 2 * int(np.ceil(farthest / settings.pixel_size))
        raise ConfigError(
            f"The atoms reach {radius:.0f} Å from the centre, {farthest:.0f} Å with the shifts, but half the box is "
            f"{half:.0f} Å: use a box of at least {needed} pixels or a larger pixel size."
        )


def _describe(conformations: Conformations, settings: SimulationSettings, scale: float) -> dict:
    info = {
        "program": PROGRAM,
        "moved": conformations.description,
        "snr": settings.snr,
        "noise_std": 1.0,
        "signal_scale": scale,
        "n_particles": settings.n_particles,
        "n_states": conformations.n_states,
        "box_size": settings.box_size,
        "pixel_size": settings.pixel_size,
        "seed": settings.seed,
        "forward": settings.forward,
        "b_factor": "file" if settings.b_factor is None else settings.b_factor,
        "nominal_state": settings.nominal_state,
        "populations": None if settings.populations is None else list(settings.populations),
        "notes": [*conformations.structure.notes, *conformations.notes],
    }
    spectrum = noise_spectrum(settings)
    if spectrum is not None:
        info["noise_spectrum"] = spectrum.tolist()
    if settings.contrast_spread > 0:
        info["contrast_spread"] = settings.contrast_spread
    if settings.has_pose_errors:
        info["rotation_error_deg"] = settings.rotation_error_deg
        info["shift_error"] = settings.shift_error
    if conformations.bodies is not None:
        info["bodies"] = [[int(row) for row in body] for body in conformations.bodies]
    return info


def _summarise(out, conformations, settings, state) -> SimulationSummary:
    positions = conformations.residue_positions
    share = np.bincount(state, minlength=len(positions)) / len(state)
    mean = np.einsum("s,sri->ri", share, positions)
    return SimulationSummary(
        folder=out,
        n_particles=settings.n_particles,
        n_states=conformations.n_states,
        box_size=settings.box_size,
        pixel_size=settings.pixel_size,
        snr=settings.snr,
        end_to_end_rmsd=float(rmsd(positions[0], positions[-1])),
        nominal_rmsd=float(share @ rmsd(positions, positions[settings.nominal_state])),
        mean_structure_rmsd=float(share @ rmsd(positions, mean)),
        notes=(*conformations.structure.notes, *conformations.notes),
    )


def _refuse_other_folder(out: Path) -> None:
    """Refuse a folder with something in it that :func:`simulate` did not write, overwrite or not."""
    if out.is_dir() and any(out.iterdir()) and not _is_simulation(out):
        raise InputError(f"{out} exists and was not written by '{PROGRAM}'; choose another folder.")


def _is_simulation(folder: Path) -> bool:
    """Whether a folder was written by :func:`simulate`."""
    try:
        info = json.loads((folder / TRUTH / truth.INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and info.get("program") == PROGRAM
