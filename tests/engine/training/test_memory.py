"""The allocator keeps what it is told to keep."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
{call}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): np.empty(64 * 2**20, np.uint8).fill(1)
step()
before = faults()
for _ in range(10): step()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_freed_block_is_not_fetched_from_the_system_again():
    calls = ("", "from engine.training.memory import keep_freed_memory; keep_freed_memory()")
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", COUNT.format(call=call)], check=True, capture_output=True).stdout)
        for call in calls
    )
    assert kept < plain / 10


def test_other_systems_are_left_alone(monkeypatch):
    from engine.training import memory

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    memory.keep_freed_memory()
