"""Batches of images that are read ahead of time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int

from cryosphere.particles.dataset import ParticleImages
from cryosphere.records import ParticleBatch

_DONE = object()


def read_ahead(
    images: ParticleImages,
    row_sets: Iterable[Int[np.ndarray, " _"]],
    device: torch.device | str = "cpu",
    n_ahead: int = 2,
    at_once: int = 1,
) -> Iterator[ParticleBatch]:
    """Yield the batch of every set of rows, in order, while a thread in the background reads the next ones.

    For a CUDA device the thread prepares them too. On a CPU that is left to the caller's thread: once two threads have
    given OpenMP work, it has more threads than there are cores, which then sleep after every task (all training was
    slower by a fifth). What is yielded is what ``images.batch(rows).to(device)`` gives, as long as ``images`` are not
    changed meanwhile. Closing the iterator, or leaving it to be collected, ends the thread.

    Parameters
    ----------
    images : ParticleImages
    row_sets : iterable of int arrays
        Looked at as they are needed, in the background.
    device : torch.device or str
        To a CUDA device, batches are copied from page-locked memory while it computes.
    n_ahead : int
        Batches, or on a CPU groups read together, that wait at most, 1 at least.
    at_once : int
        Batches that are read from their files together.

    Raises
    ------
    Exception
        Whatever reading a batch raised, in its place.
    """
    ready: queue.Queue = queue.Queue(maxsize=n_ahead)
    stopped = threading.Event()
    remaining = iter(row_sets)
    is_cuda = torch.device(device).type == "cuda"

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def prepare(sets: list[np.ndarray], pixels: np.ndarray | None) -> Iterator[ParticleBatch]:
        whole = images.batch(np.concatenate(sets), pixels)
        ends = np.cumsum([len(rows) for rows in sets])
        for end, rows in zip(ends.tolist(), sets, strict=True):
            yield whole.take(slice(end - len(rows), end))

    def read() -> None:
        try:
            while not stopped.is_set() and (sets := list(islice(remaining, at_once))):
                group = sets, images.source.pixels(np.concatenate(sets))
                if not is_cuda:
                    put(group)
                    continue
                for batch in prepare(*group):
                    put(batch.pin_memory())
            put(_DONE)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, name="read ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _DONE:
            if isinstance(item, BaseException):
                raise item
            if is_cuda:
                yield item.to(device, non_blocking=True)
            else:
                yield from (batch.to(device) for batch in prepare(*item))
    finally:
        stopped.set()
        thread.join()
