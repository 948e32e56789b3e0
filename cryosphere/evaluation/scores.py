"""The record of scores, as JSON and as a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Scores:
    """Scores of a run against known truth; Å unless the name says otherwise, ``None`` where not applicable.

    Attributes
    ----------
    n_particles, n_states, n_residues : int
    rmsd : dict
        ``mean``, ``median`` and ``percentile_95`` over images of the RMSD of E[x | image] from the truth; then the
        means for the ``nominal`` structure and for ``best_single``, the mean of the truth; ``ratio_to_best_single``
        (None if the truth does not move); ``predicted_to_nominal``, mean RMSD of E[x | image] from the nominal
        structure.
    fsc_auc : dict
        ``mean``, ``std``, ``median`` over ``n_images`` images, ``maximum`` for this box, the means for ``nominal`` and
        ``best_single``, and ``truth_volumes``, which says what the true volumes are.
    ensemble : dict
        ``sac``, ``coverage`` of decoded conformations; ``lfc`` of the RMSF, and the mean RMSF of both.
    populations : dict
        ``kl`` (nats), ``earth_movers_distance`` (Å), and for up to 4 states ``largest_error_points``, the largest
        error of a population in percentage points, from posterior samples.
    segments : dict
        ``ari``, ``n_segments``, ``n_bodies_found``, ``n_bodies_true``.
    geometry : dict
        ``changed_bonds_percent``, ``clashes_per_1000``: means over decoded conformations; the same of the nominal
        structure (``..._before``) and of the truth (``..._truth``).
    calibration : dict or None
        As ``calibration.sampled_scores`` has it; None if the truth does not move.
    notes : tuple of str
        What the reader of the scores should know.
    """

    n_particles: int
    n_states: int
    n_residues: int
    rmsd: dict[str, float | None]
    fsc_auc: dict[str, Any]
    ensemble: dict[str, float]
    populations: dict[str, float | None]
    segments: dict[str, Any]
    geometry: dict[str, float]
    calibration: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def table(self) -> str:
        """Scores in lines for people, the nominal structure and the mean of the truth beside the run."""
        rmsd, fsc, geometry = self.rmsd, self.fsc_auc, self.geometry
        title = f"{self.n_particles} images, {self.n_states} true states, {self.n_residues} residues"
        fsc_label = f"FSC area, mean of {fsc['n_images']} images (max {fsc['maximum']:.4f})"
        emd, ari = self.populations["earth_movers_distance"], self.segments["ari"]
        points = self.populations["largest_error_points"]
        rows = [
            (title, "run", "nominal", "mean"),
            ("RMSD per image, mean (Å)", *_row(rmsd, "mean", "{:.2f}")),
            ("RMSD per image, median (Å)", f"{rmsd['median']:.2f}"),
            ("  mean relative to the best single structure", _or_dash(rmsd["ratio_to_best_single"], "{:.2f}")),
            ("RMSD of the run's structures from the nominal, mean (Å)", f"{rmsd['predicted_to_nominal']:.2f}"),
            *_calibration_rows(self.calibration),
            (fsc_label, *_row(fsc, "mean", "{:.4f}")),
            ("FSC area, standard deviation", f"{fsc['std']:.4f}"),
            ("FSC area, median", f"{fsc['median']:.4f}"),
            ("SAC (Å)", f"{self.ensemble['sac']:.2f}"),
            ("coverage (Å)", f"{self.ensemble['coverage']:.2f}"),
            ("LFC (Å)", f"{self.ensemble['lfc']:.2f}", f"{self.ensemble['rmsf_true']:.2f}"),
            ("populations: KL (nats)", f"{self.populations['kl']:.3f}"),
            ("populations: earth mover's distance (Å)", _or_dash(emd, "{:.2f}")),
            ("populations: largest error (percentage points)", _or_dash(points, "{:.1f}")),
            ("segments: adjusted Rand index", _or_dash(ari, "{:.3f}")),
            ("Cα-Cα distances changed by > 0.4 Å (%)", *_before(geometry, "changed_bonds_percent")),
            ("clashes per 1000 residues", *_before(geometry, "clashes_per_1000")),
        ]
        rows = [(*row, *[""] * (4 - len(row))) for row in rows]
        width = max(len(row[0]) for row in rows)
        columns = [max(len(row[i]) for row in rows) for i in (1, 2, 3)]
        lines = [
            f"{label:<{width}}" + "".join(f"  {cell:>{size}}" for cell, size in zip(cells, columns, strict=True))
            for label, *cells in rows
        ]
        explanations = [
            "run: this run; nominal: the nominal structure for every image; mean: the mean of the truth, the best "
            "single structure.",
            f"True volumes: {fsc['truth_volumes']}.",
            *self.notes,
        ]
        return "\n".join([*(line.rstrip() for line in lines), *explanations])


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _calibration_rows(calibration: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Share of images whose true place along the main motion lies in the posterior's intervals."""
    if calibration is None:
        return []
    label = "main motion: true place in the {0} % interval (%)"
    return [(label.format(p), f"{100 * calibration[f'share_inside_{p}']:.1f}") for p in (50, 90)]


def _row(values: dict[str, Any], key: str, form: str) -> tuple[str, str, str]:
    return tuple(form.format(values[name]) for name in (key, "nominal", "best_single"))


def _before(values: dict[str, float], key: str) -> tuple[str, str]:
    return f"{values[key]:.2f}", f"{values[key + '_before']:.2f}"
