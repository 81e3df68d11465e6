"""Commands as the documents write them: taken from the text, parsed by the real parser, and run in this process."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jsonargparse


class Command(NamedTuple):
    """A command line of this project.

    Attributes:
        program: the package that is run, such as `detection`.
        argv: the words after it.
    """

    program: str
    argv: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """The program and its sub-command."""
        return self.program, self.argv[0] if self.argv else ""


def code_blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a Markdown text: language, which may be empty, and content."""
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


def inline_code(text: str) -> list[str]:
    """Code between single backticks, on one line each."""
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside)]


def lines(block: str) -> list[str]:
    """The lines of a block, those that end with a backslash joined with the next one."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def commands(line: str) -> list[Command]:
    """The commands of a line: one, none, or one for each word of `fit|validate|test`.

    A launcher such as `torchrun … -m joint fit` may stand before it.
    """
    found = re.search(r"(?:(?<!\S)-m |^effdense )(\w[\w.]*)(.*)", line)
    if not found or found[1] in ("pip", "pytest", "venv", "http.server"):
        return []
    words = shlex.split(found[2])
    firsts = words[0].split("|") if words else [""]
    return [Command(found[1], (first, *words[1:]) if words else ()) for first in firsts]


def run(command: Command) -> int:
    """Run `python -m PROGRAM ARGV` in this process and in the working folder; returns the exit status."""
    with mock.patch.object(sys, "argv", [command.program, *command.argv]), warnings.catch_warnings():
        # Another test may have imported the program's `__main__`.
        warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
        try:
            runpy.run_module(command.program, run_name="__main__")
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0


class _Parsed(BaseException):
    """The command line was parsed. No `Exception`, so that no handler of the program takes it."""


def parses(command: Command) -> bool:
    """Whether the program's own parser takes the command line; nothing is run behind it.

    A sub-command alone is one that a text names in passing; it has to exist.
    """
    if len(command.argv) == 1:
        command = Command(command.program, (*command.argv, "--help"))
    parse_args = jsonargparse.ArgumentParser.parse_args

    def and_stop(
        self: jsonargparse.ArgumentParser, args: Sequence[str] | None = None, *more: object, **options: object
    ) -> None:
        parse_args(self, args, *more, **options)
        raise _Parsed

    with mock.patch.object(jsonargparse.ArgumentParser, "parse_args", and_stop):
        try:
            status = run(command)
        except _Parsed:
            return True
    return status == 0 and (not command.argv or "--help" in command.argv)


def exists(program: str, root: Path) -> bool:
    """Whether a package can be run."""
    return root.joinpath(*program.split("."), "__main__.py").is_file()
