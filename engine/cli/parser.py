"""A parser whose errors are one short message instead of the whole usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import lightning.pytorch.callbacks
import lightning.pytorch.loggers
from jsonargparse import ActionSubCommands
from lightning.pytorch.cli import LightningArgumentParser

from engine.cli.messages import Known, reword
from engine.errors import InputError


class ShortErrorParser(LightningArgumentParser):
    """A parser that raises `InputError` with a short message instead of printing its usage and ending the program."""

    commands: ActionSubCommands | None = None

    def add_subcommands(self, *args: Any, **kwargs: Any) -> ActionSubCommands:
        """Add subcommands, and remember them for the hints."""
        self.commands = super().add_subcommands(*args, **kwargs)
        return self.commands

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error with the shortened message.

        Raises:
            InputError: always, except in a nested parse, whose message the outer parser writes.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        raise InputError(reword(self, message)) from ex

    def option_keys(self) -> list[str]:
        """Every dotted option name, and the names of the groups above them."""
        leaves = list(self.get_defaults().keys())
        groups = {leaf[:dot] for leaf in leaves for dot in range(len(leaf)) if leaf[dot] == "."}
        return sorted(groups.union(leaves))

    def inner(self) -> Mapping[str, Known]:
        """The commands' parsers."""
        found = dict(self.commands.choices or {}) if self.commands else {}
        return {name: parser for name, parser in found.items() if isinstance(parser, ShortErrorParser)}

    def words(self) -> Sequence[str]:
        """The command line."""
        return [str(word) for word in self.args or ()]

    def written(self, key: str) -> str:
        """A dotted name, as in YAML."""
        return key

    def class_names(self) -> Sequence[str]:
        """Lightning's callbacks and loggers."""
        return [*lightning.pytorch.callbacks.__all__, *lightning.pytorch.loggers.__all__]
