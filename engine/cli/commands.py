"""`python -m TASK COMMAND`: the code that each command runs, and commands that are one plain function.

Nothing heavy is imported before it is known to be needed: help, version, scores and the messages about most mistakes
come without waiting for torch.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from engine.cli.early import check_order, prepare, rename_words
from engine.cli.help import first_page, group_page
from engine.cli.messages import Known, reword
from engine.errors import InputError
from engine.hardware.memory import keep_freed_memory
from engine.tasks import TaskSpec
from engine.threads import set_up_threads

CONSOLE = "effdense"
HELP = ("-h", "--help", "help")


def program(module: str) -> str:
    """How the user started a package of ours: `python -m MODULE`, or `effdense NAME` by the console command."""
    if Path(sys.argv[0]).stem == CONSOLE:
        return f"{CONSOLE} {module.rpartition('.')[2]}"
    return f"python -m {module}"


def run_main(spec: TaskSpec) -> NoReturn:
    """Run a task's command line as the whole program."""
    sys.exit(run_task(spec))


def run_task(spec: TaskSpec, argv: Sequence[str] | None = None) -> int:
    """Run a task's command line.

    Args:
        spec: the task.
        argv: the arguments; None takes the process's own.

    Returns:
        The exit status: 0, 2 after a wrong input, 130 after an interruption.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if show_basics(words, lambda: overview(spec)):
        return 0
    if words[0] in spec.commands:
        return run_module(spec.commands[words[0]], words[1:])
    if words[0] in spec.common_commands:
        status: int = importlib.import_module(spec.common_commands[words[0]]).main(spec, words[1:])
        return status
    if status := run_command(lambda: check_order(spec, words)):
        return status
    asked = next((index for index, word in enumerate(words) if word in HELP[:2]), None)
    if asked is not None and words[asked + 1 : asked + 2] != ["all"]:
        return run_command(lambda: _show_help(spec, words[0], words[asked + 1 : asked + 2]))
    if asked is not None:
        words = [words[0], "--help"]
    elif status := run_command(lambda: _check(spec, words)):
        return status
    from engine.cli.effdense_cli import run_cli

    return run_cli(spec, words, program(spec.name))


def show_basics(words: Sequence[str], page: Callable[[], str]) -> bool:
    """Print the page or the version if the command line asks for nothing else, and return whether it did."""
    if not words or words[0] in HELP:
        sys.stdout.write(page())
    elif words[0] == "--version":
        sys.stdout.write(f"{installed_version()}\n")
    else:
        return False
    return True


def run_module(module: str, argv: Sequence[str]) -> int:
    """Run the `main` of a module with arguments; returns its exit status."""
    status: int = importlib.import_module(module).main(argv)
    return status


def overview(spec: TaskSpec) -> str:
    """The help of a task: examples, and its commands."""
    started = program(spec.name)
    examples = "".join(f"  {started} {line}\n" for line in spec.examples)
    about = "".join(f"  {name:<10} {line}\n" for name, line in spec.lines.items())
    return (
        f"{spec.title}\n\n{examples}\n{about}\n"
        f"`{started} COMMAND --help` shows the most used options; --version shows the version.\n"
    )


def _check(spec: TaskSpec, words: Sequence[str]) -> None:
    prepare(spec, words)


def _show_help(spec: TaskSpec, command: str, group: Sequence[str]) -> None:
    started = program(spec.name)
    page = group_page(spec, command, group[0], started) if group else first_page(spec, command, started)
    sys.stdout.write(page)


def installed_version() -> str:
    """The version of the installed package, or that it runs from its source."""
    try:
        return version("effdense")
    except PackageNotFoundError:
        return "unknown: effdense runs from its source folder and is not installed (make setup does that)"


def run_command(act: Callable[[], int | None]) -> int:
    """Call `act` and return the exit status: its own or 0, 2 after one short line of error, 130 after an interruption.

    Every command passes here before it imports torch.
    """
    set_up_threads()
    keep_freed_memory()
    try:
        return act() or 0
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def parse_function(
    function: Callable[..., object],
    command: str,
    argv: Sequence[str] | None,
    description: str | None = None,
    *,
    positional: bool = False,
    renamed: Mapping[str, str] | None = None,
    skip: Sequence[str] = (),
    groups: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """The arguments of a typed function from a command line; `--help` prints its options and ends the program.

    Args:
        function: its annotations and docstring describe the options.
        command: the program's name, such as `python -m detection score`.
        argv: the arguments; None takes the process's own.
        description: the first line of the help.
        positional: arguments without a default are given by their place, not as options.
        renamed: former names of options, each with its present name.
        skip: parameters that the command line does not give.
        groups: arguments whose fields are options of their own, such as several commands share; each with its
            dataclass, which describes them.

    Raises:
        InputError: an option is unknown, missing, of another type or refused by a group.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=command, description=description, exit_on_error=False, allow_abbrev=False)
    grouped = dict(groups or {})
    names = parser.add_function_arguments(function, as_positional=positional, skip={*skip, *grouped})
    fields = {name: parser.add_class_arguments(kind) for name, kind in grouped.items()}
    names = [*names, *(field for each in fields.values() for field in each)]
    parameters = inspect.signature(function).parameters
    places = {name for name in parameters if positional and parameters[name].default is inspect.Parameter.empty}
    words = with_underscores(argv)
    known: Known = _FunctionOptions({name: name if name in places else f"--{name}" for name in names}, words)

    def today(name: str) -> str | None:
        new = (renamed or {}).get(name)
        return new if new in names and name not in names else None

    words = rename_words(words, today, lambda old, new: sys.stderr.write(f"{old} is now called {new}\n"))
    try:
        values = dict(vars(parser.parse_args(words)))
    except argparse.ArgumentError as error:
        raise InputError(reword(known, str(error))) from error
    return values | {
        name: kind(**{field: values.pop(field) for field in fields[name]}) for name, kind in grouped.items()
    }


@dataclass(frozen=True)
class _FunctionOptions:
    """The options of a plain command: their names, and how they are written."""

    shown: Mapping[str, str]
    given: Sequence[str]

    def option_keys(self) -> Sequence[str]:
        return list(self.shown)

    def inner(self) -> Mapping[str, Known]:
        return {}

    def words(self) -> Sequence[str]:
        return self.given

    def written(self, key: str) -> str:
        return self.shown.get(key, key)

    def class_names(self) -> Sequence[str]:
        return ()


def with_underscores(argv: Sequence[str] | None) -> list[str]:
    """The command line with `--ground-truth` as `--ground_truth`; None takes the process's own."""
    words = sys.argv[1:] if argv is None else argv
    return [re.sub(r"(?<=\w)-", "_", option) + rest for option, rest in map(_split_option, words)]


def _split_option(word: str) -> tuple[str, str]:
    match = re.match(r"--[\w-]+", word)
    return (match[0], word[match.end() :]) if match else ("", word)
