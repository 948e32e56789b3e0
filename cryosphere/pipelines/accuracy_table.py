"""Measures of the accuracy benchmark's results, whether they meet the bars, and the table of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from cryosphere.pipelines.accuracy_cells import Bar, Cell

# Clashes may be this much more than the nominal structure's.
_CLASH_ALLOWANCE = 1.1
# Å; a ratio to a Bayes limit below this says nothing: nothing moves, or the images leave no doubt.
_LEAST_LIMIT_A = 0.1
# The size for which times have a bar.
_TIMED_SIZE = "small"


@dataclass(frozen=True)
class Measure:
    """How a measure is called, written, and which of several seeds is the worst."""

    label: str
    form: str = "{:.2f}"
    best: float = float("-inf")

    def worst(self, values: Iterable[float]) -> float:
        """The value farthest from the best one."""
        if self.best == float("inf"):
            return min(values)
        return max(values) if self.best == float("-inf") else max(values, key=lambda value: abs(value - self.best))

    def text(self, value: float | None) -> str:
        """The value as written, a dash for none."""
        return "–" if value is None else self.form.format(value)


MEASURES = {
    "rmsd": Measure("mean RMSD per image (Å)"),
    "limit": Measure("Bayes limit (Å)"),
    "ratio_to_limit": Measure("RMSD over the Bayes limit"),
    "ratio_to_best_single": Measure("RMSD over the best single structure's"),
    "ratio_to_clean": Measure("RMSD over that with right poses"),
    "rmsd_to_nominal": Measure("RMSD from the nominal structure (Å)"),
    "ari": Measure("segments: adjusted Rand index", best=float("inf")),
    "inside_50_percent": Measure("truth in the 50 % interval (%)", "{:.0f}", 50.0),
    "inside_90_percent": Measure("truth in the 90 % interval (%)", "{:.0f}", 90.0),
    "population_error_points": Measure("populations: largest error (points)", "{:.1f}"),
    "fsc_auc": Measure("FSC area", "{:.3f}", float("inf")),
    "changed_bonds_percent": Measure("Cα-Cα distances changed by > 0.4 Å (%)"),
    "clashes_beyond": Measure("clashes per 1000 residues beyond nominal + 10 %", "{:.1f}"),
    "minutes": Measure("minutes of training and inference", "{:.1f}"),
    "n_segments": Measure("segments", "{:.0f}"),
    "latent_dim": Measure("latent dimension", "{:.0f}"),
}
_COLUMNS = {
    "rmsd": "RMSD",
    "limit": "limit",
    "ratio_to_limit": "ratio",
    "ratio_to_best_single": "/single",
    "ari": "ARI",
    "inside_50_percent": "in 50",
    "inside_90_percent": "in 90",
    "population_error_points": "pop.",
    "fsc_auc": "FSC",
    "changed_bonds_percent": "bonds",
    "minutes": "min",
    "n_segments": "segm.",
    "latent_dim": "dim.",
}
# Columns in which the worst of several seeds stands beside the mean.
_WITH_WORST = ("rmsd", "ratio_to_limit")
# Columns of counts, of which the range over seeds is shown.
_COUNTS = ("n_segments", "latent_dim")
_WIDTH = 110
_LEGEND = (
    "RMSD: per image, E[x | image] to the truth, Cα, no superposition, Å; limit: the Bayes limit of the set; ratio: "
    "RMSD over it, on the same images; /single: RMSD over that of the best single structure.",
    "ARI: segments against the true bodies; in 50, in 90: images (%) whose true place along the main motion lies in "
    "their posterior's 50 % and 90 % interval; pop.: largest error of a population, points.",
    "bonds: Cα-Cα distances changed by over 0.4 Å, %; min: minutes of training and inference; segm., dim.: segments "
    "and latent dimension of the run. Mean over seeds, the worst in brackets, or the range.",
)


@dataclass(frozen=True)
class Verdict:
    """A bar, the values of all seeds, and whether it is met (None: not measured)."""

    cell: str
    bar: Bar
    values: tuple[float, ...]
    met: bool | None


def measure(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Take the measures of one run from its result (``minutes``, ``limit``, ``scores`` …); None where there is none."""
    scores, limit = result["scores"], result["limit"]
    rmsd, geometry, calibration = scores["rmsd"], scores["geometry"], scores["calibration"]
    return {
        "rmsd": rmsd["mean"],
        "limit": limit["mean"],
        "ratio_to_limit": limit["rmsd_of_same_images"] / limit["mean"] if limit["mean"] > _LEAST_LIMIT_A else None,
        "ratio_to_best_single": rmsd["ratio_to_best_single"],
        "rmsd_to_nominal": rmsd["predicted_to_nominal"],
        "ari": scores["segments"]["ari"],
        "inside_50_percent": None if calibration is None else 100 * calibration["share_inside_50"],
        "inside_90_percent": None if calibration is None else 100 * calibration["share_inside_90"],
        "population_error_points": scores["populations"]["largest_error_points"],
        "fsc_auc": scores["fsc_auc"]["mean"],
        "changed_bonds_percent": geometry["changed_bonds_percent"],
        "clashes_beyond": geometry["clashes_per_1000"] - _CLASH_ALLOWANCE * geometry["clashes_per_1000_before"],
        "minutes": result["minutes"],
        "n_segments": result["n_segments"],
        "latent_dim": result["latent_dim"],
    }


