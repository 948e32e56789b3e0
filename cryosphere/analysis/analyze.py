"""One call from a run folder to tables and pictures of its ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from cryosphere.analysis import latent as latent_space
from cryosphere.analysis import tables
from cryosphere.analysis.latent import Conformers, PrincipalComponents
from cryosphere.analysis.motions import SegmentMotion, measure_motions
from cryosphere.inference.ensemble import hard_segments
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.io.folders import atomic_folder
from cryosphere.io.structures import write_models
from cryosphere.runs.run import Run
from cryosphere.runs.tables import read_metrics

_MARKER = "pca.csv"
_DEFAULT_CLUSTERS = 5
# Segments are superposed in no more conformations than this.
_TRACKED = 20_000
# Traversals are written for components with at least this share of the variance, at most so many.
_LEAST_SHARE, _MOST_TRAVERSALS = 0.01, 3


@dataclass(frozen=True)
class Analysis:
    """What an analysis found; the files are in ``folder``.

    Attributes
    ----------
    folder : Path
    components : PrincipalComponents
    traversals : tuple of Conformers
        Along the first components that matter.
    clusters : Conformers
        k-means conformations.
    rmsf : array of shape (residue,)
        Å, over E[x | image] of all particles, without superposition.
    motions : tuple of SegmentMotion
    """

    folder: Path
    components: PrincipalComponents
    traversals: tuple[Conformers, ...]
    clusters: Conformers
    rmsf: Float[np.ndarray, " residue"]
    motions: tuple[SegmentMotion, ...]

    @property
    def files(self) -> list[Path]:
        """Every table, picture and structure, by name."""
        return sorted(self.folder.iterdir())

    def lines(self) -> list[str]:
        """What was found, for people."""
        explained = enumerate(self.components.explained[:4], start=1)
        shares = ", ".join(f"PC{number} {100 * share:.0f} %" for number, share in explained)
        lines = [
            f"Latent space: {shares} of the variance.",
            f"RMSF over the ensemble: mean {self.rmsf.mean():.2f} Å, largest {self.rmsf.max():.2f} Å.",
        ]
        for number, motion in enumerate(self.motions, start=1):
            if motion.n_residues:
                lines.append(
                    f"Segment {number} ({motion.n_residues} residues): turns {_number(motion.angle_range_deg)}° and "
                    f"shifts {_number(motion.translation_range)} Å (5th to 95th percentile)."
                )
        return lines


def _number(value: float) -> str:
    return "?" if np.isnan(value) else f"{value:.1f}"


def analyze(
    run: Run | Path | str,
    overwrite: bool = False,
    n_points: int = 10,
    n_clusters: int | None = None,
    show_progress: bool = False,
) -> Analysis:
    """Write tables and pictures of a run's ensemble into its folder ``analysis``.

    Parameters
    ----------
    run : Run or path of a run folder
        Its posterior is computed first if it has none.
    overwrite : bool
        Whether an earlier analysis may be replaced.
    n_points : int
        Points of a traversal, at least 2.
    n_clusters : int, optional
        k-means conformations; by default 5, or fewer where there are not so many distinct particles.
    show_progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        There is an analysis already, or a number is out of range.
    """
    run = ensure_posterior(run if isinstance(run, Run) else Run.load(run), progress=show_progress)
    with atomic_folder(run.layout.analysis, marker=_MARKER, overwrite=overwrite) as folder:
        means = run.posterior.mean.astype(np.float64)
        components = latent_space.principal_components(means)
        n_traversals = max(1, int((components.explained[:_MOST_TRAVERSALS] >= _LEAST_SHARE).sum()))
        traversals = tuple(latent_space.traverse(means, components, i, n_points) for i in range(n_traversals))
        if n_clusters is None:
            n_clusters = min(_DEFAULT_CLUSTERS, len(np.unique(means, axis=0)))
        clusters = latent_space.kmeans(means, n_clusters)
        weights = run.segment_weights()
        labels = hard_segments(weights)
        rmsf, motions = _ensemble_motions(run, labels, show_progress)
        result = Analysis(run.layout.analysis, components, traversals, clusters, rmsf, motions)
        _write_tables(folder, run, result, labels, weights)
        _write_structures(folder, run, result)
        _write_pictures(folder, run, result, labels, weights)
    return result


def _ensemble_motions(
    run: Run, labels: Int[np.ndarray, " residue"], show_progress: bool
) -> tuple[Float[np.ndarray, " residue"], tuple[SegmentMotion, ...]]:
    n_particles = len(run.posterior.index)
    with tqdm(total=n_particles, desc="ensemble", unit="particle", disable=not show_progress) as bar:

        def batches():
            for rows, positions in run.expected_coordinates():
                yield rows, positions
                bar.update(len(rows))

        meter, motions = measure_motions(
            batches(),
            run.structure.residue_positions,
            labels,
            len(run.segment_names),
            track_every=-(-n_particles // _TRACKED),
        )
    return meter.rmsf, tuple(motions)


def _write_tables(
    folder: Path,
    run: Run,
    result: Analysis,
    labels: Int[np.ndarray, " residue"],
    weights: Float[np.ndarray, "residue segment"],
) -> None:
    posterior, structure = run.posterior, run.structure
    scores = result.components.scores(posterior.mean.astype(np.float64))
    tables.write_latents(folder / "latent.csv", run.table, posterior, scores, result.clusters.membership)
    tables.write_components(folder / _MARKER, result.components)
    tables.write_fluctuations(folder / "rmsf.csv", structure, labels, weights, result.rmsf)
    tables.write_segments(folder / "segments.csv", structure, run.segment_names, labels, result.motions, result.rmsf)
    tables.write_conformers(folder / "kmeans.csv", posterior, result.clusters)
    for number, traversal in enumerate(result.traversals, start=1):
        tables.write_conformers(folder / f"traversal_pc{number}.csv", posterior, traversal)


def _write_structures(folder: Path, run: Run, result: Analysis) -> None:
    """Traversals and k-means conformations as multi-model mmCIF files (Cα, C1′), decoded at posterior means."""
    chosen = {f"traversal_pc{i}": traversal for i, traversal in enumerate(result.traversals, start=1)}
    for name, conformers in {**chosen, "kmeans": result.clusters}.items():
        particles = run.posterior.index[conformers.rows]
        write_models(
            folder / f"{name}.cif",
            run.structure,
            run.decode(conformers.latent),
            what="residues",
            model_names=[f"particle {particle}" for particle in particles],
            populations=conformers.populations,
        )


def _write_pictures(
    folder: Path,
    run: Run,
    result: Analysis,
    labels: Int[np.ndarray, " residue"],
    weights: Float[np.ndarray, "residue segment"],
) -> None:
    from cryosphere.analysis import plots

    scores = result.components.scores(run.posterior.mean.astype(np.float64))
    plots.plot_latent(folder / "latent.png", scores, result.components, result.traversals)
    plots.plot_fluctuations(folder / "rmsf.png", run.structure, labels, result.rmsf)
    plots.plot_segments(folder / "segments.png", run.structure, weights)
    plots.plot_motions(folder / "motions.png", result.motions)
    records = read_metrics(run.layout.metrics)
    if records:
        plots.plot_training(folder / "training.png", records)
