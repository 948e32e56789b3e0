"""What unknown poses cost on a simulated hinge: the least error of E[x | image] with poses known, and known roughly.

    python benchmarks/pose_limit.py RESULTS/g-0.1/seed-1/set --igg 1igy.pdb

The Cramér–Rao bound of every image: from the derivatives of its noise-free, whitened image along the family of states,
the pose's rotations and shifts, with the errors of the poses in the STAR file as their prior. It holds where posteriors
are narrow against the family, as at SNR 0.1; there, with poses known, it has to come to the Bayes limit.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryosphere.evaluation import bayes_limit
from cryosphere.io.particles import read_particles
from cryosphere.physics.rotations import rotvec_to_rotmat
from cryosphere.physics.slices import SliceTable, take_slices
from cryosphere.pipelines.accuracy_families import FAMILIES, Inputs
from cryosphere.simulation.conformations import Conformations
from cryosphere.simulation.particles import STAR, TRUTH, prepare_conformations
from cryosphere.simulation.truth import read_truth

# States to either side, and degrees, over which derivatives are taken.
REACH, TURN = 2, 0.5


def measure(folder: Path, conformations: Conformations, n_images: int) -> dict[str, float]:
    """Mean least errors (Å) of a set."""
    truth = read_truth(folder / TRUTH)
    settings = bayes_limit._settings_of(truth, folder, "cpu")
    states = prepare_conformations(conformations, True)
    rows = bayes_limit.spread_rows(len(truth.state), n_images)
    index, points, band = bayes_limit._points(settings.box_size, False)
    images = bayes_limit._prepare(read_particles(folder / STAR), truth, settings, rows, index, points)
    weight = images.power.sqrt()
    edge = settings.box_size * settings.pixel_size
    low = np.maximum(truth.state[rows] - REACH, 0)
    high = np.minimum(truth.state[rows] + REACH, states.n_states - 1)
    along = torch.zeros(n_images, len(points), dtype=torch.complex64)
    jacobian = torch.zeros(n_images, 6, len(points), dtype=torch.complex64)
    first = 0
    for table in bayes_limit._tables(states, settings, band):
        here = range(first, first + table.n_volumes)
        for image in range(n_images):
            for state, sign in ((low[image], -1), (high[image], 1)):
                if state in here:
                    along[image] += sign * slice_of(table, images.rotmat[image], points, state - first)
            if truth.state[rows[image]] in here:
                place = table, images.rotmat[image], points, truth.state[rows[image]] - first
                jacobian[image, 1:] = pose_derivatives(*place, edge)
        first = here.stop
    apart = np.square(truth.coordinates[high] - truth.coordinates[low]).sum(-1).mean(-1) ** 0.5
    jacobian[:, 0] = along / torch.from_numpy(apart).float()[:, None]
    jacobian = torch.view_as_real(jacobian * weight[:, None]).flatten(2).double()
    information = jacobian @ jacobian.mT
    prior = torch.tensor([0.0] + 3 * [truth.info["rotation_error_deg"] ** -2] + 2 * [truth.info["shift_error"] ** -2])
    known = information[:, 0, 0] ** -0.5
    rough = torch.linalg.inv(information + torch.diag(prior.double()))[:, 0, 0].sqrt()
    mean_size = math.sqrt(2 / math.pi)  # of a normal variable's standard deviation
    return {"known": mean_size * float(known.mean()), "rough": mean_size * float(rough.mean())}


def slice_of(table: SliceTable, rotmat: Tensor, points: Tensor, volume: int) -> Tensor:
    """Complex values of one state's slice."""
    values = take_slices(table, rotmat[None], points)[0]
    return torch.complex(values[:, volume], values[:, volume + table.n_volumes])


def pose_derivatives(table: SliceTable, rotmat: Tensor, points: Tensor, volume: int, edge: float) -> Tensor:
    """Derivatives of a slice by three rotations (per degree) and two shifts (per Å)."""
    found = []
    for axis in torch.eye(3):
        turned = rotvec_to_rotmat(math.radians(TURN) * torch.stack([axis, -axis])) @ rotmat
        ahead, behind = (slice_of(table, rotation, points, volume) for rotation in turned)
        found.append((ahead - behind) / (2 * TURN))
    phase = 2j * math.pi / edge * points.T
    return torch.stack([*found, *(phase * slice_of(table, rotmat, points, volume))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="the simulated set")
    parser.add_argument("--igg", type=Path, required=True, help="PDB 1IGY")
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    conformations = FAMILIES["fab"].make(Inputs(igg=options.igg))
    print(json.dumps(measure(options.set, conformations, options.images)))


if __name__ == "__main__":
    main()
