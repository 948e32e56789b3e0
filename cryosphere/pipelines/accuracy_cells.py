"""Cells of the accuracy benchmark: sets of images, and what is asked of the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryosphere.errors import ConfigError
from cryosphere.pipelines.accuracy_families import FAMILIES, NEEDED, Inputs
from cryosphere.simulation.acquisition import SimulationSettings

# Total rms errors of the poses in cell g; the simulation's are per axis.
ROTATION_ERROR_DEG, SHIFT_ERROR_A = 3.0, 1.0
N_VOLUMES = 20


@dataclass(frozen=True)
class Bar:
    """A measure and between which values it has to be, ends included; the worst seed counts."""

    measure: str
    low: float | None = None
    high: float | None = None

    def is_met(self, values: list[float]) -> bool:
        """Whether all values are within the bar."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return all(low <= value <= high for value in values)

    def text(self) -> str:
        """The bar in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of the benchmark: a set of images, what training is told beyond its files, and the bars.

    Attributes
    ----------
    name, label, title : str
        Short name, what it is in two or three words, and in a sentence.
    family : str
        Key of ``FAMILIES``.
    snr : float
        Of the images.
    simulation : dict
        Fields of ``SimulationSettings`` that differ from the defaults.
    config : dict
        Sections and keys of the training configuration beyond the two files, the seed and the device.
    bars : tuple of Bar
        What is asked.
    most_seeds : int
        Seeds that are worth the time.
    with_paper : bool
        Whether the paper's preset is trained on the same images if it is asked for.
    clean : str, optional
        Cell whose RMSD this one's is compared with.
    """

    name: str
    label: str
    title: str
    family: str
    snr: float
    simulation: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bars: tuple[Bar, ...] = ()
    most_seeds: int = 1
    with_paper: bool = False
    clean: str | None = None


@dataclass(frozen=True)
class Size:
    """Number of images and their box."""

    n_particles: int
    box_size: int


SIZES = {"small": Size(10_000, 64), "full": Size(100_000, 128)}


def cell_settings(cell: Cell, size: str, seed: int, n_states: int, device: str = "cpu") -> SimulationSettings:
    """Settings with which a cell's images are made."""
    return SimulationSettings(
        n_particles=SIZES[size].n_particles,
        box_size=SIZES[size].box_size,
        pixel_size=FAMILIES[cell.family].pixel_size[size],
        snr=cell.snr,
        seed=seed,
        device=device,
        **{"n_volumes": min(N_VOLUMES, n_states), **cell.simulation},
    )


def missing_input(cell: Cell, inputs: Inputs) -> str | None:
    """Sentence that says which option a cell needs, or None if it has all it needs."""
    needs = FAMILIES[cell.family].needs
    if needs is None or getattr(inputs, needs) is not None:
        return None
    return f"{cell.name} is left out: it needs {NEEDED[needs]} (--{needs})."


def describe(cell: Cell) -> str:
    """One line on a cell: name, SNR, what it is, and which option it needs."""
    needs = FAMILIES[cell.family].needs
    return f"{cell.name:<10}  SNR {cell.snr:<5g}  {cell.title}{'' if needs is None else f' (--{needs})'}"


def choose_cells(names: str) -> list[Cell]:
    """Read a selection: ``all``, or names (``c-0.1``) and letters (``c``, all cells of it) with commas between.

    Raises
    ------
    ConfigError
        A name that is none.
    """
    chosen = set()
    for name in (part.strip() for part in names.split(",")):
        found = {cell.name for cell in CELLS if name in ("all", cell.name, cell.name.split("-")[0])}
        if not found:
            raise ConfigError(
                f"There is no cell '{name}': give 'all' or some of {', '.join(cell.name for cell in CELLS)}."
            )
        chosen |= found
    return [cell for cell in CELLS if cell.name in chosen]


