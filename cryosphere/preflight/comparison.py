"""Sampled images compared with renderings of the structure under hypotheses about how the inputs are meant."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryosphere.model.renderer import Level, PreparedImages, Renderer
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.fourier import image_to_fourier
from cryosphere.records import CTFParameters, ParticleTable, Structure

# Images that are rendered at a time, and widths at which their Gaussians are cut.
_BATCH, _WINDOW = 64, 3.5
# Newton steps that refine a position found on a grid.
_STEPS = 6


@dataclass(frozen=True)
class Hypothesis:
    """How the inputs may be meant; as it stands, as they are given.

    Attributes
    ----------
    sign : int
        -1 if protein is dark.
    pose : str
        ``given``; ``mirrored`` (A → M A M with M = diag(1, 1, -1)); ``inverted`` (A → Aᵀ); ``both``; ``permuted``
        (every image with another one's pose, which nothing should like).
    shift : str
        ``given``, ``negated``, ``pixels`` (pixels were given as Å), ``angstrom`` (the reverse), ``none``, ``swapped``
        (x and y).
    ctf : str
        ``given``, ``swapped`` (U and V, with the angle kept), ``voltage``, ``defocus``, ``phase`` or ``flipped``.
    value : float
        kV of ``voltage``, factor of ``defocus``, radians added by ``phase``.
    pixel_factor : float
        True pixel size over the given one.
    scale : float
        Size of the molecule in the images over that of the structure, at the given pixel size.
    """

    sign: int = 1
    pose: str = "given"
    shift: str = "given"
    ctf: str = "given"
    value: float = 0.0
    pixel_factor: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True)
class Overlaps:
    """Inner products of images and renderings, and squared norms of the renderings, shell by shell (unit noise)."""

    overlap: Float[Tensor, "image shell"]
    power: Float[Tensor, "image shell"]

    def amplitude(self) -> Float[Tensor, " shell"]:
        """Best factor ≥ 0 on the renderings of every shell, common to all images."""
        power = self.power.sum(0).clamp_min(torch.finfo(self.power.dtype).tiny)
        return (self.overlap.sum(0) / power).clamp_min(0.0)

    def nats(self) -> Float[np.ndarray, " image"]:
        """Log-likelihood of every image against pure noise, at the best amplitude of every shell."""
        amplitude = self.amplitude()
        return (amplitude * self.overlap - 0.5 * amplitude**2 * self.power).sum(1).numpy()


class Comparison:
    """Prepared images of a small table, and renderings of a structure to match them, up to a resolution.

    The structure is rendered about its centre and moved in Fourier space, so that neither mask nor box cut it off
    wherever it is.

    Parameters
    ----------
    table : ParticleTable
        Of the sampled particles.
    images : ParticleImages
        Of that table.
    structure : Structure
        In the model frame, for amplitudes and widths.
    sites : array of shape (residue, 3)
        Where its Gaussians are, Å.
    resolution : float
        Å, the finest that is compared.
    """

    def __init__(
        self,
        table: ParticleTable,
        images: ParticleImages,
        structure: Structure,
        sites: Float[np.ndarray, "residue 3"],
        resolution: float,
    ) -> None:
        self.table, self.structure = table, structure
        self.edge = table.box_size * table.pixel_size
        self.centre = np.average(sites, axis=0, weights=structure.amplitudes)
        self.sites = torch.tensor(sites - self.centre, dtype=torch.float32)
        self.batches = [
            images.batch(rows)
            for rows in np.array_split(np.arange(table.n_particles), max(1, math.ceil(table.n_particles / _BATCH)))
        ]
        self.rotmat = torch.tensor(table.rotmat, dtype=torch.float32)
        self.shift = torch.tensor(table.shift, dtype=torch.float32)
        self.set_resolution(resolution)

    def set_resolution(self, resolution: float) -> None:
        """Compare up to another resolution (Å)."""
        self.renderer = self._renderer(1.0)
        self.band = self.renderer.band_at(resolution)
        self.level = self.renderer.level(self.band)
        prepared = [self.renderer.prepare(batch, self.level) for batch in self.batches]
        self.images = torch.cat([image_to_fourier(part.images) for part in prepared])
        self.one_hot = _one_hot_shells(self.level)
        self._projections: dict[tuple[str, float], Tensor] = {}
        self._transfers: dict[tuple[str, float, float], Tensor] = {}

    @property
    def resolution(self) -> float:
        """Finest resolution compared, Å."""
        return self.edge / self.band

    def _renderer(self, pixel_factor: float) -> Renderer:
        pixel_size = self.table.pixel_size * pixel_factor
        return Renderer(self.structure, self.table.box_size, pixel_size, 2 * self.edge)

    def poses(self, pose: str) -> Float[Tensor, "image 3 3"]:
        """Pose matrices under a hypothesis."""
        rotmat = self.rotmat
        if pose == "permuted":
            return rotmat.roll(max(1, len(rotmat) // 2), dims=0)
        if pose in ("inverted", "both"):
            rotmat = rotmat.transpose(1, 2)
        if pose in ("mirrored", "both"):
            mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
            rotmat = mirror @ rotmat @ mirror
        return rotmat

    def displacement(self, shift: str) -> Float[Tensor, "image 2"]:
        """Where the box centre's content lies (Å) in images that were centred by the given shifts."""
        pixel_size = torch.tensor(self.table.file_pixel_sizes, dtype=torch.float32)[:, None]
        meant = {
            "given": self.shift,
            "negated": -self.shift,
            "pixels": self.shift * pixel_size,
            "angstrom": self.shift / pixel_size,
            "none": torch.zeros_like(self.shift),
            "swapped": self.shift.flip(1),
        }[shift]
        return self.shift - meant

    def rendered(self, hypothesis: Hypothesis) -> Complex[Tensor, "image y half"]:
        """Half Fourier images of the renderings, with the structure's centre at the origin."""
        return self._projected(hypothesis) * self.transferred(hypothesis)

    def _projected(self, hypothesis: Hypothesis) -> Tensor:
        size = hypothesis.scale / hypothesis.pixel_factor
        key = (hypothesis.pose, size)
        if key not in self._projections:
            parts = []
            for rotmat in self.poses(hypothesis.pose).split(_BATCH):
                unity = torch.ones(1, *self.level.kx.shape).expand(len(rotmat), -1, -1)
                prepared = PreparedImages(unity, rotmat, unity, self.level)
                positions = (size * self.sites).expand(len(rotmat), -1, -1)
                parts.append(self.renderer.render_fourier(prepared, positions, _WINDOW))
            self._projections[key] = torch.cat(parts)
        return self._projections[key]

    def transferred(self, hypothesis: Hypothesis) -> Float[Tensor, "image y half"]:
        """CTF, whitening and band of every image."""
        key = (hypothesis.ctf, hypothesis.value, hypothesis.pixel_factor)
        if key not in self._transfers:
            renderer = self._renderer(hypothesis.pixel_factor)
            level = renderer.level(self.band)
            parts = [
                renderer.prepare(replace(batch, ctf=changed_ctf(batch.ctf, hypothesis)), level).transfer
                for batch in self.batches
            ]
            transfer = torch.cat(parts)
            self._transfers[key] = transfer.abs() if hypothesis.ctf == "flipped" else transfer
        return self._transfers[key]

    def placed(self, hypothesis: Hypothesis, position: Float[np.ndarray, " 3"]) -> Complex[Tensor, "image y half"]:
        """:meth:`rendered` with the structure's centre at a position (Å) in the model frame."""
        place = torch.einsum("bij,j->bi", self.poses(hypothesis.pose)[:, :2], _vector(position))
        place = place + self.displacement(hypothesis.shift)
        angle = -2 * math.pi * (place[:, 0, None, None] * self.level.kx + place[:, 1, None, None] * self.level.ky)
        return self.rendered(hypothesis) * torch.polar(torch.ones_like(angle), angle)

    def overlaps(self, hypothesis: Hypothesis, position: Float[np.ndarray, " 3"]) -> Overlaps:
        """Compare every image with its rendering, with the structure's centre at a position (Å)."""
        moved = self.placed(hypothesis, position)
        overlap = (moved.conj() * self.images).real.flatten(1) @ self.one_hot
        power = moved.abs().square().flatten(1) @ self.one_hot
        return Overlaps((hypothesis.sign * overlap).double(), power.double())

    def correlations(
        self, hypothesis: Hypothesis
    ) -> tuple[Complex[Tensor, "image point"], Float[Tensor, "image point 3"]]:
        """Fourier coefficients c of the images' correlation with the renderings, and their frequencies q (Å⁻¹).

        The inner product with the structure's centre at d is ``Σ Re c exp(2πi q·d)`` over images and points.
        """
        points = torch.nonzero((self.level.passed > 0).flatten()).flatten()
        frequency = torch.stack([self.level.kx.flatten()[points], self.level.ky.flatten()[points]], dim=1)
        weight = self.one_hot.sum(1)[points]
        product = (self.rendered(hypothesis).conj() * self.images).flatten(1)[:, points] * weight
        angle = 2 * math.pi * self.displacement(hypothesis.shift) @ frequency.T
        product = product * torch.polar(torch.ones_like(angle), angle) * hypothesis.sign
        return product, torch.einsum("pi,bij->bpj", frequency, self.poses(hypothesis.pose)[:, :2])

    def find_position(self, hypothesis: Hypothesis) -> Float[np.ndarray, " 3"]:
        """Where the structure's centre fits best (Å, model frame), anywhere in the box.

        The correlations are back-projected into a 3-D Fourier transform, as images would be for a map; the inverse
        transform's maximum is refined by Newton steps.
        """
        product, frequency = self.correlations(hypothesis)
        grid = _back_project(product, frequency * self.edge, self.band)
        flat = int(grid.argmax())
        size = grid.shape[0]
        index = torch.tensor([flat % size, flat // size % size, flat // size**2])
        pitch = 2 * self.edge / (2 * size)
        position = (index - size // 2) * pitch
        return _refine(product, frequency, position.double()).numpy()


def changed_ctf(ctf: CTFParameters, hypothesis: Hypothesis) -> CTFParameters:
    """CTF parameters under a hypothesis (``flipped`` changes the function, not its parameters)."""
    value = hypothesis.value
    if hypothesis.ctf == "swapped":
        return replace(ctf, defocus_u=ctf.defocus_v, defocus_v=ctf.defocus_u)
    if hypothesis.ctf == "voltage":
        return replace(ctf, voltage_kv=torch.full_like(ctf.voltage_kv, value))
    if hypothesis.ctf == "defocus":
        return replace(ctf, defocus_u=value * ctf.defocus_u, defocus_v=value * ctf.defocus_v)
    if hypothesis.ctf == "phase":
        return replace(ctf, phase_shift=ctf.phase_shift + value)
    return ctf


def _vector(position: Float[np.ndarray, " 3"]) -> Float[Tensor, " 3"]:
    return torch.as_tensor(np.asarray(position), dtype=torch.float32)


def _one_hot_shells(level: Level) -> Float[Tensor, "point shell"]:
    """Weights that sum a half Fourier image over the shells of the full one, as inner products of images."""
    multiplicity = torch.full_like(level.kx, 2.0)
    multiplicity[:, 0] = 1.0
    if level.size % 2 == 0:
        multiplicity[:, -1] = 1.0
    weight = multiplicity * (level.passed > 0) / level.size**2
    shells = level.shells.clamp(max=level.band)
    one_hot = torch.zeros(level.kx.numel(), level.band + 1)
    one_hot[torch.arange(level.kx.numel()), shells.flatten()] = weight.flatten()
    return one_hot


def _back_project(
    product: Complex[Tensor, "image point"], frequency: Float[Tensor, "image point 3"], band: int
) -> Float[Tensor, "z y x"]:
    """Sum ``Re c exp(2πi q·d)`` on a grid of positions d that fills the box; q in shells.

    Coefficients go to the eight nearest points of a grid of half shells, whose blur is divided out afterwards.
    """
    size = 4 * math.ceil(1.5 * band + 1.5)
    place = (2 * frequency) % size
    corner = torch.floor(place)
    part = place - corner
    grid = torch.zeros(size**3, dtype=torch.complex64)
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                share = torch.ones_like(part[..., 0])
                flat = torch.zeros_like(corner[..., 0], dtype=torch.long)
                for axis, step in ((2, dz), (1, dy), (0, dx)):
                    share = share * (part[..., axis] if step else 1 - part[..., axis])
                    flat = flat * size + (corner[..., axis].long() + step) % size
                grid.index_add_(0, flat.flatten(), (product * share).flatten())
    found = torch.fft.fftshift(torch.fft.ifftn(grid.view(size, size, size)).real)
    inner = slice(size // 4, size // 4 + size // 2)
    axis = torch.fft.fftshift(torch.fft.fftfreq(size))[inner]
    envelope = torch.sinc(axis) ** 2
    found = found[inner, inner, inner]
    return found / (envelope[:, None, None] * envelope[None, :, None] * envelope[None, None, :])


def _refine(
    product: Complex[Tensor, "image point"], frequency: Float[Tensor, "image point 3"], position: Float[Tensor, " 3"]
) -> Float[Tensor, " 3"]:
    """Climb from a position to the maximum of ``Σ Re c exp(2πi q·d)`` by Newton steps, no farther than an Å each."""
    q = frequency.flatten(0, 1).double() * (2 * math.pi)
    c = product.flatten()
    for _ in range(_STEPS):
        angle = (q @ position).float()
        value = c * torch.polar(torch.ones_like(angle), angle)
        gradient = -(value.imag.double() @ q)
        hessian = -(q * value.real.double()[:, None]).T @ q
        curvature, axes = torch.linalg.eigh(hessian)
        least = 1e-9 * curvature.abs().max() + torch.finfo(torch.float64).tiny
        step = axes @ ((axes.T @ gradient) / curvature.abs().clamp_min(float(least)))
        position = position + step * (1.0 / step.norm().clamp_min(1.0))
    return position
