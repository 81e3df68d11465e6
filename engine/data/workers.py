"""The processes that read and change images beside a training: how many, and how they are started."""

from __future__ import annotations

import multiprocessing
import sys

from engine.threads import free_cores

MOST_WORKERS = 8  # that are taken unasked; more rarely help one device


def free_processors(processes: int = 1) -> int:
    """Processors for each of several equal processes of this machine, at least 1.

    They are those that the process may run on, within the quota of the container.

    Args:
        processes: how many share them, such as one for each GPU.
    """
    return max(1, free_cores() // processes)


def worker_count(asked: int | None, processes: int = 1) -> int:
    """The asked number of workers, or by default as many as there are processors, but at most `MOST_WORKERS`."""
    return min(MOST_WORKERS, free_processors(processes)) if asked is None else asked


def too_many_workers(asked: int | None, processes: int = 1) -> str | None:
    """A sentence where more workers are asked for than there are processors; else None."""
    free = free_processors(processes)
    if asked is None or asked <= free:
        return None
    each = f", shared by {processes} devices" if processes > 1 else ""
    return (
        f"data.num_workers is {asked}, but this program may use {free * processes} processors{each}; more workers only "
        f"wait for each other. Give --data.num_workers {free} or less, or leave it out."
    )


def worker_context(num_workers: int) -> str | None:
    """How workers are started: as Python does by default, but not by `fork` once this process uses CUDA.

    A forked process inherits the memory and the locks of CUDA and its threads, but not the threads, and cannot use
    CUDA (PyTorch notes, "CUDA in multiprocessing"). The fork server has not loaded it.
    """
    if not num_workers or multiprocessing.get_start_method() != "fork" or not _uses_cuda():
        return None
    multiprocessing.set_forkserver_preload(["engine.data.loader"])
    return "forkserver"


def _uses_cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())
