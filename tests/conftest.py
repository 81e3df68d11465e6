"""What every test shares."""

from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import pytest
import torch

# Two test processes share two cores; more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before those marked slow are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that is marked `by_default(word)` only the case of the word runs by default; the others are slow."""
    for item in items:
        chosen = item.get_closest_marker("by_default")
        if chosen is not None and chosen.args[0] not in re.split(r"[\[\]-]", item.name):
            item.add_marker(pytest.mark.slow)


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
