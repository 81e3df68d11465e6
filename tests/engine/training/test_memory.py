"""The allocator keeps freed memory when told to keep it, and returns it when told to return it."""

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

RETURN = """
import os
from engine.hardware.memory import return_freed_memory
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
blocks = [b"x" * (1000 + k % 2) for k in range(50_000)]
kept = blocks.pop()  # at the end of the heap, so that nothing below it is returned by itself
del blocks
held = resident()
return_freed_memory()
print(held - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_freed_block_is_not_fetched_from_the_system_again():
    calls = ("", "from engine.hardware.memory import keep_freed_memory; keep_freed_memory()")
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", COUNT.format(call=call)], check=True, capture_output=True).stdout)
        for call in calls
    )
    assert kept < plain / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_many_small_objects_took_goes_back_to_the_system():
    returned = int(subprocess.run([sys.executable, "-c", RETURN], check=True, capture_output=True).stdout)
    assert returned > 30e6  # of 50 MB


def test_other_systems_are_left_alone(monkeypatch):
    from engine.hardware import memory

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    memory.keep_freed_memory()
    memory.return_freed_memory()
