"""`data.batch_size auto`: the largest batch whose training step fits the memory, found by trying small ones.

The memory of a step grows by the same amount with each image, as every layer keeps its answers for the way back. So the
peaks of a few small steps tell that of a large one, as in ultralytics' `autobatch`, and unlike Lightning's
`BatchSizeFinder` no step has to fail for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from engine.distributed import all_gather_objects
from engine.errors import InputError
from engine.hardware.machine import available_mib, resident_mib
from engine.hardware.memory import return_freed_memory

SHARE = 0.6  # of the memory that is free; ultralytics takes the same
MOST = 64  # images of a step; larger ones gain no speed
_TRIED = (2, 4, 8, 16, 32, 64)
_GROWN = 0.02  # share of the peak by which it must have grown, to be told from what comes and goes


class Trial(NamedTuple):
    """A step that was tried.

    Attributes:
        images: its batch.
        mib: the largest memory while it ran.
    """

    images: int
    mib: float


class Memory(Protocol):
    """The memory that a device computes in."""

    def limit_mib(self) -> float:
        """What may be used."""
        ...

    def peak_mib(self, step: Callable[[], None]) -> float | None:
        """The largest memory in use while a step runs; None where there is not enough for it."""
        ...


class ProcessMemory:
    """That of this process, on a processor.

    Raises:
        InputError: the system does not say how much is free.
    """

    def limit_mib(self) -> float:
        """What the process has, and a share of what is free on the machine and in its container."""
        free = [mib for mib in (available_mib(), container_free_mib()) if mib is not None]
        if not free:
            msg = "data.batch_size is auto, but this system does not say how much memory is free. Give a number."
            raise InputError(msg)
        return resident_mib() + SHARE * min(free)

    def peak_mib(self, step: Callable[[], None]) -> float | None:
        """See `Memory`."""
        _forget_peak()
        step()
        return resident_mib(peak=True)


@dataclass(frozen=True)
class CudaMemory:
    """That of a CUDA device.

    Attributes:
        device: which one.
    """

    device: torch.device

    def limit_mib(self) -> float:
        """What is in use by PyTorch, and a share of what is free."""
        free, _ = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return (torch.cuda.memory_allocated(self.device) + SHARE * (free + cached)) / 2**20

    def peak_mib(self, step: Callable[[], None]) -> float | None:
        """See `Memory`."""
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            step()
        except torch.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated(self.device) / 2**20


def memory_of(device: torch.device) -> Memory:
    """The memory of a device.

    Raises:
        InputError: it cannot be measured.
    """
    if device.type == "cpu":
        return ProcessMemory()
    if device.type == "cuda":
        return CudaMemory(device)
    msg = f"data.batch_size is auto, but the memory of a device of kind {device.type} is not measured. Give a number."
    raise InputError(msg)


class Found(NamedTuple):
    """A batch that fits.

    Attributes:
        images: on each device.
        trial: the last step that was tried.
        limit_mib: what may be used.
    """

    images: int
    trial: Trial
    limit_mib: float

    def line(self) -> str:
        """What was found, in words."""
        return (
            f"data.batch_size auto: {self.images} images a step on each device; a step of {self.trial.images} took "
            f"{self.trial.mib / 1024:.1f} GiB of the {self.limit_mib / 1024:.1f} that may be used"
        )


def find_batch(memory: Memory, step: Callable[[int], None], most: int) -> Found:
    """The largest batch that fits, the same on all processes.

    Args:
        memory: of the device.
        step: a whole training step with a number of images, which leaves nothing behind.
        most: the largest batch to take.

    Raises:
        InputError: a step of a single image does not fit.
    """
    limit = min(all_gather_objects(memory.limit_mib()))
    trials: list[Trial] = []
    # Two images first: where the coarsest map is a single cell, batch norms cannot learn from one.
    for images in (size for size in _TRIED if size <= max(most, _TRIED[0])):
        trial = _tried(memory, step, min(images, most), limit)
        if trial is None:
            most = min(most, images - 1)
            if (
                len(trials) == 1
                and most > trials[0].images
                and (trial := _tried(memory, step, most, limit)) is not None
            ):
                trials.append(trial)
            break
        trials.append(trial)
        if len(trials) >= 3 and trials[-1].mib - trials[0].mib > _GROWN * trials[0].mib:
            break
    if not trials:
        trial = _tried(memory, step, 1, limit)
        if trial is None:
            msg = (
                f"data.batch_size is auto, but a step of one image does not fit the {limit / 1024:.1f} GiB that may be "
                "used. Give --data.batch_size 1, smaller images, or --model.grad_checkpointing true."
            )
            raise InputError(msg)
        return Found(1, trial, limit)
    return Found(largest(trials, limit, most), trials[-1], limit)


def _tried(memory: Memory, step: Callable[[int], None], images: int, limit_mib: float) -> Trial | None:
    """A step with a number of images; None where it does not fit on all processes."""
    peaks = all_gather_objects(memory.peak_mib(partial(step, images)))
    known = [peak for peak in peaks if peak is not None]
    fits = len(known) == len(peaks) and max(known) <= limit_mib
    return Trial(images, max(known)) if fits else None


def largest(trials: Sequence[Trial], limit_mib: float, most: int) -> int:
    """The largest batch within a limit, by the steepest line between two neighbours.

    >>> largest([Trial(1, 300.0), Trial(2, 400.0), Trial(4, 600.0)], 1050.0, 64)
    8
    """
    last = trials[-1]
    rises = [(b.mib - a.mib) / (b.images - a.images) for a, b in pairwise(trials)]
    steepest = max(rises, default=0.0)
    if steepest <= 0:
        return min(last.images, most)
    return max(1, min(most, last.images + int((limit_mib - last.mib) / steepest)))


def container_free_mib(group: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Memory that the container may still take, in MiB; None without a limit.

    Control groups of version 2 state it in `memory.max` and `memory.current`, those of version 1 in
    `memory/memory.limit_in_bytes` and `memory/memory.usage_in_bytes`.
    """
    for most, now in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, used = (group / most).read_text().strip(), (group / now).read_text().strip()
        except OSError:
            continue
        return None if limit == "max" else max(0.0, (int(limit) - int(used)) / 2**20)
    return None


def _forget_peak() -> None:
    """Let Linux count the peak of this process anew (proc(5), clear_refs); elsewhere it stays the largest so far."""
    return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
