"""Freed memory: kept for the next training step, or handed back to the system after the annotations were read."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let large blocks come from the heap and stay there; does nothing where the C library is not glibc.

    By default glibc asks the system for each block above 32 MB and returns it when freed. The activations of a training
    step on a CPU are such blocks, and the system clears every page of them anew, which takes a good part of a step
    (`benchmarks/RESULTS.md`).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def return_freed_memory() -> None:
    """Hand freed memory back to the system; does nothing where the C library is not glibc.

    A parser leaves room behind that its many small objects took, as much as the annotations themselves, which glibc
    keeps for the process (`benchmarks/annotation_memory.py`).
    """
    if not sys.platform.startswith("linux"):
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent in musl
    if malloc_trim is not None:
        malloc_trim(0)
