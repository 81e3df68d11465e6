"""Short errors: a parser that does not print its whole usage, and what an exception says to the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import lightning.pytorch.callbacks
import lightning.pytorch.loggers
from jsonargparse import ActionSubCommands
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from engine.cli.messages import Known, reword
from engine.errors import InputError

_SERVICES = ("mlflow", "wandb")  # whose clients raise errors of their own, as where nobody is logged in


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


def user_message(error: BaseException) -> str | None:
    """The message for the user in an exception or its causes, or None if the exception is a fault of the program."""
    if "SyncBatchNorm layers only work" in str(error):
        return "trainer.sync_batchnorm needs GPUs; PyTorch has no such layer for CPUs. Leave it out."
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, InputError):
            # The exception of a DataLoader worker comes back as the text of its traceback.
            return str(seen).rpartition("engine.errors.InputError: ")[2].strip()
        if (message := _reworded(seen)) is not None:
            return message
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def _reworded(error: BaseException) -> str | None:
    """The message for mistakes that Lightning, torch or Python find, or None."""
    text = str(error)
    if isinstance(error, MisconfigurationException):
        return first_lines(text)
    if isinstance(error, ModuleNotFoundError):
        # Loggers and callbacks ask for their packages when they are made.
        remedy = f" Run: pip install {error.name}" if error.name else ""
        return f"{first_lines(text)}{remedy}, or leave the option out that needs it."
    if type(error).__module__.partition(".")[0] in _SERVICES:
        return (
            f"{first_lines(text)} Or leave the service out: set WANDB_MODE=offline or MLFLOW_TRACKING_URI, or give "
            "another --run.log."
        )
    if isinstance(error, RuntimeError) and "conditioned on metric" in text:
        return f"{first_lines(text)} Give one of these as its monitor."
    interval = re.search(r"val_check_interval` \((\d+)\).*number of the training batches \((\d+)\)", text)
    if isinstance(error, ValueError) and interval:
        return (
            f"trainer.val_check_interval is {interval[1]}, but an epoch has {interval[2]} batches. Give at most "
            f"{interval[2]}, or --trainer.check_val_every_n_epoch null to count over all epochs."
        )
    if isinstance(error, ValueError) and "Expected more than 1 value per channel when training" in text:
        return (
            "a batch of one image cannot be trained on here: its coarsest map is a single cell, which has no variance "
            "for the batch norms. Give --data.batch_size 2 or more, or larger images."
        )
    return None


def trainer_fault(error: Exception) -> str:
    """The message about a trainer that Lightning refuses to make."""
    text = str(error)
    if "No supported gpu backend" in text or "accelerator is not available" in text:
        return "trainer.accelerator asks for a device that PyTorch does not find here. Give --trainer.accelerator cpu."
    return f"the trainer cannot be set up: {first_lines(text)}"


def first_lines(text: str) -> str:
    """The first lines of a text, as one."""
    return " ".join(line.strip() for line in text.strip().splitlines()[:3])[:400]
