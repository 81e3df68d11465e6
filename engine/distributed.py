"""The few collective calls that scoring needs; with one process, or without a process group, each is the identity.

PyTorch is not imported here: a process that never loaded it cannot be part of a process group.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")

_CALLS = itertools.count()  # of `run_on_main`
_ASK_EVERY = 0.05  # seconds between two questions of a process that waits for the main one


def _process_group() -> ModuleType | None:
    """The `torch.distributed` module where a process group is set up, else None."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    return dist


def rank() -> int:
    """Number of this process in the group; 0 without a group."""
    dist = _process_group()
    return 0 if dist is None else int(dist.get_rank())


def world_size() -> int:
    """How many processes take part; 1 without a group."""
    dist = _process_group()
    return 1 if dist is None else int(dist.get_world_size())


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


def is_first_process() -> bool:
    """As `is_main`, before the processes of a training know each other: by what their launcher told them.

    torchrun sets RANK, Lightning's own launcher LOCAL_RANK and NODE_RANK, SLURM SLURM_PROCID.
    """
    names = ("RANK",) if "RANK" in os.environ else ("SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")
    return all(int(os.environ.get(name, "0")) == 0 for name in names)


def barrier() -> None:
    """Wait until every process has reached this call."""
    dist = _process_group()
    if dist is not None:
        dist.barrier()


def all_gather_objects(value: Value) -> list[Value]:
    """The values of all processes, in order of rank, on every process.

    Each value travels pickled, so their lengths may differ and may be zero. With NCCL the bytes pass through
    the current CUDA device, which Lightning has set to the process's own.
    """
    dist = _process_group()
    if dist is None:
        return [value]
    gathered = [value] * int(dist.get_world_size())  # each to be overwritten
    dist.all_gather_object(gathered, value)
    return gathered


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The element-wise sum over all processes, as a new tensor without gradient; the shapes must agree."""
    total = tensor.detach().clone()
    dist = _process_group()
    if dist is not None:
        dist.all_reduce(total)  # the default operation is the sum
    return total


def all_reduce_max(tensor: Tensor) -> Tensor:
    """The element-wise largest value over all processes, as a new tensor without gradient; the shapes must agree."""
    largest = tensor.detach().clone()
    dist = _process_group()
    if dist is not None:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def run_on_main(compute: Callable[[], Value]) -> Value:
    """Call `compute` on the main process only and send its result to all processes.

    The others wait for as long as it takes: they ask the store of the process group, because a collective call would
    end the run after the group's time limit. An exception is sent to all as well.
    """
    dist = _process_group()
    if dist is None:
        return compute()
    outcome: list[object] = [None, None]
    # Every process passes here equally often, so that all know this call by the same key.
    key = f"run_on_main/{next(_CALLS)}"
    store = dist.distributed_c10d._get_default_store()
    if is_main():
        try:
            outcome[0] = compute()
        except Exception as error:  # raised again below, on every process
            outcome[1] = error
        store.set(key, "done")
    else:
        while not store.check([key]):
            time.sleep(_ASK_EVERY)
    dist.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[1], Exception):
        raise outcome[1]
    return cast("Value", outcome[0])
