"""`python -m deployment setup`: environments that exports need beside the project's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from engine.cli.commands import parse_function, program, run_command


def setup(format: Literal["executorch", "litert"]) -> None:
    """Make the environment of a format, if it is missing; `export` does so too.

    The converter to .tflite needs an older PyTorch than this project, and ExecuTorch an older omegaconf. The
    environment of each (6 GB) is made by uv in the user's cache, or in the folder of the environment variable
    EFFDENSE_LITERT or EFFDENSE_EXECUTORCH.

    Args:
        format: executorch, or litert.

    Raises:
        InputError: uv is missing or fails, or the folder cannot be written.
    """
    from deployment.setup.environment import ENVIRONMENTS, tell_user

    environment = ENVIRONMENTS[format]
    environment.make(tell_user)
    sys.stdout.write(f"{environment.folder}: ready\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and make the environment; returns 2 after one short line of error, else 0."""

    def act() -> None:
        command = f"{program('deployment')} setup"
        description = (setup.__doc__ or "").partition("\n\n    Args:")[0]
        setup(**parse_function(setup, command, argv, description, positional=True))

    return run_command(act)
