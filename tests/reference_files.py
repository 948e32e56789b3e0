"""Real files by others that tests use where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def reference_file(*parts: str) -> Path:
    """Path below the folder of reference files (``../shared/data`` of the checkout); skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CRYOSPHERE_TEST_DATA", beside)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference file {'/'.join(parts)} is not here (set CRYOSPHERE_TEST_DATA to its folder)")
    return path
