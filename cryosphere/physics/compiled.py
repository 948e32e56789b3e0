"""Compiled loops over images on the CPU: whether there are any here, how they are made, and how threads share them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
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


def compiled(function: Callable) -> Callable:
    """Compile a function without annotations when it is first called, and keep that on disk where a folder can be
    written; sums may be reordered.
    """
    from numba import njit

    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep it
        return njit(**options)(function)


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
    n_parts = max(1, min(torch.get_num_threads(), n_images))
    parts = list(pairwise(n_images * part // n_parts for part in range(n_parts + 1)))
    futures = [_pool(n_parts - 1).submit(kernel, *part, *arguments) for part in parts[1:]]
    own = kernel(*parts[0], *arguments)
    return [own, *(future.result() for future in futures)]


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="cryosphere")


if hasattr(os, "register_at_fork"):  # a forked process has the pool's threads no more
    os.register_at_fork(after_in_child=_pool.cache_clear)
