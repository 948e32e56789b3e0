"""Functions of the tests run in several processes that work together, over gloo."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import torch
from torch import multiprocessing


def _begin(number: int, function: Callable, n_processes: int, port: int, arguments: tuple) -> None:
    own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": n_processes, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    function(*arguments)


def in_processes(n_processes: int, function: Callable, *arguments) -> None:
    """Call a function of a module in several new processes; an error in one of them is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_begin, (function, n_processes, port, arguments), nprocs=n_processes)
