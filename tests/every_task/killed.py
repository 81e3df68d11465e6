"""Trainings in processes that can be killed: started from a clean process that has the packages loaded already."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["engine.cli.effdense_cli", "detection.task", "segmentation.task", "joint.task", "tests.detection.small"]
)


def run(task: str, line: str, folder: str, temporary: str, largest: int | None) -> None:
    """A command of a task, as the whole of a process; its output goes to `said.txt`.

    Args:
        task: the task.
        line: the command line after the program's name.
        folder: the working folder.
        temporary: the folder for temporary files.
        largest: bytes that a file may have, as on a full disk; None is no limit.
    """
    os.environ["TMPDIR"] = temporary
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    # As in a process of a user's; this one was told the way in which it was itself started.
    multiprocessing.set_start_method("fork", force=True)
    import torch

    from engine.cli.commands import run_task
    from engine.tasks import find_task

    torch.set_num_threads(1)
    if largest is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    code = run_task(find_task(task), line.split())
    sys.stdout.flush()
    os._exit(code)


def start(task: str, line: str, folder: Path, temporary: Path, largest: int | None = None) -> BaseProcess:
    """Begin a command; see `run`."""
    process = CONTEXT.Process(target=run, args=(task, line, str(folder), str(temporary), largest))
    process.start()
    return process


def finish(task: str, line: str, folder: Path, temporary: Path, largest: int | None = None) -> int:
    """Run a command to its end; returns its exit status."""
    process = start(task, line, folder, temporary, largest)
    process.join(300)
    assert process.exitcode is not None, "the command did not end"
    return process.exitcode


def warm_up() -> None:
    """Load the packages in the process that all others are started from."""
    process = CONTEXT.Process(target=int)
    process.start()
    process.join()


def kill(process: BaseProcess, after: float) -> bool:
    """Kill a process after some seconds; returns whether it still ran."""
    process.join(after)
    alive = process.is_alive()
    if alive:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        time.sleep(0.1)  # the system gives its locks back
    return alive
