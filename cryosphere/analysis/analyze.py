"""One call from a run folder to tables and pictures of its ensemble."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryosphere.analysis import latent as latent_space
from cryosphere.analysis import tables
from cryosphere.analysis.columns import STORE, write_columns
from cryosphere.analysis.ensemble import Ensemble, Fluctuations, ParticleValues
from cryosphere.analysis.landscape import Landscape
from cryosphere.analysis.landscape_of_run import EasiestPath, landscape_axes, map_landscape, path_between
from cryosphere.analysis.latent import Conformers, PrincipalComponents
from cryosphere.analysis.motions import MotionName
from cryosphere.analysis.segments import SegmentMotion, segment_motions
from cryosphere.analysis.state_summary import States, summarise_states
from cryosphere.analysis.states import Clustering, check_clustering, divide
from cryosphere.errors import InputError
from cryosphere.inference.posterior import ensure_posterior
from cryosphere.io.folders import atomic_folder
from cryosphere.io.structures import write_models
from cryosphere.runs.run import Run
from cryosphere.runs.tables import read_metrics

_MARKER = "pca.csv"
# Traversals are written for components with at least this share of the variance, at most so many.
_LEAST_SHARE, _MOST_TRAVERSALS = 0.01, 3


@dataclass(frozen=True)
class Analysis:
    """What an analysis found; the files are in ``folder``.

    Attributes
    ----------
    folder : Path
    components : PrincipalComponents
        Of the posterior means.
    traversals : tuple of Conformers
        Along the first components that matter.
    ensemble : Ensemble
        Motions, modes and fluctuations.
    segments : tuple of SegmentMotion
    particles : ParticleValues
        Motions and modes of every particle, in the order of the posterior.
    states : States
    landscape : Landscape, optional
        None where nothing moves as a segment.
    path : EasiestPath, optional
        Between two states, or across the landscape.
    """

    folder: Path
    components: PrincipalComponents
    traversals: tuple[Conformers, ...]
    ensemble: Ensemble
    segments: tuple[SegmentMotion, ...]
    particles: ParticleValues
    states: States
    landscape: Landscape | None
    path: EasiestPath | None

    @property
    def files(self) -> list[Path]:
        """Every table, picture and structure, by name."""
        return sorted(self.folder.iterdir())

    @property
    def fluctuations(self) -> Fluctuations:
        """How far residues move."""
        return self.ensemble.fluctuations

    def lines(self) -> list[str]:
        """What was found, for people."""
        explained = enumerate(self.components.explained[:4], start=1)
        shares = ", ".join(f"PC{number} {100 * share:.0f} %" for number, share in explained)
        rmsf = self.fluctuations.rmsf
        lines = [
            f"Latent space: {shares} of the variance.",
            f"RMSF over the ensemble: mean {rmsf.mean():.2f} Å, largest {rmsf.max():.2f} Å.",
        ]
        for number, motion in enumerate(self.segments):
            if motion.n_residues:
                lines.append(self._segment_line(number, motion))
        return [*lines, *self._state_lines()]

    def _segment_line(self, number: int, motion: SegmentMotion) -> str:
        reference = self.ensemble.reference
        seen_from = "the map" if reference is None or reference == number else f"segment {reference + 1}"
        hinge = tables.hinge_text(self.ensemble.run.structure, motion).split("; ")[0]
        return (
            f"Segment {number + 1} ({motion.n_residues} residues) turns {_number(motion.angle_range_deg)}° and shifts "
            f"{_number(motion.translation_range)} Å (5th to 95th percentile) seen from {seen_from}"
            + (f"; hinge {hinge} from the axis." if hinge else ".")
        )

    def _state_lines(self) -> list[str]:
        states = self.states
        if states.n_states == 1:
            found = ": no valley of 1 kT between conformations" if states.division.is_by_valleys else ""
            return [f"One state{found}. --clustering kmeans --states N divides a continuous motion."]
        lines = []
        for state in range(states.n_states):
            share, low, high = (100 * bound[state] for bound in vars(states.populations).values())
            lines.append(f"State {state + 1}: {share:.1f} % of the particles ({low:.1f} to {high:.1f} %).")
        return lines


def _number(value: float) -> str:
    return "?" if np.isnan(value) else f"{value:.1f}"


def analyze(
    run: Run | Path | str,
    overwrite: bool = False,
    n_points: int = 10,
    *,
    motions: Sequence[str] = (),
    reference: int | str | None = "largest",
    clustering: Clustering = "density",
    n_states: int | None = None,
    landscape: Sequence[str] = (),
    between: tuple[int, int] | None = None,
    umap: bool = False,
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
        Points of a traversal and of the path, at least 2.
    motions : sequence of str
        Motions to measure beside those of the segments, such as ``distance("A:1-29", "A:120-150")``
        (:mod:`cryosphere.analysis.motions`).
    reference : int, "largest" or None
        Segment (from 1) that motions of one part are seen from; None: the frame of the map.
    clustering, n_states : see :func:`~cryosphere.analysis.states.divide`
    landscape : sequence of str
        One or two motions to map the free energy over; by default those that tell most.
    between : pair of int, optional
        States (from 1) that the path of least resistance joins; by default the two largest, or where there is one
        state the ends of the first motion.
    umap : bool
        Add a UMAP embedding of the posterior means (needs ``umap-learn``).
    show_progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        There is an analysis already, or something asked for does not exist or is out of range.
    """
    check_clustering(clustering, n_states)
    axes = [MotionName.parse(text) for text in landscape]
    if len(axes) > 2:
        raise InputError(f"a landscape has one or two motions, {len(axes)} given.")
    seen_from = reference if reference in ("largest", None) else _segment(reference)
    wanted = [*(MotionName.parse(text) for text in motions), *axes]
    run = run if isinstance(run, Run) else Run.load(run)
    if (run.layout.analysis / _MARKER).is_file() and not overwrite:
        raise InputError(f"{run.layout.analysis} has an analysis already; --overwrite replaces it.")
    run = ensure_posterior(run, progress=show_progress)
    with atomic_folder(run.layout.analysis, marker=_MARKER, overwrite=overwrite) as folder:
        means = run.posterior.mean.astype(np.float64)
        embedding = _embedding(means) if umap else {}  # before the long part: it may not be installed
        components = latent_space.principal_components(means)
        n_traversals = max(1, int((components.explained[:_MOST_TRAVERSALS] >= _LEAST_SHARE).sum()))
        traversals = tuple(latent_space.traverse(means, components, i, n_points) for i in range(n_traversals))
        ensemble = Ensemble(run, wanted, seen_from)
        division = divide(ensemble.coordinates, ensemble.sample.weights, clustering, n_states)
        particles = ensemble.of_particles(division, show_progress=show_progress)
        states = summarise_states(ensemble, division, particles)
        mapped = map_landscape(ensemble, landscape_axes(ensemble, axes))
        path = path_between(ensemble, states, mapped, between, n_points)
        segments = tuple(segment_motions(ensemble, len(run.segment_names)))
        result = Analysis(
            run.layout.analysis, components, traversals, ensemble, segments, particles, states, mapped, path
        )
        _write(folder, run, result, embedding)
    return result


