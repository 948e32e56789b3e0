"""What an image says about a template: forces and torques on groups of residues, in units of their own noise.

At every width the log-likelihood's gradient with respect to rigid motions of each group follows from the images of
those motions' derivatives, and so does the variance that noise gives it. Both are taken from the same images: the
transforms of a group's residues, weighted by 1 and by the offsets from the group's centre, times the frequency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from scipy.fft import next_fast_len
from torch import Tensor, nn

from cryosphere.model.renderer import Level, PreparedImages, Renderer
from cryosphere.physics.fourier import resize
from cryosphere.records import ParticleBatch

# Å by which the template's Gaussians are widened: narrow ones see small displacements precisely, wide ones see far.
DEFAULT_WIDTHS_A = (4.0, 10.0, 20.0)
# Resolution, in widths, to which images are compared; finer detail of a template has lost nine tenths of its amplitude.
_RESOLUTION_WIDTHS = 3.0
# A direction that holds less than this share of a group's information is taken to hold none.
_LEAST_SHARE = 1e-5
# Images that go through at a time (memory, cache).
_IMAGES_PER_CHUNK = 32


@dataclass(frozen=True)
class Scores:
    """Scores of images of a batch at every width, along rigid motions of every group.

    Attributes
    ----------
    z : tensor of shape (batch, width, group, 6)
        Force along the body's x, y, z and torque about the group's centre, each divided by its standard deviation
        under noise alone; 0 where the image cannot tell, as along the view axis. The mask's soft edge counts as whole
        there: groups that it cuts scatter up to a tenth less than 1.
    information : tensor of shape (batch, width, group, 6)
        Diagonal of the Fisher information, Å⁻² and rad⁻², with the contrast profiled. The gradient of the
        log-likelihood ratio is ``z · √information``, the Newton step of one component ``z / √information``.
    signal : tensor of shape (batch, width)
        Norm of the template's image at the profiled contrast, in standard deviations of the noise.
    """

    z: Float[Tensor, "batch width group 6"]
    information: Float[Tensor, "batch width group 6"]
    signal: Float[Tensor, "batch width"]


@dataclass(frozen=True)
class _View:
    """What derivatives are compared with at one width; pixels run from the image's origin.

    ``transfer`` takes the derivatives' transforms over -i to those of images, ``targets`` are the residual image and
    the template's, ``contrast`` and ``power`` the template's factor in the image and its squared norm.
    """

    level: Level
    mask: Float[Tensor, "y x"]
    transfer: Complex[Tensor, "batch y half"]
    targets: Float[Tensor, "batch pixel 2"]
    contrast: Float[Tensor, " batch"]
    power: Float[Tensor, " batch"]


class ScoreFeatures(nn.Module):
    """Scores of images at a template conformation as a row of numbers for a network; nothing here is learned.

    Parameters
    ----------
    renderer : Renderer
        Gives amplitudes and widths, the coarse levels, and what images pass through.
    template : tensor of shape (residue, 3)
        Å; :meth:`set_template` replaces it.
    groups : int tensor of shape (residue,)
        Group of every residue, 0 … n_groups - 1, none of them empty.
    widths : sequence of float
        Å, each added in quadrature to the Gaussians' own width.
    """

    def __init__(
        self,
        renderer: Renderer,
        template: Float[Tensor, "residue 3"],
        groups: Int[Tensor, " residue"],
        widths: Sequence[float] = DEFAULT_WIDTHS_A,
    ) -> None:
        super().__init__()
        self.renderer = renderer
        self.widths = tuple(widths)
        self.groups = groups
        self.group_sizes = torch.bincount(groups).tolist()
        assert min(self.group_sizes) > 0, "an empty group has no centre"
        self.register_buffer("order", torch.argsort(groups, stable=True), persistent=False)
        self.register_buffer("template", template.detach().clone().float())

    @property
    def n_groups(self) -> int:
        """Number of residue groups."""
        return len(self.group_sizes)

    @property
    def n_features(self) -> int:
        """Numbers per image that :meth:`forward` gives."""
        return len(self.widths) * (12 * self.n_groups + 1) + 9

    def set_template(self, positions: Float[Tensor, "residue 3"]) -> None:
        """Take another conformation (Å, model frame) as the one to compare with; features change with it."""
        self.template.copy_(positions.detach())

    @torch.no_grad()
    def forward(self, batch: ParticleBatch) -> Float[Tensor, "batch feature"]:
        """Z-scores, log(1 + information), log(1 + signal) and pose matrix of every image, without gradient."""
        scores = self.scores(batch)
        parts = [scores.z, torch.log1p(scores.information), torch.log1p(scores.signal), batch.rotmat]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    @torch.no_grad()
    def scores(self, batch: ParticleBatch) -> Scores:
        """Scores of every image of a batch."""
        levels = [self.level(width) for width in self.widths]
        prepared = [self.renderer.prepare(batch, level) for level in levels]
        parts = []
        for start in range(0, len(batch.rotmat), _IMAGES_PER_CHUNK):
            rows = slice(start, start + _IMAGES_PER_CHUNK)
            parts.append(self._scores([_rows_of(images, rows) for images in prepared]))
        return Scores(*(torch.cat([getattr(part, name) for part in parts]) for name in ("z", "information", "signal")))

    def level(self, width: float) -> Level:
        """Level on which images are compared at a width (Å), of a size that transforms fast."""
        band = self.renderer.band_at(_RESOLUTION_WIDTHS * width)
        return self.renderer.level(min(next_fast_len(band), self.renderer.full_band))

    def _scores(self, prepared: list[PreparedImages]) -> Scores:
        finest = max((images.level for images in prepared), key=lambda level: level.band)
        rotmat = prepared[0].rotmat
        posed = torch.einsum("bij,rj->bri", rotmat, self.template[self.order])
        along_y, along_x = self._waves(posed, finest)
        template = _transform(along_y, along_x[:, :, None], finest.size)[:, 0]
        views = [_view(images, template, width) for images, width in zip(prepared, self.widths, strict=True)]
        overlaps, grams = [], []
        for y, x, group in zip(*(part.split(self.group_sizes, 1) for part in (along_y, along_x, posed)), strict=True):
            derivatives = _derivatives(y, x, group - group.mean(1, keepdim=True), finest)
            for view in views:
                overlap, gram = _overlaps(view, derivatives)
                overlaps.append(overlap)
                grams.append(gram)
        shape = (self.n_groups, len(views))
        overlap, gram = (torch.stack(parts, dim=1).unflatten(1, shape).transpose(1, 2) for parts in (overlaps, grams))
        contrast, power = (torch.stack([getattr(view, name) for view in views], 1) for name in ("contrast", "power"))
        return _body_scores(overlap, gram, rotmat, contrast.clamp_min(0), power)

    def _waves(
        self, posed: Float[Tensor, "batch residue 3"], level: Level
    ) -> tuple[Complex[Tensor, "batch residue up"], Complex[Tensor, "batch residue half"]]:
        """Factors for k_y ≥ 0 and k_x ≥ 0 whose product, summed over residues, is the transform."""
        sigmas, amplitudes = self.renderer.sigmas[self.order, None], self.renderer.amplitudes[self.order, None]
        waves = []
        for axis, weights in ((1, amplitudes), (0, torch.ones_like(amplitudes))):
            fall = weights * torch.exp(-2 * (math.pi * sigmas * level.kx[0]) ** 2)
            angle = -2 * math.pi * posed[..., axis, None] * level.kx[0]
            waves.append(torch.polar(fall.expand_as(angle), angle))
        return waves[0], waves[1]


def _rows_of(prepared: PreparedImages, rows: slice) -> PreparedImages:
    return PreparedImages(prepared.images[rows], prepared.rotmat[rows], prepared.transfer[rows], prepared.level)


def _view(prepared: PreparedImages, template: Complex[Tensor, "batch y half"], width: float) -> _View:
    """Compare images with the template's transform at a width."""
    level = prepared.level
    mask, images = (torch.fft.ifftshift(real, dim=(-2, -1)) for real in (level.mask, prepared.images))
    widened = torch.exp(-2 * (math.pi * width) ** 2 * (level.kx**2 + level.ky**2)) / level.pixel_size**2
    transfer = prepared.transfer * widened
    rendered = (torch.fft.irfft2(resize(template, level.size) * transfer, s=mask.shape) * mask).flatten(1)
    images = images.flatten(1)
    power = rendered.square().sum(1).clamp_min(torch.finfo(rendered.dtype).tiny)
    contrast = (images * rendered).sum(1) / power
    targets = torch.stack([images - contrast[:, None] * rendered, rendered], dim=-1)
    return _View(level, mask, -1j * transfer, targets, contrast, power)


