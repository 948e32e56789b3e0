"""Electron scattering of atoms: five Gaussians per element (International Tables C, table 4.3.2.2)."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

from cryosphere.errors import InputError


@cache
def element_coefficients(element: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Look up (a in Å, b in Å²) of ``f(s) = Σ a exp(-b s²)`` with s = k / 2, from gemmi's copy of the table.

    Raises
    ------
    InputError
        If the table has no such element.
    """
    import gemmi

    known = gemmi.Element(element)
    # gemmi answers an unknown symbol with element 0, X, whose entry in the table means nothing.
    coefficients = known.c4322 if known.atomic_number > 0 else None
    if coefficients is None:
        raise InputError(
            f"Element '{element}' has no electron scattering factor in the International Tables (H to Cf): "
            "correct the element column of the structure file or take the atom out."
        )
    return tuple(coefficients.a), tuple(coefficients.b)


def scattering_factor(element: str, k_squared: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Electron scattering factor (Å) of an atom at rest, at squared spatial frequencies (Å⁻²)."""
    a, b = element_coefficients(element)
    k_squared = np.asarray(k_squared, dtype=np.float64)
    return sum(a_n * np.exp(-0.25 * b_n * k_squared) for a_n, b_n in zip(a, b, strict=True))