def _segment(reference: int | str) -> int:
    """Number (from 0) of a segment given from 1 (InputError if it is something else)."""
    try:
        return operator.index(reference) - 1
    except TypeError:
        raise InputError(f"the reference {reference!r} is no segment; give its number, 'largest' or None.") from None


def _embedding(means: Float[np.ndarray, "particle latent"]) -> dict[str, np.ndarray]:
    from cryosphere.analysis.embedding import embed

    return dict(zip(("umap1", "umap2"), embed(means).T, strict=True))


def _write(folder: Path, run: Run, result: Analysis, embedding: dict[str, np.ndarray]) -> None:
    weights = run.segment_weights()
    labels = result.ensemble.labels
    scores = result.components.scores(run.posterior.mean.astype(np.float64))
    _write_particles(folder, run, result, scores, embedding)
    _write_tables(folder, run, result, labels, weights)
    _write_structures(folder, run, result)
    _write_pictures(folder, run, result, labels, weights, scores)


def _write_particles(
    folder: Path, run: Run, result: Analysis, scores: np.ndarray, embedding: dict[str, np.ndarray]
) -> None:
    posterior, particles, states = run.posterior, result.particles, result.states
    columns: dict[str, np.ndarray] = {}

    def add(names: Sequence[str], values: np.ndarray) -> None:
        columns.update(zip(names, values.T.astype(np.float32), strict=True))

    numbers = range(1, run.latent_dim + 1)
    modes = [f"mode{i}" for i in range(1, result.ensemble.modes.n_modes + 1)]
    add([f"z{i}" for i in numbers], posterior.mean)
    add([f"std(z{i})" for i in numbers], posterior.std)
    add([f"pc{i}" for i in numbers], scores)
    columns["effective_sample_size"] = posterior.effective_sample_size
    columns["state"] = states.membership + 1
    columns["state_probability"] = states.probability.max(1).astype(np.float32)
    for number, name in enumerate(result.ensemble.names):
        add([name, f"std({name})"], np.stack([particles.motion[:, number], particles.motion_std[:, number]], axis=1))
    add(modes, particles.mode)
    add([f"std({name})" for name in modes], particles.mode_std)
    columns.update(embedding)
    probability = states.probability.astype(np.float32)
    write_columns(folder / STORE, columns, probability, run.weights_hash(), result.ensemble.reference)
    tables.write_particles(folder / "particles.csv", run.table, posterior, columns)


