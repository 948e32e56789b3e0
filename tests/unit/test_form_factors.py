"""Electron form factors against gemmi's own evaluation of the tables, and against numerical Fourier integrals."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.simulation.form_factors import atom_gaussians, scattering_factor

ELEMENTS = ["C", "N", "O", "S", "P", "Mg", "Zn"]


@pytest.mark.parametrize("element", ELEMENTS)
def test_factor_is_gemmis(element):
    k = np.linspace(0, 1, 21)
    expected = [gemmi.Element(element).c4322.calculate_sf((0.5 * value) ** 2) for value in k]
    np.testing.assert_allclose(scattering_factor(element, k**2), expected, rtol=1e-6)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("b_factor", [20.0, 60.0])
def test_gaussians_are_gemmis_density(element, b_factor):
    amplitudes, sigmas = atom_gaussians(np.array([element]), np.array([b_factor]))
    for radius in (0.0, 0.5, 1.0, 2.0, 3.0):
        density = (amplitudes * np.exp(-0.5 * (radius / sigmas) ** 2) / (2 * np.pi * sigmas**2) ** 1.5).sum()
        expected = gemmi.Element(element).c4322.calculate_density_iso(radius**2, b_factor)
        assert density == pytest.approx(expected, rel=1e-4)


def test_gaussians_transform_to_factor():
    """Radial Fourier integral ∫ 4πr² ρ(r) sinc(2kr) dr of the Gaussians, done numerically."""
    amplitudes, sigmas = atom_gaussians(np.array(["O"]), np.array([35.0]))
    r = np.linspace(1e-6, 25, 200_001)[:, None]
    density = (amplitudes * np.exp(-0.5 * (r / sigmas) ** 2) / (2 * np.pi * sigmas**2) ** 1.5).sum(1)
    for k in (0.0, 0.1, 0.3):
        integral = np.trapezoid(4 * np.pi * r[:, 0] ** 2 * density * np.sinc(2 * k * r[:, 0]), r[:, 0])
        expected = scattering_factor("O", k**2) * np.exp(-35.0 * k**2 / 4)
        assert integral == pytest.approx(expected, rel=1e-4)


def test_rows_keep_their_atom():
    elements, b_factors = np.array(["C", "S", "C"]), np.array([10.0, 20.0, 30.0])
    amplitudes, sigmas = atom_gaussians(elements, b_factors)
    for row in range(3):
        alone = atom_gaussians(elements[row : row + 1], b_factors[row : row + 1])
        np.testing.assert_array_equal(amplitudes[row], alone[0][0])
        np.testing.assert_array_equal(sigmas[row], alone[1][0])


def test_unknown_element_is_named():
    with pytest.raises(InputError, match=r"'X'.*correct the element column"):
        scattering_factor("X", np.zeros(1))
