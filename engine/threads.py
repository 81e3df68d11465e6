"""The threads of OpenMP, set up before torch is imported: how long they wait in a loop, and how many there are.

On a CPU, PyTorch computes with GNU's OpenMP (libgomp), whose threads wait for work in a loop that keeps a core busy.
On a machine that has other work, a waiting thread takes the core from the thread that it waits for, and a training
step takes many times as long as it should. `benchmarks/threads.py` measures it.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path

# Turns of the loop before a thread sleeps; libgomp's default is 300,000 (GOMP_SPINCOUNT in its manual). Chosen by
# benchmarks/threads.py, see benchmarks/RESULTS.md.
SPINS = 10_000
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # a user who sets any of them has decided
_CGROUPS = Path("/sys/fs/cgroup")
_BEHIND = 10  # the nice value of a thread that gives way: a tenth of a computing thread's share of a core


def set_up_threads(environment: MutableMapping[str, str] = os.environ, cgroups: Path = _CGROUPS) -> None:
    """Set the variables of OpenMP that the user has not set; call it before torch is imported.

    Args:
        environment: where the variables are set; processes that are started later inherit them.
        cgroups: the folder that tells how much processor time the container may use.
    """
    if not any(name in environment for name in _WAITING):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
    # OpenMP knows the cores that the process may run on, but not the container's quota of their time.
    if free_cores(cgroups) < usable_cores():
        environment.setdefault("OMP_NUM_THREADS", str(free_cores(cgroups)))


def give_way() -> None:
    """Let the calling thread compute only while others of this process do not need the core; on Linux alone.

    OpenMP divides a layer equally between its threads and goes on when the last one is done, so that a thread which
    takes a core from one of them holds up all.
    """
    if sys.platform == "linux":  # elsewhere a nice value is that of the whole process
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, max(_BEHIND, os.getpriority(os.PRIO_PROCESS, own)))


def opencv_on_one_thread() -> None:
    """Let OpenCV compute on the thread that calls it; call this before cv2 is imported.

    A training has as many workers as there are cores, in each of which OpenCV would begin as many threads again.
    """
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def free_cores(cgroups: Path = _CGROUPS) -> int:
    """Cores whose time this process may use: those that it may run on, within the container's quota."""
    quota = processor_quota(cgroups)
    return usable_cores() if quota is None else min(usable_cores(), quota)


def processor_quota(cgroups: Path = _CGROUPS) -> int | None:
    """Processor time that the container may use, as a number of cores, rounded up; None without a limit.

    Control groups of version 2 state it in `cpu.max`, those of version 1 in `cpu/cpu.cfs_quota_us` and
    `cpu/cpu.cfs_period_us` (kernel documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    try:
        if (cgroups / "cpu.max").is_file():
            quota, period = (cgroups / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return max(1, math.ceil(cores)) if cores > 0 else None
