"""A trained run, read back from its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from cryosphere.config import Config
from cryosphere.config_files import read_config
from cryosphere.errors import RunError
from cryosphere.model.vae import Architecture, CryoSphere
from cryosphere.particles.dataset import ParticleImages
from cryosphere.particles.prepared import PreparedStack, StackOrder, open_prepared
from cryosphere.records import ParticleTable, Posterior, Structure
from cryosphere.runs.checkpoints import load_checkpoint
from cryosphere.runs.grid import MOST_GRID_DIMENSIONS, PosteriorGrid
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.tables import load_posterior, load_table
from cryosphere.structure.nominal import read_nominal

_CHUNK = 512
# What a run keeps of a checkpoint besides the weights.
_IMAGE_STATE = ("noise_power", "pose_rotvec", "pose_shift")
_KEPT = ("tried", "verdict", *_IMAGE_STATE)


class Run:
    """Everything a trained run knows, from its folder alone (only new posteriors need the image stacks).

    Use :meth:`load`. All coordinates are in Å in the model frame (origin at the box centre); add
    ``run.structure.frame_shift`` to return to the frame of the structure's file. Nothing here is random.

    Attributes
    ----------
    layout : RunLayout
        Names of the files in the folder.
    config : Config
    table : ParticleTable
    structure : Structure
        Nominal structure in the model frame.
    model : CryoSphere
        With the weights of ``epoch``, in evaluation mode.
    epoch : int
        Epoch of these weights: the best on held-out images, or the last if none were held out.
    """

    def __init__(
        self,
        layout: RunLayout,
        config: Config,
        table: ParticleTable,
        structure: Structure,
        model: CryoSphere,
        epoch: int,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.layout, self.config, self.table, self.structure = layout, config, table, structure
        self.model, self.epoch = model.eval(), epoch
        self._state = state or {}

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Run:
        """Read a run folder.

        Raises
        ------
        RunError
            The folder is not that of a trained run, or is incomplete.
        """
        layout = RunLayout(Path(folder))
        if not layout.config.is_file():
            raise RunError(f"{folder}: not a run folder (no {layout.config.name}); `cryosphere train` makes one.")
        config = read_config(layout.config, check_files=False)
        table = load_table(layout.particles)
        structure = load_structure_copy(layout, config, table)
        checkpoint = layout.best_checkpoint if layout.best_checkpoint.exists() else layout.last_checkpoint
        state = load_checkpoint(checkpoint)
        if config.segments.pae_file is not None:
            own = layout.structure / config.segments.pae_file.name
            config = config.model_copy(update={"segments": config.segments.model_copy(update={"pae_file": own})})
        try:
            model = CryoSphere(
                structure,
                table.n_particles,
                table.box_size,
                table.pixel_size,
                config,
                Architecture(**state["architecture"]),
                n_groups=len(table.optics_group_names),
            )
            model.load_state_dict(state["model"])
            epoch = int(state["best_epoch"] or state["epoch"])
        except (KeyError, RuntimeError, TypeError):
            raise RunError(f"{checkpoint}: does not fit {layout.config}; was the configuration edited?") from None
        kept = {name: state[name] for name in _KEPT if name in state}
        return cls(layout, config, table, structure, model.to(device), epoch, kept)

    @property
    def tried(self) -> list[dict[str, Any]]:
        """Models that training compared on held-out images, in ``what``: mergings, numbers of segments, a latent
        dimension more, a wide turn, a folded latent, shuffled segments."""
        return self._state.get("tried", [])

    @property
    def verdict(self) -> dict[str, Any]:
        """What held-out images say of the motion, as a whole and segment by segment; empty for ``objective: elbo``."""
        return self._state.get("verdict", {})

    def open_prepared(self) -> PreparedStack | None:
        """The stack of prepared images in the run folder, if there is one that fits the run."""
        order = StackOrder.of(self.config.particles, self.table, self.model.mask_radius)
        return None if order is None else open_prepared(self.layout.prepared, order)

    def open_images(self) -> ParticleImages:
        """The particle images with the noise spectra and pose corrections that training ended with."""
        particles, known = self.config.particles, self._state.get("noise_power")  # else it would be estimated anew
        images = ParticleImages(self.table, self.model.mask_radius, particles.invert, self.open_prepared(), known)
        for name in _IMAGE_STATE:
            if name in self._state:
                setattr(images, name, self._state[name])
        return images

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.layout.folder

    @property
    def nominal_sites(self) -> Float[np.ndarray, "residue 3"]:
        """Centres of the nominal structure's Gaussians, Å, model frame."""
        return self.model.nominal_sites.cpu().numpy()

    @property
    def latent_dim(self) -> int:
        """Dimension of the latent space."""
        return self.model.latent_dim

    @property
    def n_residues(self) -> int:
        """Number of residues of the nominal structure."""
        return self.structure.n_residues

    @cached_property
    def posterior(self) -> Posterior:
        """Posterior of every particle as stored.

        Raises
        ------
        RunError
            It has not been computed for these weights (``inference.posterior.ensure_posterior`` does).
        """
        posterior, weights = load_posterior(self.layout.posterior)
        if weights != self.weights_hash():
            raise RunError(f"{self.layout.posterior}: is of other weights than the run's; it must be computed again.")
        return posterior

    def weights_hash(self) -> str:
        """SHA-256 of the model's weights, noise spectra and pose corrections, which ties a posterior to them."""
        digest = hashlib.sha256()
        kept = {name: self._state[name] for name in _IMAGE_STATE if name in self._state}
        for name, value in {**self.model.state_dict(), **kept}.items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def segment_names(self) -> list[str]:
        """Name of every segment, with its region's chain and residues if regions were named."""
        return self.model.segmentation.names

    @torch.no_grad()
    def segment_weights(self) -> Float[np.ndarray, "residue segment"]:
        """Assignment of residues to segments at the posterior mean; rows outside every region are 0."""
        return self.model.segment_weights().cpu().numpy()

    @torch.no_grad()
    def decode(self, latent: Float[np.ndarray, "conformation latent"]) -> Float[np.ndarray, "conformation residue 3"]:
        """Residue positions (float32) at the given latents."""
        weights = self.model.segment_weights()
        chunks = [self.model.decode(chunk, weights).cpu() for chunk in self._chunks(latent)]
        return torch.cat(chunks).numpy() if chunks else np.zeros((0, self.n_residues, 3), np.float32)

    @torch.no_grad()
    def decode_sites(
        self, latent: Float[np.ndarray, "conformation latent"]
    ) -> Float[np.ndarray, "conformation residue 3"]:
        """Centres of the residues' Gaussians (float32, Å) at the given latents: what images and maps are made from."""
        weights = self.model.segment_weights()
        return torch.cat([self.model.decode_sites(chunk, weights).cpu() for chunk in self._chunks(latent)]).numpy()

    @torch.no_grad()
    def decode_motions(
        self, latent: Float[np.ndarray, "conformation latent"]
    ) -> tuple[Float[np.ndarray, "conformation residue 4"], Float[np.ndarray, "conformation residue 3"]]:
        """Rigid motion of every residue at the given latents: unit quaternion (w first) and translation (Å).

        A point x of residue r (an atom, say) moves to R_r x + translation_r.
        """
        weights = self.model.segment_weights()
        pairs = [self.model.motions(chunk, weights) for chunk in self._chunks(latent)]
        quat = torch.cat([quat.cpu() for quat, _ in pairs]).numpy()
        return quat, torch.cat([translation.cpu() for _, translation in pairs]).numpy()

    def _chunks(self, latent: Float[np.ndarray, "conformation latent"]) -> Iterator[torch.Tensor]:
        tensor = torch.from_numpy(np.array(latent, dtype=np.float32))
        if tensor.ndim != 2 or tensor.shape[1] != self.latent_dim:
            raise RunError(f"latents: expected an array of shape (n, {self.latent_dim}), found {tuple(tensor.shape)}.")
        for start in range(0, len(tensor), _CHUNK):
            yield tensor[start : start + _CHUNK].to(self.model.device)

    def expected_coordinates(
        self, rows: Int[np.ndarray, " particle"] | None = None, batch_size: int = 256
    ) -> Iterator[tuple[Int[np.ndarray, " batch"], Float[np.ndarray, "batch residue 3"]]]:
        """E[x | image] of particles, batch by batch: (rows of the posterior, positions in Å, float32).

        Over the nodes that all images were compared with, or, where each image had its own, on the 2 d cubature points
        of its Gaussian posterior: mean ± √d times the columns of a square root of the covariance, which is exact
        for motions up to third order in the latent (Arasaratnam & Haykin, IEEE Trans. Autom. Control 2009).
        """
        posterior = self.posterior
        chosen = np.arange(len(posterior.index)) if rows is None else np.asarray(rows)
        if posterior.is_shared:
            decoded = self.decode(self.grid.latent).reshape(len(self.grid.latent), -1)
            for start in range(0, len(chosen), batch_size):
                batch = chosen[start : start + batch_size]
                expected = self.grid.weights(posterior.log_likelihood[batch]) @ decoded
                yield batch, expected.reshape(len(batch), -1, 3).astype(np.float32)
            return
        for start in range(0, len(chosen), batch_size):
            batch = chosen[start : start + batch_size]
            points = cubature_points(posterior.mean[batch], posterior.covariance[batch])
            decoded = self.decode(points.reshape(-1, self.latent_dim))
            yield batch, decoded.reshape(len(batch), -1, self.n_residues, 3).mean(1)

    @cached_property
    def grid(self) -> PosteriorGrid:
        """Latents over which the posteriors of a run with shared nodes are summed, denser than the nodes."""
        nodes = self.posterior.nodes
        dense = self.config.loss.objective == "marginal" and nodes.shape[1] <= MOST_GRID_DIMENSIONS
        return PosteriorGrid(nodes, dense)

    def sample_posterior(
        self, rows: Int[np.ndarray, " particle"], n_samples: int, seed: int = 0
    ) -> Float[np.ndarray, "particle sample latent"]:
        """Draw latents from the posteriors of some particles, given by rows of the posterior."""
        generator = np.random.default_rng(seed)
        posterior, rows = self.posterior, np.asarray(rows)
        if not posterior.is_shared:
            values, vectors = np.linalg.eigh(posterior.covariance[rows].astype(np.float64))
            factor = vectors * np.sqrt(values.clip(0))[:, None, :]
            noise = generator.standard_normal((len(rows), n_samples, self.latent_dim))
            return posterior.mean[rows][:, None] + np.einsum("bij,bsj->bsi", factor, noise)
        cumulated = np.cumsum(self.grid.weights(posterior.log_likelihood[rows]), axis=1)
        uniform = generator.random((len(rows), n_samples))
        chosen = [
            np.searchsorted(row, value * row[-1], side="right") for row, value in zip(cumulated, uniform, strict=True)
        ]
        return self.grid.latent[np.stack(chosen).clip(max=cumulated.shape[1] - 1)]

    def conformations(
        self,
        latent: Float[np.ndarray, "conformation latent"] | None = None,
        particles: Int[np.ndarray, " n"] | None = None,
    ) -> Float[np.ndarray, "conformation residue 3"]:
        """Conformations at latents, or E[x | image] of particles given by input row.

        Parameters
        ----------
        latent : array of shape (conformation, latent), optional
        particles : int array, optional
            Input rows (from 0). With neither argument: all particles.

        Returns
        -------
        float32 array of shape (conformation, residue, 3)
            Å, model frame.
        """
        if latent is not None:
            return self.decode(latent)
        rows = None if particles is None else self.posterior_rows(particles)
        return np.concatenate([positions for _, positions in self.expected_coordinates(rows)])

    def posterior_rows(self, particles: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Rows of the posterior that belong to input rows.

        Raises
        ------
        RunError
            An input row has no posterior.
        """
        particles = np.asarray(particles)
        index = self.posterior.index
        rows = np.searchsorted(index, particles).clip(0, len(index) - 1)
        absent = particles[index[rows] != particles]
        if len(absent):
            raise RunError(f"{self.layout.posterior}: particle row {absent[0]} (from 0) has no posterior here.")
        return rows


def cubature_points(
    mean: Float[np.ndarray, "batch latent"], covariance: Float[np.ndarray, "batch latent latent"]
) -> Float[np.ndarray, "batch point latent"]:
    """The 2 d points mean ± √d L e_k with L Lᵀ = covariance, equally weighted: same mean and covariance.

    L comes from the eigenvectors, so that a covariance of low rank (few conformations with weight) is as good as any.
    """
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    factor = vectors * np.sqrt(values.clip(0))[:, None, :]
    columns = np.sqrt(mean.shape[1]) * factor.transpose(0, 2, 1)
    return np.concatenate([mean[:, None] + columns, mean[:, None] - columns], axis=1)


def load_structure_copy(layout: RunLayout, config: Config, table: ParticleTable) -> Structure:
    """The run's own copy of the nominal structure, placed as it was for training."""
    path = layout.structure / config.structure.file.name
    if not path.is_file():
        raise RunError(f"{path}: missing; the run folder is incomplete.")
    return read_nominal(config.structure, table, path)
