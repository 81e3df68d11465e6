"""python -m engine.scenes ROOT --train 300 --val 60."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import parse_function, program, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Write generated scenes; returns the exit code: 0, or 2 for a mistake in the arguments."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    from engine.scenes.generate import generate

    about = "Write generated street scenes in COCO and Cityscapes form."
    generate(**parse_function(generate, program("engine.scenes"), argv, about, positional=True))


if __name__ == "__main__":
    sys.exit(main())
