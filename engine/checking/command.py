"""The command that checks a set, the same for all tasks: `check`, or `check-data`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.checking.asked import Asked
from engine.checking.findings import CheckReport
from engine.cli.commands import HELP, parse_function, program, run_command
from engine.cli.given.data import given_data
from engine.errors import InputError
from engine.tasks import TaskSpec


@dataclass(frozen=True)
class CheckCommand:
    """A check as a command.

    Attributes:
        spec: the task.
        about: the first lines of the help.
        of_data: checks a set that is given as to `fit`; its first argument is what was given, and the others, one of
            them `asked`, are the options.
        of_folder: checks a set by its folder alone, which is its first argument; None for a task that cannot.
    """

    spec: TaskSpec
    about: str
    of_data: Callable[..., CheckReport]
    of_folder: Callable[..., CheckReport] | None = None

    def main(self, argv: Sequence[str] | None) -> int:
        """Parse the command line and print the table.

        Returns:
            1 if a finding is at least as bad as `fail_on`, 2 if the set cannot be read, else 0.
        """

        def act() -> int:
            words = list(sys.argv[2:] if argv is None else argv)
            helping = bool(set(HELP) & set(words))
            given = None if helping else given_data(self.spec, words)
            command = f"{program(self.spec.name)} {self.spec.check_command}"
            if given is None and self.of_folder is None and not helping:
                msg = "no data were given. Give --config FILE, or --data.root and --data.format as for fit."
                raise InputError(msg)
            function = self.of_data if given is not None or self.of_folder is None else self.of_folder
            skip = [] if function is self.of_folder else [next(iter(inspect.signature(function).parameters))]
            left = words if given is None else given.rest
            options = parse_function(
                function, command, left, self.about, positional=True, skip=skip, groups={"asked": Asked}
            )
            report = function(**options) if given is None else function(given, **options)
            sys.stdout.write(report.table() + "\n")
            asked = options["asked"]
            assert isinstance(asked, Asked)
            return report.exit_code(asked.fail_on)

        return run_command(act)