_SOUND = (Bar("changed_bonds_percent", high=1), Bar("clashes_beyond", high=0), Bar("minutes", high=20))
_CALIBRATED = (Bar("inside_50_percent", 40, 60), Bar("inside_90_percent", 85, 95))
_RATIO = {0.1: Bar("ratio_to_limit", high=1.5), 0.01: Bar("ratio_to_limit", high=1.25)}
_SNRS = (0.1, 0.01)
_FAB_TITLE = "antibody, one Fab turns by ±30° about its hinge"
CELLS = (
    *(
        Cell(
            name=f"a-{snr}",
            label="AdK path",
            title="adenylate kinase, path from closed to open",
            family="adk",
            snr=snr,
            bars=(*_CALIBRATED, *_SOUND),
        )
        for snr in _SNRS
    ),
    *(
        Cell(
            name=f"b-{snr}",
            label="ATPase path",
            title="P-type ATPase, path between two cryo-EM states",
            family="atpase",
            snr=snr,
            bars=(_RATIO[snr], *_CALIBRATED, *_SOUND),
        )
        for snr in _SNRS
    ),
    *(
        Cell(
            name=f"c-{snr}",
            label="Fab hinge",
            title=_FAB_TITLE,
            family="fab",
            snr=snr,
            bars=(_RATIO[snr], *_CALIBRATED, Bar("ari", low=0.9), *_SOUND),
            most_seeds=3,
            with_paper=True,
        )
        for snr in _SNRS
    ),
    Cell(
        name="c-0.001",
        label="Fab hinge",
        title=_FAB_TITLE,
        family="fab",
        snr=0.001,
        bars=(Bar("ratio_to_limit", high=1.15), *_SOUND),
        most_seeds=3,
        with_paper=True,
    ),
    Cell(
        name="c-coloured",
        label="Fab hinge, coloured noise",
        title=f"{_FAB_TITLE}; coloured noise",
        family="fab",
        snr=0.01,
        simulation={"noise": "coloured"},
        bars=(_RATIO[0.01], *_CALIBRATED, Bar("ari", low=0.9), *_SOUND),
        with_paper=True,
    ),
    Cell(
        name="c-turn",
        label="Fab, full turn",
        title="antibody, one Fab makes a full turn",
        family="fab-turn",
        snr=0.01,
        simulation={"n_volumes": 100},
        bars=_SOUND,
        with_paper=True,
    ),
    *(
        Cell(
            name=f"d-{snr}",
            label="two Fab hinges",
            title="antibody, both Fabs turn by ±20°, each by itself",
            family="two-fabs",
            snr=snr,
            bars=(_RATIO[snr], *_CALIBRATED, Bar("ari", low=0.8), *_SOUND),
        )
        for snr in _SNRS
    ),
    Cell(
        name="e-0.01",
        label="AdK, static",
        title="adenylate kinase, closed only: nothing moves",
        family="adk-static",
        snr=0.01,
        bars=(Bar("rmsd_to_nominal", high=0.5), *_SOUND),
    ),
    *(
        Cell(
            name=f"f-{snr}",
            label="AdK, 70:30 mixture",
            title="adenylate kinase, 70 % closed and 30 % open",
            family="adk-mixture",
            snr=snr,
            simulation={"populations": (0.7, 0.3)},
            bars=(Bar("population_error_points", high=5), *_SOUND),
        )
        for snr in _SNRS
    ),
    Cell(
        name="g-0.1",
        label="Fab hinge, pose errors",
        title=f"{_FAB_TITLE}; poses wrong by {ROTATION_ERROR_DEG:g}° and {SHIFT_ERROR_A:g} Å (rms, in all)",
        family="fab",
        snr=0.1,
        simulation={
            "rotation_error_deg": ROTATION_ERROR_DEG / math.sqrt(3),
            "shift_error": SHIFT_ERROR_A / math.sqrt(2),
        },
        config={"particles": {"refine_poses": True}},
        bars=(Bar("ratio_to_clean", high=1.5), *_SOUND),
        clean="c-0.1",
    ),
    Cell(
        name="h-0.1",
        label="Fab hinge, poor nominal",
        title=f"{_FAB_TITLE}; the nominal is at 60°",
        family="fab-far",
        snr=0.1,
        simulation={"populations": (0.0, *[1.0] * 121), "nominal_state": 0},
        bars=(Bar("ratio_to_best_single", high=0.5), *_CALIBRATED, *_SOUND),
    ),
)
