"""What is random about a particle: its conformation, pose, shift and CTF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryosphere.errors import ConfigError, InputError
from cryosphere.physics.rotations import random_rotmats
from cryosphere.records import ParticleTable


@dataclass(frozen=True)
class SimulatedOptics:
    """One optics group: kV, mm, fraction, and the phase plate's shift in radians."""

    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    phase_shift: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """How a particle set is made.

    Attributes
    ----------
    n_particles, box_size : int
        Images, and pixels along their edge.
    pixel_size : float
        Å per pixel.
    snr : float
        Variance of the clean images (with CTF) over that of the noise, over all pixels of all images.
    seed : int
        Of every random draw; the same seed gives the same files.
    forward : str
        ``"atoms"``: every atom with its element's electron scattering factors, as exact Fourier sums.
        ``"residues"``: one Gaussian per residue through ``physics.gaussians``, the renderer that trains.
    b_factor : float or None
        B of every atom in Å²; None takes those of the structure file.
    shift_range : float
        Å; largest shift along x and y, or its standard deviation if ``shift_distribution`` is ``"normal"``.
    shift_distribution : str
        ``"uniform"`` or ``"normal"``.
    defocus_range : tuple of float
        Smallest and largest mean defocus in Å, underfocus positive.
    astigmatism : float
        Largest defocus_u - defocus_v in Å.
    ctf_b_factor : float
        B of the CTF's envelope, Å².
    optics_groups : tuple of SimulatedOptics
        Particles go to them in turn.
    populations : tuple of float, optional
        Weight of every state; equal by default.
    nominal_state : int
        State that is written as the nominal structure.
    write_clean : bool
        Whether to write the images without noise.
    n_volumes : int
        Number of all-atom volumes to write, of evenly spread states.
    device : str
        Torch device of the image computation. Files are byte-identical between runs on one kind of device.
    """

    n_particles: int
    box_size: int
    pixel_size: float
    snr: float
    seed: int = 0
    forward: str = "atoms"
    b_factor: float | None = 60.0
    shift_range: float = 4.0
    shift_distribution: str = "uniform"
    defocus_range: tuple[float, float] = (10000.0, 25000.0)
    astigmatism: float = 500.0
    ctf_b_factor: float = 0.0
    optics_groups: tuple[SimulatedOptics, ...] = (SimulatedOptics(),)
    populations: tuple[float, ...] | None = None
    nominal_state: int = 0
    write_clean: bool = False
    n_volumes: int = 0
    device: str = "cpu"


def check_settings(settings: SimulationSettings, n_states: int) -> None:
    """Refuse values that make no sense.

    Raises
    ------
    ConfigError
        Naming the value, what was expected and what was found.
    """
    s = settings
    rules = [
        ("particles", s.n_particles, s.n_particles >= 1, "a whole number of at least 1"),
        ("box", s.box_size, s.box_size >= 8, "at least 8 pixels"),
        ("pixel size", s.pixel_size, 0 < s.pixel_size < math.inf, "Å per pixel above 0"),
        ("SNR", s.snr, 0 < s.snr < math.inf, "a number above 0"),
        ("seed", s.seed, 0 <= s.seed < 2**63, "a whole number of at least 0"),
        ("forward model", s.forward, s.forward in ("atoms", "residues"), "'atoms' or 'residues'"),
        ("B factor", s.b_factor, s.b_factor is None or 0 <= s.b_factor < math.inf, "at least 0 Å²"),
        ("shift range", s.shift_range, 0 <= s.shift_range < math.inf, "at least 0 Å"),
        (
            "shift distribution",
            s.shift_distribution,
            s.shift_distribution in ("uniform", "normal"),
            "'uniform' or 'normal'",
        ),
        (
            "defocus range",
            s.defocus_range,
            s.defocus_range[0] <= s.defocus_range[1],
            "the smaller value first, in Å",
        ),
        ("astigmatism", s.astigmatism, 0 <= s.astigmatism < math.inf, "at least 0 Å"),
        ("CTF B factor", s.ctf_b_factor, 0 <= s.ctf_b_factor < math.inf, "at least 0 Å²"),
        ("number of optics groups", len(s.optics_groups), len(s.optics_groups) >= 1, "at least 1"),
        (
            "nominal state",
            s.nominal_state,
            0 <= s.nominal_state < n_states,
            f"a state from 0 to {n_states - 1}",
        ),
        (
            "number of volumes",
            s.n_volumes,
            0 <= s.n_volumes <= n_states,
            f"0 to the {n_states} states there are",
        ),
    ]
    for group in s.optics_groups:
        w, kv = group.amplitude_contrast, group.voltage_kv
        rules.append(("amplitude contrast", w, 0 <= w <= 1, "a fraction from 0 to 1"))
        rules.append(("voltage", kv, 0 < kv < 10_000, "kilovolts above 0"))
    for name, value, fine, expected in rules:
        if not fine:
            raise ConfigError(f"The {name} is {value}: expected {expected}.")
    if s.populations is not None:
        _check_populations(np.asarray(s.populations), n_states)


