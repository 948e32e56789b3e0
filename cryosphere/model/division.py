"""How a structure is divided at the start, as the configuration says."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from cryosphere.config import SegmentsConfig
from cryosphere.errors import ConfigError
from cryosphere.io.pae import read_predicted_error
from cryosphere.model.bodies import BodySegmentation
from cryosphere.model.segmentation import Segmentation, regions_of
from cryosphere.records import Structure
from cryosphere.structure.contacts import contact_graph, divide, divide_with_ligands
from cryosphere.structure.ligands import find_hosts

# One segment along the chain for so many residues, where the number is not given, within these bounds.
_RESIDUES_PER_SEGMENT = 35
_FEWEST_SEGMENTS, _MOST_SEGMENTS = 2, 24
# One patch for so many residues, within these bounds, and its smallest size.
_RESIDUES_PER_PATCH = 40
_FEWEST_PATCHES, _MOST_PATCHES = 8, 24
_LEAST_RESIDUES = 8


def make_segmentation(
    structure: Structure, config: SegmentsConfig, n_segments: int | None = None
) -> Segmentation | BodySegmentation:
    """Segments for a structure before training.

    Parameters
    ----------
    structure : Structure
    config : SegmentsConfig
    n_segments : int, optional
        Number of bodies of a trained model that is read back; by default that of the configuration.

    Raises
    ------
    ConfigError, InputError
        Regions or the predicted aligned error do not fit the structure.
    """
    if config.method == "chain":
        if config.n_segments == "auto" and not config.regions:
            n_residues = structure.n_polymer_residues
            count = min(max(n_residues // _RESIDUES_PER_SEGMENT, _FEWEST_SEGMENTS), _MOST_SEGMENTS)
            config = config.model_copy(update={"n_segments": min(count, n_residues)})
        regions = regions_of(structure, config)
        return Segmentation(structure.n_residues, regions, config.temperature, find_hosts(structure))
    graph = contact_graph(structure.residue_positions, structure.bonded, _predicted_error(structure, config))
    hosts = find_hosts(structure)
    if n_segments is not None:
        segmentation = BodySegmentation(graph, np.arange(structure.n_residues) % n_segments, hosts)
        segmentation.logits.data = torch.zeros(structure.n_residues, n_segments)
        return segmentation
    return BodySegmentation(graph, _first_labels(structure, config, graph, hosts), hosts)


def _first_labels(
    structure: Structure, config: SegmentsConfig, graph, hosts: Int[np.ndarray, " residue"]
) -> Int[np.ndarray, " residue"]:
    if not config.regions:
        n_residues = structure.n_polymer_residues
        return divide_with_ligands(graph, hosts, _first_count(n_residues, config), _least(n_residues))
    labels, taken = np.full(structure.n_residues, -1), 0
    for region in regions_of(structure, config):
        own = divide(graph[region.rows][:, region.rows], len(region.centres), 1)
        labels[region.rows] = own + taken
        taken += int(own.max()) + 1
    return labels[hosts]


def _first_count(n_residues: int, config: SegmentsConfig) -> int:
    if config.n_segments != "auto":
        if config.n_segments > n_residues:
            raise ConfigError(
                f"segments.n_segments: {config.n_segments} segments, but there are only {n_residues} residues."
            )
        return config.n_segments
    return config.patches or min(max(n_residues // _RESIDUES_PER_PATCH, _FEWEST_PATCHES), _MOST_PATCHES)


def _least(n_residues: int) -> int:
    return max(1, min(_LEAST_RESIDUES, n_residues // 8))


def _predicted_error(structure: Structure, config: SegmentsConfig) -> Float[np.ndarray, "residue residue"] | None:
    return None if config.pae_file is None else read_predicted_error(config.pae_file, structure)
