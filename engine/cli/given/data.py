"""The data of a training, given as `fit` takes them: by configs and by options `--data.…`."""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from engine.archives import parse_yaml
from engine.cli.configs import read_config
from engine.cli.early import prepare
from engine.cli.messages import Known, reword
from engine.errors import InputError
from engine.tasks import TaskSpec

_CONFIG = ("--config", "-c")


@dataclass(frozen=True)
class GivenData:
    """A data module, and what else was given.

    Attributes:
        data: the task's data module.
        model: the settings of the model in the configs.
        rest: the words of the command line that are not about data.
    """

    data: object
    model: Mapping[str, object]
    rest: list[str]


def given_data(spec: TaskSpec, words: Sequence[str]) -> GivenData | None:
    """The data module of a command line with the options of `fit`; None if it has neither a config nor one of them.

    Args:
        spec: the task.
        words: the command line after the command.

    Raises:
        InputError: a config cannot be read, or an option is unknown or of another type.
    """
    prepared = prepare(spec, ["fit", *words]).words[1:]
    settings: dict[str, object] = {}
    model: dict[str, object] = {}
    own, rest = [], []
    for option, value in _options(prepared):
        name = option.partition("=")[0]
        if name in _CONFIG:
            content = config_content(value if value is not None else option.partition("=")[2])
            settings = _merged(settings, content.get("data"))
            model = _merged(model, content.get("model"))
        elif name == "--data" or name.startswith("--data."):
            own += [option] if value is None else [option, value]
        else:
            rest += [option] if value is None else [option, value]
    if not own and not settings:
        return None
    return GivenData(_built(spec, settings, own), model, rest)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each option with the value that follows it, and each other word alone."""
    place = 0
    while place < len(words):
        word = words[place]
        takes = word.startswith("-") and "=" not in word and place + 1 < len(words)
        takes = takes and not words[place + 1].startswith("--")
        yield word, words[place + 1] if takes else None
        place += 2 if takes else 1


def config_content(given: str) -> Mapping[str, object]:
    """The settings of a config: `prepare` has checked that it can be read, or has put its text in place of it."""
    try:
        content = parse_yaml(given) if "\n" in given or not Path(given).is_file() else read_config(Path(given))
    except yaml.YAMLError as error:
        msg = f"config '{given[:60]}' is not valid YAML: {' '.join(str(error).split())[:120]}. Correct it."
        raise InputError(msg) from error
    return content if isinstance(content, dict) else {}


def _merged(former: Mapping[str, object], later: object) -> dict[str, object]:
    """Settings with those of a later config in place of the same of a former one."""
    merged = dict(former)
    for key, value in later.items() if isinstance(later, Mapping) else ():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both and isinstance(before, Mapping) else value
    return merged


def _built(spec: TaskSpec, settings: Mapping[str, object], words: Sequence[str]) -> object:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=spec.name, exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(pkgutil.resolve_name(spec.data), "data")
    known: Known = _DataOptions(list(parser.get_defaults().keys()), words)
    try:
        base = parser.parse_object({"data": dict(settings)}) if settings else parser.get_defaults()
        return parser.instantiate(parser.parse_args(list(words), base)).data
    except argparse.ArgumentError as error:
        raise InputError(reword(known, str(error))) from error


@dataclass(frozen=True)
class _DataOptions:
    """The options of a data module, for hints."""

    keys: Sequence[str]
    given: Sequence[str]

    def option_keys(self) -> Sequence[str]:
        return self.keys

    def inner(self) -> Mapping[str, Known]:
        return {}

    def words(self) -> Sequence[str]:
        return self.given

    def written(self, key: str) -> str:
        return key

    def class_names(self) -> Sequence[str]:
        return ()
