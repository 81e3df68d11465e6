"""Freed memory: kept for the next training step, or given back to the system after the annotations were read."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let large blocks come from the heap and stay there. Without glibc this does nothing.

    By default glibc asks the system for each block above 32 MB and returns it when it is freed. The activations of a
    training step on a CPU are such blocks, and the system clears all their pages again at every step, which takes a
    large part of the step (`benchmarks/RESULTS.md`).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def return_freed_memory() -> None:
    """Give freed memory back to the system. Without glibc this does nothing.

    The many small objects of a parser leave freed memory behind, as much as the annotations themselves take, and glibc
    keeps it for the process (`benchmarks/annotation_memory.py`).
    """
    if not sys.platform.startswith("linux"):
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent in musl
    if malloc_trim is not None:
        malloc_trim(0)
