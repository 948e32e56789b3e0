"""How well the analysis of a run knows the motions of a simulated set: python motions.py RUN TRUTH [RUN TRUTH …]

For every segment but the reference: error of the angle's mean within fifths of the true angle, angle between the true
and the found axis, residues between the true and the found hinge, share of the particles whose true angle lies within
one posterior standard deviation. True angles are measured of the true structures with the run's own segments and axis.
"""

import sys
from pathlib import Path

import numpy as np

from cryosphere.analysis.bodies import Screw, fit_bodies
from cryosphere.analysis.ensemble import Ensemble
from cryosphere.analysis.segments import segment_motions
from cryosphere.analysis.state_summary import summarise_states
from cryosphere.analysis.states import divide
from cryosphere.runs.run import Run
from cryosphere.simulation.truth import read_truth


def main(folder: Path, truth_folder: Path) -> None:
    run, truth = Run.load(folder), read_truth(truth_folder)
    ensemble = Ensemble(run)
    division = divide(ensemble.coordinates, ensemble.sample.weights)
    particles = ensemble.of_particles(division)
    states = summarise_states(ensemble, division, particles)
    motions, coordinates = ensemble.motions, truth.coordinates.astype(np.float64)
    true_values = motions.measure(motions.bodies(coordinates))[truth.state[run.posterior.index]]
    segments = segment_motions(ensemble, len(run.segment_names))
    print(f"{folder}: {states.n_states} state(s) with {np.round(100 * states.populations.share, 1)} % of the particles")
    for number, motion in enumerate(motions.motions):
        if motion.name.kind != "angle":
            continue
        true, found, std = true_values[:, number], particles.motion[:, number], particles.motion_std[:, number]
        fifths = np.array_split(np.argsort(true, kind="stable"), 5)
        errors = [found[rows].mean() - true[rows].mean() for rows in fifths]
        inside = (np.abs(found - true) <= std).mean()
        segment = int(motion.name.parts[0][1:]) - 1
        print(f"  {motion.name}: mean angle of fifths off by {np.round(errors, 2)}°, inside 68 %: {100 * inside:.0f} %")
        if "bodies" in truth.info and np.isfinite(segments[segment].rotation_axis).all():
            print("   ", _axis_and_hinge(ensemble, segments[segment], segment, coordinates, truth))


def _axis_and_hinge(ensemble, segment_motion, segment, coordinates, truth) -> str:
    """Against the true body that shares most residues with the segment, seen from that of the reference."""
    labels, structure = ensemble.labels, ensemble.run.structure
    bodies = [np.array(body) for body in truth.info["bodies"]]

    def matching(number):
        return max(bodies, key=lambda body: (labels[body] == number).sum())

    own, other = matching(segment), matching(ensemble.reference)
    moved, reference = fit_bodies(coordinates, ensemble.motions.nominal, [own, other])
    weights = np.full(len(coordinates), 1 / len(coordinates))
    screw = Screw.fit(moved.seen_from(reference), weights, ensemble.motions.nominal[own].mean(0))
    off = np.degrees(np.arccos(min(1.0, abs(screw.axis @ segment_motion.rotation_axis))))
    inside = np.isin(np.arange(structure.n_residues), own)
    crossings = np.flatnonzero(structure.bonded & (inside[1:] != inside[:-1]))
    found = np.array([hinge.rows[0] for hinge in segment_motion.hinges])
    away = np.abs(found[:1, None] - crossings).min() if len(found) and len(crossings) else -1
    return f"axis off by {off:.2f}°, hinge off by {away} residues"


if __name__ == "__main__":
    for pair in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(*map(Path, pair))
