"""A particle beside what the model predicts for it, and the numbers known of it; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryosphere.analysis.view_averages import ViewAverages, average_views
from cryosphere.errors import InputError, RunError
from cryosphere.export.particle_selection import RunColumns
from cryosphere.io.mrc import read_images
from cryosphere.io.star import image_name
from cryosphere.model.losses import correlation, expected_contrast
from cryosphere.model.renderer import Level, PreparedImages
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.ctf import contrast_transfer
from cryosphere.physics.fourier import fourier_to_image, low_pass_filter, resize
from cryosphere.physics.rotations import rotmat_to_euler
from cryosphere.records import ParticleBatch

_ANGSTROM_PER_MICROMETRE = 1e4


@dataclass(frozen=True)
class StoredImage:
    """An image as it is in its file: grey values, place and sign.

    ``is_bright`` says whether protein is bright in it.
    """

    image: Float[np.ndarray, "y x"]
    pixel_size: float
    is_bright: bool


@dataclass(frozen=True)
class Comparison:
    """A particle's image, the model's projection for it, and what is left: image - projection.

    All three are centred (the pose's shift undone), protein-bright, on the grey scale of the file, the background's
    mean at 0, and low-passed where that was asked for; the origin is pixel n // 2.

    Attributes
    ----------
    projection : array of shape (y, x)
        Of the conformation at the posterior mean, in the particle's pose, with its CTF and contrast, without noise.
    pixel_size : float
        Å.
    contrast : float
        Factor between the model's projection (electrons per Å²) and grey values, as the model expects it.
    correlation : float
        Of image and projection as shown, within the model's mask.
    pose_correction : (float, float, float)
        What training changed of the pose: turn in degrees, shift along x and y in Å.
    """

    image: Float[np.ndarray, "y x"]
    projection: Float[np.ndarray, "y x"]
    residual: Float[np.ndarray, "y x"]
    pixel_size: float
    contrast: float
    correlation: float
    pose_correction: tuple[float, float, float]


@dataclass(frozen=True)
class ParticleNumbers:
    """What is known of a particle.

    Attributes
    ----------
    row, input_row : int
        Of the posterior, and in the particle file; both from 0.
    image_name : str
        ``000001@stack.mrcs``, with the path of the stack.
    angles_deg : (float, float, float)
        ``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi``.
    shift : (float, float)
        ``rlnOriginXAngst``, ``rlnOriginYAngst``.
    defocus_u, defocus_v : float, Å. defocus_angle_deg : float.
    log_evidence : float
        Ratio to pure noise, nats; NaN where only the encoder was asked.
    mean, std : arrays of shape (latent,)
        Posterior of the latent.
    state : int, optional
        From 1, most probable; with its probability. None without an analysis, or where it gave none.
    """

    row: int
    input_row: int
    image_name: str
    angles_deg: tuple[float, float, float]
    shift: tuple[float, float]
    defocus_u: float
    defocus_v: float
    defocus_angle_deg: float
    log_evidence: float
    mean: Float[np.ndarray, " latent"]
    std: Float[np.ndarray, " latent"]
    state: int | None = None
    state_probability: float = float("nan")

    def lines(self) -> list[tuple[str, str]]:
        """Names and values for people."""
        number, _, stack = self.image_name.partition("@")
        defocus = (value / _ANGSTROM_PER_MICROMETRE for value in (self.defocus_u, self.defocus_v))
        latents = zip(self.mean.tolist(), self.std.tolist(), strict=True)
        state = "no analysis" if self.state is None else f"{self.state}, probability {self.state_probability:.2f}"
        return [
            ("image", f"{number}@{Path(stack).name}"),
            ("row in the particle file", f"{self.input_row} (from 0)"),
            ("rot, tilt, psi", ", ".join(f"{angle:.2f}" for angle in self.angles_deg) + " °"),
            ("origin x, y", ", ".join(f"{value:.2f}" for value in self.shift) + " Å"),
            ("defocus u, v, angle", "{:.3f}, {:.3f} µm, {:.1f} °".format(*defocus, self.defocus_angle_deg)),
            ("log-evidence", "unknown" if np.isnan(self.log_evidence) else f"{self.log_evidence:.2f} nats over noise"),
            *((f"z{i}", f"{mean:.3f} ± {std:.3f}") for i, (mean, std) in enumerate(latents, start=1)),
            ("state", state),
        ]


class ParticlePictures:
    """Images, projections and numbers of the particles of a run, by row of the posterior.

    Parameters
    ----------
    columns : RunColumns
        Of a run with its posterior.
    """

    def __init__(self, columns: RunColumns) -> None:
        self.columns, self.run = columns, columns.run
        self._table_rows = np.searchsorted(self.run.table.input_rows, self.run.posterior.index)

    @cached_property
    def images(self) -> ParticleImages:
        """The run's images, from its own stack where it has one."""
        return self.run.open_images()

    @cached_property
    def _keeps_images(self) -> bool:
        return self.run.open_prepared() is not None

    def numbers(self, row: int) -> ParticleNumbers:
        """Pose, CTF and posterior of a particle; needs no images."""
        table, posterior, at = self.run.table, self.run.posterior, int(self._table_rows[row])
        angles = np.degrees([float(angle) for angle in rotmat_to_euler(torch.as_tensor(table.rotmat[at]))])
        state, probability = self._state(row)
        return ParticleNumbers(
            row=row,
            input_row=int(posterior.index[row]),
            image_name=image_name(int(table.image_index[at]), table.stack_paths[table.stack_index[at]]),
            angles_deg=tuple(angles.tolist()),
            shift=tuple(table.shift[at].tolist()),
            defocus_u=float(table.defocus_u[at]),
            defocus_v=float(table.defocus_v[at]),
            defocus_angle_deg=float(np.degrees(table.defocus_angle[at])),
            log_evidence=float(posterior.log_evidence[row]),
            mean=posterior.mean[row],
            std=np.sqrt(np.diagonal(posterior.covariance[row]).clip(min=0)),
            state=state,
            state_probability=probability,
        )

    def _state(self, row: int) -> tuple[int | None, float]:
        if "state" not in self.columns.known:
            return None, float("nan")
        values = self.columns.read(["state", "state_probability"], "particle")
        state = float(values["state"][row])
        return (int(state), float(values["state_probability"][row])) if np.isfinite(state) else (None, float("nan"))

    def stored(self, row: int) -> StoredImage:
        """A particle's image as it is in its file.

        Raises
        ------
        RunError
            The stack is missing.
        """
        run, at = self.run, self._table_rows[[row]]
        table, path = run.table, self._stack(row)
        if not path.is_file():
            rest = "centred and low-passed ones are there" if self._keeps_images else "the rest works"
            raise RunError(f"{path}: missing, so the image as it was stored cannot be shown; {rest}.")
        image = read_images(table.stack_paths, table.stack_index[at], table.image_index[at])[0]
        sign = 1.0 if table.sign is None else float(table.sign[at[0]])
        return StoredImage(image, float(table.file_pixel_sizes[at[0]]), (sign > 0) != run.config.particles.invert)

    def _stack(self, row: int) -> Path:
        table = self.run.table
        return table.stack_paths[table.stack_index[self._table_rows[row]]]

    @torch.no_grad()
    def compare(self, row: int, resolution: float | None = None) -> Comparison:
        """A particle's image beside the model's projection at its posterior mean.

        Parameters
        ----------
        row : int
        resolution : float, optional
            Å; both are low-passed there. By default neither is.

        Raises
        ------
        RunError
            The stack is missing, and the run keeps no images of its own.
        """
        run, path = self.run, self._stack(row)
        if not self._keeps_images and not path.is_file():
            raise RunError(f"{path}: missing, so this particle's image cannot be shown; its numbers can, and the rest.")
        renderer = run.model.renderer
        batch = self.images.batch(self._table_rows[[row]]).to(run.model.device)
        sites = torch.from_numpy(run.decode_sites(run.posterior.mean[[row]])).to(run.model.device)
        level = renderer.level()
        filters = torch.ones_like(level.kx)
        if resolution is not None:
            filters = low_pass_filter(level.size, level.pixel_size, resolution, device=level.kx.device)
        image = fourier_to_image(self._unwhitened(batch, level) * filters, level.size)
        transfer = contrast_transfer(level.kx, level.ky, batch.ctf) * filters
        plain = PreparedImages(image, batch.rotmat, transfer, level)
        contrast = self._contrast(batch, sites, level)
        projection = contrast * fourier_to_image(renderer.render_fourier(plain, sites), level.size)
        agreement = correlation(image, projection, level.mask)
        return Comparison(
            image=image[0].cpu().numpy(),
            projection=projection[0].cpu().numpy(),
            residual=(image - projection)[0].cpu().numpy(),
            pixel_size=level.pixel_size,
            contrast=float(contrast),
            correlation=float(agreement[0]),
            pose_correction=self._pose_correction(row),
        )

    def _unwhitened(self, batch: ParticleBatch, level: Level) -> Complex[Tensor, "batch y half"]:
        """Transforms of a batch's images in grey values of the files, on the grid of a level."""
        whitening = batch.whitening[:, self.images.shells.to(batch.whitening.device)]
        fourier = batch.fourier / whitening
        box_size = fourier.shape[-2]
        return resize(fourier, level.size) * (level.size / box_size) ** 2 if level.size < box_size else fourier

    def _contrast(
        self, batch: ParticleBatch, sites: Float[Tensor, "batch residue 3"], level: Level
    ) -> Float[Tensor, " batch"]:
        """Contrast as the model expects it, from whitened and masked images."""
        model = self.run.model
        prepared = model.renderer.prepare(batch, level)
        rendered = model.renderer.render(prepared, sites)
        overlap, power = (prepared.images * rendered).sum((-2, -1)), rendered.square().sum((-2, -1))
        return expected_contrast(overlap, power, model.contrast_prior(batch.optics_group))

    def _pose_correction(self, row: int) -> tuple[float, float, float]:
        at = self._table_rows[row]
        turn = float(torch.rad2deg(torch.linalg.norm(self.images.pose_rotvec[at])))
        return turn, *(float(value) for value in self.images.pose_shift[at])

    def averages(self, rows: Int[np.ndarray, " n"]) -> ViewAverages:
        """Averages of chosen particles by view, beside those of the model's projections.

        Raises
        ------
        RunError
            The images are missing.
        InputError
            None of them looks along a view that many particles share.
        """
        membership = np.full(len(self.run.posterior.index), -1)
        membership[rows] = 0
        averages = average_views(self.run, membership, 1)
        if not averages.counts.any():
            raise InputError(
                f"None of the {len(rows)} chosen particles looks along one of the {len(averages.direction)} views that "
                "most particles share; choose more."
            )
        return averages
