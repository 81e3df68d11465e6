"""Two sides of a comparison: in a process each, which run their measurements in turn, or trained in turn in one.

How freed memory is kept is a process's (`engine.hardware.memory`): ours keeps it, as all our commands do, and a peer
does what its users get, unless it is told to keep it as well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol, TypeVar

from engine.hardware.memory import keep_freed_memory

Batch = TypeVar("Batch", contravariant=True)
Call = Callable[[], object]
Calls = Callable[[argparse.Namespace, str], dict[str, Call]]  # the measurements of a side by name


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of both sides' processes."""
    parser.add_argument("--keep-memory", choices=("ours", "both", "neither"), default="ours", help="who keeps it")
    parser.add_argument("--peak", nargs=2, metavar=("MEASURE", "SIDE"), help="only print the memory of one measurement")


def keep_as(given: argparse.Namespace, side: str) -> None:
    """Keep freed memory in this process, if this side does."""
    if given.keep_memory in (side, "both"):
        keep_freed_memory()


def interleaved(
    calls_of: Calls, given: argparse.Namespace, sides: Sequence[str], measures: Sequence[str]
) -> dict[tuple[str, int], list[float]]:
    """Seconds of each measurement on either side, in `given.rounds` rounds after one that is not counted."""
    context = multiprocessing.get_context("spawn")
    connections = []
    for side in sides:
        own, other = context.Pipe()
        context.Process(target=_serve, args=(other, calls_of, given, side), daemon=True).start()
        connections.append(own)
    for connection in connections:
        connection.recv()
    seconds: dict[tuple[str, int], list[float]] = {(name, side): [] for name in measures for side in range(len(sides))}
    for turn in range(given.rounds + 1):
        for name in measures:
            for side, connection in enumerate(connections):
                connection.send(name)
                taken = connection.recv()
                if turn:  # the first round is for warming up
                    seconds[name, side].append(taken)
    for connection in connections:
        connection.send(None)
    return seconds


def _serve(connection: Connection, calls_of: Calls, given: argparse.Namespace, side: str) -> None:
    keep_as(given, side)
    calls = calls_of(given, side)
    connection.send(None)
    while (name := connection.recv()) is not None:
        call = calls[name]
        start = time.perf_counter()
        call()
        connection.send(time.perf_counter() - start)


def peak_of(script: str, measure: str, side: str) -> tuple[float, float]:
    """Resident MiB before two runs of one measurement in a new process, and the peak during them."""
    # The options with which the table is made, and the name of the one measurement.
    command = [sys.executable, script, "--peak", measure, side, *sys.argv[1:]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, highest = json.loads(printed.splitlines()[-1])
    return before, highest


def print_peak(calls_of: Calls, given: argparse.Namespace) -> None:
    """What `peak_of` reads."""
    measure, side = given.peak
    keep_as(given, side)
    call = calls_of(given, side)[measure]
    before = _resident_mib("VmRSS")
    for _ in range(2):
        call()
    print(json.dumps([before, _resident_mib("VmHWM")]))


def _resident_mib(field: str) -> float:
    """This process's `VmRSS`, or its peak `VmHWM`; getrusage's peak is at least that of the parent process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


class Trained(Protocol[Batch]):
    """A side that is trained."""

    name: str
    steps: int
    seconds: float

    def step(self, batch: Batch, progress: float) -> None:
        """Run one step, at this share of the training, and count it and its time."""


def train_in_turn(sides: Sequence[Trained[Batch]], batches: Iterable[Batch], steps: int | None, minutes: float) -> None:
    """Train for equal steps on the same batches, or for equal time, in which a batch goes to the side that is due."""
    started, budget = time.time(), 60 * minutes
    for batch in batches:
        if steps:
            if sides[0].steps == steps:
                return
            for side in sides if sides[0].steps % 2 else sides[::-1]:
                side.step(batch, side.steps / steps)
        else:
            side = min(sides, key=lambda s: s.seconds)
            if side.seconds >= budget:
                return
            side.step(batch, side.seconds / budget)
        if sum(s.steps for s in sides) % 50 == 0:
            clocks = ", ".join(f"{s.name} {s.steps} steps in {s.seconds:.0f} s" for s in sides)
            print(f"{time.time() - started:.0f} s: {clocks}", flush=True)
