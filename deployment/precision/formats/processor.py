"""What a processor does with products of int8."""

from __future__ import annotations

from pathlib import Path


def saturates(flags: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor adds products of int8 in 16 bits, so that weights must have seven.

    x86 without VNNI does: its instruction (VPMADDUBSW) adds two products of an unsigned and a signed byte and cuts the
    sum at 32,767, which 2 * 255 * 127 exceeds and 2 * 255 * 64 does not.

    Args:
        flags: what Linux says of the processor; on other systems nothing is known, and the answer is no.
    """
    try:
        lines = [line for line in flags.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        return False
    return bool(lines) and "vnni" not in lines[0]
