"""What is random about a particle: its conformation, pose, shift, CTF and contrast, and the errors of its pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryosphere.errors import ConfigError, InputError
from cryosphere.physics.noise import coloured_spectrum
from cryosphere.physics.rotations import quat_to_rotmat, random_rotmats, rotvec_to_quat
from cryosphere.records import ParticleTable

# Coloured noise: its power at frequency 0 over that of its plateau, and the resolution at which the excess over the
# plateau has fallen to a quarter.
NOISE_RATIO = 10.0
NOISE_CORNER_RESOLUTION_A = 20.0
# Numbers that, with the seed, start random streams of their own, so that no other draw depends on these nuisances.
_CONTRAST_STREAM = 1
_POSE_ERROR_STREAM = 2


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
        Variance of the clean images (with CTF and contrast) over that of the noise, over all pixels of all images.
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
    noise : str
        ``"white"``, or ``"coloured"``: a radial power spectrum that falls from low frequencies to a plateau. The
        noise's standard deviation is 1 either way.
    noise_ratio : float, optional
        Power of coloured noise at frequency 0 over that of its plateau, at least 1; None is 10.
    contrast_spread : float
        Standard deviation of the factor on each image's signal, drawn log-normally with mean 1.
    rotation_error_deg : float
        Standard deviation in degrees, per axis, of the Gaussian rotation vector that turns the true pose into the
        one in the STAR file. The images have the true pose.
    shift_error : float
        Å; standard deviation along x and y of what is added to the true shift in the STAR file.
    write_clean : bool
        Whether to write the images without noise, each with its contrast.
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
    noise: str = "white"
    noise_ratio: float | None = None
    contrast_spread: float = 0.0
    rotation_error_deg: float = 0.0
    shift_error: float = 0.0
    write_clean: bool = False
    n_volumes: int = 0
    device: str = "cpu"

    @property
    def has_pose_errors(self) -> bool:
        """Whether the STAR file's poses differ from those of the images."""
        return self.rotation_error_deg > 0 or self.shift_error > 0


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
        *_nuisance_rules(s),
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


def _nuisance_rules(s: SimulationSettings) -> list[tuple[str, object, bool, str]]:
    """Name, value, whether it is fine, and what is expected, of noise, contrast and pose errors."""
    kinds = ("white", "coloured")
    ratio_is_fine = s.noise_ratio is None or (s.noise == "coloured" and 1 <= s.noise_ratio < math.inf)
    spread, rotation, shift = s.contrast_spread, s.rotation_error_deg, s.shift_error
    return [
        ("noise", s.noise, s.noise in kinds, "'white' or 'coloured'"),
        ("noise ratio", s.noise_ratio, ratio_is_fine, "at least 1, and coloured noise"),
        ("contrast spread", spread, 0 <= spread < math.inf, "a standard deviation of at least 0"),
        ("rotation error", rotation, 0 <= rotation <= 180, "0 to 180 degrees"),
        ("shift error", shift, 0 <= shift < math.inf, "at least 0 Å"),
    ]


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
    """Draw poses, shifts, CTF parameters and contrasts (as scales), as a table with one stack."""
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
        scale=_draw_contrast(settings),
        voltage_kv=optics("voltage_kv"),
        spherical_aberration_mm=optics("spherical_aberration_mm"),
        amplitude_contrast=optics("amplitude_contrast"),
        optics_group=group,
        optics_group_names=tuple(f"opticsGroup{i + 1}" for i in range(len(settings.optics_groups))),
        box_size=settings.box_size,
        pixel_size=settings.pixel_size,
    )


def _draw_contrast(settings: SimulationSettings) -> Float[np.ndarray, " particle"]:
    """Draw log-normal factors of mean 1 and the asked standard deviation."""
    normal = np.random.default_rng((settings.seed, _CONTRAST_STREAM)).standard_normal(settings.n_particles)
    variance = math.log1p(settings.contrast_spread**2)
    return np.exp(math.sqrt(variance) * normal - variance / 2)


def table_to_write(table: ParticleTable, settings: SimulationSettings) -> ParticleTable:
    """Copy of the true particle table as the STAR file has it: poses with errors, nothing of the contrast."""
    rng = np.random.default_rng((settings.seed, _POSE_ERROR_STREAM))
    turn = math.radians(settings.rotation_error_deg) * rng.standard_normal((settings.n_particles, 3))
    move = settings.shift_error * rng.standard_normal((settings.n_particles, 2))
    written = replace(table, scale=np.ones(settings.n_particles))
    if not settings.has_pose_errors:
        return written
    error = quat_to_rotmat(rotvec_to_quat(torch.as_tensor(turn))).numpy()
    return replace(written, rotmat=error @ table.rotmat, shift=table.shift + move)


def noise_spectrum(settings: SimulationSettings) -> Float[Tensor, " shell"] | None:
    """Power of coloured noise per shell (``physics.noise``), float64; None for white noise."""
    if settings.noise == "white":
        return None
    ratio = NOISE_RATIO if settings.noise_ratio is None else settings.noise_ratio
    return coloured_spectrum(settings.box_size, settings.pixel_size, ratio, NOISE_CORNER_RESOLUTION_A)


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
