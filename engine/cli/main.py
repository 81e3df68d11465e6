"""The console command `effdense`: `effdense detection fit ...` does the same as `python -m detection fit ...`.

A console command does not put the working folder on Python's path. It therefore works even in a folder that has a
`detection/` of its own, which `python -m detection` would run instead.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import CONSOLE, run_command, run_module, run_task, show_basics
from engine.cli.signatures import summary
from engine.errors import check_choice
from engine.tasks import PROGRAMS, find_task, registered, task_names


def main(argv: Sequence[str] | None = None) -> int:
    """Run a task or another program of ours; returns the exit status: 0, or 2 after a wrong input."""
    words = list(sys.argv[1:] if argv is None else argv)
    if show_basics(words, page):
        return 0
    programs = registered(PROGRAMS)
    if words[0] in programs:
        return run_module(programs[words[0]], words[1:])

    def run() -> int:
        check_choice("program", words[0], [*task_names(), *programs])
        return run_task(find_task(words[0]), words[1:])

    return run_command(run)


def page() -> str:
    """The list of the tasks and programs, for one screen."""
    tasks = "".join(f"  {name:<14} {find_task(name).title}\n" for name in task_names())
    programs = "".join(f"  {name:<14} {summary(module)}\n" for name, module in registered(PROGRAMS).items())
    return (
        f"{CONSOLE} PROGRAM COMMAND --option value ...\n\n{tasks}{programs}\n"
        f"`{CONSOLE} PROGRAM --help` lists its commands; --version shows the version.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
