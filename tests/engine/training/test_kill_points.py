"""A checkpoint is the former one or the new one, whole, wherever its writer is killed or the disk fails.

The writer's calls to the system are counted; the kill is one, of a process of its own, at or within any of them.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from unittest import mock

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import InputError, OutputError
from engine.training.checkpoint_files import CHECKPOINTS, checkpoint_of_run
from engine.training.claims import Claim
from engine.training.whole_files import WholeFiles

OLD = {"state_dict": {"w": torch.arange(5.0)}, "epoch": 1}
NEW = {"state_dict": {"w": torch.arange(3000.0)}, "epoch": 2}
NAMES = ("last.ckpt", "best-step=6-val_ap=0.250.ckpt")
BYTES = 14_000  # more than the new file has
points = st.integers(1, 48) | st.integers(36, 46)  # a writer makes some 43 calls; the last are of the most kinds
shares = st.floats(0, 1)


class Calls:
    """What a writer asks of the system, in order, with something that happens at one of the calls.

    Args:
        point: the number of that call, from 1.
        event: what happens; it may raise.
        share: of a write, the part that is done before the event; of others, all from a half on, and else nothing.
        log: a file that is told the inode of every file that was synced to the disk.
    """

    def __init__(self, point: int, event: Callable[[], None], share: float, log: Path) -> None:
        self.point, self.event, self.share, self.log = point, event, share, log
        self.made: list[str] = []
        self.real_open = Path.open

    def reach(self, name: str, do: Callable[..., Any], *args: Any) -> Any:
        """Make a call, or a part of it and the event."""
        self.made.append(name)
        now, done = len(self.made) == self.point, None
        if now and name == "write":
            do(args[0][: int(self.share * len(args[0]))])
        elif not now or self.share >= 0.5:
            done = do(*args)
        if now:
            self.event()
        return done

    def open(self, path: Path, mode: str = "r", *args: Any) -> Any:
        if "w" not in mode:
            return self.real_open(path, mode, *args)
        return Counted(self.reach("open", self.real_open, path, mode, 0), self)  # unbuffered, so that writes are writes

    def fsync(self, descriptor: int) -> None:
        def sync(descriptor: int) -> None:
            real(descriptor)
            with self.real_open(self.log, "a") as log:
                log.write(f"{os.fstat(descriptor).st_ino}\n")

        real = self.real["fsync"]
        self.reach("fsync", sync, descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self.reach("replace", self.real["replace"], source, target)

    def patches(self) -> ExitStack:
        self.real: dict[str, Callable[..., None]] = {"fsync": os.fsync, "replace": os.replace}
        stack = ExitStack()
        stack.enter_context(mock.patch.object(Path, "open", lambda path, *args: self.open(path, *args)))
        stack.enter_context(mock.patch.multiple(os, fsync=self.fsync, replace=self.replace))
        return stack


class Counted:
    """A file whose writes are counted."""

    def __init__(self, file: IO[bytes], calls: Calls) -> None:
        self.file, self.calls = file, calls

    def write(self, data: Any) -> int:
        self.calls.reach("write", self.file.write, memoryview(data))
        return len(data)

    def flush(self) -> None:
        pass

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def nothing() -> None:
    pass


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(work: Callable[[], object]) -> int:
    """Do something in a copy of this process; returns its exit status, negative if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except OutputError:
            code = 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save(path: Path, content: dict[str, Any] = NEW) -> None:
    WholeFiles().save_checkpoint(dict(content), path)


def make_run(folder: Path, name: str, former: bool) -> Path:
    """The path of a checkpoint in a new run `toy/it`, which the former one has if there is one."""
    path = folder / "toy/it" / CHECKPOINTS / name
    path.parent.mkdir(parents=True)
    if former:
        save(path, OLD)
    return path


def epoch_of(path: Path) -> int:
    content = torch.load(path, weights_only=True)
    wanted = NEW if content["epoch"] == 2 else OLD
    torch.testing.assert_close(content["state_dict"], wanted["state_dict"], rtol=0, atol=0)
    epoch: int = content["epoch"]
    return epoch


