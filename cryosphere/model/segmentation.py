"""Which residues move together: Gaussian segments along the sequence with Gaussian posteriors over their parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryosphere.config import RegionConfig, SegmentsConfig
from cryosphere.errors import ConfigError
from cryosphere.records import Structure


@dataclass(frozen=True)
class Region:
    """Residue rows that share segments, and the prior of these segments in running index within the region."""

    name: str
    rows: np.ndarray
    centres: np.ndarray
    widths: np.ndarray
    prior_std: float


def regions_of(structure: Structure, config: SegmentsConfig) -> list[Region]:
    """Find the residues of every region and tile its prior segments.

    Raises
    ------
    ConfigError
        A region that names an absent chain or residue, holds fewer residues than segments, overlaps another, or whose
        ``starts`` do not fit.
    """
    if not config.regions:
        rows = np.arange(structure.n_polymer_residues)
        return [_tiled("", rows, config.n_segments, None, config.prior_std, "segments.n_segments")]
    regions, taken = [], np.zeros(structure.n_residues, dtype=bool)
    for number, wanted in enumerate(config.regions):
        key = f"segments.regions[{number}]"
        rows = _region_rows(structure, wanted, key)
        if taken[rows].any():
            raise ConfigError(f"{key}: overlaps an earlier region at {structure.label(int(rows[taken[rows]][0]))}.")
        taken[rows] = True
        starts = None
        if wanted.starts is not None:
            starts = [_row_of(structure, rows, start, f"{key}.starts") for start in wanted.starts]
            if len(starts) != wanted.n_segments or starts[0] != 0 or np.any(np.diff(starts) <= 0):
                raise ConfigError(
                    f"{key}.starts: expected {wanted.n_segments} ascending residue numbers beginning with the "
                    f"region's first residue, found {wanted.starts}."
                )
        prior_std = wanted.prior_std if wanted.prior_std is not None else config.prior_std
        name = f"{wanted.chain}:{structure.residue_numbers[rows[0]]}-{structure.residue_numbers[rows[-1]]}"
        regions.append(_tiled(name, rows, wanted.n_segments, starts, prior_std, f"{key}.n_segments"))
    return regions


def _region_rows(structure: Structure, wanted: RegionConfig, key: str) -> np.ndarray:
    polymer_chains = structure.chain_ids[: structure.n_polymer_residues]
    rows = np.flatnonzero(polymer_chains == wanted.chain)
    if len(rows) == 0:
        chains = ", ".join(dict.fromkeys(polymer_chains.tolist()))
        raise ConfigError(
            f"{key}.chain: chain {wanted.chain!r} is not in {structure.source}, which has chains {chains}."
        )
    first = 0 if wanted.first is None else _row_of(structure, rows, wanted.first, f"{key}.first")
    last = len(rows) - 1 if wanted.last is None else _row_of(structure, rows, wanted.last, f"{key}.last", last=True)
    if last < first:
        raise ConfigError(f"{key}: last ({wanted.last}) comes before first ({wanted.first}).")
    return rows[first : last + 1]


def _row_of(structure: Structure, rows: np.ndarray, number: int, key: str, last: bool = False) -> int:
    """Position within ``rows`` of the residue with that number (the last of its insertions if ``last``)."""
    numbers = structure.residue_numbers[rows]
    found = np.flatnonzero(numbers == number)
    if len(found) == 0:
        raise ConfigError(
            f"{key}: residue {number} is not among residues {numbers.min()}-{numbers.max()} of chain "
            f"{structure.chain_ids[rows[0]]} present in {structure.source}."
        )
    return int(found[-1] if last else found[0])


def _tiled(name, rows, n_segments, starts, prior_std, key) -> Region:
    if n_segments > len(rows):
        raise ConfigError(f"{key}: {n_segments} segments, but there are only {len(rows)} residues to divide.")
    begins = np.linspace(0, len(rows), n_segments + 1) if starts is None else np.array([*starts, len(rows)], float)
    widths = np.diff(begins)
    return Region(name, rows, begins[:-1] + 0.5 * (widths - 1), widths, prior_std)


@dataclass(frozen=True)
class SegmentParameters:
    """Centre and width in residues and log-proportion of every segment (shape (segment,))."""

    centre: Float[Tensor, " segment"]
    width: Float[Tensor, " segment"]
    logit: Float[Tensor, " segment"]


class _GaussianPosterior(nn.Module):
    """Independent Gaussians with learned mean and log-std, and a fixed Gaussian prior."""

    def __init__(self, prior_mean: Tensor, prior_std: Tensor, initial_std: Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(prior_mean.clone())
        self.log_std = nn.Parameter(initial_std.log())
        self.register_buffer("prior_mean", prior_mean)
        self.register_buffer("prior_std", prior_std)

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.log_std.exp() * noise

    def kl(self) -> Tensor:
        ratio = (2 * (self.log_std - self.prior_std.log())).exp()
        distance = ((self.mean - self.prior_mean) / self.prior_std) ** 2
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum()


class Segmentation(nn.Module):
    """Posterior over segments, and the soft assignment of residues to them.

    ``w_rs = softmax_s[(-½ (r - μ_s)² / η_s² + log π_s) / τ]`` over the segments of the residue's own region, r its
    running index there (arXiv 2407.01574, section 3). Rows of residues outside every region are 0.

    Parameters
    ----------
    n_residues : int
        Rows of the structure.
    regions : list of Region
    temperature : float
        τ, no unit.
    hosts : int array of shape (residue,), optional
        Row whose place in the chain every row has (ligands: what they touch); by default its own.
    """

    def __init__(
        self,
        n_residues: int,
        regions: list[Region],
        temperature: float,
        hosts: Int[np.ndarray, " residue"] | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        local = torch.zeros(n_residues)
        residue_region = torch.full((n_residues,), -1)
        for number, region in enumerate(regions):
            local[region.rows] = torch.arange(len(region.rows), dtype=torch.float32)
            residue_region[region.rows] = number
        if hosts is not None:
            local, residue_region = local[hosts], residue_region[hosts]
        counts = [len(region.centres) for region in regions]
        segment_region = torch.repeat_interleave(torch.arange(len(regions)), torch.tensor(counts))
        self.register_buffer("local_index", local)
        self.register_buffer("allowed", residue_region[:, None] == segment_region[None, :])
        self.names = [
            f"{region.name} segment {s + 1}".strip() for region in regions for s in range(len(region.centres))
        ]
        centre = torch.tensor(np.concatenate([region.centres for region in regions]), dtype=torch.float32)
        width = torch.tensor(np.concatenate([region.widths for region in regions]), dtype=torch.float32)
        spread = torch.tensor(np.repeat([region.prior_std for region in regions], counts), dtype=torch.float32)
        start = torch.minimum(0.1 * spread, 0.1 * width)
        self.centre = _GaussianPosterior(centre, spread, start)
        self.width = _GaussianPosterior(width, spread, start)
        self.logit = _GaussianPosterior(torch.zeros_like(centre), torch.ones_like(centre), torch.full_like(centre, 0.1))

    @property
    def n_segments(self) -> int:
        """Number of segments over all regions."""
        return len(self.names)

    def noise(self, generator: torch.Generator) -> Float[Tensor, "3 segment"]:
        """Standard normal numbers for one draw from the posterior, on the CPU."""
        return torch.stack([torch.randn(self.n_segments, generator=generator) for _ in range(3)])

    def sample(self, noise: Float[Tensor, "3 segment"]) -> SegmentParameters:
        """Parameters drawn from the posterior with given :meth:`noise`, for a training step."""
        posteriors = (self.centre, self.width, self.logit)
        noise = noise.to(self.local_index)
        return SegmentParameters(*(one.sample(row) for one, row in zip(posteriors, noise, strict=True)))

    def mean(self) -> SegmentParameters:
        """Posterior mean: what every evaluation and export uses."""
        return SegmentParameters(self.centre.mean, self.width.mean, self.logit.mean)

    def weights(self, parameters: SegmentParameters) -> Float[Tensor, "residue segment"]:
        """Soft assignment of residues to segments; rows sum to 1, or to 0 outside every region."""
        distance = self.local_index[:, None] - parameters.centre
        exponent = (-0.5 * distance**2 / (parameters.width**2 + 1e-6) + parameters.logit) / self.temperature
        lowest = torch.finfo(exponent.dtype).min
        weights = torch.softmax(exponent.masked_fill(~self.allowed, lowest), dim=1)
        return weights.masked_fill(~self.allowed, 0.0)

    def kl(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """KL divergence in nats from the prior: of centres and widths together, and of the proportions."""
        return self.centre.kl() + self.width.kl(), self.logit.kl()
