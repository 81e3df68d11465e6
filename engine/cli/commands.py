"""`python -m TASK COMMAND`: which code a command is, and commands that are one plain function.

Nothing heavy is imported before it is known to be needed: help, version and scores wait for no torch.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engine.errors import InputError, did_you_mean


def run_task(
    usage: str,
    plain: Mapping[str, str],
    build: Callable[[list[str]], object],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a task's command line.

    Args:
        usage: what help prints.
        plain: commands that need no training library, each with the module whose `main` takes its arguments.
        build: builds the LightningCLI of all other commands, and so runs it.
        argv: the arguments; None takes the process's own.

    Returns:
        The exit status: 0, 2 after a wrong input, 130 after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage)
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"{_version()}\n")
        return 0
    if arguments[0] in plain:
        status: int = importlib.import_module(plain[arguments[0]]).main(arguments[1:])
        return status
    from engine.cli.effdense_cli import run_cli

    return run_cli(build, arguments)


def _version() -> str:
    try:
        return version("effdense")
    except PackageNotFoundError:
        return "unknown: effdense runs from its source folder and is not installed (make setup does that)"


def run_command(act: Callable[[], None]) -> int:
    """Act; returns the exit status: 0, 2 after one short line of error, 130 after an interruption."""
    try:
        act()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def parse_function(
    function: Callable[..., Any],
    command: str,
    argv: Sequence[str] | None,
    description: str | None = None,
    *,
    positional: bool = False,
) -> dict[str, Any]:
    """The arguments of a typed function from a command line; `--help` prints them and leaves.

    Args:
        function: its annotations and docstring describe the options.
        command: the program's name, such as `python -m detection score`.
        argv: what was given; None takes the process's own.
        description: the help's first line.
        positional: what has no default is given by its place, not as an option.

    Raises:
        InputError: an option is unknown, missing or of another type.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=command, description=description, exit_on_error=False, allow_abbrev=False)
    names = parser.add_function_arguments(function, as_positional=positional)
    places = {name for name, p in inspect.signature(function).parameters.items() if p.default is p.empty}
    shown = {name: name if positional and name in places else f"--{name}" for name in names}
    try:
        return dict(vars(parser.parse_args(with_underscores(argv))))
    except argparse.ArgumentError as error:
        raise InputError(_short(" ".join(str(error).split()), shown)) from error


def with_underscores(argv: Sequence[str] | None) -> list[str]:
    """The command line with `--ground-truth` as `--ground_truth`; None takes the process's own."""
    words = sys.argv[1:] if argv is None else argv
    return [re.sub(r"(?<=\w)-", "_", option) + rest for option, rest in map(_split_option, words)]


def _split_option(word: str) -> tuple[str, str]:
    match = re.match(r"--[\w-]+", word)
    return (match[0], word[match.end() :]) if match else ("", word)


def _short(text: str, shown: Mapping[str, str]) -> str:
    """The parser's message in the house's words; `shown` has how each argument is written, by its name."""
    if match := re.match(r"unrecognized arguments: (?:--)?([^\s=]*)", text):
        return f"unknown argument '{match[1]}'.{did_you_mean(match[1], shown)} Allowed: {', '.join(shown.values())}"
    if match := re.fullmatch(r"the following arguments are required: (.*)", text):
        return "give " + " and ".join(shown[name] for name in match[1].split(", "))
    if match := re.fullmatch(r'Parser key "(\w+)": Expected an? (.*?)\. Got value: (.*)', text):
        allowed = re.sub(r"typing\.Literal\[(.*)\]", r"\1", match[2].replace("<class 'bool'>", "true, false"))
        return f"--{match[1]} is '{match[3]}'; allowed: {allowed}"
    if match := re.match(r'Parser key "(\w+)":.*(?:Got value|Given value)[^:]*: ("?)([^"\s]*)\2', text):
        return f"--{match[1]} is '{match[3]}', which is of another kind; --help tells what it takes"
    return text