def _check_populations(weights: np.ndarray, n_states: int) -> None:
    if len(weights) != n_states:
        raise ConfigError(f"There are {len(weights)} populations for {n_states} states: give one weight per state.")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise ConfigError("The populations must be numbers of at least 0, not all 0.")


def draw_states(settings: SimulationSettings, n_states: int, generator: torch.Generator) -> np.ndarray:
    """Draw the state of every particle, independently, by the populations."""
    populations = np.ones(n_states) if settings.populations is None else np.asarray(settings.populations, float)
    weights = torch.as_tensor(populations / populations.sum())
    return torch.multinomial(weights, settings.n_particles, replacement=True, generator=generator).numpy()


def draw_particles(settings: SimulationSettings, star: Path, stack: Path, generator: torch.Generator) -> ParticleTable:
    """Draw poses, shifts and CTF parameters, as a table with one stack."""
    n = settings.n_particles

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)

    rotmat = random_rotmats(n, generator)
    if settings.shift_distribution == "normal":
        unit = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    else:
        unit = 2 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 1
    defocus, difference = uniform(*settings.defocus_range), uniform(0, settings.astigmatism)
    angle = uniform(0, math.pi)
    group = np.arange(n) % len(settings.optics_groups)

    def optics(name: str) -> np.ndarray:
        return np.array([getattr(g, name) for g in settings.optics_groups], dtype=np.float64)[group]

    return ParticleTable(
        source=star,
        stack_paths=(stack,),
        stack_index=np.zeros(n, dtype=np.int64),
        image_index=np.arange(n),
        rotmat=rotmat.numpy(),
        shift=(settings.shift_range * unit).numpy(),
        defocus_u=(defocus + difference / 2).numpy(),
        defocus_v=(defocus - difference / 2).numpy(),
        defocus_angle=angle.numpy(),
        phase_shift=optics("phase_shift"),
        b_factor=np.full(n, settings.ctf_b_factor),
        scale=np.ones(n),
        voltage_kv=optics("voltage_kv"),
        spherical_aberration_mm=optics("spherical_aberration_mm"),
        amplitude_contrast=optics("amplitude_contrast"),
        optics_group=group,
        optics_group_names=tuple(f"opticsGroup{i + 1}" for i in range(len(settings.optics_groups))),
        box_size=settings.box_size,
        pixel_size=settings.pixel_size,
    )


def optics_groups(
    n_groups: int | None,
    voltage_kv: Sequence[float],
    spherical_aberration_mm: Sequence[float],
    amplitude_contrast: Sequence[float],
    phase_shift_deg: Sequence[float],
) -> tuple[SimulatedOptics, ...]:
    """Make optics groups from values that are each given never, once for all groups, or once per group.

    Raises
    ------
    ConfigError
        If the numbers of values disagree.
    """
    default = SimulatedOptics()
    columns = {
        "voltage": tuple(voltage_kv) or (default.voltage_kv,),
        "spherical aberration": tuple(spherical_aberration_mm) or (default.spherical_aberration_mm,),
        "amplitude contrast": tuple(amplitude_contrast) or (default.amplitude_contrast,),
        "phase shift": tuple(phase_shift_deg) or (math.degrees(default.phase_shift),),
    }
    count = n_groups if n_groups is not None else max(len(values) for values in columns.values())
    for name, values in columns.items():
        if len(values) not in (1, count):
            raise ConfigError(
                f"The {name} is given {len(values)} times for {count} optics groups: give it once, or once per group."
            )
    spread = [values * (count if len(values) == 1 else 1) for values in columns.values()]
    return tuple(SimulatedOptics(kv, cs, w, math.radians(phase)) for kv, cs, w, phase in zip(*spread, strict=True))


def read_b_factor(text: str) -> float | None:
    """Read a B factor in Å², or ``file`` for those of the structure file, which is None."""
    if text == "file":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"The B factor is '{text}': expected a number in Å², or 'file'.") from error


def read_populations(path: Path | None) -> tuple[float, ...] | None:
    """Read one weight per state from a text file."""
    if path is None:
        return None
    try:
        return tuple(float(word) for word in Path(path).read_text().split())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give a text file with one weight per state."
        ) from error
    except ValueError as error:
        raise InputError(f"{path} holds something other than numbers ({error}): give one weight per state.") from error
