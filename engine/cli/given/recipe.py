"""`fit --recipe NAME`: the recipe's settings as a config before all that the user gives, so that those override it."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, get_args

import torch
import yaml

from engine.cli.given.data import config_content, given_data
from engine.errors import InputError, check_choice
from engine.recipes.facts import SetFacts
from engine.recipes.rules import Machine, RecipeWord, choose, scale_of
from engine.tasks import TaskSpec

OPTION = "--recipe"
_CONFIG = ("--config", "-c")
# Options that decide the same in another way, by their last words: other heads have their own loss and anchors, and
# Huber's and the threshold of IoU are settings of the losses that the recipe replaces.
_RULED_BY = {
    "assigner": ("head", "match_iou"),
    "box_loss": ("head", "delta", "box_weight"),
    "anchor_scale": ("head",),
    "warmup_steps": ("warmup_epochs",),
    "epochs": ("max_steps", "max_time"),
    "canvas": ("image_size", "crop_size", "canvas_size"),
    "evaluate_every": ("val_check_interval",),
}
_WORDS: Mapping[str, RecipeWord] = {word: word for word in get_args(RecipeWord)}


class ReadFacts(Protocol):
    """What `TaskSpec.recipe_facts` names."""

    def __call__(self, data: object) -> SetFacts:
        """The facts of a data module's training set."""
        ...


def with_recipe(spec: TaskSpec, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line with the settings of the recipe that it asks for, and what was chosen, line by line.

    Args:
        spec: the task.
        words: the command line after `engine.cli.early.prepare`.

    Raises:
        InputError: there is no such recipe, the command is no training, or there are no data to look at.
    """
    contents = list(_configs(words))
    asked = _value(words, OPTION)
    if asked is None:
        asked = next((str(each["recipe"]) for each in reversed(contents) if each.get("recipe") is not None), None)
    if asked is None or not words or words[0] != "fit":
        if asked is not None and _value(words, OPTION) is not None:
            msg = f"--recipe {asked} sets up a training, and the command is {words[0]}. Leave it out."
            raise InputError(msg)
        return list(words), []
    check_choice("--recipe", asked, _WORDS)
    name = _WORDS[asked]
    if spec.recipe_facts is None:
        msg = f"there is no recipe for {spec.name}. Leave --recipe out."
        raise InputError(msg)
    data = given_data(spec, list(_without(words[1:], OPTION)))
    if data is None:
        msg = "a recipe follows from the data, and none are given. Give --data.root, or a --config that names them."
        raise InputError(msg)
    read: ReadFacts = pkgutil.resolve_name(spec.recipe_facts)
    facts = read(data.data)
    given = dict(pair for content in contents for pair in _leaves(content)) | dict(_options(words))
    machine = Machine(
        accelerated=_accelerated(given.get("trainer.accelerator")),
        pretrained=given.get("model.pretrained") not in (None, "null"),
        batch=_count(given.get("data.batch_size")),
        epochs=_count(given.get("trainer.max_epochs")),
        other_head=given.get("model.head") not in (None, "null", "efficientdet"),
    )
    lines = [f"recipe {scale_of(name, facts.images)}: {facts.line()}"]
    settings: dict[str, object] = {}
    for choice in choose(name, facts, machine):
        option = spec.recipe_options.get(choice.name)
        if option is None:
            continue
        if _is_given(choice.name, option, given):
            lines.append(f"  {option}: as you gave it")
            continue
        lines.append(f"  {option} {choice.value}: {choice.why}")
        _put(settings, option.split("."), choice.value)
    return [words[0], "--config", yaml.safe_dump(settings, sort_keys=False), *words[1:]], lines


def _is_given(name: str, option: str, given: Mapping[str, object]) -> bool:
    """Whether the user gave an option, a whole group that holds it, or another one that decides the same."""
    parts = option.split(".")
    if any(".".join(parts[:end]) in given for end in range(1, len(parts) + 1)):
        return True
    return any(other.rpartition(".")[2] in _RULED_BY.get(name, ()) for other in given)


def _count(value: object) -> int | None:
    """A number of at least 1 as the user gave it; None for anything else, which the parser sees to."""
    text = str(value)
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _accelerated(asked: object) -> bool:
    if asked in (None, "auto", "null"):
        return torch.accelerator.is_available()
    return asked != "cpu"


def _value(words: Sequence[str], option: str) -> str | None:
    """The last value of an option."""
    found = None
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            found = value if equals else next(iter(words[place + 1 : place + 2]), "")
    return found


def _without(words: Sequence[str], option: str) -> Iterator[str]:
    skipping = False
    for word in words:
        if skipping:
            skipping = False
        elif word == option:
            skipping = True
        elif not word.startswith(f"{option}="):
            yield word


def _configs(words: Sequence[str]) -> Iterator[Mapping[str, object]]:
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in _CONFIG and (equals or place + 1 < len(words)):
            yield config_content(value if equals else words[place + 1])


def _options(words: Sequence[str]) -> Iterator[tuple[str, object]]:
    """The dotted names of the options of a command line, with what follows them."""
    for place, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, value if equals else next(iter(words[place + 1 : place + 2]), None)


def _leaves(content: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(settings: dict[str, object], parts: Sequence[str], value: object) -> None:
    for part in parts[:-1]:
        inner = settings.setdefault(part, {})
        assert isinstance(inner, dict)
        settings = inner
    settings[parts[-1]] = value
