"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.hardware.precision import processor_flags
from engine.threads import usable_cores

# Flags that decide how fast networks are: how wide vectors are, and which products of small numbers there are.
FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
    "amx_bf16", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
PACKAGES = ("effdense", "torch", "timm", "onnxruntime", "openvino", "ai-edge-litert")
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, object]:
    """Processor, its flags, system and versions, as plain values.

    Args:
        cpuinfo: where Linux describes the processor.
    """
    return {
        "processor": _processor(cpuinfo),
        "cores": usable_cores(),
        "flags": [flag for flag in FLAGS if flag in processor_flags(cpuinfo)],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
        "environment": {name: os.environ[name] for name in _WAITING if name in os.environ},
    }


def in_words(about: Mapping[str, object]) -> str:
    """The machine as a line of text."""
    flags, versions = about["flags"], about["versions"]
    assert isinstance(flags, list)
    assert isinstance(versions, dict)
    parts = [f"{about['processor']}, {about['cores']} cores", " ".join(flags) or "no known flags", str(about["system"])]
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{'; '.join(parts)}; Python {about['python']}, {named}"


def load() -> float | None:
    """How many processes wanted to compute in the last minute; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def resident_mib(peak: bool = False) -> float:
    """Memory of this process in MiB, or its largest so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        field = "VmHWM:" if peak else "VmRSS:"
        lines = status.read_text(encoding="ascii", errors="ignore").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
    import resource

    # Elsewhere only the largest is told: in bytes by macOS, and in kilobytes by others.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Memory that new processes can have, in MiB; None where the system does not say."""
    if not meminfo.is_file():
        return None
    lines = meminfo.read_text(encoding="ascii", errors="ignore").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _processor(cpuinfo: Path) -> str:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
