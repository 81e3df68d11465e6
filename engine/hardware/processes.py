"""Work that is divided among processes of this machine: as many as there are free cores, and one thread in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from engine.threads import free_cores

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int | None,
    *,
    per_process: int,
    chunk: int,
    name: str,
    unit: str,
) -> Iterator[Result]:
    """The results of tasks in their order, with a progress bar where there is a terminal.

    Args:
        work: does one task; it and the tasks travel to other processes.
        tasks: what is to be done.
        workers: processes; None takes as many as there are free cores and enough tasks for.
        per_process: tasks that are worth the start of a process.
        chunk: tasks that travel together.
        name: what the bar is called.
        unit: what the bar calls a task.
    """
    from tqdm import tqdm

    if workers is None:
        workers = min(free_cores(), len(tasks) // per_process)
    bar = partial(tqdm, total=len(tasks), desc=name, unit=unit, leave=False, disable=None)
    if workers <= 1:
        yield from bar(map(work, tasks))
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Spawned, not forked: the caller may hold the threads and locks of torch.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _single_thread) as pool:
        try:
            yield from bar(pool.map(work, tasks, chunksize=chunk))
        finally:
            pool.shutdown(cancel_futures=True)


def _single_thread() -> None:
    import cv2

    cv2.setNumThreads(1)
