"""The time that networks take for one image on this device, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from engine.errors import InputError


@dataclass(frozen=True)
class Latency:
    """Milliseconds for a batch of one image: the median and the fastest of all rounds."""

    median_ms: float
    minimum_ms: float


def measure(
    networks: Sequence[tuple[nn.Module, int]],
    device: str = "cpu",
    *,
    threads: int | None = None,
    rounds: int = 5,
    progress: bool = False,
) -> list[Latency]:
    """Time networks in turns: each round runs every network once, so that a slow minute slows all of them.

    The first round, in which memory is allocated and kernels are chosen, is not counted.

    Args:
        networks: pairs of a network and its image size in pixels.
        device: `cpu` or a CUDA device.
        threads: CPU threads; None leaves PyTorch's own number.
        rounds: counted rounds.
        progress: whether to show a bar on a terminal.

    Raises:
        InputError: the device does not exist, or a number is below one.
    """
    from tqdm import tqdm

    chosen = _checked_device(device)
    for what, number in (("rounds", rounds), ("threads", 1 if threads is None else threads)):
        if number < 1:
            msg = f"{what} is {number}; it must be at least 1."
            raise InputError(msg)
    times: list[list[float]] = [[] for _ in networks]
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    bar = tqdm(total=len(networks) * (rounds + 1), desc="latency", leave=False, disable=None if progress else True)
    try:
        with bar, torch.inference_mode():
            placed = [(network.to(chosen).eval(), _image(size, chosen)) for network, size in networks]
            for turn in range(rounds + 1):
                for index, (network, image) in enumerate(placed):
                    milliseconds = _run(network, image)
                    if turn:
                        times[index].append(milliseconds)
                    bar.update()
    finally:
        torch.set_num_threads(threads_before)
    return [Latency(statistics.median(runs), min(runs)) for runs in times]


def _checked_device(device: str) -> torch.device:
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        msg = f"device '{device}' is unknown; allowed: cpu, cuda, cuda:0 ..."
        raise InputError(msg) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        msg = f"device '{device}' is not there: PyTorch sees no CUDA device. Use --device cpu."
        raise InputError(msg)
    if chosen.type not in ("cpu", "cuda"):
        msg = f"device '{device}' cannot be timed; allowed: cpu, cuda, cuda:0 ..."
        raise InputError(msg)
    return chosen


def _image(size: int, device: torch.device) -> torch.Tensor:
    # Not zeros: these lead to products so small that some CPUs compute them slowly.
    return torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0)).to(device)


def _run(network: nn.Module, image: torch.Tensor) -> float:
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)
    start = time.perf_counter()
    network(image)
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)
    return (time.perf_counter() - start) * 1000
