"""One call from a run and a truth folder to scores."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from cryosphere.errors import InputError
from cryosphere.evaluation import metrics
from cryosphere.evaluation.bodies import body_agreement, merge_segments
from cryosphere.evaluation.calibration import sampled_scores
from cryosphere.evaluation.scores import Scores
from cryosphere.evaluation.volumes import score_volumes
from cryosphere.inference.ensemble import FluctuationMeter, hard_segments, pairwise_rmsd, spread_rows
from cryosphere.inference.nearest import nearest_conformations
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.io.folders import atomic_folder
from cryosphere.runs.run import Run
from cryosphere.simulation.frames import rmsd as frame_rmsd
from cryosphere.simulation.frames import superposition
from cryosphere.simulation.truth import COORDINATES, STATE, Truth, read_truth

SCORES, PER_IMAGE = "scores.json", "per_image.csv"
# Decoded conformations, evenly spread over the particles, for ensemble and geometry scores; fewer for merging segments.
_N_MODELS, _N_MERGING = 500, 50
# Linear programs with more states than this take too long.
_MOST_STATES_MOVED = 100
# Å; a set whose best single structure is nearer than this to the truth does not move.
_NO_MOTION_A = 1e-3
# The frames are said to differ if superposition lowers the RMSD to this share, and by this much (Å).
_FRAME_SHARE, _FRAME_A = 0.5, 3.0


@dataclass(frozen=True)
class _ImageErrors:
    """Per image: RMSD of the prediction from truth and nominal, nearest true state; and the predicted RMSF."""

    rmsd: Float[np.ndarray, " image"]
    from_nominal: Float[np.ndarray, " image"]
    nearest_state: Int[np.ndarray, " image"]
    rmsf: Float[np.ndarray, " residue"]


def evaluate(
    run: Run | Path | str,
    truth_folder: Path | str,
    overwrite: bool = False,
    n_volumes: int = 100,
    show_progress: bool = False,
) -> Scores:
    """Score a run against known truth, and write ``scores.json`` and ``per_image.csv`` into its folder ``evaluation``.

    Parameters
    ----------
    run : Run or path of a run folder
        Its posterior is computed first if it has none.
    truth_folder : path
        As ``simulate`` writes it, whoever wrote it.
    overwrite : bool
        Whether earlier scores may be replaced.
    n_volumes : int
        Images, evenly spread, whose volumes are compared.
    show_progress : bool
        Show progress bars on stderr.

    Raises
    ------
    InputError
        The truth folder is incomplete or belongs to other inputs, or there are scores already.
    """
    run = ensure_posterior(run if isinstance(run, Run) else Run.load(run), progress=show_progress)
    truth = read_truth(Path(truth_folder))
    _check_fit(run, truth, Path(truth_folder))
    with atomic_folder(run.layout.evaluation, marker=SCORES, overwrite=overwrite) as folder:
        errors = _image_errors(run, truth, show_progress)
        scores = _scores(run, truth, errors, n_volumes, show_progress)
        text = json.dumps(scores.as_dict(), indent=2, ensure_ascii=False)
        (folder / SCORES).write_text(text + "\n", encoding="utf-8")
        _write_per_image(folder / PER_IMAGE, run, truth, errors)
    return scores


def _check_fit(run: Run, truth: Truth, folder: Path) -> None:
    n_residues = truth.coordinates.shape[1]
    if n_residues != run.n_residues:
        raise InputError(
            f"{folder / COORDINATES} has {n_residues} residues, the run's nominal structure {run.structure.source} has "
            f"{run.n_residues}; give the truth of this run's particles, residues in the nominal structure's order."
        )
    if len(truth.state) != run.table.n_input_rows:
        raise InputError(
            f"{folder / STATE} has {len(truth.state)} particles, the run has {run.table.n_input_rows} in its particle "
            "file; give the truth of this run's particles, in the order of the particle file."
        )


def _image_errors(run: Run, truth: Truth, show_progress: bool) -> _ImageErrors:
    """Pass over E[x | image] of all particles, one batch at a time."""
    index = run.posterior.index
    meter = FluctuationMeter(run.structure.residue_positions)
    errors, moved, nearest = np.empty(len(index)), np.empty(len(index)), np.empty(len(index), dtype=np.int64)
    nominal = run.structure.residue_positions[None]
    with tqdm(total=len(index), desc="structures", unit="image", disable=not show_progress) as bar:
        for rows, positions in run.expected_coordinates():
            errors[rows] = metrics.per_image_rmsd(positions, truth.coordinates[truth.state[index[rows]]])
            moved[rows] = metrics.per_image_rmsd(positions, nominal)
            nearest[rows] = pairwise_rmsd(positions, truth.coordinates).argmin(1)
            meter.add(positions)
            bar.update(len(rows))
    return _ImageErrors(errors, moved, nearest, meter.rmsf)


def _scores(run: Run, truth: Truth, errors: _ImageErrors, n_volumes: int, show_progress: bool) -> Scores:
    n_states = len(truth.coordinates)
    population = np.bincount(truth.state[run.posterior.index], minlength=n_states) / len(run.posterior.index)
    mean_structure = np.einsum("s,sri->ri", population, truth.coordinates.astype(np.float64))
    chosen = spread_rows(len(run.posterior.index), _N_MODELS)
    models = np.concatenate([positions for _, _, positions in nearest_conformations(run, chosen)])
    calibration, largest_error = sampled_scores(run, truth)
    return Scores(
        n_particles=len(run.posterior.index),
        n_states=n_states,
        n_residues=run.n_residues,
        rmsd=_rmsd_scores(run, truth, errors, population, mean_structure),
        fsc_auc=score_volumes(run, truth, mean_structure, n_volumes, show_progress),
        ensemble=_ensemble_scores(truth, models, errors.rmsf, population, mean_structure),
        populations=_population_scores(truth, population, errors.nearest_state, largest_error),
        segments=_segment_scores(run, truth, models),
        geometry=_geometry_scores(run, truth, models),
        calibration=calibration,
        notes=_frame_notes(run, truth),
    )


def _rmsd_scores(run, truth, errors, population, mean_structure) -> dict[str, float | None]:
    rmsd = errors.rmsd

    def single(structure):
        return float(population @ metrics.per_image_rmsd(structure[None], truth.coordinates))

    best_single = single(mean_structure)
    return {
        "mean": float(rmsd.mean()),
        "median": float(np.median(rmsd)),
        "percentile_95": float(np.percentile(rmsd, 95)),
        "nominal": single(run.structure.residue_positions),
        "best_single": best_single,
        "ratio_to_best_single": float(rmsd.mean() / best_single) if best_single > _NO_MOTION_A else None,
        "predicted_to_nominal": float(errors.from_nominal.mean()),
    }


def _ensemble_scores(truth, models, rmsf, population, mean_structure) -> dict[str, float]:
    visited = population > 0
    pairwise = pairwise_rmsd(models, truth.coordinates[visited])
    squares = ((truth.coordinates - mean_structure) ** 2).sum(2)
    true_rmsf = np.sqrt(population @ squares)
    return {
        "sac": metrics.ensemble_accuracy(pairwise),
        "coverage": metrics.ensemble_coverage(pairwise),
        "lfc": metrics.local_flexibility(true_rmsf, rmsf),
        "rmsf_true": float(true_rmsf.mean()),
        "rmsf_predicted": float(rmsf.mean()),
        "n_models": len(models),
    }


def _population_scores(truth, population, nearest_state, largest_error) -> dict[str, float | None]:
    predicted = np.bincount(nearest_state, minlength=len(population)) / len(nearest_state)
    distance = None
    if len(population) <= _MOST_STATES_MOVED:
        between = pairwise_rmsd(truth.coordinates, truth.coordinates)
        distance = metrics.earth_movers_distance(population, predicted, between)
    return {
        "kl": metrics.population_divergence(population, predicted, len(nearest_state)),
        "earth_movers_distance": distance,
        "largest_error_points": largest_error,
    }


def _segment_scores(run, truth, models) -> dict[str, float | int | None]:
    some = models[spread_rows(len(models), _N_MERGING)]
    found = merge_segments(hard_segments(run.segment_weights()), run.structure.residue_positions, some)
    bodies = [body for body in truth.info.get("bodies") or [] if body]
    return {
        "ari": body_agreement(found, bodies) if bodies else None,
        "n_segments": len(run.segment_names),
        "n_bodies_found": int(found.max()) + 1,
        "n_bodies_true": len(bodies) or None,
    }


def _geometry_scores(run, truth, models) -> dict[str, float]:
    n_residues = run.structure.n_polymer_residues  # ligands touch residues without clashing
    nominal, bonded = run.structure.residue_positions[:n_residues], run.structure.bonded[: n_residues - 1]
    true_models = truth.coordinates[spread_rows(len(truth.coordinates), _N_MODELS)]
    result = {}
    for suffix, positions in (("", models), ("_before", nominal[None]), ("_truth", true_models)):
        positions = positions[:, :n_residues]
        changed = metrics.changed_bonds(positions, nominal, bonded)
        result[f"changed_bonds_percent{suffix}"] = float(100 * changed.mean())
        result[f"clashes_per_1000{suffix}"] = float(metrics.clashes_per_1000(positions, bonded).mean())
    return result


def _frame_notes(run: Run, truth: Truth) -> tuple[str, ...]:
    """Warn if the nominal structure lies elsewhere than the truth, which no training can mend."""
    nominal, states = run.structure.residue_positions, truth.coordinates.astype(np.float64)
    rotmat, translation = superposition(np.broadcast_to(nominal, states.shape), states)
    fitted = np.einsum("sij,rj->sri", rotmat, nominal) + translation[:, None]
    before, after = frame_rmsd(nominal[None], states).min(), frame_rmsd(fitted, states).min()
    if before - after < _FRAME_A or after > _FRAME_SHARE * before:
        return ()
    return (
        f"The nominal structure is {before:.1f} Å from the nearest true state, but {after:.1f} Å after superposition: "
        "check structure.origin, and that the truth folder has its origin at the box centre.",
    )


def read_per_image(run: Run) -> tuple[Int[np.ndarray, " image"], Float[np.ndarray, " image"]]:
    """Input rows of all scored images, and the RMSD (Å) of E[x | image] from the truth, as `evaluate` wrote them."""
    values = np.loadtxt(run.layout.evaluation / PER_IMAGE, delimiter=",", skiprows=1, usecols=(0, 3), ndmin=2)
    return values[:, 0].astype(np.int64), values[:, 1]


def _write_per_image(path: Path, run: Run, truth: Truth, errors: _ImageErrors) -> None:
    """Input row, true state, nearest state and RMSD of every image."""
    index = run.posterior.index
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["particle", "true_state", "nearest_state", "rmsd_angstrom"])
        columns = (index, truth.state[index], errors.nearest_state, errors.rmsd)
        writer.writerows((*row[:3], f"{row[3]:.4f}") for row in zip(*(c.tolist() for c in columns), strict=True))