def judge(results: list[dict[str, Any]], cells: Mapping[str, Cell]) -> list[Verdict]:
    """Compare the results of cells with their bars; every seed has to meet them. Times count for small sets only."""
    by_name = {result["name"]: result for result in results}
    verdicts = []
    for result in results:
        cell = cells[result["name"]]
        for bar in cell.bars:
            if bar.measure == "minutes" and result["size"] != _TIMED_SIZE:
                continue
            if bar.measure == "ratio_to_clean":
                values = _ratios_to_clean(result, by_name.get(cell.clean))
            else:
                values = [seed["measures"][bar.measure] for seed in result["seeds"]]
            known = tuple(value for value in values if value is not None)
            complete = len(known) == len(result["seeds"]) > 0
            verdicts.append(Verdict(cell.name, bar, known, bar.is_met(list(known)) if complete else None))
    return verdicts


def _ratios_to_clean(result: dict[str, Any], clean: dict[str, Any] | None) -> list[float]:
    """RMSD over that of the same seed in another cell."""
    reference = {seed["seed"]: seed["measures"]["rmsd"] for seed in (clean or {"seeds": []})["seeds"]}
    return [seed["measures"]["rmsd"] / reference[seed["seed"]] for seed in result["seeds"] if seed["seed"] in reference]


def as_records(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Verdicts as plain values for JSON."""
    return [
        {
            "cell": verdict.cell,
            "measure": verdict.bar.measure,
            "label": MEASURES[verdict.bar.measure].label,
            "low": verdict.bar.low,
            "high": verdict.bar.high,
            "values": list(verdict.values),
            "met": verdict.met,
        }
        for verdict in verdicts
    ]


def write_table(results: list[dict[str, Any]], verdicts: list[Verdict]) -> str:
    """Write the measures of all cells, and below them which bars each cell meets."""
    rows = [["", *_COLUMNS.values()]]
    for result in results:
        rows.append(_row(result["name"], result["seeds"]))
        if result["paper"] is not None:
            rows.append(_row("  paper's preset", [result["paper"]]))
    titles = [[result["name"], f"{result['title']}; SNR {result['snr']:g}{_seeds(result)}"] for result in results]
    n_met, n_missed = (sum(verdict.met is answer for verdict in verdicts) for answer in (True, False))
    total = f"{n_met} of {n_met + n_missed} measured bars met; values are those of the worst seed"
    legend = "\n".join(fill(line, _WIDTH) for line in _LEGEND)
    blocks = [_align(rows), legend, _align(titles, left=(0, 1)), _write_bars(verdicts), total]
    return "\n\n".join(blocks)


def _write_bars(verdicts: list[Verdict]) -> str:
    """One paragraph per measure and what is asked of it: the cells that meet it and those that do not."""
    order, lines = list(MEASURES), []
    by_measure = sorted(verdicts, key=lambda verdict: order.index(verdict.bar.measure))
    for label, asked in dict.fromkeys((_label(verdict), verdict.bar.text()) for verdict in by_measure):
        lines.append(f"{label}: {asked}")
        same = [verdict for verdict in verdicts if (_label(verdict), verdict.bar.text()) == (label, asked)]
        for answer, word in ((True, "met"), (False, "not met"), (None, "not measured")):
            cells = ", ".join(_cell_and_value(verdict) for verdict in same if verdict.met is answer)
            if cells:
                lines.append(fill(cells, _WIDTH, initial_indent=f"    {word:<14}", subsequent_indent=" " * 18))
    return "\n".join(lines)


def _label(verdict: Verdict) -> str:
    return MEASURES[verdict.bar.measure].label


def _cell_and_value(verdict: Verdict) -> str:
    """Cell and the value of its worst seed, kept together when lines are broken."""
    about = MEASURES[verdict.bar.measure]
    if not verdict.values:
        return verdict.cell
    return f"{verdict.cell}\N{NO-BREAK SPACE}{about.text(about.worst(verdict.values))}"


def _seeds(result: dict[str, Any]) -> str:
    count = len(result["seeds"])
    return f", {count} seeds" if count > 1 else ""


def _row(name: str, seeds: list[dict[str, Any]]) -> list[str]:
    return [name, *(_summary(key, [seed["measures"][key] for seed in seeds]) for key in _COLUMNS)]


def _summary(key: str, values: list[float | None]) -> str:
    """Mean over seeds; for the main measures also the worst of several, in brackets; the range of counts."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    about = MEASURES[key]
    if key in _COUNTS and min(known) < max(known):
        return f"{about.text(min(known))}–{about.text(max(known))}"
    mean = about.text(sum(known) / len(known))
    return f"{mean} ({about.text(about.worst(known))})" if len(known) > 1 and key in _WITH_WORST else mean


def _align(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            f"{cell:<{width}}" if i in left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
