"""Shifts of single residues: their functions of the latent, their prior, and how they ride on the bodies' motions."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial.transform import Rotation

from cryosphere.model.deformation import with_shifts
from cryosphere.model.residue_shifts import ResidueShifts
from cryosphere.physics.motions import move_residues


def path_graph(n_residues: int, weight: float = 2.0) -> sparse.csr_array:
    steps = np.full(n_residues - 1, weight)
    return sparse.csr_array(sparse.diags_array([steps, steps], offsets=[-1, 1]))


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 5])
def test_the_functions_are_orthonormal_under_the_prior(latent_dim):
    shifts = ResidueShifts(latent_dim, path_graph(4))
    n_functions = len(shifts.coefficients)
    latent = torch.special.ndtri(torch.quasirandom.SobolEngine(latent_dim, seed=0).draw(8192).clamp(1e-6, 1 - 1e-6))
    values = []
    for number in range(n_functions):
        with torch.no_grad():
            shifts.coefficients.zero_()
            shifts.coefficients[number] = 1.0
            values.append(shifts(latent)[:, 0, 0])
    values = torch.stack(values).detach()
    assert torch.allclose(values @ values.T / 8192, torch.eye(n_functions), atol=0.03)
    assert float(values.abs().max()) <= math.sqrt(2) ** latent_dim + 1e-5
    assert float(shifts(torch.full((1, latent_dim), 40.0)).detach().abs().max()) < 10


def test_the_prior_is_that_of_springs():
    shifts = ResidueShifts(1, path_graph(3))
    with torch.no_grad():
        shifts.coefficients[2, 1] = torch.tensor([1.0, 0.0, 0.0])
    springs = 2 * 2.0 * 1.0 / 0.5**2
    assert shifts.energy().item() == pytest.approx(0.5 * (1 + 2**2) * (springs + 1 / 3.0**2))


def test_frozen_residues_keep_their_mean_shift():
    shifts = ResidueShifts(1, path_graph(4))
    torch.manual_seed(0)
    torch.nn.init.normal_(shifts.coefficients)
    latent = torch.special.ndtri((torch.arange(999) + 0.5) / 999)[:, None]
    before = shifts(latent).detach().mean(0)
    shifts.freeze(torch.tensor([1, 3]))
    after = shifts(latent).detach()
    assert torch.allclose(after[:, [1, 3]], before[[1, 3]].expand(999, -1, -1), atol=1e-2)
    assert float(after[:, [0, 2]].std(0).min()) > 0.1


def test_shifts_turn_with_their_segment():
    turn = Rotation.from_rotvec([0.3, -1.2, 0.5])
    quat = torch.tensor(np.roll(turn.as_quat(), 1)).float().expand(1, 2, 4)
    positions, shift = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, -1.0]]), torch.tensor([[[0.5, 0.0, 1.0], [0, 2.0, 0]]])
    moved = move_residues(positions, *with_shifts(quat, torch.tensor([[[1.0, 1.0, 1.0]] * 2]), shift))
    expected = turn.apply(positions.numpy() + shift[0].numpy()) + 1.0
    assert moved[0].numpy() == pytest.approx(expected, abs=1e-5)
