"""The precision of a training that suits the device: which, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch

Precision = Literal[
    "auto", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "transformer-engine",
    "transformer-engine-float16", "32", "16", "bf16", "64", 64, 32, 16,
]  # fmt: skip
BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))  # processors that multiply in bfloat16


class Choice(NamedTuple):
    """A precision, as Lightning names it, and why, in words."""

    precision: str
    why: str


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags of the processor, as Linux lists them; none elsewhere."""
    lines = path.read_text().splitlines() if path.exists() else []
    return frozenset(word for line in lines if line.startswith("flags") for word in line.partition(":")[2].split())


def auto_precision(device: str, flags: frozenset[str], *, cuda_bf16: bool = False) -> Choice:
    """The precision that a training takes by itself.

    Args:
        device: `cuda`, `mps` or `cpu`.
        flags: those of the processor.
        cuda_bf16: whether the CUDA device computes in bfloat16, as those from compute capability 8.0 on do.

    >>> auto_precision("cpu", frozenset(["avx2"])).precision
    '32-true'
    """
    if device == "cuda":
        if cuda_bf16:
            return Choice("bf16-mixed", "the GPU computes in bfloat16")
        return Choice("32-true", "the GPU does not compute in bfloat16")
    if device != "cpu":
        return Choice("32-true", f"{device} has no bfloat16 that is known to be right")
    # Even where the processor multiplies in bfloat16, depthwise convolutions, norms and the loss do not gain by it:
    # benchmarks/precision.py, figures in benchmarks/RESULTS.md.
    known = "is no faster" if flags & BF16_FLAGS else "is emulated, and many times slower"
    return Choice("32-true", f"on this processor bfloat16 {known}")


def slow_precision(asked: str | int, device: str, flags: frozenset[str]) -> str | None:
    """A sentence if the precision that a user asked for is emulated, and slow, on the device; else None.

    >>> slow_precision("bf16-mixed", "cpu", frozenset(["avx2"]))
    'trainer.precision bf16-mixed is emulated on this processor, which is many times slower than 32-true.'
    """
    if device != "cpu" or str(asked) not in ("bf16-mixed", "bf16-true", "bf16", "16-mixed", "16-true", "16"):
        return None
    if "bf16" in str(asked) and flags & BF16_FLAGS:
        return None
    return f"trainer.precision {asked} is emulated on this processor, which is many times slower than 32-true."


def chosen_precision(asked: str | int | None, accelerator: object, *, training: bool) -> tuple[str | None, str | None]:
    """The precision for Lightning's trainer, and a line for the user where there is something to say.

    Args:
        asked: the one that was asked for; `auto` takes what suits a training on the device, and float32 for scores and
            answers, which do not depend on the machine so.
        accelerator: of the trainer.
        training: whether the command trains.
    """
    device, flags = device_of(accelerator), processor_flags()
    if asked != "auto":
        return (None, None) if asked is None else (str(asked), slow_precision(asked, device, flags))
    if not training:
        return "32-true", None
    bf16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    choice = auto_precision(device, flags, cuda_bf16=bf16)
    return choice.precision, f"precision {choice.precision}: {choice.why}"


def device_of(accelerator: object) -> str:
    """The kind of device that Lightning's trainer takes for an accelerator: `cuda`, `mps`, `cpu`, or another name."""
    if accelerator in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return str(accelerator)
