"""A process of its own for each candidate, so that memory is its own and no runtime's threads disturb another's."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

from deployment.benchmark.accuracy import Data, scores_of
from deployment.benchmark.candidates import Candidate
from deployment.benchmark.stages import Opened
from engine.errors import InputError
from engine.hardware.machine import resident_mib
from engine.hardware.memory import keep_freed_memory


class Order(NamedTuple):
    """What a process computes.

    Attributes:
        candidate: the candidate.
        file: its exported file; None computes it in PyTorch.
        score_threshold: boxes at or below it are no answers.
        picture: the picture, which fills a batch.
        data: labelled pictures.
    """

    candidate: Candidate
    file: Path | None
    score_threshold: float
    picture: Path
    data: Data


class Started(TypedDict):
    """What is known once a candidate has run for the first time.

    Attributes:
        load_s: seconds until it is opened.
        first_s: seconds of the first run.
        before_mib: resident memory before that, with PyTorch loaded.
    """

    load_s: float
    first_s: float
    before_mib: float


class Visit(TypedDict):
    """One turn of a candidate.

    Attributes:
        seconds: of each run: read, prepare, network, finish.
        peak_mib: the largest resident memory of its process so far.
    """

    seconds: list[list[float]]
    peak_mib: float


class Worker:
    """The process of a candidate, as the process that measures sees it.

    Args:
        order: what it computes.

    Raises:
        InputError: the candidate cannot be opened or computed.
    """

    def __init__(self, order: Order) -> None:
        self.label = order.candidate.label
        context = _context()
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, order), daemon=True)
        self._process.start()
        other.close()
        self.started = cast("Started", self._receive())

    def runs(self, repeats: int) -> Visit:
        """Run `repeats` times, after one run that is not counted.

        Raises:
            InputError: its process ended, or a run failed.
        """
        self._connection.send(repeats)
        return cast("Visit", self._receive())

    def scores(self, tell: Callable[[], None]) -> dict[str, float]:
        """AP, mIoU and top-1, as far as there are any.

        Args:
            tell: is called after each picture.

        Raises:
            InputError: as `deployment.benchmark.accuracy.scores_of`, or its process ended.
        """
        self._connection.send("scores")
        while (found := self._receive()) is None:
            tell()
        return cast("dict[str, float]", found)

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
        self._connection.close()

    def _receive(self) -> object:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            code = self._process.exitcode
            why = "out of memory, or ended by another program" if code == -signal.SIGKILL else f"status {code}"
            msg = f"the process of {self.label} ended: {why}. Run it alone to see more."
            raise InputError(msg) from error
        if isinstance(answer, str):
            self.stop()
            raise InputError(answer)
        return answer


def _context() -> ForkServerContext | SpawnContext:
    """How processes begin: forked from one that has imported all of this, and computed nothing, where that is known."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _serve(connection: Connection, order: Order) -> None:
    """What the process does: it opens the candidate, then does what it is asked, until it is ended.

    It sends plain values; a text is an error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that measures decides
    keep_freed_memory()  # as every command does
    try:
        before = resident_mib()
        started = time.perf_counter()
        opened = Opened(order.candidate, order.file, order.score_threshold)
        loaded = time.perf_counter()
        pictures = [order.picture] * order.candidate.batch
        opened.run(pictures)
        first = time.perf_counter()
        connection.send({"load_s": loaded - started, "first_s": first - loaded, "before_mib": before})
        while True:
            asked = connection.recv()
            if asked == "scores":
                connection.send(scores_of(opened, order.data, lambda: connection.send(None)))
            else:
                opened.run(pictures)  # what others have driven out of the processor's caches comes back
                seconds = [list(opened.run(pictures)) for _ in range(asked)]
                connection.send({"seconds": seconds, "peak_mib": resident_mib(peak=True)})
    except (EOFError, BrokenPipeError):
        return
    except InputError as error:
        connection.send(str(error))
    except Exception as error:  # of any runtime
        line = (str(error).strip().splitlines() or ["no reason is given"])[0]
        connection.send(f"{order.candidate.label} cannot be computed: {type(error).__name__}: {line}")
