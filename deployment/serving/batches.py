"""Requests that wait are computed together: threads that read images, and one that owns the network.

    given --readers--> ready --the worker--> answers

Both queues are bounded. Nothing here knows HTTP, a task or a network.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from deployment.serving.limits import Limits, RefusedError, busy
from engine.threads import give_way

READERS = 2  # threads that decode; the network has the rest of a processor
READING_SECONDS = 0.25  # a batch waits for images that are there and not read yet, for it costs little more when full
_log = logging.getLogger(__name__)
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Work(Protocol[Prepared, Answer_co]):
    """What is done with the images."""

    def prepare(self, content: bytes) -> Prepared:
        """Read an image; several threads do this."""

    def pixels(self, prepared: Prepared) -> int:
        """The pixels of an image as the network sees it."""

    def compute(self, images: Sequence[Prepared]) -> Sequence[Answer_co]:
        """The answers in the order of the images; one thread does this."""


@dataclass(eq=False)
class Job(Generic[Prepared, Answer]):
    """An image on its way.

    Attributes:
        content: its file; nothing once it is read.
        answer: the answer to come.
        prepared: what the readers made of it.
    """

    content: bytes
    answer: Future[Answer] = field(default_factory=Future)
    prepared: list[Prepared] = field(default_factory=list)


class _End:
    """The last entry of a queue."""


_END: Final = _End()


class Batcher(Generic[Prepared, Answer]):
    """Collects images into batches.

    Args:
        work: what is done with them.
        limits: sizes and waits.
        on_batch: called with the images and the seconds of each computed batch.
    """

    def __init__(
        self,
        work: Work[Prepared, Answer],
        limits: Limits,
        on_batch: Callable[[int, float], object] = lambda images, seconds: None,
    ) -> None:
        self._work = work
        self._limits = limits
        self._on_batch = on_batch
        self._given: queue.Queue[Job[Prepared, Answer] | _End] = queue.Queue(limits.queue)
        self._ready: queue.Queue[Job[Prepared, Answer] | _End] = queue.Queue(limits.batch_size)
        self._next: Job[Prepared, Answer] | _End | None = None  # taken from `ready`, and too large for the last batch
        self._image_seconds = 0.1  # of one image in the last batch
        self._open = False
        self._readers = [threading.Thread(target=self._read, name=f"reader {n}", daemon=True) for n in range(READERS)]
        self._worker = threading.Thread(target=self._answer, name="network", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._open = True
        for thread in (*self._readers, self._worker):
            thread.start()

    def stop(self) -> None:
        """Take no more images, answer those that wait, and end the threads."""
        self._open = False
        for _ in self._readers:
            self._given.put(_END)
        for reader in self._readers:
            reader.join()
        self._ready.put(_END)
        self._worker.join()

    @property
    def alive(self) -> bool:
        """Whether images are taken and all threads run."""
        return self._open and all(thread.is_alive() for thread in (*self._readers, self._worker))

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return self._given.qsize() + self._ready.qsize()

    def submit(self, content: bytes) -> Future[Answer]:
        """Give an image; cancel its answer if nobody waits for it any more.

        Raises:
            RefusedError: too many wait, or no more are taken.
        """
        job: Job[Prepared, Answer] = Job(content)
        if not self._open:
            raise RefusedError(503, busy("it is shutting down"), retry_seconds=1)
        try:
            self._given.put_nowait(job)
        except queue.Full:
            waiting = self.waiting
            seconds = waiting * self._image_seconds
            what = f"{waiting} images wait for the network"
            raise RefusedError(503, busy(what, seconds), retry_seconds=seconds) from None
        return job.answer

    def _read(self) -> None:
        give_way()
        while not isinstance(job := self._given.get(), _End):
            if not job.answer.cancelled():
                self._prepare(job)
            del job  # while the next one is awaited, the last image is not held
            self._given.task_done()
        self._given.task_done()

    def _prepare(self, job: Job[Prepared, Answer]) -> None:
        try:
            job.prepared.append(self._work.prepare(job.content))
        except Exception as error:
            _fail(job, error)
            return
        job.content = b""
        self._ready.put(job)

    def _answer(self) -> None:
        while batch := self._collected():
            self._compute(batch)
            del batch

    def _collected(self) -> list[Job[Prepared, Answer]]:
        """The next batch; empty at the end."""
        first = self._ready.get() if self._next is None else self._next
        self._next = None
        if isinstance(first, _End):
            return []
        batch, pixels = [first], self._pixels(first)
        wait = self._limits.wait_ms / 1000
        until = time.monotonic() + wait
        latest = until + READING_SECONDS
        while len(batch) < self._limits.batch_size:
            try:
                job = self._ready.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                if not wait or not self._given.unfinished_tasks or time.monotonic() >= latest:
                    break
                until = min(time.monotonic() + wait, latest)
                continue
            if isinstance(job, _End) or pixels + self._pixels(job) > self._limits.max_pixels:
                self._next = job
                break
            batch.append(job)
            pixels += self._pixels(job)
        return batch

    def _pixels(self, job: Job[Prepared, Answer]) -> int:
        return self._work.pixels(job.prepared[0])

    def _compute(self, batch: Sequence[Job[Prepared, Answer]]) -> None:
        wanted = [job for job in batch if job.answer.set_running_or_notify_cancel()]
        if wanted:
            started = time.monotonic()
            self._computed(wanted)
            seconds = time.monotonic() - started
            self._image_seconds = seconds / len(wanted)
            self._on_batch(len(wanted), seconds)

    def _computed(self, batch: Sequence[Job[Prepared, Answer]]) -> None:
        try:
            answers = self._work.compute([job.prepared[0] for job in batch])
        except Exception as error:
            if len(batch) == 1:
                _log.warning("an image could not be computed", exc_info=error)
                batch[0].answer.set_exception(error)
                return
            for job in batch:  # one image does not cost the others their answers
                self._computed([job])
            return
        for job, answer in zip(batch, answers, strict=True):
            job.answer.set_result(answer)


def _fail(job: Job[Prepared, Answer], error: Exception) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)
