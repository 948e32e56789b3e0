"""Check the inputs of a configuration before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryosphere.config import Config
from cryosphere.config_files import parse_config, read_config
from cryosphere.errors import ConfigError
from cryosphere.io.atomic import atomic_output, check_output
from cryosphere.particles.dataset import ParticleImages
from cryosphere.preflight.comparison import Comparison
from cryosphere.preflight.diagnosis import COARSE_A, Diagnosis, Measurement, diagnose
from cryosphere.preflight.facts import Fact, describe_grey_values, describe_inputs
from cryosphere.preflight.resources import Resources
from cryosphere.preflight.sample import measure_grey_values, spread_sample
from cryosphere.preflight.verdicts import Verdict, notes, verdicts
from cryosphere.records import ParticleTable, Structure
from cryosphere.structure.sites import scattering_centres
from cryosphere.training.train import load_inputs

# Images that are compared, at first and where those leave something open.
_FEW, _MANY = 200, 1000
# Å around the structure that still count as particle, not as background.
_MARGIN_A = 10.0


@dataclass(frozen=True)
class CheckReport:
    """What was found.

    Attributes
    ----------
    facts : tuple of Fact
        What the inputs hold, and what a run takes.
    diagnosis : Diagnosis or None
        The comparison with the structure; None if no sampled image can be used.
    verdicts : tuple of Verdict
        Faults in words; none if all is well.
    notes : tuple of str
        What else the user should know.
    picture : Path or None
        The picture that was written.
    """

    facts: tuple[Fact, ...]
    diagnosis: Diagnosis | None
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    picture: Path | None = None

    @property
    def is_fine(self) -> bool:
        """Whether no fault was found."""
        return not self.verdicts

    def lines(self) -> list[str]:
        """The report as text."""
        width = max(len(fact.name) for fact in self.facts)
        lines = [f"{fact.name:<{width}}  {fact.text}" for fact in self.facts]
        if self.diagnosis is not None:
            lines += ["", *_table(self.diagnosis)]
        lines += ["", *(f"Note: {note}" for note in self.notes)]
        lines += [f"Fault: {verdict}" for verdict in self.verdicts]
        if self.is_fine:
            undecided = self.diagnosis is None or self.diagnosis.undecided
            lines.append("No fault found." if not undecided else "No fault found, as far as these images can tell.")
        if self.picture is not None:
            lines.append(f"Picture: {self.picture}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The report for other programs."""
        found: dict[str, Any] = {
            "fine": self.is_fine,
            "faults": [vars(verdict) for verdict in self.verdicts],
            "notes": list(self.notes),
            "facts": {fact.name: fact.values for fact in self.facts},
            "picture": None if self.picture is None else str(self.picture),
        }
        if self.diagnosis is not None:
            d = self.diagnosis
            found["comparison"] = {
                "n_images": d.n_images,
                "resolution": list(d.resolution),
                "agreement": d.agreement,
                "match": d.match,
                "expected_match": d.expected_match,
                "hand": d.hand,
                "offset": (d.best.position - d.centre).tolist(),
                "undecided": list(d.undecided),
                "tested": [vars(measurement) for measurement in (*d.coarse, *d.fine)],
            }
        return json.loads(json.dumps(found))


def check(
    config: Config | Path | str | dict,
    picture: Path | str | None = None,
    *,
    overwrite: bool = False,
) -> CheckReport:
    """Read every input, compare the structure with sampled images, and say what is wrong.

    Parameters
    ----------
    config : Config, path of a YAML file, or mapping of sections
        Paths in a mapping are relative to the current folder.
    picture : path, optional
        PNG of particles averaged by view beside the structure's projections.
    overwrite : bool
        Whether an earlier picture may be replaced.

    Raises
    ------
    InputError, ConfigError
        An input cannot be read, or the picture is there already.
    """
    if isinstance(config, dict):
        config = parse_config(config, Path.cwd())
    elif not isinstance(config, Config):
        config = read_config(Path(config))
    if picture is not None:
        check_output(picture, overwrite=overwrite)
    table, structure = load_inputs(config)
    resources = Resources.of(config, table, structure)
    grey, usable = measure_grey_values(table, spread_sample(table.n_particles, _FEW))
    facts = [*describe_inputs(table, structure), describe_grey_values(grey), *resources.facts()]
    if len(usable) == 0:
        row = grey.first_unusable
        sentence = (
            f"None of {grey.n_images} sampled images is usable (the first: row {row}, from 0): constant or not finite."
        )
        fault = Verdict("images", sentence, "Extract the particles again.", fatal=True)
        return CheckReport(tuple(facts), None, (fault, *resources.verdicts()), (*table.notes, *structure.notes))
    diagnosis, comparison = _compare(config, table, structure, (_FEW, _MANY))
    inverted = config.particles.invert
    found = [*verdicts(diagnosis, table, structure, inverted), *resources.verdicts()]
    if picture is not None:
        from cryosphere.preflight.picture import draw

        with atomic_output(picture, overwrite=overwrite) as temporary:
            draw(temporary, comparison, diagnosis)
    said = (*table.notes, *structure.notes, *_grey_notes(grey), *notes(diagnosis, inverted))
    return CheckReport(tuple(facts), diagnosis, tuple(found), said, None if picture is None else Path(picture))