def _transform(
    along_y: Complex[Tensor, "batch residue up"], along_x: Complex[Tensor, "batch residue channel half"], size: int
) -> Complex[Tensor, "batch channel y half"]:
    """Sum products over residues, in real arithmetic: frequencies -k_y share their terms with k_y."""
    channels = along_x.shape[2:]
    y, x = (torch.view_as_real(wave).flatten(2) for wave in (along_y, along_x.contiguous()))
    sums = torch.view_as_complex((y.mT @ x).view(len(y), -1, 2, *channels, 2))
    cosine, sine = sums[:, :, 0], 1j * sums[:, :, 1]
    above, below = (cosine + sine)[:, : (size + 1) // 2], (cosine - sine)[:, 1 : size // 2 + 1]
    return torch.cat([above, below.flip(1)], dim=1).transpose(1, 2)


def _derivatives(
    along_y: Complex[Tensor, "batch residue up"],
    along_x: Complex[Tensor, "batch residue half"],
    offsets: Float[Tensor, "batch residue 3"],
    level: Level,
) -> Complex[Tensor, "batch 5 y half"]:
    """Transforms of a group's derivatives, over -i: along x and y, and about x, y and z through its centre.

    A rotation by ω moves a residue at an offset d by ω × d, and its transform's phase by -2π k · (ω × d).
    """
    weights = 2 * math.pi * torch.cat([torch.ones_like(offsets[..., :1]), offsets], dim=-1)
    one, x, y, z = _transform(along_y, weights[..., None] * along_x[:, :, None], level.size).unbind(1)
    kx, ky = level.kx, level.ky
    return torch.stack([kx * one, ky * one, -ky * z, kx * z, ky * x - kx * y], dim=1)


def _overlaps(
    view: _View, derivatives: Complex[Tensor, "batch 5 y half"]
) -> tuple[Float[Tensor, "batch 5 2"], Float[Tensor, "batch 5 5"]]:
    """Inner products of the derivatives' images with the residual and the template's image, and with each other."""
    fourier = resize(derivatives, view.level.size) * view.transfer[:, None]
    images = (torch.fft.irfft2(fourier, s=view.mask.shape) * view.mask).flatten(2)
    return images @ view.targets, images @ images.mT


def _body_scores(
    overlap: Float[Tensor, "batch width group 5 2"],
    gram: Float[Tensor, "batch width group 5 5"],
    rotmat: Float[Tensor, "batch 3 3"],
    contrast: Float[Tensor, "batch width"],
    power: Float[Tensor, "batch width"],
) -> Scores:
    """Scores along the body's axes, forces then torques, with the part along the template's own image profiled."""
    gradient, along_template = overlap.unbind(-1)
    profiled = gram - along_template[..., :, None] * along_template[..., None, :] / power[..., None, None, None]
    z, information = [], []
    for axes, seen in ((rotmat[:, :2], slice(0, 2)), (rotmat, slice(2, 5))):
        force = torch.einsum("bij,bwgi->bwgj", axes, gradient[..., seen])
        variance = torch.einsum("bij,bwgik,bkj->bwgj", axes, profiled[..., seen, seen], axes)
        whole = gram[..., seen, seen].diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        told = variance > _LEAST_SHARE * whole
        z.append(torch.where(told, force * variance.clamp_min(torch.finfo(variance.dtype).tiny).rsqrt(), 0.0))
        information.append(torch.where(told, variance * contrast[..., None, None] ** 2, 0.0))
    return Scores(torch.cat(z, dim=-1), torch.cat(information, dim=-1), contrast * power.sqrt())
