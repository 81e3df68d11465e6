"""`python -m deployment setup`: the environment that a format needs, before it is needed."""

from __future__ import annotations

from collections.abc import Sequence

from deployment.litert.environment import setup
from engine.cli.commands import parse_function, program, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and make the environment; returns 2 after one short line of error, else 0."""

    def act() -> None:
        words = list(argv or ())
        given = ["--what", *words] if words and not words[0].startswith("-") else words
        setup(**parse_function(setup, f"{program('deployment')} setup", given, __doc__))

    return run_command(act)