def _write_tables(
    folder: Path,
    run: Run,
    result: Analysis,
    labels: Int[np.ndarray, " residue"],
    weights: Float[np.ndarray, "residue segment"],
) -> None:
    structure, ensemble = run.structure, result.ensemble
    tables.write_components(folder / _MARKER, result.components)
    tables.write_fluctuations(folder / "rmsf.csv", structure, labels, weights, ensemble.fluctuations)
    rmsf = ensemble.fluctuations.rmsf
    tables.write_segments(
        folder / "segments.csv", structure, run.segment_names, labels, result.segments, rmsf, ensemble.reference
    )
    tables.write_motions(folder / "motions.csv", ensemble, result.particles.motion_std.mean(0))
    tables.write_states(folder / "states.csv", run.posterior, result.states, ensemble.names)
    for number, traversal in enumerate(result.traversals, start=1):
        tables.write_conformers(folder / f"traversal_pc{number}.csv", run.posterior, traversal)
    if result.landscape is not None:
        result.landscape.write(folder / "landscape.npz")
    if result.path is not None:
        tables.write_path(folder / "path.csv", result.path.latent, result.path.values, result.landscape.names)


def _write_structures(folder: Path, run: Run, result: Analysis) -> None:
    """Traversals, states and the path as multi-model mmCIF files (Cα, C1′)."""
    states = result.states
    chosen = [
        (f"traversal_pc{i}", conformers.latent, run.posterior.index[conformers.rows], conformers.populations)
        for i, conformers in enumerate(result.traversals, start=1)
    ]
    chosen = [(name, z, [f"particle {p}" for p in particles], shares) for name, z, particles, shares in chosen]
    numbers = range(1, states.n_states + 1)
    chosen.append(("states", states.latent, [f"state {i}" for i in numbers], states.populations.share))
    if result.path is not None:
        chosen.append(("path", result.path.latent, [f"point {i + 1}" for i in range(len(result.path.latent))], None))
    for name, latent, names, shares in chosen:
        write_models(
            folder / f"{name}.cif",
            run.structure,
            run.decode(latent),
            what="residues",
            model_names=names,
            populations=shares,
        )


def _write_pictures(
    folder: Path,
    run: Run,
    result: Analysis,
    labels: Int[np.ndarray, " residue"],
    weights: Float[np.ndarray, "residue segment"],
    scores: Float[np.ndarray, "particle component"],
) -> None:
    from cryosphere.analysis import landscape_plots, plots

    plots.plot_latent(folder / "latent.png", scores, result.components, result.traversals)
    plots.plot_fluctuations(folder / "rmsf.png", run.structure, labels, result.fluctuations)
    plots.plot_segments(folder / "segments.png", run.structure, weights)
    plots.plot_motions(folder / "motions.png", result.segments)
    landscape_plots.plot_states(folder / "states.png", result.ensemble, result.states)
    if result.landscape is not None:
        landscape_plots.plot_landscape(folder / "landscape.png", result.landscape, result.path)
    records = read_metrics(run.layout.metrics)
    if records:
        plots.plot_training(folder / "training.png", records)
