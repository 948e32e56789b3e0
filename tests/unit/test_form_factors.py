"""Electron form factors against gemmi's own evaluation of the tables."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from cryosphere.errors import InputError
from cryosphere.physics.form_factors import scattering_factor

ELEMENTS = ["C", "N", "O", "S", "P", "Mg", "Zn"]


@pytest.mark.parametrize("element", ELEMENTS)
def test_factor_is_gemmis(element):
    k = np.linspace(0, 1, 21)
    expected = [gemmi.Element(element).c4322.calculate_sf((0.5 * value) ** 2) for value in k]
    np.testing.assert_allclose(scattering_factor(element, k**2), expected, rtol=1e-6)


def test_unknown_element_is_named():
    with pytest.raises(InputError, match=r"'X'.*correct the element column"):
        scattering_factor("X", np.zeros(1))
