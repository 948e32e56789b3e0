"""Compiled loops over images on the CPU: whether there are any here, how they are made, and how threads share them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether numba is installed; importing it takes a moment and is left to the first use."""
    return find_spec("numba") is not None


def is_compiled(tensor: torch.Tensor) -> bool:
    """Whether work on a tensor goes to the compiled loops; elsewhere plain torch does the same."""
    return tensor.device.type == "cpu" and has_numba()


def compiled(function: Callable, may_reorder: bool = True) -> Callable:
    """Compile a function without annotations when it is first called, and keep that on disk where a folder can be
    written; unless ``may_reorder`` is false, the order of sums is the compiler's.
    """
    from numba import njit

    flags = {"contract", "nsz", "arcp"} | ({"reassoc"} if may_reorder else set())
    options = {"nogil": True, "error_model": "numpy", "fastmath": flags}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep it
        return njit(**options)(function)


def cut(length: int, count: int) -> list[tuple[int, int]]:
    """Ranges of nearly equal length that cover ``range(length)``."""
    return list(pairwise(length * part // count for part in range(count + 1)))


def in_parts(kernel: Callable[..., Any], n_images: int, *arguments: Any) -> list[Any]:
    """Call ``kernel(first, last, *arguments)`` on consecutive parts of the images, each in a thread of its own.

    Parameters
    ----------
    kernel : callable
        Lets go of the interpreter's lock while it runs, and writes to what belongs to images first … last - 1 only.
    n_images : int
        Divided into as many parts as torch has threads, or fewer.

    Returns
    -------
    list
        What the kernel returned for every part, in order.
    """
    parts = cut(n_images, max(1, min(torch.get_num_threads(), n_images)))
    return in_threads([partial(kernel, *part, *arguments) for part in parts])


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make some calls, in as many threads as torch uses; what they return, in order."""
    if len(calls) == 1:
        return [calls[0]()]
    futures = [_pool(torch.get_num_threads()).submit(call) for call in calls]
    return [future.result() for future in futures]


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="cryosphere")


if hasattr(os, "register_at_fork"):  # a forked process has the pool's threads no more
    os.register_at_fork(after_in_child=_pool.cache_clear)
