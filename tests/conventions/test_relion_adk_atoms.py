"""Images of all atoms against RELION's projections of gemmi's electron map of the same atoms."""

from __future__ import annotations

import gemmi
import mrcfile
import numpy as np
import pytest
import starfile
import torch

from cryosphere.physics import ctf, fourier, rotations
from cryosphere.physics.atoms import group_scatterers, project_atoms
from cryosphere.records import CTFParameters

from ..reference_files import reference_file

BOX, PIXEL = 64, 1.5


def _atoms(state):
    model = gemmi.read_structure(str(reference_file("relion_adk", f"adk_{state}_64_1p5_centred.pdb")))[0]
    atoms = [atom for chain in model for residue in chain for atom in residue]
    positions = np.array([atom.pos.tolist() for atom in atoms]) - PIXEL * (BOX // 2)
    elements = np.array([atom.element.name for atom in atoms])
    return positions, elements, np.array([atom.b_iso for atom in atoms])


def _parameters(particles, optics):
    def column(name, scale=1.0):
        table = particles if name in particles else optics.set_index("rlnOpticsGroup").loc[particles.rlnOpticsGroup]
        return torch.as_tensor(scale * table[name].to_numpy(dtype=float), dtype=torch.float32)

    degree = np.pi / 180
    return CTFParameters(
        defocus_u=column("rlnDefocusU"),
        defocus_v=column("rlnDefocusV"),
        defocus_angle=column("rlnDefocusAngle", degree),
        phase_shift=column("rlnPhaseShift", degree),
        b_factor=column("rlnCtfBfactor"),
        scale=column("rlnCtfScalefactor"),
        voltage_kv=column("rlnVoltage"),
        spherical_aberration_mm=column("rlnSphericalAberration"),
        amplitude_contrast=column("rlnAmplitudeContrast"),
    )


@pytest.mark.parametrize("kind", ["noctf", "ctf"])
@pytest.mark.parametrize("state", ["open", "closed"])
def test_atom_images_agree_with_relion(state, kind):
    tables = starfile.read(reference_file("relion_adk", f"adk_{state}_64_1p5_{kind}.star"))
    relion = mrcfile.read(reference_file("relion_adk", f"adk_{state}_64_1p5_{kind}.mrcs"))
    particles = tables["particles"]
    positions, elements, b_factors = _atoms(state)
    assert set(b_factors) == {60.0}

    angles = np.radians(particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(dtype=float))
    rotmat = rotations.euler_to_rotmat(*torch.as_tensor(angles.T, dtype=torch.float32))
    shift = torch.as_tensor(particles[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(dtype=float)).float()
    spectrum = project_atoms(
        torch.as_tensor(positions, dtype=torch.float32).expand(len(particles), -1, -1),
        group_scatterers(elements, b_factors),
        rotmat,
        shift,
        BOX,
        PIXEL,
    )
    kx, ky = fourier.frequency_grid(BOX, PIXEL)
    if kind == "ctf":
        spectrum = spectrum * ctf.contrast_transfer(kx, ky, _parameters(particles, tables["optics"]))
    ours = fourier.fourier_to_image(spectrum, BOX).numpy()
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, relion, strict=True)]
    assert min(correlations) >= 0.998

    below = np.hypot(kx.numpy(), ky.numpy()) < 0.9 * 0.5 / PIXEL
    mine, theirs = spectrum.numpy()[:, below], np.fft.rfft2(np.fft.ifftshift(relion, axes=(1, 2)))[:, below]
    scale = (mine.conj() * theirs).real.sum() / (np.abs(mine) ** 2).sum()
    # RELION sums voxels of a potential per volume: one factor of the pixel size against our integral.
    assert scale * PIXEL == pytest.approx(1.0, abs=0.01)