def quick_check(
    config: Config,
    table: ParticleTable,
    structure: Structure,
    say: Callable[[str], None],
    *,
    run_folder: Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Before training: say what it takes of memory and disk, compare 200 images with the structure and say what is
    wrong, refuse what is certainly pointless or does not fit.

    Parameters
    ----------
    config : Config
    table : ParticleTable
    structure : Structure
        In the model frame.
    say : callable
        Receives each sentence meant for the user.
    run_folder : Path, optional
        Where the run will be written; by default the current folder.
    device : str, optional
        In place of ``training.device``.

    Returns
    -------
    dict
        What was found, as of :meth:`CheckReport.as_dict`, to be kept with the run.

    Raises
    ------
    ConfigError
        Memory or disk do not suffice, or the images have the other sign than declared, poses of the other hand or
        inverse ones, or none that match: certainly, not perhaps.
    """
    resources = Resources.of(config, table, structure, run_folder, device)
    say(resources.sentence())
    _tell(resources.verdicts(), say)
    _, usable = measure_grey_values(table, spread_sample(table.n_particles, _FEW))
    if len(usable) == 0:
        fault = Verdict("images", "No sampled image is finite and not constant.", "Extract the particles again.")
        _tell([fault], say)
        return CheckReport((), None, (*resources.verdicts(), fault), ()).as_dict()
    diagnosis, _ = _compare(config, table, structure, (_FEW,))
    inverted = config.particles.invert
    said, found = notes(diagnosis, inverted), verdicts(diagnosis, table, structure, inverted)
    for sentence in said:
        say(sentence)
    _tell(found, say)
    return CheckReport((), diagnosis, (*resources.verdicts(), *found), tuple(said)).as_dict()


def _tell(found: list[Verdict], say: Callable[[str], None]) -> None:
    """Refuse the first fatal fault (ConfigError); warn of the others."""
    for verdict in found:
        if verdict.fatal:
            raise ConfigError(f"{verdict} (`cryosphere check` shows more; --no-check trains all the same.)")
    for verdict in found:
        say(f"WARNING: {verdict} (`cryosphere check` shows more.)")


def _compare(
    config: Config, table: ParticleTable, structure: Structure, counts: tuple[int, ...]
) -> tuple[Diagnosis, Comparison]:
    """Compare as many images as it takes."""
    at_centroid = config.structure.gaussian_at == "centroid"
    sites = scattering_centres(structure) if at_centroid else np.array(structure.residue_positions)
    centre = np.average(sites, axis=0, weights=structure.amplitudes)
    radius = float(np.linalg.norm(sites - centre, axis=1).max()) + _MARGIN_A
    for count in counts:
        _, usable = measure_grey_values(table, spread_sample(table.n_particles, count))
        sampled = table.take(usable)
        images = ParticleImages(sampled, radius, config.particles.invert)
        comparison = Comparison(sampled, images, structure, sites, COARSE_A)
        diagnosis = diagnose(comparison)
        if diagnosis.decided or count >= table.n_particles:
            break
    return diagnosis, comparison


def _grey_notes(grey) -> list[str]:
    found = []
    if grey.n_unusable:
        found.append(
            f"{grey.n_unusable} of {grey.n_images} sampled images are constant or not finite (the first is row "
            f"{grey.first_unusable}, from 0); leave them out."
        )
    return found


def _table(diagnosis: Diagnosis) -> list[str]:
    """What was tested, in columns."""
    coarse, fine = diagnosis.resolution
    lines = [
        f"Compared with the structure: {diagnosis.n_images} images; log-likelihood of each against pure noise.",
        f"{f'to {coarse:.1f} Å':<42}{'nats/image':>11}{'vs as given':>13}{'±':>7}",
        *map(_row, diagnosis.coarse),
    ]
    if diagnosis.fine:
        lines += [f"{f'to {fine:.1f} Å':<42}{'nats/image':>11}{'vs so far':>13}{'±':>7}", *map(_row, diagnosis.fine)]
    return lines


def _row(measurement: Measurement) -> str:
    mark = "  better" if measurement.standard_errors > 5 and measurement.difference > 0.003 * measurement.nats else ""
    return (
        f"  {measurement.name:<40}{measurement.nats:11.2f}{measurement.difference:+13.2f}"
        f"{measurement.standard_error:7.2f}{mark}"
    )
