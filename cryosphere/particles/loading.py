"""Batches of images that are read and prepared ahead of time."""

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
    """Yield the batch of every set of rows, in order, while a thread in the background prepares the next ones.

    What is yielded is what ``images.batch(rows).to(device)`` gives, as long as ``images`` are not changed meanwhile.
    Closing the iterator, or leaving it to be collected, ends the thread.

    Parameters
    ----------
    images : ParticleImages
    row_sets : iterable of int arrays
        Looked at as they are needed, in the background.
    device : torch.device or str
        To a CUDA device, batches are copied from page-locked memory while it computes.
    n_ahead : int
        Batches that wait at most, 1 at least.
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

    def prepare() -> None:
        try:
            for sets in iter(lambda: list(islice(remaining, at_once)), []):
                if stopped.is_set():
                    return
                whole = images.batch(np.concatenate(sets))
                ends = np.cumsum([len(rows) for rows in sets])
                for end, rows in zip(ends.tolist(), sets, strict=True):
                    batch = whole.take(slice(end - len(rows), end))
                    put(batch.pin_memory() if is_cuda else batch)
            put(_DONE)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=prepare, name="read ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _DONE:
            if isinstance(item, BaseException):
                raise item
            yield item.to(device, non_blocking=is_cuda)
    finally:
        stopped.set()
        thread.join()
