"""What every test shares."""

from __future__ import annotations

import gc
import multiprocessing.forkserver
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

# Two test processes share two cores; more threads would only wait for each other, those of started programs too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch  # which reads it

torch.set_num_threads(1)

# Python forks started processes from one server, which loads what the first test that starts one asks for, and nothing
# after that. In a whole run it loads all that any test needs, once, and no process loads it again.
STARTED = [
    "engine.cli.effdense_cli", "detection.task", "segmentation.task", "joint.task", "detection.data.module",
    "joint.data.module", "detection.prediction.trainer", "joint.prediction.trainer", "deployment.benchmark.worker",
]  # fmt: skip
if "PYTEST_XDIST_WORKER" in os.environ:
    preload = multiprocessing.forkserver.set_forkserver_preload
    multiprocessing.forkserver.set_forkserver_preload = lambda names: preload([*STARTED, *names])
    multiprocessing.set_forkserver_preload([])

# Folders whose tests share something that takes long: a training, an export, or the reading of all source. The README's
# commands export, too: where the exporters have been imported already, that is the shorter.
FOLDERS = ("classification", "deployment", "detection", "every_task", "house", "joint", "segmentation")
SHARING = {**{name: name for name in FOLDERS}, "test_readme.py": "deployment"}


@pytest.hookimpl(tryfirst=True)  # before those marked slow are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test marked `by_default(word, …)` only the cases of the words run by default; the others are slow."""
    cases: dict[str, list[bool]] = {}
    for item in items:
        chosen = item.get_closest_marker("by_default")
        case = f"-{item.name.partition('[')[2].rstrip(']')}-"
        if chosen is not None:
            named = any(f"-{word}-" in case for word in chosen.args)
            cases.setdefault(item.nodeid.partition("[")[0], []).append(named)
            if not named:
                item.add_marker(pytest.mark.slow)
    lost = [name for name, named in cases.items() if not any(named)]
    if lost and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"by_default names no case of {', '.join(lost)}; every case of it would be slow")


@pytest.hookimpl(optionalhook=True)  # only where pytest-xdist is installed
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """With `--dist loadgroup`, tests that share costly things (trainings, exported files) run in one process.

    By their names, not by the mark `xdist_group`: pytest-xdist 3.8 writes the mark to an attribute that pytest 9.2 no
    longer reads, so that every test would be a group of its own and each process would make all that is shared.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByFolder(config, log) if config.getvalue("dist") == "loadgroup" else None


def group(nodeid: str) -> str:
    """What a test shares costly things with: its folder, where that makes some, else its file."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return SHARING.get(file.partition("/")[0], file)


def pytest_collection_finish() -> None:
    """Leave what importing and collecting made out of every later search for garbage: it stays to the end."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Otherwise libraries find their objects alive when Python ends, and report them as leaks."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and annotations, for tests marked `real`."""
    folder = os.environ.get("EFFDENSE_REAL")
    if not folder or not Path(folder).is_dir():
        pytest.fail("tests marked `real` need $EFFDENSE_REAL, the folder of the real images")
    return Path(folder)


@pytest.fixture
def server():
    """The address of a server that answers nothing, and the requests that it was sent."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def listen():
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    heard.append(True)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        ended.set()
        thread.join(2)
