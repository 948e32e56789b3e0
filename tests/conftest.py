"""Fixtures shared by the tests: where other people's files are, and files written without our own writers."""

import importlib.util
import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from tests.particle_sets import SHORT_TRAINING
from tests.reference_files import reference_file

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for each of the processes that share the cores, and for those that they start.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real files by others (RELION, the PDB, AlphaFold …); not part of the repository."""
    return reference_file("README.md").parent


@pytest.fixture(scope="session")
def adk_trajectory() -> tuple[Path, Path]:
    """(DCD, PSF) of the closed-to-open transition of adenylate kinase that MDAnalysisTests distributes."""
    folder = os.environ.get("CRYOSPHERE_ADK_TRAJECTORY")
    if folder is None:
        spec = importlib.util.find_spec("MDAnalysisTests")
        folder = Path(spec.submodule_search_locations[0]) / "data" if spec else None
    if folder is None or not (Path(folder) / "adk_dims.dcd").is_file():
        pytest.skip("the AdK trajectory is not here: pip install MDAnalysisTests, or set CRYOSPHERE_ADK_TRAJECTORY")
    return Path(folder) / "adk_dims.dcd", Path(folder) / "adk.psf"


@pytest.fixture
def short_stages(monkeypatch):
    """Short coarse stages of training on the marginal likelihood."""
    for place, value in SHORT_TRAINING.items():
        monkeypatch.setattr(place, value)


@pytest.fixture
def make_stack():
    """Write an MRC stack with mrcfile alone; returns its images."""

    def make(path, n_images=4, box_size=8, pixel_size=1.5, dtype=np.float32):
        images = np.random.default_rng(n_images * box_size).normal(size=(n_images, box_size, box_size)) * 20
        path.parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(path) as mrc:
            mrc.set_data(images.astype(dtype))
            mrc.set_image_stack()
            mrc.voxel_size = pixel_size
        return images.astype(dtype)

    return make


@pytest.fixture
def star_blocks():
    """Columns of a valid RELION 3.1 file with four particles in two optics groups, to be changed by a test."""
    return {
        "optics": {
            "rlnOpticsGroupName": ["low", "high"],
            "rlnOpticsGroup": [1, 2],
            "rlnVoltage": [200, 300],
            "rlnSphericalAberration": [1.4, 2.7],
            "rlnAmplitudeContrast": [0.07, 0.1],
            "rlnImagePixelSize": [1.5, 1.5],
            "rlnImageSize": [8, 8],
        },
        "particles": {
            "rlnImageName": [f"{number:06d}@stack.mrcs" for number in (1, 2, 3, 4)],
            "rlnOpticsGroup": [1, 2, 2, 1],
            "rlnAngleRot": [0.0, 10.0, -20.0, 170.0],
            "rlnAngleTilt": [0.0, 45.0, 90.0, 120.0],
            "rlnAnglePsi": [0.0, -30.0, 60.0, 5.0],
            "rlnOriginXAngst": [0.0, 1.5, -2.0, 0.25],
            "rlnOriginYAngst": [0.0, -0.5, 3.0, 0.75],
            "rlnDefocusU": [10000.0, 11000.0, 12000.0, 13000.0],
            "rlnDefocusV": [9000.0, 10500.0, 12500.0, 12900.0],
            "rlnDefocusAngle": [0.0, 30.0, 60.0, 90.0],
        },
    }


@pytest.fixture
def write_star():
    """Write blocks of columns as a STAR file with plain string formatting."""

    def write(path, blocks):
        lines = []
        for name, columns in blocks.items():
            lines += [f"data_{name}", "", "loop_", *(f"_{column}" for column in columns)]
            lines += [" ".join(str(cell) for cell in row) for row in zip(*columns.values(), strict=True)]
            lines.append("")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
