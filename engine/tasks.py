"""What a task is, and the one list of tasks that the command line, help, checkpoints and tests use.

A task is a folder with a light module that holds its `TaskSpec`, and one entry in the entry-point group
`effdense.tasks`: NAME = "PACKAGE.spec:SPEC". A source checkout, which need not be installed, reads its own entries
from its pyproject.toml. Nothing here imports what a task names before it is needed.
"""

from __future__ import annotations

import pkgutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, NamedTuple

from engine.errors import InputError, check_choice

TASKS = "effdense.tasks"
PROGRAMS = "effdense.programs"
COMMANDS = ("fit", "validate", "test", "predict")  # what Lightning's trainer does for every task
REPORT_COMMANDS = {"report": "engine.cli.reports.report", "compare": "engine.cli.reports.compare"}
SHARE_COMMANDS = {"share": "engine.sharing.share"}
_ABOUT = {"share": "a network for others, with a model card: in a folder, or on a model hub"}


class FormerConfig(NamedTuple):
    """The replacement of a former config file.

    Attributes:
        stem: name of the config in the same folder, without `.yaml`.
        options: the options, as on the command line, that give that config the settings of the former one.
    """

    stem: str
    options: str


@dataclass(frozen=True)
class TaskSpec:
    """A task: where its parts are, and what the command line must know of it.

    Parts are named by import path, "package.module:Name", so that a spec needs no import.

    Args:
        name: The name that checkpoints and run folders carry, and the package that `python -m` runs.
        title: One line that describes it.
        examples: Command lines without the program's name, for the help.
        about: One line for each command on what it does; the help has the same order. `share` needs none.
        module: The LightningModule.
        data: The Lightning data module.
        predictor: The function that loads a checkpoint for prediction.
        monitor: The logged measure by which the best checkpoint is chosen.
        demo: Name of the config that trains on generated scenes.
        trainer: The trainer; its `predict` has the options of `predict`.
        monitor_mode: Whether a larger ("max") or a smaller ("min") measure is better.
        in_progress_bar: Measures that the progress bar shows.
        commands: The plain commands, each with the module whose `main` takes its arguments.
        reporter: The function that takes a scored task and its split and returns what a report shows of them; a task
            without one has no commands `report` and `compare`.
        batch_reporter: The function that takes a task and a batch of its training and returns what a report shows of
            it; None draws no batches.
        checkpoint_args: Constructor arguments that a checkpoint decides, by their name in its metadata.
        resume_args: The same for a resumed training only, such as optimizer and schedule, whose state the checkpoint
            holds.
        answer_args: Constructor arguments that shape answers without being the network's, such as thresholds: a command
            takes them from the checkpoint where it is not told otherwise.
        resumes_within_epochs: Whether its training can be resumed within an epoch.
        first_page: The options on the first page of each command's help.
        renamed: Former option names with the present ones; the former names still work.
        former_configs: Former config files, by name without folder and suffix, with their replacements.
        trainer_defaults: Trainer settings that differ from Lightning's defaults.
        recipe_facts: The function that takes a data module and returns what its training set shows of itself
            (`engine.recipes`); a task without one has no recipes.
        recipe_options: The task's options for the words of the recipes, such as "lr" for "model.optimizer.lr".
        hub_tags: What a model hub calls the task (huggingface.co/tasks); the first is a model card's `pipeline_tag`.
        quick_check: The function that says what is wrong with a data module, as far as a second tells; it takes the
            data module and the network, and None means that it knows no such data.
        check_command: The command that tells all of it.
    """

    name: str
    title: str
    examples: tuple[str, ...]
    about: Mapping[str, str]
    module: str
    data: str
    predictor: str
    monitor: str
    demo: str
    trainer: str = "lightning.pytorch:Trainer"
    monitor_mode: Literal["min", "max"] = "max"
    in_progress_bar: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    reporter: str | None = None
    batch_reporter: str | None = None
    checkpoint_args: tuple[str, ...] = ()
    resume_args: tuple[str, ...] = ("optimizer", "schedule")
    answer_args: tuple[str, ...] = ()
    resumes_within_epochs: bool = False
    first_page: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    former_configs: Mapping[str, FormerConfig] = field(default_factory=dict)
    trainer_defaults: Mapping[str, object] = field(default_factory=dict)
    quick_check: str | None = None
    check_command: str = "check"
    recipe_facts: str | None = None
    recipe_options: Mapping[str, str] = field(default_factory=dict)
    hub_tags: tuple[str, ...] = ()

    @property
    def common_commands(self) -> Mapping[str, str]:
        """The commands that tasks have alike, each with the module whose `main` takes the task and its arguments."""
        return {**({} if self.reporter is None else REPORT_COMMANDS), **SHARE_COMMANDS}

    @property
    def all_commands(self) -> tuple[str, ...]:
        """Every command: those of Lightning and the plain ones."""
        return (*COMMANDS, *self.commands, *self.common_commands)

    @property
    def lines(self) -> Mapping[str, str]:
        """One line on each command, also on those that a task need not describe."""
        return {**self.about, **{name: line for name, line in _ABOUT.items() if name not in self.about}}


@cache
def _own(group: str) -> Mapping[str, str]:
    """The entries of the source checkout that this file is part of; none if the package is installed."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if not project.is_file():
        return {}
    entries: Mapping[str, str] = tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"][group]
    return entries


def registered(group: str) -> dict[str, str]:
    """The import path of everything in an entry-point group, by name; ours come before those of third parties."""
    found = dict(_own(group))
    others = sorted(entry_points(group=group), key=lambda entry: entry.dist is None or entry.dist.name != "effdense")
    for entry in others:
        found.setdefault(entry.name, entry.value)
    return found


def task_names() -> list[str]:
    """The names of all tasks."""
    return list(registered(TASKS))


def find_task(name: str) -> TaskSpec:
    """A task by its name.

    Raises:
        InputError: there is no task of that name, or its entry point cannot be imported.
    """
    known = registered(TASKS)
    check_choice("task", name, known)
    try:
        spec = pkgutil.resolve_name(known[name])
    except (ImportError, AttributeError) as error:
        msg = f"the task '{name}' is registered as {known[name]}, which cannot be imported: {error}."
        raise InputError(msg) from error
    if not isinstance(spec, TaskSpec) or spec.name != name:
        msg = f"the task '{name}' is registered as {known[name]}, which is not its TaskSpec. Correct its entry point."
        raise InputError(msg)
    return spec
