"""Run folders without training: a small two-chain protein, a model with random weights, a made-up posterior."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import gemmi
import numpy as np
import torch
from scipy.special import logsumexp

from cryosphere.config_files import dump_config, parse_config
from cryosphere.io.structures import read_structure
from cryosphere.model.latents import prior_nodes
from cryosphere.model.vae import CryoSphere
from cryosphere.records import ParticleTable, Posterior
from cryosphere.runs.checkpoints import save_checkpoint
from cryosphere.runs.grid import PosteriorGrid
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_posterior, save_table
from cryosphere.structure.placement import place

BOX_SIZE, PIXEL_SIZE = 24, 4.0
# Particles that are compared with shared latents at a time.
_AT_ONCE = 5000
CHAIN_LENGTHS = {"A": 24, "B": 16}
# Offsets (Å) from Cα of the other atoms of an alanine, not meant to be good chemistry.
ALANINE = {
    "N": (-1.2, 0.5, 0.6),
    "CA": (0, 0, 0),
    "C": (1.1, 0.7, -0.7),
    "O": (1.2, 1.9, -0.6),
    "CB": (-0.3, -1.4, -0.5),
}


def write_protein(path: Path, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
    """Two antiparallel helices of alanines around ``centre``; chain A lacks residue 12."""
    model = gemmi.Model(1)
    for chain_number, (name, length) in enumerate(CHAIN_LENGTHS.items()):
        chain = gemmi.Chain(name)
        for step in range(length):
            angle = np.radians(100.0 * step)
            along = (1.5 * step - 0.75 * length) * (1 if chain_number == 0 else -1)
            anchor = np.array([2.3 * np.cos(angle) + 12 * chain_number - 6, 2.3 * np.sin(angle), along]) + centre
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(step + 1 if step < 11 or chain_number else step + 2, " ")
            for atom_name, offset in ALANINE.items():
                atom = gemmi.Atom()
                atom.name, atom.element = atom_name, gemmi.Element(atom_name[0])
                atom.pos, atom.b_iso = gemmi.Position(*(anchor + np.array(offset))), 20.0
                residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    structure = gemmi.Structure()
    structure.add_model(model)
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(path))


def particle_table(n_particles: int, folder: Path, box_size: int = BOX_SIZE) -> ParticleTable:
    """A table whose stack does not exist: what is tested needs no images."""
    column = np.ones(n_particles)
    return ParticleTable(
        source=folder / "particles.star",
        stack_paths=(folder / "particles.mrcs",),
        stack_index=np.zeros(n_particles, dtype=np.int64),
        image_index=np.arange(n_particles),
        rotmat=np.broadcast_to(np.eye(3), (n_particles, 3, 3)).copy(),
        shift=np.zeros((n_particles, 2)),
        defocus_u=1e4 * column,
        defocus_v=1e4 * column,
        defocus_angle=0 * column,
        phase_shift=0 * column,
        b_factor=0 * column,
        scale=column,
        voltage_kv=300 * column,
        spherical_aberration_mm=2.7 * column,
        amplitude_contrast=0.1 * column,
        optics_group=np.zeros(n_particles, dtype=np.int64),
        optics_group_names=("group",),
        box_size=box_size,
        pixel_size=PIXEL_SIZE,
    )


def make_run(
    folder: Path,
    *,
    n_particles: int = 60,
    latent_dim: int = 2,
    origin: str = "center",
    n_segments: int = 4,
    box_size: int = BOX_SIZE,
    spread: float = 0.1,
    latent: np.ndarray | None = None,
    shared: bool = False,
) -> Run:
    """Write a run folder with random decoder weights and posterior, and load it.

    ``shared``: as the usual objective leaves it, with bodies in space and posteriors over shared latents; otherwise
    segments along the chain and a normal distribution for every particle.
    """
    folder.mkdir(parents=True)
    layout = RunLayout(folder)
    layout.structure.mkdir()
    protein = folder / "protein.cif"
    write_protein(protein, ((box_size // 2) * PIXEL_SIZE,) * 3 if origin == "corner" else (0.0, 0.0, 0.0))
    shutil.copy(protein, layout.structure / protein.name)
    values = {
        "particles": {"file": "particles.star"},
        "structure": {"file": protein.name, "origin": origin, "gaussian_at": "calpha"},
        "segments": {"n_segments": n_segments, "method": "contacts" if shared else "chain"},
        "model": {
            "latent_dim": latent_dim,
            "encoder": "score" if shared else "pixels",
            "encoder_layers": [8],
            "decoder_layers": [16],
        },
        "loss": {"mask_radius": 40.0, "objective": "marginal" if shared else "elbo"},
    }
    config = parse_config(values, folder, check_files=False)
    layout.config.write_text(dump_config(config))
    table = particle_table(n_particles, folder, box_size)
    save_table(layout.particles, table)
    structure = place(read_structure(protein), origin, box_size, PIXEL_SIZE)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = CryoSphere(structure, n_particles, box_size, PIXEL_SIZE, config)
        for parameter in model.decoder.parameters():
            parameter += 0.15 * torch.randn(parameter.shape)
    state = {"model": model.state_dict(), "architecture": asdict(model.architecture), "epoch": 1, "best_epoch": 1}
    save_checkpoint(layout.last_checkpoint, state)
    posterior = made_up_posterior(n_particles, latent_dim, spread, latent)
    if shared:
        posterior = on_shared_nodes(posterior)
    save_posterior(layout.posterior, posterior, Run.load(layout.folder).weights_hash())
    write_metrics(layout.metrics)
    return Run.load(folder)


def made_up_posterior(n_particles: int, latent_dim: int, spread: float, latent: np.ndarray | None = None) -> Posterior:
    """Posterior means that vary most along the first latent axis, and covariances of about ``spread`` squared."""
    generator = np.random.default_rng(5)
    if latent is None:
        latent = generator.normal(size=(n_particles, latent_dim)) / np.arange(1, latent_dim + 1)
    factor = spread * generator.normal(size=(n_particles, latent_dim, latent_dim))
    unknown = np.full(n_particles, np.nan, dtype=np.float32)
    return Posterior(
        index=np.arange(n_particles),
        mean=latent.astype(np.float32),
        covariance=(factor @ factor.transpose(0, 2, 1) + (0.3 * spread) ** 2 * np.eye(latent_dim)).astype(np.float32),
        effective_sample_size=unknown,
        log_evidence=unknown,
        nodes=np.zeros((0, latent_dim), np.float32),
        log_likelihood=np.zeros((n_particles, 0), np.float32),
    )


def on_shared_nodes(posterior: Posterior, count: int = 128) -> Posterior:
    """Likelihoods at shared latents that are normal with a posterior's means and covariances (its own times prior)."""
    nodes = prior_nodes(count, posterior.mean.shape[1]).numpy()
    grid = PosteriorGrid(nodes, dense=True)
    n_parts = -(-len(posterior.index) // _AT_ONCE)
    parts = []
    for mean, covariance in zip(
        np.array_split(posterior.mean, n_parts), np.array_split(posterior.covariance, n_parts), strict=True
    ):
        offset = nodes - mean[:, None].astype(np.float64)
        parts.append(_compared(grid, -0.5 * np.einsum("bni,bij,bnj->bn", offset, np.linalg.inv(covariance), offset)))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Posterior(index=posterior.index, nodes=nodes.astype(np.float32), **joined)


def _compared(grid: PosteriorGrid, log_likelihood: np.ndarray) -> dict[str, np.ndarray]:
    weights = grid.weights(log_likelihood)
    mean = weights @ grid.latent
    centred = grid.latent - mean[:, None]
    found = {
        "mean": mean,
        "covariance": np.einsum("bq,bqi,bqj->bij", weights, centred, centred),
        "effective_sample_size": 1 / (weights**2).sum(1),
        "log_evidence": logsumexp(grid.log_weights(log_likelihood), axis=1),
        "log_likelihood": log_likelihood,
    }
    return {name: value.astype(np.float32) for name, value in found.items()}


def write_metrics(path: Path, n_epochs: int = 6) -> None:
    """Metrics as training writes them, falling exponentially."""
    with open(path, "w") as file:
        for epoch in range(1, n_epochs + 1):
            train = {"data": -30 * (1 - 0.7**epoch), "kl_latent": 0.4, "continuity": 0.5**epoch, "weight_decay": 0.0}
            train["total"] = sum(train.values())
            held_out = {name: value + 0.2 for name, value in train.items()}
            record = {"epoch": epoch, "train": train, "held_out": held_out, "learning_rate": 1e-3}
            file.write(json.dumps(record) + "\n")
