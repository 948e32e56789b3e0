"""Memory and disk that this machine has free, and how many images of a training step fit into it at a time."""

from __future__ import annotations

import itertools
import math
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from cryosphere.model.vae import CryoSphere
from cryosphere.physics.gaussians import grid_size

# Share of a device's free memory that a step may take: the allocator needs room between its pieces.
_USABLE = 0.8
# float32 numbers that a step keeps or holds at its peak, for every image: per pixel, per pixel of the finer grid that
# Gaussians are spread on, and per residue; for every conformation: per residue, and per residue and segment.
_PER_PIXEL, _PER_FINE_PIXEL, _PER_POSED_RESIDUE = 6, 3, 20
_PER_RESIDUE, _PER_SEGMENT = 80, {"blended": 3, "sequential": 40}


def image_bytes(box_size: int, fine_size: int, n_residues: int) -> float:
    """Memory that a training step takes for every image.

    Counted from what autograd keeps and what lies between: image, rendering, their product and the transfer function
    (``model.renderer``), the spread Gaussians and their transform, and the posed residues (``physics.gaussians``).

    Parameters
    ----------
    box_size, fine_size : int
        Pixels along the edge of the image, and of the grid that Gaussians are spread on.
    n_residues : int
    """
    return 4.0 * (_PER_PIXEL * box_size**2 + _PER_FINE_PIXEL * fine_size**2 + _PER_POSED_RESIDUE * n_residues)


def conformation_bytes(n_residues: int, n_segments: int, motion: str) -> float:
    """Memory that a training step takes for every conformation that it decodes.

    Counted from what autograd keeps (``physics.motions``): positions, quaternions and what lies between, and for every
    segment the weights with signs (``motion`` ``blended``), or the partial rotations in turn (``sequential``).
    """
    return 4.0 * n_residues * (_PER_RESIDUE + _PER_SEGMENT[motion] * n_segments)


def images_at_a_time(model: CryoSphere, n_images: int, free: float | None = None) -> int:
    """Largest part of a step's images that the free memory of a model's device holds together, at least 1.

    Parts have nearly the same size, so that none is left with few images. The gradient is that of all images in any
    case: this is a choice of memory alone. On the marginal likelihood every part decodes all conformations of the
    step; on the evidence lower bound its own.

    Parameters
    ----------
    model : CryoSphere
        On its device.
    n_images : int
        Images of a step.
    free : float, optional
        Bytes that the step may take; by default most of what the device has free now.
    """
    if free is None:
        free = _USABLE * free_on(model.device.type)
    fine = grid_size(model.box_size, model.pixel_size, float(model.renderer.sigmas.min()))
    each = image_bytes(model.box_size, fine, len(model.nominal_positions))
    decoded = conformation_bytes(len(model.nominal_positions), model.segmentation.n_segments, model.config.model.motion)
    if model.config.loss.objective == "marginal":
        free -= n_images * decoded
    else:
        each += decoded
    n_parts = math.ceil(n_images / max(1, int(free / each)))
    return math.ceil(n_images / n_parts)


def free_on(device: str) -> float:
    """Bytes that are free on a device (``cpu``, ``cuda`` or ``mps``), what this process keeps in reserve included."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return free_ram()


def free_ram() -> float:
    """Bytes of memory that this process can still get: from the machine, or within the limits of its control groups
    (as batch systems and containers set them), whichever is less."""
    return min([_free_of_machine(), *_free_of_groups()])


def _free_of_machine(table: Path = Path("/proc/meminfo")) -> float:
    if table.is_file():
        lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _free_of_groups(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[float]:
    """Bytes left in every control group of this process that has a limit; cached files count as free."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            top, limit, used, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        group = top / name.lstrip("/")
        for folder in itertools.takewhile(lambda folder: folder != root.parent, (group, *group.parents)):
            values = [_number(folder / file) for file in (limit, used)]
            if None not in values:
                yield values[0] - values[1] + _statistic(folder / "memory.stat", cache)


def _number(path: Path) -> float | None:
    """Number in a file; None where there is none, or ``max``."""
    text = path.read_text().strip() if path.is_file() else "max"
    return None if text == "max" else float(text)


def _statistic(path: Path, name: str) -> float:
    lines = path.read_text().splitlines() if path.is_file() else []
    return float(next((line.split()[1] for line in lines if line.split()[0] == name), 0))


def resident() -> float:
    """Bytes of memory that this process has now; where the system does not tell, the most it ever had."""
    table = Path("/proc/self/statm")
    return float(table.read_text().split()[1]) * resource.getpagesize() if table.is_file() else peak_resident()


def peak_resident() -> float:
    """Most bytes of memory that this process had so far."""
    # Where Linux starts a program, the usage of resources still counts the memory of the process that started it.
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else []:
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def free_disk(folder: Path) -> float:
    """Bytes free where a folder is, or would be."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    return float(shutil.disk_usage(place).free)
