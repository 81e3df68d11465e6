"""A plain command of the toy task."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import parse_function, run_command


def shout(words: str, times: int = 1) -> str:
    """Say it loudly.

    Args:
        words: What to say.
        times: How often.
    """
    return words.upper() * times


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(
        lambda: sys.stdout.write(shout(**parse_function(shout, "toy shout", argv, renamed={"text": "words"}))) and 0
    )
