"""Which reading of the inputs the sampled images prefer, each against the inputs as they are given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float

from cryosphere.preflight.comparison import Comparison, Hypothesis

# Standard errors by which another reading must win, and by which alternatives are counted as excluded.
SIGNIFICANT = 5.0
# The structure must lie at least so far (Å) from where it fits best to be called off centre: other conformations have
# their centre a little elsewhere.
LEAST_OFFSET_A = 5.0
# Rms displacement (Å) between two readings of the shifts from which they can be told apart.
_LEAST_DISPLACEMENT_A = 0.4
# Shifts (rms, Å) that are larger than their usual errors: smaller ones may rightly look as if they should be smaller.
_LARGE_SHIFTS_A = 3.5
# Astigmatism (rms, Å) from which U and V can be told apart.
_LEAST_ASTIGMATISM_A = 100.0
# Factor on the defocus, relative to 1, that is still taken as right, and share of the log-likelihood that a wrong
# CTF must cost.
_DEFOCUS_TOLERANCE, _LEAST_CTF_GAIN = 0.03, 0.003
_DEFOCUS_FACTORS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4, 1.5, 1.6)
_VOLTAGES_KV = (100.0, 120.0, 200.0, 300.0)
# Largest error of the pixel size that is looked for, and the share of the log-likelihood by which the molecule's size
# may speak against it (another conformation changes its size too).
_LARGEST_PIXEL_ERROR, _SIZE_TOLERANCE = 0.15, 0.1
# Expected standard errors between right and exchanged poses from which their absence means something, and the share
# of them that must be missing.
_EXPECTED_FOR_NO_MATCH, _MISSING = 10.0, 0.6
# Standard errors from which a wrong defocus factor is worth more images.
_SUSPICIOUS = 2.5
POSES = ("given", "mirrored", "inverted", "both")
_OTHER_HAND = {"given": "mirrored", "mirrored": "given", "inverted": "both", "both": "inverted"}
SHIFTS = ("given", "negated", "pixels", "angstrom", "none", "swapped")
COARSE_A, FINE_A = 12.0, 5.0


@dataclass(frozen=True)
class Reading:
    """One reading of the inputs, the structure's centre under it (Å), and the nats of every image.

    ``amplitude`` is the factor on the renderings of every shell.
    """

    hypothesis: Hypothesis
    position: Float[np.ndarray, " 3"]
    nats: Float[np.ndarray, " image"]

    @property
    def mean(self) -> float:
        """Nats per image."""
        return float(self.nats.mean())


@dataclass(frozen=True)
class Measurement:
    """A reading beside the given one: nats per image, difference to the reference and its standard error."""

    name: str
    nats: float
    difference: float
    standard_error: float

    @property
    def standard_errors(self) -> float:
        """The difference in standard errors."""
        return self.difference / self.standard_error if self.standard_error > 0 else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """What the comparison found.

    Attributes
    ----------
    n_images : int
    resolution : tuple of float
        Å, to which poses and CTFs were compared.
    given, best : Reading
        As the inputs stand, and the simplest reading that no other one beats.
    centre : array of shape (3,)
        Where the structure's centre is, as given (Å).
    agreement : float
        Mean agreement of the images with the structure as given, in standard errors above 0.
    match, expected_match : float
        Standard errors by which the poses beat exchanged ones, and by which right ones should.
    hand : float
        Standard errors by which the hand beats its mirror image.
    coarse, fine : tuple of Measurement
        Poses, shifts and place; CTF and pixel size.
    faults : tuple of str
        Codes, of which ``verdicts`` has the words.
    values : dict
        Numbers that the words need.
    undecided : tuple of str
        Codes of what these inputs cannot tell.
    open_questions : tuple of str
        Other readings that these images neither prefer nor exclude.
    """

    n_images: int
    resolution: tuple[float, float]
    given: Reading
    best: Reading
    centre: Float[np.ndarray, " 3"]
    agreement: float
    match: float
    expected_match: float
    hand: float
    coarse: tuple[Measurement, ...]
    fine: tuple[Measurement, ...]
    faults: tuple[str, ...]
    values: dict[str, float] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()

    open_questions: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether more images would say no more."""
        return not self.undecided and not self.open_questions


def standard_errors(better: Float[np.ndarray, " image"], worse: Float[np.ndarray, " image"]) -> float:
    """Mean paired difference in units of its standard error."""
    difference = better - worse
    error = difference.std() / math.sqrt(len(difference))
    return float(difference.mean() / error) if error > 0 else 0.0