def check(path: Path, allowed: tuple[int, ...], former: bool) -> None:
    """The file is whole, what lies beside it is no checkpoint, and the run goes on."""
    root, which = path.parents[3], path.name[:4].rstrip("-.")
    if former or path.exists():
        assert epoch_of(path) in allowed
        for name in (None, "it"):
            assert checkpoint_of_run(root, "toy", name, "last" if which == "last" else "best") == path
    else:
        for name in (None, "it"):
            with pytest.raises(InputError, match="no run"):
                checkpoint_of_run(root, "toy", name, "last" if which == "last" else "best")
    Claim(path.parents[1]).release()  # as the next training does
    save(path)
    assert epoch_of(path) == 2
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_the_writers_calls_are_all_seen(tmp_path):
    """Else a fault at any of them would be a fault at none."""
    path = make_run(tmp_path, "last.ckpt", former=True)
    calls = Calls(0, nothing, 0, tmp_path / "log")
    with calls.patches():
        save(path)
    assert calls.made[:2] == ["open", "write"]
    assert calls.made[-4:] == ["write", "fsync", "replace", "fsync"]
    assert 10 < len(calls.made) < 48
    assert path.stat().st_size < BYTES
    synced = (tmp_path / "log").read_text().split()
    assert synced == [str(path.stat().st_ino), str(path.parent.stat().st_ino)]


@settings(max_examples=30, deadline=None)
@given(point=points, share=shares, lost=shares, former=st.booleans(), name=st.sampled_from(NAMES))
def test_killed_at_any_call(tmp_path_factory, point, share, lost, former, name):
    """What was not synced to the disk is cut short too, as after a power cut."""
    folder = tmp_path_factory.mktemp("killed")
    path, log = make_run(folder, name, former), folder / "log"
    log.touch()
    kept = {path.stat().st_ino} if former else set()

    def work():
        with Calls(point, die, share, log).patches():
            save(path)

    code = in_a_process(work)
    assert code in (0, -signal.SIGKILL)
    kept |= set(map(int, log.read_text().split()))
    for file in path.parent.iterdir():
        if file.stat().st_ino not in kept:
            os.truncate(file, int(lost * file.stat().st_size))
    check(path, (1, 2) if code and former else (2,), former or code == 0)


@settings(max_examples=30, deadline=None)
@given(
    point=points,
    share=shares,
    number=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EDQUOT]),
    former=st.booleans(),
    name=st.sampled_from(NAMES),
)
def test_an_error_at_any_call(tmp_path_factory, point, share, number, former, name):
    """It is one short message, and the writer tidies up; only the folder's sync may fail, as some systems have none."""
    folder = tmp_path_factory.mktemp("failed")
    path = make_run(folder, name, former)

    def fail():
        raise OSError(number, os.strerror(number))

    calls = Calls(point, fail, share, folder / "log")
    said = ""
    with calls.patches():
        try:
            save(path)
        except OutputError as error:
            said = str(error)
    replaced = "replace" in calls.made
    last = calls.made.index("replace") + 2 if replaced else None
    failed = point <= len(calls.made) and point != last
    assert bool(said) == failed
    if failed:
        assert said.startswith(f"cannot write the checkpoint '{path}': {os.strerror(number)}. The former one, ")
        assert said.endswith("is whole. Make room, and go on with --ckpt_path last.")
    assert [left.name for left in path.parent.iterdir()] == ([path.name] if former or path.exists() else [])
    check(path, (1, 2) if replaced and failed else (1,) if failed else (2,), former or not failed)


@settings(max_examples=15, deadline=None)
@given(most=st.integers(0, BYTES), former=st.booleans())
@example(most=0, former=True)
@example(most=BYTES, former=True)
def test_a_limit_of_the_system_on_the_files_bytes(tmp_path_factory, most, former):
    """The system's own refusal, in a process that is not watched."""
    path = make_run(tmp_path_factory.mktemp("full"), "last.ckpt", former)

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        save(path)

    code = in_a_process(work)
    assert code in (0, 2)
    assert [left.name for left in path.parent.iterdir()] == ([path.name] if former or code == 0 else [])
    check(path, (1,) if code else (2,), former or code == 0)
    assert code == (2 if most < path.stat().st_size else 0)
