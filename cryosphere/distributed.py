"""Several processes that work on one model: each has a share of the images, all else is the same in every one.

Every process holds the whole model, draws the same random numbers and takes the same decisions; only what is computed
image by image is divided, and gathered again or added up. Results therefore do not depend on the number of processes,
to the accuracy of sums. ``torchrun`` starts processes on any number of machines, :func:`launch` on this one. In a
process of its own (the usual case) everything here is the identity.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from cryosphere.errors import ConfigError

# How long the others wait for one process, which may be preparing a stack of images; whoever started the processes
# ends them all when one dies.
_PATIENCE = timedelta(days=2)
# Exit status of one of several processes whose failure is no user's mistake, which all would have told.
CRASHED = 70
# Seconds in which all come to the end, if one does.
_PARTING = 60.0
# Seconds between looks at the processes of a launch, and for which the first may take to say what ended another.
_LOOK_EVERY, _LET_SPEAK = 0.2, 10.0


def join(device: str = "auto") -> None:
    """Join the processes that ``torchrun`` or :func:`launch` started with this one, once; no others, nothing happens.

    Parameters
    ----------
    device : str
        Where the processes will compute: on ``cpu`` they need no GPU.

    Raises
    ------
    ConfigError
        There are fewer GPUs on this machine than processes, or SLURM started several processes that do not know of
        each other.
    """
    if dist.is_initialized():
        return
    if "WORLD_SIZE" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise ConfigError(
            f"srun started this command {os.environ['SLURM_STEP_NUM_TASKS']} times; start it once on each machine, "
            "through torchrun, which starts the processes (the README has an example)."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    has_gpus = torch.cuda.is_available() and device != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if has_gpus:
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
                "start one process for each GPU."
            )
        torch.cuda.set_device(local_rank)
    store, number, n_processes = next(rendezvous("env://", timeout=_PATIENCE))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
        store=dist.PrefixStore("images", store),
        rank=number,
        world_size=n_processes,
        timeout=_PATIENCE,
    )
    atexit.register(_part, dist.PrefixStore("parting", store))


def _part(store: dist.Store) -> None:
    """Part from the others at the end: nobody closes a connection that another still reads from, and the first
    process, which may hold the store, goes last."""
    end, n_processes, number = time.monotonic() + _PARTING, count(), rank()

    def wait_for(what: str, how_many: int) -> None:
        while store.add(what, 0) < how_many and time.monotonic() < end:
            time.sleep(0.02)

    with contextlib.suppress(RuntimeError):  # a store that is gone has nobody to wait for
        store.add("here", 1)
        wait_for("here", n_processes)
    dist.destroy_process_group()
    with contextlib.suppress(RuntimeError):
        store.add("gone", 1)
        if number == 0:
            wait_for("gone", n_processes)


def abandon(status: int) -> None:
    """End this one of several processes at once after a failure: taking leave of the others could wait for ever, as
    they may be waiting for this one. Whoever started them then ends them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks to the user."""
    return rank() == 0


def wait() -> None:
    """Go on when every process is here."""
    if count() > 1:
        dist.barrier()


def share(n_items: int, of: int | None = None) -> slice:
    """Consecutive items that one process, by default this one, works on; sizes differ by 1 at most."""
    number = rank() if of is None else of
    return slice(n_items * number // count(), n_items * (number + 1) // count())


def gather(part: Float[Tensor, "own ..."], sizes: Sequence[int] | None = None) -> Float[Tensor, "item ..."]:
    """Rows of all processes in the order of the processes, in each of them.

    Parameters
    ----------
    part : tensor of shape (own, …)
        Rows of this process.
    sizes : sequence of int, optional
        Rows of every process, where they are known; else they are asked for.
    """
    if count() == 1:
        return part
    if sizes is None:
        numbers = [torch.zeros(1, dtype=torch.long) for _ in range(count())]
        dist.all_gather(numbers, torch.tensor([len(part)]))
        sizes = [int(number) for number in numbers]
    whole = part.new_empty(sum(sizes), *part.shape[1:])
    for number, rows in enumerate(whole.split(list(sizes))):
        if number == rank():
            rows.copy_(part)
        if len(rows):
            dist.broadcast(rows, number)  # in its place: nothing is held twice
    return whole


def add_up(tensors: Iterable[Tensor]) -> None:
    """Sum tensors of one type and device over the processes, each in place, in one message."""
    tensors = list(tensors)
    if count() == 1 or not tensors:
        return
    together = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(together)
    for tensor, total in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def n_on_this_machine() -> int:
    """Number of these processes on this machine, which share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(arguments: Sequence[str], n_processes: int) -> int:
    """Run ``python -m cryosphere`` with some arguments in several processes of this machine.

    What the first process prints is shown, what the others print only if one of them fails first, or crashes. When one
    fails the others are ended.

    Returns
    -------
    int
        Exit status: 0, or that of the first that failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(n_processes),
        "LOCAL_WORLD_SIZE": str(n_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, n_cores() // n_processes))),
    }
    with tempfile.TemporaryFile() as others:
        processes = []
        asked_to_end = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            for number in range(n_processes):
                own = {"RANK": str(number), "LOCAL_RANK": str(number)}
                quiet = {"stdout": subprocess.DEVNULL, "stderr": others} if number else {}
                command = [sys.executable, "-m", "cryosphere", *arguments]
                processes.append(subprocess.Popen(command, env=os.environ | shared | own, **quiet))
            failed = _first_failure(processes)
            crashed = any(process.poll() == CRASHED for process in processes[1:])
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            signal.signal(signal.SIGTERM, asked_to_end)
        if failed is None:
            return 0
        if failed > 0 or crashed:
            others.seek(0)
            sys.stderr.write(others.read().decode(errors="replace"))
        status = processes[failed].returncode
        return 1 if status == CRASHED else status


def _first_failure(processes: list[subprocess.Popen]) -> int | None:
    """Wait for processes to end; number of the first that fails, and of the first of all if it fails at that time."""
    while True:
        states = [process.poll() for process in processes]
        failed = [number for number, state in enumerate(states) if state]
        if failed:
            end = time.monotonic() + _LET_SPEAK  # the same mistake of the user ends all: let the first say it
            while processes[0].poll() is None and time.monotonic() < end:
                time.sleep(_LOOK_EVERY)
            return 0 if processes[0].poll() else failed[0]
        if all(state == 0 for state in states):
            return None
        time.sleep(_LOOK_EVERY)