class Examination:
    """The comparisons of one diagnosis, each made once."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._readings: dict[Hypothesis, Reading] = {}

    def read(self, hypothesis: Hypothesis, position: Float[np.ndarray, " 3"] | None = None) -> Reading:
        """Compare under a hypothesis, with the structure at a position, by default where it fits best."""
        if position is not None:
            return Reading(hypothesis, position, self.comparison.overlaps(hypothesis, position).nats())
        if hypothesis not in self._readings:
            self._readings[hypothesis] = self.read(hypothesis, self.comparison.find_position(hypothesis))
        return self._readings[hypothesis]

    def displacement(self, shift: str) -> float:
        """Rms distance (Å) between where two readings of the shifts put the images."""
        return float(self.comparison.displacement(shift).square().sum(1).mean().sqrt())

    def shifts(self) -> list[str]:
        """Readings of the shifts that these shifts can tell from the given one.

        That shifts should be smaller is what errors in them look like; it counts only where they are large.
        """
        large = float(self.comparison.shift.square().sum(1).mean().sqrt()) >= _LARGE_SHIFTS_A
        pixel_size = self.comparison.table.pixel_size
        shrinking = {"none", "pixels" if pixel_size < 1 else "angstrom"}
        return [
            shift
            for shift in SHIFTS
            if shift == "given"
            or (self.displacement(shift) >= _LEAST_DISPLACEMENT_A and (large or shift not in shrinking))
        ]

    def candidates(self) -> list[Hypothesis]:
        """Every pose with every shift, and every pose with the other sign."""
        signs = [Hypothesis(sign=-1, pose=pose) for pose in POSES]
        return [Hypothesis(pose=pose, shift=shift) for pose in POSES for shift in self.shifts()] + signs

    def best(self) -> Reading:
        """The likeliest reading, with every change from the given one that it does not need taken back."""
        best = max((self.read(hypothesis) for hypothesis in self.candidates()), key=lambda reading: reading.mean)
        for change in ({"shift": "given"}, {"pose": "given"}, {"sign": 1}):
            simpler = self.read(replace(best.hypothesis, **change))
            if standard_errors(best.nats, simpler.nats) < SIGNIFICANT:
                best = simpler
        centre = self.comparison.centre
        at_home = self.read(best.hypothesis, centre)
        near = np.linalg.norm(best.position - centre) < LEAST_OFFSET_A
        if near or standard_errors(best.nats, at_home.nats) < SIGNIFICANT:
            return at_home
        return best

    def expected_match(self, best: Reading) -> float:
        """Standard errors by which a right reading should beat one with exchanged poses."""
        comparison, exchanged = self.comparison, replace(best.hypothesis, pose="permuted")
        amplitude = comparison.overlaps(best.hypothesis, best.position).amplitude()
        difference = comparison.rendered(best.hypothesis) - comparison.rendered(exchanged)
        shells = difference.abs().square().flatten(1) @ comparison.one_hot
        distance = (shells.double() * amplitude**2).sum(1).numpy()
        variance = distance.mean() + (0.5 * distance).var()
        return float(0.5 * distance.mean() / math.sqrt(max(variance, 1e-300) / len(distance)))


def diagnose(comparison: Comparison) -> Diagnosis:
    """Compare every reading of the inputs on the same images.

    First poses, shifts, sign and place at 12 Å, where one structure stands for all conformations; then, with what was
    found, CTF and pixel size at 5 Å or as fine as the images go.
    """
    comparison.set_resolution(COARSE_A)
    found = _examine_poses(Examination(comparison))
    if found.match < SIGNIFICANT:
        return found
    comparison.set_resolution(FINE_A)
    fine, faults, values, still_open = _examine_ctf(comparison, found.best)
    return replace(
        found,
        resolution=(found.resolution[0], comparison.resolution),
        fine=fine,
        faults=found.faults + faults,
        values=values,
        open_questions=found.open_questions + still_open,
    )


def _examine_poses(examination: Examination) -> Diagnosis:
    """All that poses, shifts, sign and place can be blamed for, and whether anything matches at all."""
    comparison = examination.comparison
    given = examination.read(Hypothesis(), comparison.centre)
    best = examination.best()
    placed = examination.read(best.hypothesis)
    exchanged = examination.read(replace(best.hypothesis, pose="permuted"))
    match, expected = standard_errors(placed.nats, exchanged.nats), examination.expected_match(best)
    mirrored = examination.read(replace(best.hypothesis, pose=_OTHER_HAND[best.hypothesis.pose]))
    hand = standard_errors(placed.nats, mirrored.nats)
    if match >= SIGNIFICANT:
        faults = _coarse_faults(best, comparison)
        undecided = ("hand",) if hand < SIGNIFICANT else ()
        unsure = tuple(shift for shift in examination.shifts() if _is_open(placed, examination, shift))
    else:
        absent = expected > _EXPECTED_FOR_NO_MATCH and match < (1 - _MISSING) * expected
        faults, undecided, unsure = (("no match",), (), ()) if absent else ((), ("match",), ())
    return Diagnosis(
        n_images=len(given.nats),
        resolution=(comparison.resolution, comparison.resolution),
        given=given,
        best=best,
        centre=comparison.centre,
        agreement=_agreement(comparison),
        match=match,
        expected_match=expected,
        hand=hand,
        coarse=_coarse_measurements(examination, given),
        fine=(),
        faults=faults,
        undecided=undecided,
        open_questions=unsure,
    )


def _is_open(placed: Reading, examination: Examination, shift: str) -> bool:
    if shift == placed.hypothesis.shift:
        return False
    other = examination.read(replace(placed.hypothesis, shift=shift))
    return abs(standard_errors(placed.nats, other.nats)) < SIGNIFICANT


def _agreement(comparison: Comparison) -> float:
    """Mean over images of y·x / |x|, which is 0 ± 1 in noise alone, in its standard errors."""
    overlaps = comparison.overlaps(Hypothesis(), comparison.centre)
    power = overlaps.power.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    values = (overlaps.overlap.sum(1) / power.sqrt()).numpy()
    return float(values.mean() * math.sqrt(len(values)) / max(values.std(), 1.0))


def _coarse_faults(best: Reading, comparison: Comparison) -> tuple[str, ...]:
    hypothesis = best.hypothesis
    faults = {
        "sign": hypothesis.sign < 0,
        "hand": hypothesis.pose in ("mirrored", "both"),
        "inverted angles": hypothesis.pose in ("inverted", "both"),
        f"shifts {hypothesis.shift}": hypothesis.shift != "given",
        "off centre": bool(np.linalg.norm(best.position - comparison.centre) >= LEAST_OFFSET_A),
    }
    return tuple(code for code, found in faults.items() if found)


def _measure(name: str, reading: Reading, reference: Reading) -> Measurement:
    difference = reading.nats - reference.nats
    error = float(difference.std() / math.sqrt(len(difference)))
    return Measurement(name, reading.mean, float(difference.mean()), error)


def _coarse_measurements(examination: Examination, given: Reading) -> tuple[Measurement, ...]:
    """Every single change beside the inputs as given, each with the structure where it fits best."""
    reference = examination.read(Hypothesis())
    named = {
        "as given": Hypothesis(),
        "other sign of the images (or of the CTF)": Hypothesis(sign=-1),
        "hand mirrored": Hypothesis(pose="mirrored"),
        "angles inverted": Hypothesis(pose="inverted"),
        "hand mirrored and angles inverted": Hypothesis(pose="both"),
    }
    words = {
        "negated": "shifts negated",
        "pixels": "shifts in pixels, not Å",
        "angstrom": "shifts in Å, not pixels",
        "none": "shifts left out",
        "swapped": "shifts' x and y exchanged",
    }
    named |= {words[shift]: Hypothesis(shift=shift) for shift in examination.shifts() if shift != "given"}
    named["poses of other images"] = Hypothesis(pose="permuted")
    rows = [_measure(name, examination.read(hypothesis), reference) for name, hypothesis in named.items()]
    return (rows[0], _measure("structure not moved to its best place", given, reference), *rows[1:])


def _examine_ctf(
    comparison: Comparison, best: Reading
) -> tuple[tuple[Measurement, ...], tuple[str, ...], dict[str, float], tuple[str, ...]]:
    """Measure other CTFs and pixel sizes with everything else as found; name what is wrong, and what stays open."""
    examination = Examination(comparison)

    def read(**changes) -> Reading:
        return examination.read(replace(best.hypothesis, **changes), best.position)

    table = comparison.table
    reference = read()
    told = np.unique(table.voltage_kv)
    others = {"flipped": read(ctf="flipped"), "phase": read(ctf="phase", value=math.pi / 2)}
    if np.sqrt(np.mean((table.defocus_u - table.defocus_v) ** 2)) >= _LEAST_ASTIGMATISM_A:
        others["swapped"] = read(ctf="swapped")
    voltages = [read(ctf="voltage", value=kv) for kv in _VOLTAGES_KV if not (len(told) == 1 and kv == told[0])]
    voltage = max(voltages, key=lambda reading: reading.mean)
    defocus = _best_defocus(read)
    pixel = read(pixel_factor=defocus.hypothesis.value**-0.5)
    names = {
        "U and V exchanged": others.get("swapped"),
        "phase plate of 90° more": others["phase"],
        "images already phase-flipped": others["flipped"],
        f"voltage {voltage.hypothesis.value:g} kV": voltage,
        f"defocus × {defocus.hypothesis.value:.3f}": defocus,
        f"pixel size × {pixel.hypothesis.pixel_factor:.3f}": pixel,
        "pixel size × 0.95": read(pixel_factor=0.95),
        "pixel size × 1.05": read(pixel_factor=1.05),
    }
    rows = [_measure("as found so far", reference, reference)]
    rows += [_measure(name, reading, reference) for name, reading in names.items() if reading is not None]
    fault, values = _ctf_fault(reference, others, voltage, defocus, pixel)
    return tuple(rows), (fault,) if fault else (), values, _open_ctfs(reference, others, defocus) if not fault else ()


def _open_ctfs(reference: Reading, others: dict[str, Reading], defocus: Reading) -> tuple[str, ...]:
    """Readings of the CTF about which more images could say more."""
    swapped = others.get("swapped")
    found = {
        "swapped": swapped is not None and abs(standard_errors(reference.nats, swapped.nats)) < SIGNIFICANT,
        "defocus": abs(defocus.hypothesis.value - 1) > _DEFOCUS_TOLERANCE
        and standard_errors(defocus.nats, reference.nats) > _SUSPICIOUS,
    }
    return tuple(name for name, is_open in found.items() if is_open)


def _best_defocus(read) -> Reading:
    """The best common factor on all defocus values, scanned and then refined by two parabolas."""
    scan = {1.0: read(ctf="defocus", value=1.0)} | {f: read(ctf="defocus", value=f) for f in _DEFOCUS_FACTORS}
    for _ in range(2):
        factors = sorted(scan)
        at = max(factors, key=lambda factor: scan[factor].mean)
        place = factors.index(at)
        if not 0 < place < len(factors) - 1:
            break
        around = np.array(factors[place - 1 : place + 2])
        curve = np.polyfit(around - at, [scan[factor].mean for factor in around], 2)
        if curve[0] >= 0:
            break
        vertex = float(np.clip(at - 0.5 * curve[1] / curve[0], around[0], around[2]))
        if vertex not in scan:
            scan[vertex] = read(ctf="defocus", value=vertex)
    return max(scan.values(), key=lambda reading: reading.mean)


def _ctf_fault(
    reference: Reading, others: dict[str, Reading], voltage: Reading, defocus: Reading, pixel: Reading
) -> tuple[str | None, dict[str, float]]:
    """Name the CTF's fault, if another one wins clearly.

    A common factor on the phase of all CTFs is what a wrong voltage, a wrong pixel size and wrong defocus values all
    look like. The voltage is named if it explains the images as well as any factor; else the pixel size, unless the
    molecule's size speaks clearly against it.
    """
    factor = defocus.hypothesis.value
    if abs(factor - 1) > _DEFOCUS_TOLERANCE:
        others = {**others, "defocus": defocus}
    others = {**others, "voltage": voltage}
    name = max(others, key=lambda key: others[key].mean)
    winner = others[name]
    least = _LEAST_CTF_GAIN * reference.mean
    if standard_errors(winner.nats, reference.nats) < SIGNIFICANT or winner.mean - reference.mean < least:
        return None, {}
    if name not in ("defocus", "voltage"):
        return {"swapped": "U and V", "phase": "phase plate", "flipped": "phase-flipped"}[name], {}
    close = winner.mean - voltage.mean < 0.1 * (winner.mean - reference.mean)
    if close and standard_errors(voltage.nats, reference.nats) >= SIGNIFICANT:
        return "voltage", {"voltage": voltage.hypothesis.value}
    error = abs(pixel.hypothesis.pixel_factor - 1)
    if error <= _LARGEST_PIXEL_ERROR and pixel.mean > (1 - _SIZE_TOLERANCE) * defocus.mean:
        return "pixel size", {"pixel_factor": pixel.hypothesis.pixel_factor, "defocus_factor": factor}
    return "defocus", {"defocus_factor": factor}
